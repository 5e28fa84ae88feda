import json
import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from synreal.errors import DataError
from synreal.metrics import (
    accuracy,
    class_iou,
    class_recall,
    coco_ap,
    coco_evaluate,
    coco_ground_truth,
    coco_results,
    confusion_matrix,
    mean_class_accuracy,
    mean_iou,
)
from tests.reference.coco import HEIGHT, MEASURES, WIDTH, evaluated, random_boxes


@st.composite
def labelled(draw, smallest=0):
    """Predictions, targets and the number of classes; some classes often have no sample."""
    classes = draw(st.integers(1, 6))
    pairs = draw(
        st.lists(st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=smallest, max_size=30)
    )
    ids = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return ids[:, 0], ids[:, 1], classes


FEW = settings(max_examples=60, deadline=None)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@FEW
@given(labelled())
def test_confusion_counts_each_sample_once(case):
    predictions, targets, classes = case
    naive = [[0] * classes for _ in range(classes)]
    for predicted, true in zip(predictions.tolist(), targets.tolist(), strict=True):
        naive[true][predicted] += 1
    matrix = confusion_matrix(predictions, targets, classes)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == naive
    if len(targets):
        assert matrix.tolist() == sklearn_metrics.confusion_matrix(targets, predictions, labels=range(classes)).tolist()


@FEW
@given(labelled(smallest=1))
def test_accuracies_by_naive_loops_and_by_other_libraries(case):
    predictions, targets, classes = case
    hits = [int(p == t) for p, t in zip(predictions.tolist(), targets.tolist(), strict=True)]
    assert accuracy(predictions, targets, classes) == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert accuracy(predictions, targets, classes) == pytest.approx(
        sklearn_metrics.accuracy_score(targets, predictions)
    )

    recalls = []
    for label in range(classes):
        own = [hit for hit, true in zip(hits, targets.tolist(), strict=True) if true == label]
        if own:
            recalls.append(sum(own) / len(own))
    mean = mean_class_accuracy(predictions, targets, classes)
    assert mean == pytest.approx(sum(recalls) / len(recalls), abs=1e-12)
    present = targets.unique().tolist()
    assert mean == pytest.approx(
        sklearn_metrics.recall_score(targets, predictions, labels=present, average="macro", zero_division=0)
    )
    by_class = class_recall(confusion_matrix(predictions, targets, classes))
    assert by_class[present].tolist() == pytest.approx(
        sklearn_metrics.recall_score(targets, predictions, labels=present, average=None, zero_division=0).tolist()
    )


def test_agrees_with_torchmetrics_where_every_class_has_samples():
    targets = torch.arange(5).repeat(40)
    predictions = torch.where(torch.rand(200) < 0.4, targets, torch.randint(0, 5, (200,)))
    for average, ours in (("micro", accuracy), ("macro", mean_class_accuracy)):
        theirs = multiclass_accuracy(predictions, targets, 5, average=average)
        assert ours(predictions, targets, 5) == pytest.approx(float(theirs), abs=1e-6)


def test_the_mean_over_classes_is_not_the_overall_share():
    # Nine of class 0, all right; one of class 1, wrong.
    targets = torch.tensor([0] * 9 + [1])
    predictions = torch.zeros(10, dtype=torch.int64)
    assert accuracy(predictions, targets, 2) == pytest.approx(0.9)
    assert mean_class_accuracy(predictions, targets, 2) == pytest.approx(0.5)


def test_a_class_without_samples_is_left_out_of_the_mean():
    targets = torch.tensor([0, 0, 2])
    predictions = torch.tensor([0, 1, 2])
    recall = class_recall(confusion_matrix(predictions, targets, 4))
    assert recall.dtype == torch.float64
    assert recall[[0, 2]].tolist() == [0.5, 1.0]
    assert recall[[1, 3]].isnan().all()
    assert mean_class_accuracy(predictions, targets, 4) == pytest.approx(0.75)


def test_rows_are_true_classes():
    matrix = confusion_matrix(torch.tensor([1, 1]), torch.tensor([0, 0]), 2)
    assert matrix.tolist() == [[0, 2], [0, 0]]


def test_no_sample_gives_zero_counts_and_no_score():
    none = torch.zeros(0, dtype=torch.int64)
    assert confusion_matrix(none, none, 3).tolist() == [[0] * 3] * 3
    assert math.isnan(accuracy(none, none, 3))
    assert math.isnan(mean_class_accuracy(none, none, 3))


@pytest.mark.parametrize("measure", [confusion_matrix, accuracy, mean_class_accuracy])
@pytest.mark.parametrize(
    ("predictions", "targets", "expected"),
    [
        ([0, 3], [0, 1], r"predictions span 0\.\.3, expected 0\.\.2"),
        ([0, 1], [-1, 2], r"targets span -1\.\.2, expected 0\.\.2"),
        ([0, 1], [255, 2], r"targets span 2\.\.255, expected 0\.\.2"),
        ([0, 1], [0], r"ids of one shape, got \(2,\) and \(1,\)"),
        ([[0, 1]], [0, 1], r"ids of one shape, got \(1, 2\) and \(2,\)"),
        ([0.5, 1.5], [0, 1], r"predictions are torch.float32, expected integer class ids"),
    ],
)
def test_ids_that_do_not_fit_are_refused(measure, predictions, targets, expected):
    with pytest.raises(DataError, match=expected):
        measure(torch.tensor(predictions), torch.tensor(targets), 3)


def test_counts_stay_exact_beyond_float32():
    # 2^24 + 1 is no float32: a share computed there would read 1.
    wrong = torch.zeros(2, 2, dtype=torch.int64)
    wrong[0, 0], wrong[0, 1], wrong[1, 1] = 2**24, 1, 1
    assert 0 < 1 - float(class_recall(wrong)[0]) < 1e-7


@st.composite
def maps(draw):
    """Predicted and true class maps, the number of classes and the id that is ignored."""
    classes, ignored = draw(st.integers(1, 5)), draw(st.sampled_from([255, 200]))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(0, 5), st.integers(1, 5)))
    size = math.prod(shape)
    true = draw(st.lists(st.sampled_from([*range(classes), ignored]), min_size=size, max_size=size))
    said = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    wide = draw(st.sampled_from([torch.uint8, torch.int64]))
    return (
        torch.tensor(said, dtype=torch.int64).reshape(shape),
        torch.tensor(true, dtype=wide).reshape(shape),
        classes,
        ignored,
    )


def naive_iou(predictions, targets, classes, ignored):
    """IoU by class in float64, None where the union is empty."""
    both, union = [0.0] * classes, [0.0] * classes
    for n, i, j in product(*map(range, targets.shape)):
        said, true = int(predictions[n, i, j]), int(targets[n, i, j])
        if true != ignored:
            for label in range(classes):
                both[label] += said == label and true == label
                union[label] += said == label or true == label
    return [b / u if u else None for b, u in zip(both, union, strict=True)]


@FEW
@given(maps())
def test_iou_by_naive_loops_and_by_other_libraries(case):
    predictions, targets, classes, ignored = case
    naive = naive_iou(*case)
    by_class = class_iou(confusion_matrix(predictions, targets, classes, ignored))
    assert by_class.dtype == torch.float64
    mean = mean_iou(predictions, targets, classes, ignored)
    defined = [value for value in naive if value is not None]
    assert [None if value != value else value for value in by_class.tolist()] == pytest.approx(naive, abs=1e-12)
    if not defined:
        assert math.isnan(mean)
        return
    assert mean == pytest.approx(sum(defined) / len(defined), abs=1e-12)

    kept = targets != ignored
    present = [label for label in range(classes) if naive[label] is not None]
    assert by_class[present].tolist() == pytest.approx(
        sklearn_metrics.jaccard_score(targets[kept], predictions[kept], labels=present, average=None).tolist(),
        abs=1e-12,
    )
    if classes > 1:
        theirs = multiclass_jaccard_index(
            predictions, targets.long(), classes, average="none", ignore_index=ignored
        )  # in float32
        assert by_class[present].tolist() == pytest.approx(theirs[present].tolist(), abs=1e-6)


def test_iou_is_counted_over_the_set_not_by_image():
    # Class 1: 1 of 1 pixels in the first image, 1 of 3 in the second: 2/4 over the set, 2/3 as a mean of images.
    targets = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]])
    predictions = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]])
    assert class_iou(confusion_matrix(predictions, targets, 2)).tolist() == [4 / 6, 2 / 4]
    assert mean_iou(predictions, targets, 2) == pytest.approx((4 / 6 + 2 / 4) / 2, abs=1e-15)


def test_a_class_that_is_only_predicted_counts_as_zero_and_an_absent_one_not_at_all():
    targets, predictions = torch.tensor([0, 0, 255]), torch.tensor([0, 1, 2])
    by_class = class_iou(confusion_matrix(predictions, targets, 3, 255))
    assert by_class[:2].tolist() == [0.5, 0.0]
    assert by_class[2].isnan()
    assert mean_iou(predictions, targets, 3) == 0.25


def test_ignored_pixels_may_be_predicted_as_anything():
    targets = torch.tensor([255, 1, 0], dtype=torch.uint8)
    assert mean_iou(torch.tensor([255, 1, 0]), targets, 2) == 1
    assert mean_iou(torch.tensor([-7, 1, 0]), targets, 2) == 1
    with pytest.raises(DataError, match=r"targets span 0\.\.255, expected 0\.\.1"):
        confusion_matrix(torch.tensor([0, 1, 0]), targets, 2)
    with pytest.raises(DataError, match=r"predictions span 0\.\.2, expected 0\.\.1"):
        mean_iou(torch.tensor([0, 2, 0]), targets, 2)


def test_ids_of_few_bits_do_not_overflow():
    # 20 * 21 + 20 is no uint8.
    ids = torch.full((3,), 20, dtype=torch.uint8)
    assert int(confusion_matrix(ids, ids, 21)[20, 20]) == 3


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
