import json
import math

import pytest
import torch

from synreal.data.labels.boxes import Boxes
from synreal.errors import ConfigError, DataError, TrainingError
from synreal.measures import (
    MEASURES,
    Collection,
    ImageConfusion,
    Measure,
    PixelConfusion,
    check_measures,
    collectors,
)
from synreal.metrics import accuracy, coco_ap, mean_class_accuracy, mean_iou
from synreal.plugins import load_plugin
from synreal.records import Score
from tests.distributed import measures
from tests.distributed.launch import two_processes
from tests.distributed.measures import KINDS, Outcome, collected, scores
from tests.reference import coco

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _plugin(own_registry):
    load_plugin(measures.PLUGIN)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the two ranks of one run wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    two_processes(measures.__file__, folder)
    return [json.loads((folder / f"rank{number}.json").read_text()) for number in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_score_exactly_as_one(ranks, kind):
    for size in measures.SIZES:
        for batch_size in measures.BATCHES:
            alone = scores(kind, size, batch_size)
            assert alone["score"]["images"] == size
            for result in ranks:
                assert result[f"{kind} {size} {batch_size}"] == alone


@pytest.mark.slow
@pytest.mark.parametrize("kind", measures.JUDGES)
def test_two_processes_know_the_mistakes_of_one(ranks, kind):
    for size in measures.SIZES:
        for result in ranks:
            assert result[f"mistakes of {kind} {size}"] == measures.mistakes(kind, size)


@pytest.mark.slow
def test_two_processes_share_features_exactly(ranks):
    """Energies to the bit; CKA to rounding, since it adds up in another order."""
    alone = measures.shared_features()
    for result in ranks:
        assert result["features"]["energies"] == alone["energies"]
        assert result["features"]["cka"] == pytest.approx(alone["cka"], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("case", "count"), [("padded", 4), ("gathered twice", 6), ("missing", 2)], ids=lambda value: str(value)
)
def test_two_processes_notice_images_that_are_missing_or_counted_twice(ranks, kind, case, count):
    for result in ranks:
        assert result[f"{kind} {case}"].startswith(f"{kind} (test): {count} images were tested of 3.")


@pytest.mark.slow
def test_two_processes_notice_one_image_in_place_of_another(ranks):
    for result in ranks:
        assert "some twice and others not at all" in result["boxes swapped"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indices", [[0, 1, 2, 3, 0], [0, 1, 2]], ids=["twice", "missing"])
def test_one_process_notices_images_that_are_missing_or_counted_twice(kind, indices):
    collection = collected(Outcome(kind, 4), indices, 2)
    with pytest.raises(TrainingError, match=rf"{kind} \(test\): {len(indices)} images were tested of 4"):
        collection.compute()


@pytest.mark.parametrize("ask", ["compute", "files"])
def test_detections_of_one_image_in_place_of_another_are_noticed(ask):
    collection = collected(Outcome("boxes", 4), [0, 1, 1, 3], 2)
    with pytest.raises(TrainingError, match="4 images were tested, but some twice and others not at all"):
        getattr(collection, ask)()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_images_does_not_matter(kind):
    outcome = Outcome(kind, 12)
    straight = collected(outcome, range(12), 4).compute()
    for seed in range(5):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()
        assert collected(outcome, order, 3).compute() == straight


@pytest.mark.parametrize("kind", KINDS)
def test_computing_changes_nothing(kind):
    collection = collected(Outcome(kind, 5), range(5), 5)
    first = collection.compute()
    collection.gather(CPU)
    assert collection.compute() == first
    assert Score.model_validate_json(first.model_dump_json()) == first


def test_accuracies_score_as_the_functions():
    outcome = Outcome("accuracy", 17)
    score = collected(outcome, range(17), 3).compute()
    said, true = torch.stack(outcome.outputs).argmax(1), torch.stack(outcome.targets)
    assert list(score.measures) == ["mean_class_accuracy", "accuracy"]
    assert score.measures == {
        "mean_class_accuracy": mean_class_accuracy(said, true, 4),
        "accuracy": accuracy(said, true, 4),
    }
    own = {name: [int(s) == label for s, t in zip(said, true, strict=True) if t == label] for label, name in NAMED}
    assert score.per_class == {name: sum(hits) / len(hits) if hits else None for name, hits in own.items()}
    assert score.per_class["fox"] is None
    assert score.confusion is not None
    assert [sum(row) for row in score.confusion] == [int((true == label).sum()) for label in range(4)]
    assert (score.data, score.split, score.fingerprint, score.images) == ("accuracy", "test", "f" * 64, 17)


NAMED = list(enumerate(measures.CLASSES))


def test_overlaps_score_as_the_functions():
    outcome = Outcome("masks", 9)
    score = collected(outcome, range(9), 2).compute()
    said, true = torch.stack(outcome.outputs).argmax(1), torch.stack(outcome.targets)
    kept = true != 255
    assert list(score.measures) == ["mean_iou", "pixel_accuracy"]
    assert score.measures["mean_iou"] == mean_iou(said, true, 4)
    assert score.measures["pixel_accuracy"] == (said == true)[kept].double().mean()
    assert score.per_class == {
        name: int(((said == label) & (true == label)).sum()) / int((((said == label) & kept) | (true == label)).sum())
        for label, name in NAMED
    }
    assert score.confusion is not None
    assert sum(map(sum, score.confusion)) == kept.sum()
    assert score.images == 9


def test_overlap_takes_class_ids_too_and_images_of_any_size():
    outcome = Outcome("masks", 4)
    ids = [output.argmax(0) for output in outcome.outputs]
    by_logits = collected(outcome, range(4), 4).compute()
    outcome.outputs = ids
    assert collected(outcome, range(4), 4).compute() == by_logits
    # Cut apart: the same pixels in images of other sizes.
    collection = Collection(KINDS["masks"], outcome)
    for output, target in zip(ids, outcome.targets, strict=True):
        collection.update([output[:2], output[2:, :3], output[2:, 3:]], [target[:2], target[2:, :3], target[2:, 3:]])
    assert collection.collector(PixelConfusion).confusion.tolist() == by_logits.confusion
    with pytest.raises(DataError, match="ids of one shape"):
        collection.update(torch.zeros(1, 4, 4, 4), torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_masks_that_are_ignored_altogether_give_no_number():
    outcome = Outcome("masks", 3)
    outcome.targets = [torch.full_like(target, 255) for target in outcome.targets]
    score = collected(outcome, range(3), 2).compute()
    assert score.measures == {"mean_iou": None, "pixel_accuracy": None}
    assert score.per_class == dict.fromkeys(measures.CLASSES)
    assert score.images == 3
    assert math.isnan(score.headline)


def test_average_precisions_score_as_pycocotools_does_from_what_it_dumps(tmp_path):
    outcome = Outcome("boxes", 15)
    collection = collected(outcome, range(15), 4)
    score = collection.compute()
    truth, results = (collection.files()[end] for end in ("-truth", ""))
    assert truth["images"] == [{"id": i + 1, "height": 10 + i, "width": 20} for i in range(15)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    theirs, by_class = coco.evaluated(tmp_path / "truth.json", tmp_path / "results.json")
    assert list(score.measures) == list(coco.MEASURES)
    assert score.measures == pytest.approx({name: theirs[name] for name in coco.MEASURES}, abs=1e-12)
    assert by_class[-1] == -1
    assert score.per_class == pytest.approx(dict(zip(measures.CLASSES, [*by_class[:-1], None], strict=True)), abs=1e-12)
    assert score.confusion is None

    values = coco_ap(outcome.outputs, [vars(boxes) for _, boxes in outcome.targets], num_classes=4)
    assert score.measures == {name: values[name] for name in coco.MEASURES}


def test_boxes_and_scores_keep_every_bit():
    outcome = Outcome("boxes", 6)
    for output in outcome.outputs:
        output["scores"] = output["scores"].nextafter(torch.tensor(1.0)) * 1e-3
    files = collected(outcome, range(6), 4).files()
    truth, results = files["-truth"], files[""]
    numbers = [(entry["image_id"], [*entry["bbox"][:2], entry["score"]]) for entry in results]
    assert numbers == [
        (index + 1, [*box[:2], score])
        for index, output in enumerate(outcome.outputs)
        for box, score in zip(output["boxes"].tolist(), output["scores"].tolist(), strict=True)
    ]
    assert [entry["area"] for entry in truth["annotations"]] == [
        area for _, boxes in outcome.targets for area in boxes.area.tolist()
    ]


def test_sizes_that_do_not_occur_have_no_average_precision():
    outcome = Outcome("boxes", 1)
    box = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    objects = Boxes(boxes=box, labels=torch.tensor([1]), crowd=torch.tensor([False]), area=torch.tensor([1600.0]))
    outcome.outputs = [{"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.5])}]
    outcome.targets = [(0, objects)]
    score = collected(outcome, [0], 1).compute()
    perfect = pytest.approx(1, abs=1e-12)
    assert score.measures == {
        **dict.fromkeys(("ap", "ap50", "ap75", "ap_medium"), perfect),
        "ap_small": None,
        "ap_large": None,
    }
    assert score.per_class == {"cat": None, "dog": perfect, "emu": None, "fox": None}

    outcome.outputs[0]["labels"] = torch.tensor([-1])
    with pytest.raises(DataError, match=r"Predictions of image 0: labels span -1\.\.-1, expected 0\.\.3"):
        collected(outcome, [0], 1).compute()


# --- several measures of one set ---


def test_measures_that_name_one_collector_share_it(monkeypatch):
    seen = []
    update = ImageConfusion.update
    monkeypatch.setattr(ImageConfusion, "update", lambda self, *batch: seen.append(1) or update(self, *batch))
    evaluations = []
    evaluate = collectors.coco_evaluate
    monkeypatch.setattr(collectors, "coco_evaluate", lambda *args: evaluations.append(1) or evaluate(*args))
    collected(Outcome("accuracy", 8), range(8), 4).compute()
    assert len(seen) == 2
    boxes = collected(Outcome("boxes", 8), range(8), 4)
    boxes.compute()
    boxes.compute()
    assert len(evaluations) == 1
    boxes.gather(CPU)
    boxes.compute()
    assert len(evaluations) == 2


def test_a_score_says_what_tables_need_to_know():
    score = collected(Outcome("boxes", 15), range(15), 4).compute()
    assert score.headings["ap_small"] == "AP small"
    assert score.parts == {"ap_small": "area < 32²", "ap_medium": "32² to 96²", "ap_large": "area > 96²"}
    assert score.short == ["ap", "ap50", "ap75"]
    assert score.per_class_heading == "AP"
    assert (score.confusion, score.counted) == (None, None)
    assert collected(Outcome("masks", 3), range(3), 4).compute().counted == "pixels"


def test_a_plugin_s_measure_brings_a_collector_of_its_own():
    outcome = Outcome("plugin", 17)
    score = collected(outcome, range(17), 3).compute()
    best = torch.stack(outcome.outputs).argsort(1, descending=True)[:, :2].tolist()
    wrong = [int(int(target) not in two) for target, two in zip(outcome.targets, best, strict=True)]
    assert score.measures["top2_error"] == sum(wrong) / 17
    assert list(score.measures) == ["top2_error", "accuracy"]
    assert score.higher_is_better == {"top2_error": False, "accuracy": True}
    assert score.per_class_heading == "top-2 error"
    assert score.per_class["fox"] is None
    assert score.per_class["cat"] == sum(w for w, t in zip(wrong, outcome.targets, strict=True) if t == 0) / sum(
        int(t == 0) for t in outcome.targets
    )
    assert sum(map(sum, score.confusion)) == 17  # the other measure counts one


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"one or more measures, each once, the headline first; got \[\]"),
        (["accuracy", "accuracy"], "each once"),
        (["acuracy"], "Did you mean 'accuracy'"),
    ],
)
def test_measures_that_cannot_be_taken_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        Collection(names, Outcome("accuracy", 3))


def test_what_a_measure_lacks_or_needs_is_said():
    lacking = type("Lacking", (Measure,), {"name": "lacking", "summary": "s", "heading": "h"})
    MEASURES.register(lacking)
    with pytest.raises(ConfigError, match=r"Lacking needs a method compute, and a Collector class as its collector"):
        check_measures(["lacking"], "classes")
    body = {"name": "energy", "summary": "s", "heading": "h", "collector": ImageConfusion, "needs": "features"}
    MEASURES.register(type("Energy", (Measure,), {**body, "compute": lambda self, collected: 0.0}))
    with pytest.raises(ConfigError, match="'energy' needs features, but a test gives predictions alone"):
        check_measures(["energy"], "classes")


def test_a_measure_of_another_kind_of_label_is_refused():
    check_measures(["mean_iou", "pixel_accuracy"], "masks")
    with pytest.raises(ConfigError, match="'mean_iou' compares masks, but this task predicts classes"):
        check_measures(["accuracy", "mean_iou"], "classes")


OF_TESTS = [name for name, measure in MEASURES.classes().items() if measure.needs == "predictions"]


@pytest.mark.parametrize("name", OF_TESTS)
def test_every_measure_holds_the_contract(name):
    measure = MEASURES.get(name)
    assert measure.name == name
    assert measure.heading
    assert measure.unit in ("%", "")
    labels = measure.collector.label
    for label in (labels,) if isinstance(labels, str) else labels:
        check_measures([name], label)
        outcome = Outcome({"classes": "accuracy", "masks": "masks", "boxes": "boxes"}[label], 13)
        indices = range(13)
        collection = Collection([name], outcome)
        for start in range(0, 13, 4):
            collection.update(*outcome.batch(indices[start : start + 4]))
        score = collection.compute()
        assert 0 <= score.headline <= 1
        assert list(score.per_class) in ([], list(measures.CLASSES))
        assert Collection([name], outcome).collector(measure.collector).state()
