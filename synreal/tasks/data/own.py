"""A user's own data, in what tools export: what all formats share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import field_validator

from synreal.errors import unknown_name
from synreal.tasks.data.registry import PARTS, Domain, FolderData

_PARTS = tuple(part for parts in PARTS.values() for part in parts)


class OwnData(FolderData):
    """Data in somebody's folder; may be source or target.

    As a source it has ``"train"`` and ``"heldout"``, as a target ``"test"``.

    Attributes:
        classes: Names in the order of their numbers, where the format has numbers alone; or the names that are used,
            where it has names: what else is labelled is left out.
        splits: Where each part is found, e.g. ``{"train": "images/train", "test": "images/val"}``; what a value means
            is the format's. Without ``"heldout"``, some of ``"train"`` are held out; without ``"train"`` or ``"test"``
            that part is everything.
    """

    classes: tuple[str, ...] | None = None
    splits: dict[str, str] = {}

    domains: ClassVar[tuple[Domain, ...]] = ("source", "target")

    @field_validator("classes", mode="before")
    @classmethod
    def _class_names(cls, value: Any) -> Any:
        # YAML reads 0 and 1 as numbers, and yes and no as switches; {0: car, 1: bus} is how YOLO writes it.
        if isinstance(value, Mapping):
            keys = [int(key) for key in value]
            if sorted(keys) != list(range(len(keys))):
                raise ValueError(f"expected the numbers 0 to {len(keys) - 1}, got {', '.join(map(str, value))}")
            value = [value[key] for key in sorted(value, key=int)]
        if isinstance(value, Sequence) and not isinstance(value, str):
            return tuple(str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in value)
        return value

    @field_validator("classes")
    @classmethod
    def _once_each(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value) or not all(map(str.strip, value))):
            raise ValueError("expected at least one name, each once and none empty")
        return value

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

    def class_names(self, task: str) -> tuple[str, ...] | None:
        """Return ``classes``, with the background before them in segmentation; None where only reading tells."""
        if self.classes is None or task != "segmentation" or "background" in self.classes:
            return self.classes
        return ("background", *self.classes)

    def place(self, split: str) -> str | None:
        """Return what ``splits`` gives for a part; the held-out images are part of ``"train"`` unless it says."""
        return self.splits.get(split, self.splits.get("train") if split == "heldout" else None)

    def part(self, names: Sequence[str], split: str) -> list[int]:
        """Choose the images of a part among those found at ``place(split)``; see ``chosen``."""
        return list(range(len(names))) if "heldout" in self.splits else self.chosen(names, split)
