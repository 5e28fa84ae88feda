"""One class per image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synreal.data.labels.base import LABELS, Counts, Geometry, LabelKind, Table


@LABELS.register
class Classes(LabelKind[int]):
    """One class per image: a whole number from 0."""

    name: ClassVar[str] = "classes"
    summary: ClassVar[str] = "One class per image."
    unit: ClassVar[str] = "images"
    noun: ClassVar[str] = "class"
    leaves_out: ClassVar[bool] = True
    geometric: ClassVar[bool] = False

    def realign(self, label: int, table: Table) -> int | None:
        """Look the class up; an image of a class that the source does not have is left out."""
        return table[int(label)]

    def resize(self, label: int, before: tuple[int, int], after: tuple[int, int]) -> int:
        """Return the class: it does not depend on the size."""
        return label

    def transform(self, label: int, geometry: Geometry) -> int:
        """Return the class: it does not depend on the geometry."""
        return label

    def count(self, label: int, classes: int) -> Counts:
        """Count one image."""
        return Counts(np.bincount([int(label)], minlength=classes))

    def problem(self, label: int, image_size: tuple[int, int] | None, classes: Sequence[str]) -> str | None:
        """Say that a label stands for no class."""
        if 0 <= int(label) < len(classes):
            return None
        return f"label {int(label)}, expected 0..{len(classes) - 1} for {len(classes)} classes."

    def teaches(self, counts: Counts) -> str | None:
        """Say that there is one class only, or none."""
        shown = np.count_nonzero(counts.labels)
        if not shown:
            return "there is no image"
        return "all images are of one class, and it takes two to tell apart" if shown == 1 else None

    def digests(self, labels: Iterable[int]) -> Iterator[bytes]:
        """Return the classes, int64, at once."""
        yield np.array([int(label) for label in labels], np.int64).tobytes()

    def encode(self, label: int) -> dict[str, NDArray[Any]]:
        """Return the class as an array without dimensions."""
        return {"label": np.array(label)}

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """Return the class."""
        return int(arrays["label"])
