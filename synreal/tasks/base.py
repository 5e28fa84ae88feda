"""What the training loop asks of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.data import Dataset
from typing_extensions import Self

from synreal.records import Score
from synreal.weights import WeightsOrigin


class Meter(ABC):
    """Collects what a score needs, over batches and processes."""

    @abstractmethod
    def update(self, output: Any, targets: Any) -> None:
        """Add one batch."""

    @abstractmethod
    def state(self) -> Tensor:
        """Return counts that add up over processes."""

    @abstractmethod
    def load(self, state: Tensor) -> Self:
        """Replace the counts."""

    @abstractmethod
    def compute(self) -> Score:
        """Return the score."""


class Task(ABC):
    """A task on one source and its targets.

    A training item is read by ``(epoch, index)`` and is a function of the run's seed and of these alone.

    Attributes:
        classes: Names of the classes.
        aligned_views: Whether the views of an image share their geometry, so that patches of them can be compared.
    """

    classes: tuple[str, ...]
    aligned_views: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def load(cls, source: str, targets: Sequence[str], *, seed: int, image_size: int) -> Self:
        """Read the data."""

    @abstractmethod
    def build_student(self, backbone: str, weights: str) -> tuple[nn.Module, WeightsOrigin]:
        """Build the network with the task's head."""

    @abstractmethod
    def training_data(self, *, views: int, seed: int, augment_ops: int, augment_magnitude: float) -> Dataset[Any]:
        """Return items ``(views, target)``, read by ``(epoch, index)``."""

    @abstractmethod
    def test_data(self) -> Mapping[str, Dataset[Any]]:
        """Return items ``(image, target)``: the held-out source as ``"source"``, and each target by name."""

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """Turn a batch of uint8 images into the network's input, on the batch's device."""

    @abstractmethod
    def loss(self, output: Any, targets: Any) -> Tensor:
        """Return the task's loss, a scalar."""

    @abstractmethod
    def meter(self, name: str) -> Meter:
        """Return a fresh meter for one of ``test_data``."""

    @property
    @abstractmethod
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each part: ``"train"``, ``"source"`` and each target."""

    @property
    @abstractmethod
    def chance(self) -> float:
        """The score of guessing."""
