import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torchmetrics.functional.classification import multiclass_accuracy

from synreal.errors import DataError
from synreal.metrics import accuracy, class_recall, confusion_matrix, mean_class_accuracy


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
