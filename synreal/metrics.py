"""Measures of predictions and features as plain functions; what a run is measured by is in ``synreal.measures``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from torch import Tensor

from synreal import functional
from synreal.errors import DataError
from synreal.functional.calibration import calibration_bins, calibration_error
from synreal.functional.coco import coco_evaluate, coco_ground_truth, coco_results
from synreal.functional.confusion import class_iou, class_recall, confusion_matrix, share_right

__all__ = [
    "accuracy",
    "coco_ap",
    "confusion_matrix",
    "expected_calibration_error",
    "hyperspherical_energy",
    "linear_cka",
    "match_rate",
    "mean_class_accuracy",
    "mean_iou",
]


def accuracy(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    """Return the share of right predictions (overall top-1), in [0, 1]; NaN without samples."""
    return float(share_right(confusion_matrix(predictions, targets, num_classes)))


def mean_class_accuracy(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    """Return the mean of per-class recall, VisDA's official score, in [0, 1].

    A class without samples is left out of the mean (the VisDA script counts it as 0; its data have every class).

    Args:
        predictions: Class ids, (N,).
        targets: Class ids, (N,).
        num_classes: C.

    Returns:
        The mean over classes that have samples; NaN if none has.
    """
    return float(class_recall(confusion_matrix(predictions, targets, num_classes)).nanmean())


def mean_iou(predictions: Tensor, targets: Tensor, num_classes: int, ignore_index: int = 255) -> float:
    """Return the mean intersection over union of a whole set, in [0, 1].

    Pixels are counted over the set, and classes compared after that: it is not a mean over images.

    Args:
        predictions: Class ids of all pixels of the set, any integer dtype and shape.
        targets: Class ids, of the same shape.
        num_classes: C.
        ignore_index: Pixels whose target is this are left out.

    Returns:
        The mean over classes that occur or are predicted; NaN if there is no pixel to count.

    Raises:
        DataError: As ``confusion_matrix``.
    """
    return float(class_iou(confusion_matrix(predictions, targets, num_classes, ignore_index)).nanmean())


def coco_ap(
    predictions: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    *,
    num_classes: int,
    max_detections: int = 100,
) -> dict[str, float]:
    """Return COCO's average precision of boxes over a whole set.

    Args:
        predictions: One per image: ``boxes`` (M, 4), x0, y0, x1, y1 in pixels; ``scores`` (M,); ``labels`` (M,), int64
            in ``[0, num_classes)``. M may be 0.
        targets: One per image: ``boxes`` (K, 4) and ``labels`` (K,); optionally ``crowd`` (K,), bool: a region of
            many objects, matched as often as one likes and never missed; and ``area`` (K,) in square pixels, that of
            the box by default. K may be 0.
        num_classes: C.
        max_detections: How many detections count per image and class, those of highest score.

    Returns:
        ``ap`` (mean over IoU .50:.05:.95), ``ap50``, ``ap75``, ``ap_small`` (area up to 32² pixels), ``ap_medium`` (to
        96²), ``ap_large``, and ``ar`` (recall at ``max_detections``); in [0, 1], NaN where there is no such object.

    Raises:
        DataError: If a shape, label, box or score does not fit, or the numbers of images differ.
    """
    classes = [str(label) for label in range(num_classes)]
    if len(predictions) != len(targets):
        raise DataError(f"Predictions of {len(predictions)} images, but targets of {len(targets)}.")
    ground_truth = coco_ground_truth(targets, classes)
    return coco_evaluate(ground_truth, coco_results(predictions, num_classes), max_detections).measures


def expected_calibration_error(
    probabilities: Tensor, targets: Tensor, bins: int = 15, *, ignore_index: int | None = None
) -> float:
    """Return how far a network's confidence is from the share of its predictions that are right, in [0, 1].

    Guo et al., ICML 2017, eq. 3, with bins ``((m - 1)/M, m/M]`` of the largest probability.

    Args:
        probabilities: (N, C, ...), floating: the softmax of logits, C classes in dimension 1.
        targets: Class ids, (N, ...).
        bins: M.
        ignore_index: Samples whose target is this are left out; by default none is.

    Returns:
        The error; 0 is best, NaN if there is no sample or a probability is NaN.

    Raises:
        DataError: If a probability lies outside [0, 1], the shapes do not fit, or there is no bin.
    """
    if probabilities.shape[:1] + probabilities.shape[2:] != targets.shape or not probabilities.is_floating_point():
        raise DataError(
            f"Expected probabilities of the classes, (N, C, ...), and class ids, (N, ...), got "
            f"{tuple(probabilities.shape)} of {probabilities.dtype} and {tuple(targets.shape)}."
        )
    confidences, predictions = probabilities.max(1)
    right = predictions == targets
    if ignore_index is not None:
        kept = targets != ignore_index
        confidences, right = confidences[kept], right[kept]
    return float(calibration_error(calibration_bins(confidences, right, bins)))


def hyperspherical_energy(features: Tensor, s: float = 1.0) -> float:
    """Return the mean energy of pairs of feature directions; lower is more diverse.

    ``synreal.functional.hyperspherical_energy`` takes several powers at once, says how many pairs coincide, and tells
    how the numbers that papers print for s = 0 compare: they are twice these.

    Args:
        features: (N, D), of any lengths.
        s: The power, at least 0: the mean over i != j of ``||v_i - v_j||^-s``, for 0 of ``log(||v_i - v_j||^-1)``, v
            being the rows as unit vectors.

    Returns:
        The energy; NaN for fewer than two rows or for a row without a direction, infinite if all pairs coincide. If
        some do, a warning says how many were left out.

    Raises:
        DataError: If the features are no matrix, or s is below 0.
    """
    found = functional.hyperspherical_energy(features, (s,))
    if 0 < found.coincident < found.pairs:
        warnings.warn(
            f"{found.coincident:,} of {found.pairs:,} pairs of features coincide, e.g. of copies of an image, and have "
            "no finite energy: they were left out.",
            stacklevel=2,
        )
    return float(found.values[0])


def linear_cka(x: Tensor, y: Tensor, unbiased: bool = False) -> float:
    """Return how alike two representations of the same images are: linear CKA, as ``synreal.functional.linear_cka``.

    Args:
        x: (n, D_x).
        y: (n, D_y); row i of both is of one image.
        unbiased: Whether to estimate without the bias of few images.

    Returns:
        In [0, 1], or at most 1 if unbiased; 1 if one is the other rotated, scaled and shifted. NaN if a side is
        constant, or for fewer than 2 images, 4 if unbiased.

    Raises:
        DataError: If a side is no matrix, or the two have different numbers of rows.
    """
    return float(functional.linear_cka(x, y, unbiased=unbiased))


def match_rate(predictions: Tensor, changed: Tensor, *, valid: Tensor | None = None) -> float:
    """Return the share of predictions that survive a change of the images, e.g. of colours, in [0, 1].

    Args:
        predictions: Class ids, of any integer dtype and shape, of images or of pixels.
        changed: Class ids for the same images after the change, of the same shape.
        valid: bool, of the same shape: which predictions count; by default all.

    Returns:
        The share; NaN if nothing counts.

    Raises:
        DataError: If the shapes differ, or the values are not integers.
    """
    shapes = [tuple(one.shape) for one in (predictions, changed, valid) if one is not None]
    if len(set(shapes)) > 1 or predictions.is_floating_point() or changed.is_floating_point():
        raise DataError(
            f"Expected integer class ids of one shape, got {predictions.dtype} and {changed.dtype} of "
            f"{', '.join(map(str, shapes))}. Take the argmax of scores first."
        )
    same = predictions == changed
    return float((same if valid is None else same[valid]).double().mean())
