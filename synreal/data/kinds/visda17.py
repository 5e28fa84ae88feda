"""VisDA-17, classification: renderings of 12 classes, and photographs of them. Imports no torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple

from synreal.data.datasets import DATA, Domain, FolderData, Policy
from synreal.data.files.paths import (
    Inside,
    find_tree,
    missing,
    read_lines,
    scan_images,
    some,
    subfolders,
    without_duplicates,
)
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.sets import LabelledImages

CLASSES: Final = (
    "aeroplane",
    "bicycle",
    "bus",
    "car",
    "horse",
    "knife",
    "motorcycle",
    "person",
    "plant",
    "skateboard",
    "train",
    "truck",
)

COUNTS: Final = {"train": 152_397, "validation": 55_388, "test": 72_372}
"""Images of the official folders."""

_ARCHIVES = {folder: f"{folder}.tar" for folder in COUNTS}
_LIST = "image_list.txt"
_TEST_LIST = "https://github.com/VisionLearningGroup/taskcv-2017-public (classification/data)"


@DATA.register
class Visda17(FolderData):
    """VisDA-17: renderings to train on, crops of COCO (``validation``) or of YouTube (``test``) to test on.

    Attributes:
        split: As a target: which folder is tested on. Published figures are of ``"validation"``.
    """

    split: Literal["validation", "test"] = "validation"

    kind: ClassVar[str] = "visda17"
    domains: ClassVar[tuple[Domain, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    summary: ClassVar[str] = (
        "152,397 renderings of 12 classes to train on; 55,388 crops of photographs (COCO) to test on, or 72,372 of "
        "video frames (YouTube)."
    )
    needs: ClassVar[str] = "train.tar and validation.tar of VisDA-17 (classification), or test.tar, unpacked"

    @property
    def label(self) -> str:
        """What results call it: with ``split`` where that is not the usual one."""
        return self.name or ("visda17-test" if self.split == "test" else self.kind)

    def class_names(self, label: str) -> tuple[str, ...]:
        """The 12 classes, in alphabetical order."""
        return CLASSES

    def default_targets(self, label: str) -> tuple[str, ...]:
        """The photographs in the same folder."""
        shared = {key: getattr(self, key) for key in ("root", "split", "max_pixels") if key in self.model_fields_set}
        return (Visda17(**shared).text(),)

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> LabelledImages:
        """Read names and classes; images are decoded when they are asked for."""
        from synreal.data.files.file_sets import LabelFiles

        part = self.split if split == "test" else "train"
        folder = _folder(self.root, part)
        listing = _listing(folder, part)
        dropped: dict[str, int] = {}
        found = _from_folders(folder, part) if listing is None else _from_list(listing, folder, part)
        if listing is not None and (absent := missing(folder, found.files)):
            if policy.bad_image == "error" or len(absent) == len(found.files):
                raise DataError(
                    f"visda17: {len(absent)} of {len(found.files)} images that {listing} names are not in {folder}, "
                    f"e.g. {some(absent)}. Unpack {_ARCHIVES[part]} again, or leave them out with on_bad_image: skip."
                )
            found = found.without(set(absent))
            dropped["missing images left out"] = len(absent)
        if split != "heldout":
            _compare(f"{self.label} ({split})", found, part)
        kept = self.chosen(found.files, split)
        return LabelFiles(
            self.label,
            part if split == "test" else split,
            folder,
            [found.files[index] for index in kept],
            [found.labels[index] for index in kept],
            CLASSES,
            dropped=dropped,
            max_pixels=self.max_pixels,
        )


class _Found(NamedTuple):
    files: list[str]
    labels: list[int]

    def without(self, gone: Container[str]) -> _Found:
        kept = [index for index, file in enumerate(self.files) if file not in gone]
        return _Found([self.files[index] for index in kept], [self.labels[index] for index in kept])


def _folder(root: Path, part: str) -> Path:
    """Find train, validation or test; also train/train, but not the class train in it."""
    folder = find_tree(root, [part], "visda17", _ARCHIVES) / part
    if set(subfolders(folder.parent)) & (set(CLASSES) - {"train"}):
        raise DataError(
            f"visda17: {folder} is the class {part} of {folder.parent}, not the folder {part} of the data. Give the "
            f"folder that holds {', '.join(COUNTS)}. {part} comes with {_ARCHIVES[part]}."
        )
    nested = not (folder / _LIST).exists() and subfolders(folder) == [part]
    return folder / part if nested else folder


def _listing(folder: Path, part: str) -> Path | None:
    """Find the list of a folder; None where the folders of classes say the same."""
    places = [folder / _LIST, folder.parent / "image_list" / f"{part}.txt"]
    if part == "test":
        # It is fetched apart from the images, often to the folder above them. One there may also be of another part,
        # but for those the folders say it all.
        places.insert(1, folder.parent / _LIST)
    for place in places:
        if place.is_file():
            return place
    if part == "test":
        raise DataError(
            f"visda17: {folder} has no {_LIST}, and its folders are not classes. Fetch the list of the test images "
            f"from {_TEST_LIST} and put it there."
        )
    return None


def _from_list(listing: Path, folder: Path, part: str) -> _Found:
    found = _Found([], [])
    jail = Inside(folder)
    lines: dict[str, int] = {}
    for number, line in without_duplicates(read_lines(listing), listing):
        where = f"{listing}, line {number}"
        file, label = _entry(line, where)
        file = _below(file, part)
        named = file.split("/")[0]
        if named in CLASSES and named != CLASSES[label]:
            raise DataError(
                f"{where}: {file} lies in the folder {named}, but its label {label} means {CLASSES[label]}; expected "
                f"{CLASSES.index(named)}. Fetch the list again."
            )
        if file in lines:
            raise DataError(f"{where}: {file} has another label in line {lines[file]}. Fetch the list again.")
        lines[file] = number
        jail.check(file, where)
        found.files.append(file)
        found.labels.append(label)
    return found


def _entry(line: str, where: str) -> tuple[str, int]:
    """Split a line into path, which may hold spaces, and class."""
    fields = re.fullmatch(r"(.*\S)\s+([0-9]{1,4})", line)
    if fields is None:
        raise DataError(f"{where}: expected 'path class', e.g. 'aeroplane/x.png 0', got {line!r}.")
    file, label = fields[1], int(fields[2])
    if label >= len(CLASSES):
        raise DataError(f"{where}: class {label}, expected 0 (aeroplane) to 11 (truck).")
    return file, label


def _below(file: str, part: str) -> str:
    """Make a path relative to the folder of its part; other packages' lists begin with that folder."""
    parts = [name for name in file.replace("\\", "/").split("/") if name != "."]
    # Of two names the first is the class, and train is one.
    return "/".join(parts[1:] if len(parts) > 2 and parts[0] == part else parts)


def _from_folders(folder: Path, part: str) -> _Found:
    names = subfolders(folder)
    other = [name for name in names if name not in CLASSES]
    if other or not names:
        raise DataError(
            f"visda17: {folder} holds {'the folders ' + some(other) if other else 'no folder'}, expected {_LIST} or "
            f"a folder for each class: {', '.join(CLASSES)}. Unpack {_ARCHIVES[part]} again."
        )
    files = [f"{name}/{file}" for name in names for file in scan_images(folder / name)]
    return _Found(files, [CLASSES.index(file.split("/")[0]) for file in files])


def _compare(where: str, found: _Found, part: str) -> None:
    """Warn of another number of images than the official one, and of classes without any."""
    count, official = len(found.files), COUNTS[part]
    if count == official:
        return
    present = set(found.labels)
    absent = [name for index, name in enumerate(CLASSES) if index not in present]
    without = f", none of {', '.join(absent)}" if absent else ""
    warnings.warn(
        f"{where}: {count:,} images{without}; the official {part} has {official:,}. Figures do not compare with "
        "published ones.",
        stacklevel=2,
    )
