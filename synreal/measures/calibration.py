"""Calibration: how far a network's confidence is from the share of its predictions that are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet
from synreal.errors import DataError, TrainingError
from synreal.functional.calibration import calibration_bins, calibration_error
from synreal.functional.precision import to_float64
from synreal.measures.base import MEASURES, Collector, Measure, State, Sum

BINS: Final = 15

_STEPS: Final = 2**24  # of confidences: sums of up to 2^29 are then exact in float64, in whichever order


class ConfidenceBins(Collector):
    """Sorts predictions of images or of pixels into bins of confidence.

    Confidences are rounded to 24 binary places, which is what float32 has of those above one half: their sums are then
    exact, and the same over any number of processes.
    """

    label = ("classes", "masks")
    asks_confidence = True

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.bins = Sum(3, BINS, dtype=torch.float64)

    def state(self) -> Sequence[State]:
        """Return the bins."""
        return [self.bins]

    def update(self, output: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]) -> None:
        """Add one batch of logits, whose softmax says how sure the network is.

        Args:
            output: Logits, (N, C) or (N, C, H, W), or a list of (C, H, W).
            targets: Class ids, (N,) or (N, H, W), or a list of (H, W); pixels of ``IGNORE`` are ignored.

        Raises:
            TrainingError: If the output is class ids, which say nothing of that.
            DataError: If shapes differ.
        """
        for scores, target in _batches(output, targets):
            if scores.ndim != target.ndim + 1:
                raise TrainingError(
                    f"The measure 'ece' got class ids of shape {tuple(scores.shape)}, which do not say how sure the "
                    "network is. Give logits, or ids and confidences by update_sure."
                )
            self._add(scores.argmax(1), target, scores.float().softmax(1).amax(1))

    def update_sure(
        self, output: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor], confidences: Any
    ) -> None:
        """Add one batch.

        Args:
            output: Scores as ``update`` takes them, or class ids as the targets are.
            targets: As ``update`` takes them.
            confidences: Probability of the class that is predicted, in [0, 1], in the shape of the targets.

        Raises:
            DataError: If shapes differ, or a confidence is none.
        """
        for predicted, target, confidence in _batches(output, targets, confidences):
            self._add(predicted.argmax(1) if predicted.ndim > target.ndim else predicted, target, confidence)

    def _add(self, predicted: Tensor, target: Tensor, confidence: Tensor) -> None:
        if predicted.shape != target.shape:
            raise DataError(f"Expected ids of one shape, got {tuple(predicted.shape)} and {tuple(target.shape)}.")
        right = predicted == target.to(predicted.device)
        if target.ndim > 1:  # a class of images may have this number, one of pixels may not
            kept = target.to(predicted.device) != IGNORE
            right, confidence = right[kept], confidence[kept]
        rounded = (to_float64(confidence) * _STEPS).round() / _STEPS
        self.bins.add(calibration_bins(rounded, right.to(rounded.device), BINS))


def _batches(*columns: Tensor | Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Go through images of one size all at once, through a list one by one."""
    if all(isinstance(column, Tensor) for column in columns):
        yield tuple(torch.as_tensor(column) for column in columns)
    else:
        for image in zip(*columns, strict=True):
            yield tuple(part[None] for part in image)


@MEASURES.register
class CalibrationError(Measure[ConfidenceBins]):
    """Expected calibration error (Guo et al., ICML 2017) over 15 bins, of images or of pixels."""

    name = "ece"
    summary = "expected calibration error: confidence against the share that is right, in 15 bins"
    heading = "ECE"
    collector = ConfidenceBins
    higher_is_better = False

    def compute(self, collected: ConfidenceBins) -> float:
        """Return the error; NaN if there is nothing to count."""
        return float(calibration_error(collected.bins.value))
