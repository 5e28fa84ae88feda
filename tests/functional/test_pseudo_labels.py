"""Class-balanced pseudo-labels against a slow transcription of CBST in float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from synreal.engine.pseudo_labels import Confidences
from synreal.functional import class_balanced_labels, confidence_bins
from synreal.functional.pseudo_labels import BINS, NO_LABEL

CPU = torch.device("cpu")


def slow_thresholds(probabilities, share):
    """Sort what is predicted to be of each class, and take the value at the rank."""
    thresholds = []
    for k in range(probabilities.shape[1]):
        sure = sorted((row.max() for row in probabilities if row.argmax() == k), reverse=True)
        rank = math.floor(Fraction(share) * len(sure))
        thresholds.append(sure[rank - 1] if rank else 1.0)
    return np.array(thresholds)


def slow_labels(probabilities, thresholds):
    labels = []
    for row in probabilities:
        ratios = [p / t for p, t in zip(row, thresholds, strict=True)]
        best = max(range(len(ratios)), key=lambda k: ratios[k])
        labels.append(best if ratios[best] >= 1 else NO_LABEL)
    return labels


def drawn(items, classes, sharpness, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(items, classes, generator=generator) * sharpness
    return (logits - torch.arange(classes) * 0.5).softmax(1)  # the last classes are predicted rarely


def thresholds_of(probabilities, share, parts=1):
    sure = Confidences(probabilities.shape[1])
    for part in probabilities.chunk(parts):
        sure.update(part)
    return sure.thresholds(share, CPU)


@pytest.mark.parametrize("share", ["0.2", "0.25", "0.3", "0.5", "1"])
@pytest.mark.parametrize(("items", "classes", "sharpness"), [(60, 5, 1.0), (40, 3, 4.0), (9, 10, 1.0)])
def test_thresholds_and_labels_are_those_of_the_equations(items, classes, sharpness, share):
    probabilities = drawn(items, classes, sharpness)
    best, predicted = probabilities.max(1)
    bins = (predicted * BINS + confidence_bins(best)).tolist()
    firsts = [index for index, place in enumerate(bins) if place not in bins[:index]]
    probabilities = probabilities[firsts]  # no two are equally sure, so that nothing is left to a definition
    assert len(firsts) >= items * 0.9
    exact = probabilities.double().numpy()
    thresholds = thresholds_of(probabilities, float(share), parts=4)
    wanted = slow_thresholds(exact, share)
    assert thresholds.double().tolist() == wanted.tolist()
    assert class_balanced_labels(probabilities, thresholds).tolist() == slow_labels(exact, wanted)


def test_the_label_is_of_the_largest_ratio_not_of_the_largest_probability():
    probabilities = torch.tensor([[0.6, 0.4]])
    thresholds = torch.tensor([0.9, 0.35])
    assert class_balanced_labels(probabilities, thresholds).tolist() == [1]
    assert class_balanced_labels(probabilities, torch.tensor([0.9, 0.45])).tolist() == [NO_LABEL]
    assert class_balanced_labels(probabilities, torch.tensor([0.6, 0.4])).tolist() == [0]  # equal ratios: the first


def test_a_class_that_is_predicted_rarely_or_never_has_the_threshold_one():
    probabilities = torch.tensor([[0.7, 0.2, 0.1]] * 4 + [[0.3, 0.6, 0.1]])
    assert thresholds_of(probabilities, 0.5).tolist() == [pytest.approx(0.7), 1.0, 1.0]
    assert thresholds_of(probabilities, 0.2).tolist() == [1.0, 1.0, 1.0]
    sure = torch.tensor([[0.0, 0.0, 1.0]])  # as sure as can be of a class that nothing else is predicted to be
    assert class_balanced_labels(sure, torch.ones(3)).tolist() == [2]


def test_what_is_equally_sure_is_labelled_together():
    probabilities = torch.tensor([[0.9, 0.1]] * 3 + [[0.8, 0.2]])
    thresholds = thresholds_of(probabilities, 0.25)
    assert class_balanced_labels(probabilities, thresholds).tolist() == [0, 0, 0, NO_LABEL]
    near = torch.tensor([0.9, 0.9 - 1e-6])  # in one bin
    assert len(confidence_bins(near).unique()) == 1
    thresholds = thresholds_of(torch.stack([near, 1 - near], 1), 0.5)
    assert thresholds[0] == near[1]


def test_bins_tell_apart_what_networks_are_nearly_sure_of():
    sure = torch.tensor([1.0, 1 - 2**-24, 1 - 2**-23, 1 - 2**-20, 0.999, 0.99, 0.5, 0.25, 0.1, 1e-3])
    bins = confidence_bins(sure)
    assert bins.tolist() == sorted(bins.tolist())
    assert len(bins.unique()) == len(sure)
    assert 0 <= int(bins.min()) <= int(bins.max()) < BINS
    assert int(confidence_bins(torch.tensor(0.0))) < BINS
    assert int(confidence_bins(torch.tensor(1 + 1e-6))) == 0  # a mean of two softmaxes may round beyond 1
    fine = torch.linspace(0.5, 1, 5000)
    assert len(confidence_bins(fine).unique()) > 3000
    assert len(confidence_bins(torch.linspace(0.1, 0.11, 100)).unique()) > 90
    every = confidence_bins(torch.linspace(0, 1, 100_001))
    assert (every.diff() <= 0).all()


def test_a_share_is_read_as_it_is_written():
    """0.3 of ten is three, however the binary number next to 0.3 multiplies."""
    probabilities = torch.stack([torch.linspace(0.6, 0.9, 10), 1 - torch.linspace(0.6, 0.9, 10)], 1)
    for share in (0.3, 0.1 + 0.2, round(0.2 + 0.05 * 2, 9)):
        thresholds = thresholds_of(probabilities, share)
        assert (class_balanced_labels(probabilities, thresholds) == 0).sum() == 3
