"""Measures of a trained network: thin layers over torchmetrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from synreal.errors import DataError


def confusion_matrix(predictions: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Count predictions by true class.

    Args:
        predictions: Class ids, int64, (N,); N may be 0.
        targets: Class ids, int64, (N,).
        num_classes: C.

    Returns:
        int64, (C, C); rows are true classes, columns predicted ones.

    Raises:
        DataError: If an id lies outside ``[0, C)`` or the shapes differ.
    """
    if predictions.shape != targets.shape or predictions.ndim != 1:
        raise DataError(f"Expected two vectors of ids, got {tuple(predictions.shape)} and {tuple(targets.shape)}.")
    for name, ids in (("predictions", predictions), ("targets", targets)):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
            raise DataError(f"{name} span {int(ids.min())}..{int(ids.max())}, expected 0..{num_classes - 1}.")
    if not predictions.numel():
        return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=predictions.device)
    matrix: Tensor = multiclass_confusion_matrix(predictions, targets, num_classes, validate_args=False)
    return matrix.long()


def class_recall(confusion: Tensor) -> Tensor:
    """Return each class's recall, float64, (C,); NaN for a class that has no sample."""
    counts = confusion.double()
    return counts.diagonal() / counts.sum(1)


def accuracy(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    """Return the share of right predictions (overall top-1), in [0, 1]; NaN without samples."""
    counts = confusion_matrix(predictions, targets, num_classes).double()
    return float(counts.diagonal().sum() / counts.sum())


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
