import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from synreal.errors import DataError
from synreal.functional.confusion import class_iou, class_recall, confusion_matrix
from synreal.metrics import accuracy, mean_class_accuracy, mean_iou


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
