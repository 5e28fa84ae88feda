"""Images in one folder per class, as torchvision's ``ImageFolder`` has them. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from synreal.data.datasets import DATA, Policy
from synreal.data.files.paths import SUFFIXES, is_image, scan_images, some, subfolders
from synreal.data.own import OwnData, composed, warn_of_empty
from synreal.errors import DataError, unknown_name

if TYPE_CHECKING:
    from synreal.data.sets import LabelledImages

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "heldout"}


@DATA.register
class ImageFolder(OwnData):
    """Images in one folder per class: ``ROOT/CLASS/**/*.png``.

    Attributes:
        classes: The folders that are used, in the order of their numbers; default all, sorted by name.
        splits: For each part the folder that holds its class folders, e.g. ``{"train": "train", "test": "val"}``.
    """

    kind: ClassVar[str] = "imagefolder"
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    summary: ClassVar[str] = "Your images in one folder per class, as torchvision's ImageFolder reads them."
    needs: ClassVar[str] = "a folder of class folders with images"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> LabelledImages:
        """List the files; images are decoded when they are asked for."""
        from synreal.data.files.file_sets import LabelFiles

        folder = self.folder(split)
        there = self._class_folders(folder)
        found = {name for part in self.alike(split) for name in self._class_folders(self.folder(part))}
        for name in self.classes or ():
            if name not in found:
                raise unknown_name(f"class of {folder}, which has no such folder:", name, found)
        classes = self.classes or tuple(sorted(found))
        files, labels = [], []
        for number, name in enumerate(classes):
            images = scan_images(folder / there[name]) if name in there else []
            files += [f"{there[name]}/{image}" for image in images]
            labels += [number] * len(images)
        if not files:
            raise DataError(
                f"{self.label} ({split}): no image in the class folders of {folder}: {some(classes, 12)}. "
                f"Read are {', '.join(SUFFIXES)}."
            )
        if self.classes is None and len(there) == 1:
            self._check_depth(folder / next(iter(there.values())), split)
        warn_of_empty(f"{self.label}, {folder}", classes, labels)
        kept = self.part(files, split)
        return LabelFiles(
            self.label,
            split,
            folder,
            [files[index] for index in kept],
            [labels[index] for index in kept],
            classes,
            dropped=_left_out(folder, [there[name] for name in there if name not in classes]),
            max_pixels=self.max_pixels,
        )

    def _check_depth(self, folder: Path, split: str) -> None:
        """Refuse a single folder that holds folders alone: as a rule it is one around those of the classes."""
        inner = subfolders(folder)
        if len(inner) < 2 or _loose_images(folder):
            return
        raise DataError(
            f"{self.label} ({split}): the only class folder, {folder}, holds the folders {some(inner)} and no image "
            f"of its own. If those are the classes, give that folder: {self.kind}:{folder}. If {folder.name} is the "
            f"only class, say so: classes=[{folder.name!r}]."
        )

    def _alone(self, folder: Path) -> str:
        """Say how one folder of a part is given alone, where it can be."""
        return f", or give one of them alone: {self.kind}:{folder}"

    def _class_folders(self, folder: Path) -> dict[str, str]:
        """Return the folders of classes by the names of classes."""
        names = subfolders(folder)
        if not names:
            loose = _loose_images(folder)
            held = f"{len(loose)} images such as {loose[0]}" if loose else "nothing that is read"
            raise DataError(
                f"{self.label}: {folder} has no folders, only {held}; expected one folder per class, named as the "
                "class, with its images in it."
            )
        parts = [name for name in names if name.lower() in _SPLITS]
        # One of them among others may be a class: a train.
        if (len(parts) > 1 or parts == names) and not set(parts) <= set(self.classes or ()):
            train = next((name for name in parts if name.lower().startswith("train")), parts[0])
            test = next((name for name in parts if name != train), train)
            raise DataError(
                f"{self.label}: the folders {some(parts)} in {folder} are parts, expected one folder per class. Say "
                f"which is which with splits={{'train': {train!r}, 'test': {test!r}}}{self._alone(folder / train)}."
            )
        by_name = {composed(name): name for name in names}
        if len(by_name) < len(names):
            twice = next(name for name in names if by_name[composed(name)] != name)
            raise DataError(f"{self.label}: {folder} has two folders named {twice!r}. Move their images into one.")
        return by_name


def _loose_images(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name) and entry.is_file())


def _left_out(folder: Path, others: Sequence[str]) -> dict[str, int]:
    """Count the images that no class has."""
    counts = {
        "images outside of class folders left out": len(_loose_images(folder)),
        f"images of classes that are not used ({some(others)}) left out": sum(
            len(scan_images(folder / name)) for name in others
        ),
    }
    return {what: count for what, count in counts.items() if count}
