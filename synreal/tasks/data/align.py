"""Bringing a target's classes to those of the source, by name."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synreal.errors import DataError
from synreal.tasks.data.base import IGNORE, Boxes, Images


class Alignment(NamedTuple):
    """How the classes of a target stand to those of the source.

    Attributes:
        table: For each class of the target its number in the source; None where the source does not have it.
        renamed: Pairs of names (target, source) that mean one class but are not written alike.
        missing: Classes of the source that the target does not have.
        extra: Classes of the target that the source does not have.
    """

    table: tuple[int | None, ...]
    renamed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def align_names(source: Sequence[str], target: Sequence[str]) -> Alignment:
    """Match class names; upper and lower case, spaces, ``_`` and ``-`` do not tell names apart.

    Args:
        source: The classes that the network knows.
        target: The classes of the data to test on.

    Returns:
        What was found, with at least one class in common.

    Raises:
        DataError: If no name is shared, or two names of one side mean the same.
    """
    known = {_plain(name): index for index, name in enumerate(source)}
    plain = [_plain(name) for name in target]
    for names, keys in ((source, [_plain(name) for name in source]), (target, plain)):
        if len(set(keys)) < len(keys):
            twice = next(name for name, key in zip(names, keys, strict=True) if keys.count(key) > 1)
            raise DataError(f"The class name {twice!r} stands twice among {', '.join(names)}.")
    table = tuple(known.get(key) for key in plain)
    found = [index for index in table if index is not None]
    if not found or (found == [0] and source[0] == "background" and len(source) > 1):
        near = difflib.get_close_matches(plain[-1], list(known), n=1)
        hint = f" Did you mean {source[known[near[0]]]!r} by {target[-1]!r}?" if near else ""
        raise DataError(
            f"Source and target share no class. Source: {', '.join(source)}. Target: {', '.join(target)}.{hint} "
            "Give both the same names, e.g. with 'classes' or 'label_map' in a description of the data set."
        )
    return Alignment(
        table,
        tuple((name, source[i]) for name, i in zip(target, table, strict=True) if i is not None and source[i] != name),
        tuple(name for index, name in enumerate(source) if index not in found),
        tuple(name for name, index in zip(target, table, strict=True) if index is None),
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def differences(alignment: Alignment) -> list[str]:
    """Say how classes differ, one line each; none if they are the same."""
    lines = [f"{theirs!r} is taken for {ours!r}" for theirs, ours in alignment.renamed]
    if alignment.missing:
        lines.append(f"without {', '.join(alignment.missing)}: not measured")
    if alignment.extra:
        lines.append(f"with {', '.join(alignment.extra)}, which the source does not have: left out")
    return lines


ImagesType = TypeVar("ImagesType", bound=Images)


def aligned(images: ImagesType, classes: Sequence[str], alignment: Alignment) -> ImagesType:
    """Give a target the classes of the source.

    Images of classes that the source does not have are left out in classification; their pixels become ``IGNORE`` in
    segmentation; their boxes are left out in detection, and the images stay.

    Args:
        images: Images with labels of the target.
        classes: The classes of the source.
        alignment: Of ``classes`` and ``images.classes``.

    Returns:
        Images with labels of the source; the same object where nothing changes.

    Raises:
        DataError: If no image is left.
    """
    if tuple(classes) == tuple(images.classes):
        return images
    view: Any = _Aligned(images, tuple(classes), alignment.table)
    return view  # type: ignore[no-any-return]  # it stands for the set in everything that tasks ask for


class _Aligned(Dataset[tuple[Tensor, Any]]):
    def __init__(self, images: Any, classes: tuple[str, ...], table: tuple[int | None, ...]) -> None:
        self.images = images
        self.classes = classes
        self.name: str = images.name
        self.split: str = images.split
        self.table = torch.tensor([-1 if number is None else number for number in table])
        self.fingerprint = hashlib.sha256(f"{images.fingerprint} {classes} {table}".encode()).hexdigest()
        self.kept = torch.arange(len(images))
        labels = getattr(images, "labels", None)
        if labels is not None:
            mapped = self.table[labels]
            self.kept = (mapped >= 0).nonzero().flatten()
            self.labels = mapped[self.kept]
            if not len(self.kept):
                raise DataError(f"{self.name} ({self.split}) holds no image of a class of the source.")

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.images[int(self.kept[index])]
        return image, self._mapped(label)

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        found: tuple[int, int] = self.images.size(int(self.kept[index]))
        return found

    def _mapped(self, label: Any) -> Any:
        if isinstance(label, Boxes):
            labels = self.table[label.labels]
            kept = labels >= 0
            return replace(
                label, boxes=label.boxes[kept], labels=labels[kept], crowd=label.crowd[kept], area=label.area[kept]
            )
        if isinstance(label, Tensor):
            lookup = torch.full((256,), IGNORE, dtype=torch.uint8)
            lookup[: len(self.table)] = torch.where(self.table < 0, IGNORE, self.table).to(torch.uint8)
            return lookup[label.long()]
        return int(self.table[label])
