import json
import math

import pytest
import torch

from synreal.errors import DataError
from synreal.functional.coco import coco_evaluate, coco_ground_truth, coco_results
from synreal.metrics import coco_ap
from tests.reference.coco import HEIGHT, MEASURES, WIDTH, evaluated, random_boxes


def written(folder, predictions, targets, classes):
    """Dump a set in COCO's formats, and give the files."""
    names = [f"class {label}" for label in range(classes)]
    truth = coco_ground_truth(targets, names, [(HEIGHT, WIDTH)] * len(targets))
    files = folder / "truth.json", folder / "results.json"
    files[0].write_text(json.dumps(truth))
    files[1].write_text(json.dumps(coco_results(predictions, classes)))
    return files


def undefined(value):
    return -1.0 if math.isnan(value) else value


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_pycocotools_on_the_dumped_files(tmp_path, seed):
    classes = 3 + seed % 3
    predictions, targets = random_boxes(seed, images=1 + 2 * seed, classes=classes)
    if seed % 4 == 0:  # more than COCO counts, of one class in one image
        (predictions[0],), (targets[0],) = random_boxes(100 + seed, images=1, classes=3, least=100, most=120)
        assert (predictions[0]["labels"] == 1).sum() > 100
        every = coco_ap(predictions, targets, num_classes=classes, max_detections=1000)
        assert every["ar"] > coco_ap(predictions, targets, num_classes=classes)["ar"]
    theirs, by_class = evaluated(*written(tmp_path, predictions, targets, classes))
    ours = coco_ap(predictions, targets, num_classes=classes)
    assert list(ours) == [*MEASURES, "ar"]
    assert {name: undefined(value) for name, value in ours.items()} == pytest.approx(theirs, abs=1e-12)
    scores = coco_evaluate(*(json.loads(file.read_text()) for file in written(tmp_path, predictions, targets, classes)))
    assert {name: undefined(value) for name, value in scores.measures.items()} == pytest.approx(theirs, abs=1e-12)
    assert [undefined(value) for value in scores.per_class] == pytest.approx(by_class, abs=1e-12)
    assert math.isnan(scores.per_class[-1])


def test_the_random_sets_hold_every_case():
    sets = [random_boxes(seed, images=1 + 2 * seed, classes=3 + seed % 3) for seed in range(12)]
    targets = [target for _, several in sets for target in several]
    predictions = [prediction for several, _ in sets for prediction in several]
    assert any(target["crowd"].any() for target in targets)
    assert any(len(target["labels"]) == 0 for target in targets)
    assert any(len(prediction["labels"]) == 0 for prediction in predictions)
    assert any(len(p["scores"].unique()) < len(p["scores"]) for p in predictions)
    areas = torch.cat([target["area"] for target in targets])
    assert {32.0**2, 96.0**2} <= set(areas.tolist())
    scores = [coco_ap(*one, num_classes=3 + seed % 3)["ap"] for seed, one in enumerate(sets)]
    assert sum(0.05 < score < 0.95 for score in scores) > 6


@pytest.mark.parametrize("detections", [1, 3])
def test_fewer_detections_count_as_in_pycocotools(tmp_path, detections):
    predictions, targets = random_boxes(5, images=12, classes=3)
    theirs, _ = evaluated(*written(tmp_path, predictions, targets, 3), detections)
    ours = coco_ap(predictions, targets, num_classes=3, max_detections=detections)
    assert {name: ours[name] for name in ("ap", "ar")} == pytest.approx(theirs, abs=1e-12)
    assert ours["ar"] < coco_ap(predictions, targets, num_classes=3)["ar"]


def boxes(*corners):
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def test_average_precision_by_hand():
    # Two objects. The best detection meets the first exactly, the second none, the third the other with IoU 0.62.
    targets = [{"boxes": boxes((0, 0, 10, 10), (50, 50, 60, 60)), "labels": torch.tensor([0, 0])}]
    found = boxes((0, 0, 10, 10), (100, 0, 110, 10), (50, 50, 60, 56.2))
    predictions = [{"boxes": found, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.tensor([0, 0, 0])}]
    # Recalls 0, .01, ..., .5 are reached with precision 1; at IoU .5, .55 and .6 the others are with 2/3, above not.
    loose, strict = (51 + 50 * 2 / 3) / 101, 51 / 101
    mean = (3 * loose + 7 * strict) / 10
    # Areas are those of the boxes where none are given.
    expected = {"ap": mean, "ap50": loose, "ap75": strict, "ap_small": mean, "ar": (3 * 1 + 7 * 0.5) / 10}
    ours = coco_ap(predictions, targets, num_classes=1)
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert math.isnan(ours["ap_medium"])
    assert math.isnan(ours["ap_large"])


def test_a_crowd_is_never_missed_and_takes_any_number_of_detections():
    targets = [{"boxes": boxes((0, 0, 10, 10), (50, 50, 90, 90)), "labels": torch.tensor([0, 0])}]
    inside = boxes((0, 0, 10, 10), (50, 50, 60, 60), (70, 70, 80, 80))
    predictions = [{"boxes": inside, "scores": torch.tensor([0.5, 0.9, 0.8]), "labels": torch.tensor([0, 0, 0])}]
    assert coco_ap(predictions, targets, num_classes=1)["ap"] < 0.2
    targets[0]["crowd"] = torch.tensor([False, True])
    assert coco_ap(predictions, targets, num_classes=1)["ap"] == pytest.approx(1, abs=1e-12)


def nothing():
    return {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined(capfd):
    one = {"boxes": boxes((0, 0, 10, 10)), "scores": torch.tensor([0.5]), "labels": torch.tensor([1])}
    missed = coco_ap([nothing()], [one], num_classes=2)
    assert {name: missed[name] for name in ("ap", "ap50", "ap75", "ap_small", "ar")} == dict.fromkeys(
        ("ap", "ap50", "ap75", "ap_small", "ar"), 0.0
    )
    for predictions, targets in (([one], [nothing()]), ([nothing()], [nothing()]), ([], [])):
        assert all(math.isnan(value) for value in coco_ap(predictions, targets, num_classes=2).values())
    found = coco_ap([nothing(), one], [nothing(), one], num_classes=2)
    assert found["ap"] == pytest.approx(1, abs=1e-12)
    assert capfd.readouterr() == ("", "")


def test_coco_structures_follow_the_standard():
    third = torch.tensor(1 / 3)
    target = {
        "boxes": torch.tensor([[1, 2, 4, 8], [0, 0, 1, third]]),
        "labels": torch.tensor([1, 0]),
        "crowd": torch.tensor([False, True]),
        "area": torch.tensor([12.5, 0.25]),
    }
    prediction = {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.tensor([third, 0.1])}
    # float32 keeps its value in float64, and in JSON.
    exact, tenth = float(third), float(torch.tensor(0.1))
    truth = coco_ground_truth([nothing(), target], ["cat", "dog"], [(3, 4), (5, 6)])
    assert json.loads(json.dumps(truth)) == {
        "images": [{"id": 1, "height": 3, "width": 4}, {"id": 2, "height": 5, "width": 6}],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 6], "area": 12.5, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 1, exact], "area": 0.25, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    results = coco_results([nothing(), prediction], 2)
    assert json.loads(json.dumps(results)) == [
        {"image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 6], "score": exact},
        {"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, exact], "score": tenth},
    ]


def test_evaluating_leaves_its_arguments_as_they_were():
    predictions, targets = random_boxes(3, images=4, classes=3)
    truth, results = coco_ground_truth(targets, ["a", "b", "c"]), coco_results(predictions, 3)
    before = json.dumps([truth, results])
    coco_evaluate(truth, results)
    assert json.dumps([truth, results]) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"boxes": torch.zeros(1, 5)}, r"Predictions of image 0: boxes have shape \(1, 5\), expected \(M, 4\)"),
        ({"labels": torch.tensor([0, 1])}, r"1 boxes, but labels of shape \(2,\)"),
        ({"scores": torch.tensor([[0.5]])}, r"1 boxes, but scores of shape \(1, 1\)"),
        ({"labels": torch.tensor([2])}, r"labels span 2\.\.2, expected 0\.\.1"),
        ({"labels": torch.tensor([-1])}, r"labels span -1\.\.-1, expected 0\.\.1"),
        ({"scores": torch.tensor([math.nan])}, "a score is not finite"),
        ({"boxes": boxes((0, 0, math.inf, 1))}, "a box is not finite"),
        ({"boxes": boxes((0, math.nan, 1, 1))}, "a box is not finite"),
        ({"boxes": boxes((3, 0, 2, 1))}, "ends before it begins"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(change, expected):
    one = {"boxes": boxes((0, 0, 1, 1)), "scores": torch.tensor([0.5]), "labels": torch.tensor([1])}
    with pytest.raises(DataError, match=expected):
        coco_ap([one | change], [one], num_classes=2)
    if "scores" not in change:
        with pytest.raises(DataError, match=expected.replace("Predictions", "Targets")):
            coco_ap([one], [one | change], num_classes=2)


def test_numbers_of_images_must_agree():
    with pytest.raises(DataError, match="Predictions of 1 images, but targets of 2"):
        coco_ap([nothing()], [nothing()] * 2, num_classes=2)
    with pytest.raises(DataError, match="Targets of 1 images, but 2 sizes"):
        coco_ground_truth([nothing()], ["a"], [(1, 1)] * 2)
