"""Measures of predictions as plain functions; what a run is measured by is in ``synreal.measures``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from synreal.errors import DataError
from synreal.functional.coco import coco_evaluate, coco_ground_truth, coco_results
from synreal.functional.confusion import class_iou, class_recall, confusion_matrix, share_right

__all__ = ["accuracy", "coco_ap", "confusion_matrix", "mean_class_accuracy", "mean_iou"]


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
