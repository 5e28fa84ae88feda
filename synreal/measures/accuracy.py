"""Accuracies of classes of images."""

from __future__ import annotations

from collections.abc import Sequence

from synreal.functional.confusion import class_recall, share_right
from synreal.measures.base import MEASURES, Measure
from synreal.measures.collectors import ImageConfusion


@MEASURES.register
class MeanClassAccuracy(Measure[ImageConfusion]):
    """Mean of per-class recall, VisDA's official score; a class without images is left out."""

    name = "mean_class_accuracy"
    summary = "mean of per-class recall over the classes that have images"
    heading = "mean-class"
    collector = ImageConfusion
    per_class_heading = "Recall"

    def compute(self, collected: ImageConfusion) -> float:
        """Return the mean."""
        return float(class_recall(collected.confusion).nanmean())

    def per_class(self, collected: ImageConfusion) -> Sequence[float]:
        """Return each class's recall."""
        recall: list[float] = class_recall(collected.confusion).tolist()
        return recall


@MEASURES.register
class Accuracy(Measure[ImageConfusion]):
    """Share of images whose class was recognised (overall top-1)."""

    name = "accuracy"
    summary = "share of images whose class was recognised"
    heading = "overall"
    collector = ImageConfusion

    def compute(self, collected: ImageConfusion) -> float:
        """Return the share."""
        return float(share_right(collected.confusion))
