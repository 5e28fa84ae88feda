"""What a task says of its network so that it can be written as a file that runs without synreal, and be checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from synreal.weights import Statistics, Student

Run = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
"""Runs an exported file: inputs by name -> outputs in order, all on the CPU."""

_PARTNER: Final = 0.05  # up to which two boxes can be the same: corners, as a share of the image's side, and score


@dataclass(frozen=True)
class Agreement:
    """How far a file and the network that it was made of agree.

    Attributes:
        difference: Largest difference of a probability or score, in [0, 1], and of a box's side as a share of the
            image's longer one; NaN where one of the two is.
        equal: How many classes, pixels or boxes are equal.
        total: Of how many; a box that one of the two alone has counts, too.
        unit: What is counted.
        images: Of how many images.
    """

    difference: float
    equal: int
    total: int
    unit: str
    images: int

    @property
    def share(self) -> float:
        """The share that is equal; 1 where neither of the two says anything."""
        return self.equal / self.total if self.total else 1.0

    def within(self, tolerance: float) -> bool:
        """Return whether differences are at most ``tolerance``, and at most that share is not equal."""
        return self.difference <= tolerance and self.share >= 1 - tolerance

    def and_of(self, other: Agreement) -> Agreement:
        """Return what holds for the images of both."""
        differences = torch.tensor([self.difference, other.difference], dtype=torch.float64)
        return Agreement(
            float(differences.amax()),  # NaN stays NaN
            self.equal + other.equal,
            self.total + other.total,
            self.unit,
            self.images + other.images,
        )


@dataclass(frozen=True)
class Exportable:
    """A network as it is written, and what its users and its check need to know.

    Attributes:
        graph: Takes tensors alone, in the order of ``example``, and returns one tensor or a tuple of them.
        example: Inputs by name, of the shapes and dtypes that it takes; two images.
        free: By input, the axes that may have other lengths: what each is called, and what its length is a multiple of.
        outputs: Names of the outputs.
        preparation: How an image is prepared, in plain values that JSON can hold.
        loading: Python that runs the ONNX file ``FILE`` on the image ``IMAGE`` by onnxruntime.
        stand_in: Makes of what runs the file a network that the task can predict with.
        compare: What the network and its stand-in, in this order, say of a batch of test images, compared.
        traced: Whether the file comes from the operations of one run of the graph; else ``torch.export`` reads it.
    """

    graph: nn.Module
    example: Mapping[str, Tensor]
    free: Mapping[str, Mapping[int, tuple[str, int]]]
    outputs: tuple[str, ...]
    preparation: Mapping[str, Any]
    loading: str
    stand_in: Callable[[Run], nn.Module]
    compare: Callable[[Student, Student, Any], Agreement]
    traced: bool = False


class ExportedNetwork(nn.Module):
    """What a task can predict with in place of a network that takes one tensor and returns one.

    Args:
        run: Runs the file.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        """Return the first output for ``images``, (N, 3, H, W)."""
        return self.run({"images": images})[0]


def normalised(statistics: Statistics) -> dict[str, Any]:
    """Return what is true of every image, and how it is normalised."""
    mean, std = statistics
    return {"colours": "RGB", "range": [0, 1], "mean": list(mean), "std": list(std), "layout": "NCHW, float32"}


def compared_probabilities(theirs: Sequence[Tensor], ours: Sequence[Tensor], unit: str) -> Agreement:
    """Compare the probabilities of classes.

    Args:
        theirs: Of each image, (C,) or (C, H, W).
        ours: Likewise.
        unit: What has a class.
    """
    differences = torch.stack([(one - other).abs().amax() for one, other in zip(theirs, ours, strict=True)])
    same = [one.argmax(0) == other.argmax(0) for one, other in zip(theirs, ours, strict=True)]
    equal, total = sum(int(one.sum()) for one in same), sum(one.numel() for one in same)
    return Agreement(float(differences.amax()), equal, total, unit, len(theirs))


def compared_boxes(
    theirs: Sequence[Mapping[str, Tensor]], ours: Sequence[Mapping[str, Tensor]], sides: Sequence[int]
) -> Agreement:
    """Compare boxes: each of the one has a partner of its class among the other, the nearest one.

    Args:
        theirs: Of each image ``boxes``, (M, 4), ``scores``, (M,), and ``labels``, (M,).
        ours: Likewise.
        sides: The longer side of each image, in pixels.
    """
    largest, equal, total = torch.zeros(1), 0, 0
    for one, other, side in zip(theirs, ours, sides, strict=True):
        total += max(len(one["boxes"]), len(other["boxes"]))
        if not len(one["boxes"]) or not len(other["boxes"]):
            continue
        # Not by their overlap: a box may be empty.
        corners = (one["boxes"][:, None] - other["boxes"][None]).abs().amax(2) / side
        scores = (one["scores"][:, None] - other["scores"][None]).abs()
        away = (corners + scores).masked_fill(one["labels"][:, None] != other["labels"][None], math.inf)
        least, partner = away.min(1)
        found = ~(least > _PARTNER)  # with NaN, which is no difference that is small
        equal += min(int(found.sum()), len(partner[found].unique()))
        rows = torch.arange(len(partner))[found]
        largest = torch.cat([largest, corners[rows, partner[found]], scores[rows, partner[found]]])
    return Agreement(float(largest.amax()), equal, total, "boxes", len(theirs))
