"""How sure a network is of what it predicts."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet
from synreal.errors import DataError, TrainingError
from synreal.measures.base import MEASURES, Collector, Measure, Rows, State

PIXELS: Final = 256
"""How many pixels of an image are kept, spread evenly over it."""

ENDING: Final = "-confidence"
"""How the name of the file ends that a run writes beside its scores."""


class ReadsConfidence(Collector):
    """A collector that is told how sure the network is of each image or pixel."""

    label = ("classes", "masks")
    asks_confidence = True

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
                    f"A measure of confidence got class ids of shape {tuple(scores.shape)}, which do not say how sure "
                    "the network is. Give logits, or ids and confidences by update_sure."
                )
            self._checked(scores.argmax(1), target, scores.float().softmax(1).amax(1))

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
            self._checked(predicted.argmax(1) if predicted.ndim > target.ndim else predicted, target, confidence)

    def _checked(self, predicted: Tensor, target: Tensor, confidence: Tensor) -> None:
        if predicted.shape != target.shape:
            raise DataError(f"Expected ids of one shape, got {tuple(predicted.shape)} and {tuple(target.shape)}.")
        self.add(predicted, target.to(predicted.device), confidence)

    @abstractmethod
    def add(self, predicted: Tensor, target: Tensor, confidence: Tensor) -> None:
        """Add images of one size: class ids, and how sure the network is of those predicted, (N,) or (N, H, W)."""


class Confidences(ReadsConfidence):
    """Keeps what is predicted of each image, or of some pixels of it, and how sure the network is of that."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.rows = Rows(3)  # confidence, predicted class, whether it is the true one

    def state(self) -> Sequence[State]:
        """Return the rows."""
        return [self.rows]

    def add(self, predicted: Tensor, target: Tensor, confidence: Tensor) -> None:
        """Add images, or the pixels of ``sampled`` that are not ignored."""
        dense = target.ndim > 1
        columns = [sampled(one) if dense else one for one in (confidence.float(), predicted, target)]
        sure, said, truth = (one.flatten().cpu() for one in columns)
        if dense:
            sure, said, truth = (one[truth != IGNORE] for one in (sure, said, truth))
        self.rows.add(torch.stack([sure.double(), said.double(), (said == truth).double()], 1))

    def files(self) -> Mapping[str, Any]:
        """Return all that was kept, image by image, as three lists of one length."""
        sure, said, right = self.rows.value.T
        return {
            ENDING: {"confidence": sure.tolist(), "predicted": said.long().tolist(), "right": right.bool().tolist()}
        }


def sampled(pixels: Tensor) -> Tensor:
    """Return ``PIXELS`` pixels of each image, spread evenly over its rows: of (N, H, W) (N, ``PIXELS``)."""
    flat = pixels.flatten(1)
    return flat[:, torch.arange(PIXELS, device=flat.device) * flat.shape[1] // PIXELS]


def _batches(*columns: Tensor | Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Go through images of one size all at once, through a list one by one."""
    if all(isinstance(column, Tensor) for column in columns):
        yield tuple(torch.as_tensor(column) for column in columns)
    else:
        for image in zip(*columns, strict=True):
            yield tuple(part[None] for part in image)


@MEASURES.register
class Confidence(Measure[Confidences]):
    """Mean probability of the class that is predicted, over images, or over 256 pixels of each.

    A run also writes each of them, with what was predicted and whether it is right, into ``predictions/``.
    """

    name = "confidence"
    summary = "mean probability of the class that is predicted; all of them go into a file"
    heading = "confidence"
    collector = Confidences

    def compute(self, collected: Confidences) -> float:
        """Return the mean; NaN if there is nothing to count."""
        sure = collected.rows.value[:, 0]
        return math.fsum(sure.tolist()) / len(sure) if len(sure) else math.nan  # in whichever order processes saw them
