"""Which classes are taken for which: counts, and what follows from them."""

from __future__ import annotations

import torch
from torch import Tensor

from synreal.errors import DataError


def confusion_matrix(predictions: Tensor, targets: Tensor, num_classes: int, ignore_index: int | None = None) -> Tensor:
    """Count predictions by true class.

    Args:
        predictions: Class ids, any integer dtype and shape; may be empty.
        targets: Class ids, any integer dtype, of the same shape and on the same device.
        num_classes: C.
        ignore_index: Where ``targets`` hold this, nothing is counted and the prediction may be anything. None counts
            everything.

    Returns:
        int64, (C, C); rows are true classes, columns predicted ones.

    Raises:
        DataError: If a counted id lies outside ``[0, C)``, the shapes differ, or the values are not integers.
    """
    if predictions.shape != targets.shape:
        raise DataError(f"Expected ids of one shape, got {tuple(predictions.shape)} and {tuple(targets.shape)}.")
    kept = None if ignore_index is None else targets != ignore_index
    counted = {}
    for name, ids in (("predictions", predictions), ("targets", targets)):
        if ids.is_floating_point() or ids.is_complex():
            raise DataError(f"{name} are {ids.dtype}, expected integer class ids; take the argmax of scores first.")
        counted[name] = (ids if kept is None else ids.where(kept, 0)).long()
        if ids.numel():
            low, high = (int(end) for end in counted[name].aminmax())
            if not 0 <= low <= high < num_classes:
                raise DataError(f"{name} span {low}..{high}, expected 0..{num_classes - 1}.")
    counting = counted["targets"]
    if kept is not None:
        # A class of their own: on full maps that takes a third of the time of selecting the others.
        counting = counting.where(kept, num_classes)
    pairs = counting.flatten() * num_classes + counted["predictions"].flatten()
    counts = torch.bincount(pairs, minlength=(num_classes + 1) * num_classes)
    return counts.view(num_classes + 1, num_classes)[:-1]


def class_recall(confusion: Tensor) -> Tensor:
    """Return each class's recall, float64, (C,); NaN for a class that has no sample."""
    counts = confusion.double()
    return counts.diagonal() / counts.sum(1)


def class_iou(confusion: Tensor) -> Tensor:
    """Return each class's intersection over union, TP / (TP + FP + FN).

    Args:
        confusion: Counts, (C, C); rows are true classes.

    Returns:
        float64, (C,), in [0, 1]; NaN for a class that neither occurs nor is predicted.
    """
    counts = confusion.double()
    hits = counts.diagonal()
    return hits / (counts.sum(0) + counts.sum(1) - hits)


def share_right(confusion: Tensor) -> Tensor:
    """Return the share of right predictions, float64, 0-d; NaN without samples.

    Args:
        confusion: Counts, (C, C); rows are true classes.
    """
    return confusion.diagonal().sum().double() / confusion.sum()
