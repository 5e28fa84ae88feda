import json
import math

import pytest
import torch

from synreal.data.sets import Boxes
from synreal.errors import DataError, TrainingError
from synreal.metrics import accuracy, coco_ap, mean_class_accuracy, mean_iou
from synreal.records import Score
from tests.distributed import meters
from tests.distributed.launch import two_processes
from tests.distributed.meters import METERS, Outcome, metered, scores
from tests.reference.coco import MEASURES, evaluated

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What the two ranks of one run wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    two_processes(meters.__file__, folder)
    return [json.loads((folder / f"rank{number}.json").read_text()) for number in (0, 1)]


@pytest.mark.parametrize("kind", METERS)
def test_two_processes_score_exactly_as_one(ranks, kind):
    for size in meters.SIZES:
        for batch_size in meters.BATCHES:
            alone = scores(kind, size, batch_size)
            assert alone["score"]["images"] == size
            for result in ranks:
                assert result[f"{kind} {size} {batch_size}"] == alone


@pytest.mark.parametrize("kind", METERS)
@pytest.mark.parametrize(
    ("case", "count"), [("padded", 4), ("gathered twice", 6), ("missing", 2)], ids=lambda value: str(value)
)
def test_two_processes_notice_images_that_are_missing_or_counted_twice(ranks, kind, case, count):
    for result in ranks:
        assert result[f"{kind} {case}"].startswith(f"{kind} (test): {count} images were tested of 3.")


def test_two_processes_notice_one_image_in_place_of_another(ranks):
    for result in ranks:
        assert "some twice and others not at all" in result["boxes swapped"]


@pytest.mark.parametrize("kind", METERS)
@pytest.mark.parametrize("indices", [[0, 1, 2, 3, 0], [0, 1, 2]], ids=["twice", "missing"])
def test_one_process_notices_images_that_are_missing_or_counted_twice(kind, indices):
    meter = metered(Outcome(kind, 4), indices, 2)
    with pytest.raises(TrainingError, match=rf"{kind} \(test\): {len(indices)} images were tested of 4"):
        meter.compute()


@pytest.mark.parametrize("ask", ["compute", "coco"])
def test_detections_of_one_image_in_place_of_another_are_noticed(ask):
    meter = metered(Outcome("boxes", 4), [0, 1, 1, 3], 2)
    with pytest.raises(TrainingError, match="4 images were tested, but some twice and others not at all"):
        getattr(meter, ask)()


@pytest.mark.parametrize("kind", METERS)
def test_the_order_of_images_does_not_matter(kind):
    outcome = Outcome(kind, 12)
    straight = metered(outcome, range(12), 4).compute()
    for seed in range(5):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed)).tolist()
        assert metered(outcome, order, 3).compute() == straight


@pytest.mark.parametrize("kind", METERS)
def test_computing_changes_nothing(kind):
    meter = metered(Outcome(kind, 5), range(5), 5)
    first = meter.compute()
    meter.gather(CPU)
    assert meter.compute() == first
    assert Score.model_validate_json(first.model_dump_json()) == first


def test_accuracy_meter_scores_as_the_measures():
    outcome = Outcome("accuracy", 17)
    score = metered(outcome, range(17), 3).compute()
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


NAMED = list(enumerate(meters.CLASSES))


def test_mask_meter_scores_as_the_measures():
    outcome = Outcome("masks", 9)
    score = metered(outcome, range(9), 2).compute()
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


def test_mask_meter_takes_class_ids_too_and_images_of_any_size():
    outcome = Outcome("masks", 4)
    ids = [output.argmax(0) for output in outcome.outputs]
    by_logits = metered(outcome, range(4), 4).compute()
    outcome.outputs = ids
    assert metered(outcome, range(4), 4).compute() == by_logits
    # Cut apart: the same pixels in images of other sizes.
    meter = METERS["masks"](outcome)
    for output, target in zip(ids, outcome.targets, strict=True):
        meter.update([output[:2], output[2:, :3], output[2:, 3:]], [target[:2], target[2:, :3], target[2:, 3:]])
    assert meter.confusion.tolist() == by_logits.confusion
    with pytest.raises(DataError, match="ids of one shape"):
        meter.update(torch.zeros(1, 4, 4, 4), torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_masks_that_are_ignored_altogether_give_no_number():
    outcome = Outcome("masks", 3)
    outcome.targets = [torch.full_like(target, 255) for target in outcome.targets]
    score = metered(outcome, range(3), 2).compute()
    assert score.measures == {"mean_iou": None, "pixel_accuracy": None}
    assert score.per_class == dict.fromkeys(meters.CLASSES)
    assert score.images == 3
    assert math.isnan(score.headline)


def test_box_meter_scores_as_pycocotools_does_from_what_it_dumps(tmp_path):
    outcome = Outcome("boxes", 15)
    meter = metered(outcome, range(15), 4)
    score = meter.compute()
    truth, results = meter.coco()
    assert truth["images"] == [{"id": i + 1, "height": 10 + i, "width": 20} for i in range(15)]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    theirs, by_class = evaluated(tmp_path / "truth.json", tmp_path / "results.json")
    assert list(score.measures) == list(MEASURES)
    assert score.measures == pytest.approx({name: theirs[name] for name in MEASURES}, abs=1e-12)
    assert by_class[-1] == -1
    assert score.per_class == pytest.approx(dict(zip(meters.CLASSES, [*by_class[:-1], None], strict=True)), abs=1e-12)
    assert score.confusion is None

    # Labels of the detector count from 1, those of the set from 0.
    found = [one | {"labels": one["labels"] - 1} for one in outcome.outputs]
    measures = coco_ap(found, [vars(boxes) for _, boxes in outcome.targets], num_classes=4)
    assert score.measures == {name: measures[name] for name in MEASURES}


def test_boxes_and_scores_keep_every_bit():
    outcome = Outcome("boxes", 6)
    for output in outcome.outputs:
        output["scores"] = output["scores"].nextafter(torch.tensor(1.0)) * 1e-3
    truth, results = metered(outcome, range(6), 4).coco()
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
    outcome.outputs = [{"boxes": box, "labels": torch.tensor([2]), "scores": torch.tensor([0.5])}]
    outcome.targets = [(0, objects)]
    score = metered(outcome, [0], 1).compute()
    perfect = pytest.approx(1, abs=1e-12)
    assert score.measures == {
        **dict.fromkeys(("ap", "ap50", "ap75", "ap_medium"), perfect),
        "ap_small": None,
        "ap_large": None,
    }
    assert score.per_class == {"cat": None, "dog": perfect, "emu": None, "fox": None}

    outcome.outputs[0]["labels"] = torch.tensor([0])
    with pytest.raises(DataError, match=r"Predictions of image 0: labels span -1\.\.-1, expected 0\.\.3"):
        metered(outcome, [0], 1).compute()
