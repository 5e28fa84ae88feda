"""A user's own data, in what tools export: what all formats share. Imports no torch."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field, field_validator

from synreal.data.datasets import PARTS, DataSet, Domain, FolderData
from synreal.data.files.paths import inside, some, subfolders
from synreal.errors import DataError, unknown_name

_PART_WORDS: Final = {
    "train": "train", "training": "train", "val": "heldout", "valid": "heldout", "validation": "heldout",
    "test": "test", "testing": "test",
}  # fmt: skip

_PARTS = tuple(part for parts in PARTS.values() for part in parts)


class OwnData(FolderData):
    """Data in somebody's folder; may be source or target.

    As a source it has ``"train"`` and ``"heldout"``, as a target ``"test"``.

    Attributes:
        classes: Names in the order of their numbers, where the format has numbers alone; or the names that are used,
            where it has names: what else is labelled is left out.
        splits: Where each part is found, e.g. ``{"train": "images/train", "test": "images/val"}``; what a value means
            is the format's. Without ``"heldout"``, some of ``"train"`` are held out. Without ``splits`` each part is
            everything.
    """

    classes: tuple[str, ...] | None = None
    splits: dict[str, str] = Field(default_factory=dict)

    domains: ClassVar[tuple[Domain, ...]] = ("source", "target")

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, value: Any) -> Any:
        return value if value is None else read_names(value)

    @field_validator("splits")
    @classmethod
    def _known_parts(cls, value: dict[str, str]) -> dict[str, str]:
        for part in value:
            if part not in _PARTS:
                raise unknown_name("split", part, _PARTS)
        return value

    @property
    def apart(self) -> bool:
        """Whether it tests on other images than it trains on: where its splits say so."""
        return {"train", "test"} <= set(self.splits)

    def training_part(self) -> tuple[DataSet, str] | None:
        """Return ``"train"``, where the splits tell it from what is tested on."""
        return (self, "train") if self.apart and self.splits["train"] != self.splits["test"] else None

    @property
    def base(self) -> Path:
        """The folder that ``splits`` is relative to: the root."""
        return self.root

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Return ``classes``, with the background before them in masks; None where only reading tells."""
        return None if self.classes is None else self.with_background(self.classes, label)

    @staticmethod
    def with_background(names: Sequence[str], label: str) -> tuple[str, ...]:
        """Return class names, in masks with the background before them unless it is among them."""
        return tuple(names) if label != "masks" or "background" in names else ("background", *names)

    def place(self, split: str, other: str | None = None) -> str | None:
        """Return what ``splits`` gives for a part; the held-out images are part of ``"train"`` unless it says.

        Args:
            split: The part.
            other: Taken where ``splits`` does not name the part.

        Raises:
            DataError: If ``splits`` names other parts alone: everything else would hold them too.
        """
        found = self.splits.get(split, self.splits.get("train") if split == "heldout" else None) or other
        if found is None and self.splits:
            wanted = "train" if split == "heldout" else split
            raise DataError(
                f"Data set {self.label!r}: splits names {' and '.join(self.splits)}, but not {wanted}. Say where those "
                "images are; without splits they are everything."
            )
        return found

    def part(self, names: Sequence[str], split: str) -> list[int]:
        """Choose the images of a part among those found at ``place(split)``; see ``chosen``."""
        if "heldout" in self.splits and self.splits["heldout"] != self.splits.get("train"):
            return list(range(len(names)))
        return self.chosen(names, split)

    def folder(self, split: str) -> Path:
        """Return the folder of a part where ``splits`` gives folders; without them, ``base``.

        Raises:
            DataError: If it does not exist or lies outside ``base``.
        """
        place, base = self.place(split), self.base
        where = f"Data set {self.label!r}, splits"
        if place is None:
            return base
        path = inside(base, place, where)
        if not path.is_dir():
            raise DataError(
                f"{where}: {path} {'is a file' if path.exists() else 'does not exist'}, expected a folder. Folders in "
                f"{base}: {some(subfolders(base), 12) or 'none'}."
            )
        return path

    def alike(self, split: str) -> tuple[str, ...]:
        """Return the parts whose classes are numbered alike, that one among them: those of the source, or the target's.

        Where classes are what is found, a class may be missing from one part.
        """
        return PARTS["source"] if split in PARTS["source"] else (split,)


def suggested_splits(places: Sequence[str], otherwise: str) -> str:
    """Write the ``splits`` that files or folders which were found suggest by their names.

    Args:
        places: Files or folders, relative to what ``splits`` is relative to.
        otherwise: What is written where no name tells a part.

    Returns:
        ``splits`` as YAML writes them in one line, e.g. ``"{train: train, heldout: valid, test: test}"``.
    """
    found: dict[str, str] = {}
    for place in sorted(places, key=lambda place: ("instances" not in place, len(place), place)):
        words = re.split(r"[^a-z]+", place.lower())
        part = next((part for word, part in _PART_WORDS.items() if word in words), None)
        if part is not None:
            found.setdefault(part, place)
    if "train" not in found and "test" not in found:
        return otherwise
    return "{" + ", ".join(f"{part}: {found[part]}" for part in _PARTS if part in found) + "}"


def read_names(value: Any) -> tuple[str, ...]:
    """Read class names as people write them.

    Args:
        value: A list of names, or a mapping from the numbers 0, 1, ... to names, as YOLO writes them. YAML reads a
            class 0 as a number; it is made a name again.

    Returns:
        The names, in the order of their numbers; composed Unicode, without white space around them.

    Raises:
        ValueError: If it is neither, a number is missing, or a name is missing, no text, or given twice.
    """
    if isinstance(value, Mapping):
        numbers = {int(key): name for key, name in value.items() if str(key).isdecimal()}
        if len(numbers) < len(value) or sorted(numbers) != list(range(len(value))):
            raise ValueError(f"expected names for the numbers 0 to {len(value) - 1}")
        value = [numbers[number] for number in range(len(numbers))]
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ValueError("expected a list of names, e.g. [car, bus]")
    names = []
    for name in value:
        if isinstance(name, bool):
            raise ValueError("YAML reads yes, no, on and off as switches: put the name in quotes")
        if not isinstance(name, (str, int)) or not str(name).strip() or not str(name).isprintable():
            raise ValueError(f"expected names, and {name!r} is not one")
        names.append(composed(str(name).strip()))
    if not names or len(set(names)) < len(names):
        raise ValueError("expected at least one name, and each once")
    return tuple(names)


def composed(name: str) -> str:
    """Return a name in composed Unicode: macOS writes the names of folders in pieces."""
    return unicodedata.normalize("NFC", name)


def warn_of_empty(where: str, classes: Sequence[str], labels: Sequence[int]) -> None:
    """Warn of classes without any image.

    Args:
        where: Which part of which data set.
        classes: Class names.
        labels: The class of each image.
    """
    there = set(labels)
    empty = [name for number, name in enumerate(classes) if number not in there]
    if empty and labels:
        warnings.warn(
            f"{where}: no image of {some(empty, 12)}. What is not there is neither learnt nor measured.", stacklevel=3
        )
