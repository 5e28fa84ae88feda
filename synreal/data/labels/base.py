"""What the library asks of a kind of label, and the registry of kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.tv_tensors import TVTensor

from synreal.registry import Registry

Label = TypeVar("Label")
Shape = TypeVar("Shape", bound=TVTensor)
Table = Sequence[int | None]
"""For each class of a target its number in the source; None where the source does not have it."""


class Counts(NamedTuple):
    """What there is to learn from, in one label or in all labels of a part.

    Attributes:
        labels: Images, pixels or boxes by class: int64, (C,).
        ignored: Pixels without a class, or boxes around crowds.
        small: Boxes, or pixels, that are too little to be learned from.
    """

    labels: NDArray[np.int64]
    ignored: int = 0
    small: int = 0


class Geometry(Protocol):
    """A drawn change of an image's geometry, as views make it."""

    @property
    def before(self) -> tuple[int, int]:
        """Height and width of the image."""
        ...

    @property
    def after(self) -> tuple[int, int]:
        """Height and width of the view."""
        ...

    def __call__(self, shape: Shape, /) -> Shape:
        """Move a ``Mask``, ``BoundingBoxes`` or ``Image`` of ``torchvision.tv_tensors`` as the image was moved."""
        ...


class LabelKind(ABC, Generic[Label]):
    """A kind of label: what an image can be labelled with, and all that depends on it. It holds no state.

    Whatever is left as it is here suits a label that is one tensor.

    Attributes:
        name: What data sets, tasks and messages call it, in the plural, e.g. ``"masks"``.
        summary: One line for listings.
        unit: What ``count`` counts, in the plural.
        noun: What tells two labels apart, in messages.
        ignored: What reports call the labels that are ignored.
        unlabelled: How reports introduce the number of images without any label; None where none can be.
        background: Whether a first class called ``"background"`` is all that is left over, which a set may lack.
        leaves_out: Whether ``realign`` may leave items out; then labels are looked at before any item is read.
        geometric: Whether labels say where something is, so that they must move with the pixels.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str]
    noun: ClassVar[str] = "label"
    ignored: ClassVar[str] = "ignored"
    unlabelled: ClassVar[str | None] = None
    background: ClassVar[bool] = False
    leaves_out: ClassVar[bool] = False
    geometric: ClassVar[bool] = True

    @abstractmethod
    def realign(self, label: Label, table: Table) -> Label | None:
        """Return a label of a target with the source's classes; None leaves the item out."""

    @abstractmethod
    def resize(self, label: Label, before: tuple[int, int], after: tuple[int, int]) -> Label:
        """Return the label of an image that was resized.

        Args:
            label: Its label.
            before: Height and width of the image as it was.
            after: Height and width that it has now.
        """

    @abstractmethod
    def transform(self, label: Label, geometry: Geometry) -> Label:
        """Return the label in the geometry that the image got."""

    @abstractmethod
    def count(self, label: Label, classes: int) -> Counts:
        """Count what there is of each class.

        Args:
            label: A label without a ``problem``.
            classes: Number of classes.
        """

    @abstractmethod
    def problem(self, label: Label, image_size: tuple[int, int] | None, classes: Sequence[str]) -> str | None:
        """Say what is wrong with a label.

        Args:
            label: The label.
            image_size: Height and width of its image; None where they are not known yet: then what depends on them is
                not looked at.
            classes: Class names.

        Returns:
            What was found and expected, to stand behind the place and a colon; None if nothing is wrong.
        """

    def classes_problem(self, classes: Sequence[str]) -> str | None:
        """Say why labels cannot tell some classes apart; None if they can."""
        return None

    def remark(self, label: Label, classes: int, place: str) -> tuple[str, str] | None:
        """Say what is suspicious about a label that has no problem.

        Args:
            label: The label.
            classes: Number of classes.
            place: Where it stands, for the sentence.

        Returns:
            A few words for faults of this sort, and a sentence; None if there is nothing to say.
        """
        return None

    def teaches(self, counts: Counts) -> str | None:
        """Say why a whole part can teach nothing; None if it can.

        Args:
            counts: Sums over the part.

        Returns:
            A clause to stand behind a colon.
        """
        return None

    def digest(self, label: Label) -> bytes:
        """Return a label as bytes, for fingerprints."""
        return torch.as_tensor(label).contiguous().numpy().tobytes()

    def digests(self, labels: Iterable[Label]) -> Iterator[bytes]:
        """Return the labels of a set as bytes, for its fingerprint."""
        return map(self.digest, labels)

    def encode(self, label: Label) -> dict[str, NDArray[Any]]:
        """Return a label as arrays to be kept in a file; none of them is called ``"image"``."""
        return {"label": torch.as_tensor(label).contiguous().numpy()}

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> Label:
        """Return the label that ``encode`` gave these arrays for."""
        return cast(Label, torch.from_numpy(arrays["label"]))


LABELS: Registry[LabelKind[Any]] = Registry("kind of label", "labels", LabelKind, texts=("summary", "unit"))
"""The kinds of label by name."""


def span_problem(labels: Tensor, classes: Sequence[str]) -> str | None:
    """Say that some numbers stand for no class; None if all do."""
    if not labels.numel() or (int(labels.min()) >= 0 and int(labels.max()) < len(classes)):
        return None
    return f"labels span {int(labels.min())}..{int(labels.max())}, expected 0..{len(classes) - 1}."
