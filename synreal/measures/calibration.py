"""Calibration: how far a network's confidence is from the share of its predictions that are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet
from synreal.functional.calibration import calibration_bins, calibration_error
from synreal.functional.precision import to_float64
from synreal.measures.base import MEASURES, Measure, State, Sum
from synreal.measures.confidence import ReadsConfidence

BINS: Final = 15

_STEPS: Final = 2**24  # of confidences: sums of up to 2^29 are then exact in float64, in whichever order


class ConfidenceBins(ReadsConfidence):
    """Sorts predictions of images or of pixels into bins of confidence.

    Confidences are rounded to 24 binary places, which is what float32 has of those above one half: their sums are then
    exact, and the same over any number of processes.
    """

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.bins = Sum(3, BINS, dtype=torch.float64)

    def state(self) -> Sequence[State]:
        """Return the bins."""
        return [self.bins]

    def add(self, predicted: Tensor, target: Tensor, confidence: Tensor) -> None:
        """Sort the images, or the pixels that are not ignored, into their bins."""
        right = predicted == target
        if target.ndim > 1:  # a class of images may have this number, one of pixels may not
            kept = target != IGNORE
            right, confidence = right[kept], confidence[kept]
        rounded = (to_float64(confidence) * _STEPS).round() / _STEPS
        self.bins.add(calibration_bins(rounded, right.to(rounded.device), BINS))


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
