"""Boxes in KITTI's text files, as Omniverse Replicator's KITTI writer also makes them. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pydantic import model_validator
from typing_extensions import Self

from synreal.data.datasets import DATA, Policy
from synreal.data.files.label_files import UNREADABLE, read_each, readable
from synreal.data.files.paths import by_stem, inside, read_lines, scan_files, scan_images, some, subfolders
from synreal.data.kinds.voc import Annotation, names_found, read_boxes
from synreal.data.naming import NamedData
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.sets import BoxedImages

_PAIRS = (
    ("image_2", "label_2"),
    ("rgb", "object_detection/bbox_2d_tight"),
    ("rgb", "object_detection"),
    ("images", "labels"),
)
_DEPTH = 2  # folders below the root that are looked into, e.g. scene/Camera
_NUMBERS = 7  # truncated, occluded, alpha, left, top, right, bottom; what follows is of three dimensions
_LAYOUTS = (7, 14, 15)  # up to the box alone, KITTI's labels, and predictions, with a score
_DONT_CARE = "dontcare"


@DATA.register
class Kitti(NamedData):
    """Boxes in KITTI's text files: one per image, one object per line.

    Corners are taken as they are written: half-open, from 0. What is marked ``DontCare`` is left out and counted, as it
    is not an object, and nothing says which; with ``ignore=["DontCare"]`` no detection there is wrong. Images without
    an object stay: a detector learns from background. Those without a text file are left out and counted.

    Attributes:
        classes: The names that are used, in the order of their numbers; default all that are found, sorted.
        splits: For each part a folder that holds it, or a text file that lists names of images without ending, e.g.
            ``{"train": "ImageSets/train.txt"}``.
        images: The folder of the images; default what is found: ``image_2`` with ``label_2``, ``rgb`` with
            ``object_detection``, or ``images`` with ``labels``, also below a folder a camera or scene.
        labels: The folder of the text files; both or none are given.
    """

    images: str | None = None
    labels: str | None = None

    kind: ClassVar[str] = "kitti"
    label_kinds: ClassVar[tuple[str, ...]] = ("boxes",)
    summary: ClassVar[str] = "Your own boxes as KITTI or Omniverse Replicator write them: one text file per image."
    needs: ClassVar[str] = "image_2/ with label_2/, rgb/ with object_detection/, or images/ with labels/"

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.images is None) != (self.labels is None):
            raise ValueError("expected both images and labels, or none of them")
        return self

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> BoxedImages:
        """Read the text files; images are decoded when they are asked for."""
        part = self._open(split)
        images = list(part.labels)
        files = [images[index] for index in self.part(images, split)]
        read, damaged = read_each(
            files,
            lambda file: _read(self.root / part.labels[file], self._dont_care),
            skip=policy.bad_image == "skip",
        )
        return read_boxes(
            self,
            split,
            self.root,
            {file: annotation for file, (annotation, _) in read.items()},
            self.naming(split, self._names, self.root, complete=False),
            policy=policy,
            dropped={
                "images without a text file left out": part.unlabelled,
                UNREADABLE: damaged,
                "objects marked DontCare left out": sum(count for _, count in read.values()),
            },
        )

    def _names(self, parts: Sequence[str]) -> tuple[str, ...]:
        """Find the names in some parts."""
        opened = [self._open(part) for part in parts]
        paths = sorted({self.root / file for part in opened for file in part.labels.values()})
        return names_found(
            (annotation for annotation, _ in readable(paths, lambda path: _read(path, self._dont_care))), self.label
        )

    @property
    def _dont_care(self) -> str | None:
        """How ``ignore`` writes ``DontCare``; None if it does not name it."""
        return next((str(name) for name in self.ignore if str(name).lower() == _DONT_CARE), None)

    def _open(self, split: str) -> _Part:
        """Find the images of a part that have text files."""
        place = self.place(split)
        given = self.folder(split) if place is None else inside(self.root, place, f"{self.label}: splits")
        listing = None if given.is_dir() else given
        if listing is not None and not listing.exists():
            raise DataError(
                f"{self.label}: {listing}, which splits names, does not exist; expected a folder that holds images and "
                f"text files, or a list of names. Folders in {self.root}: {some(subfolders(self.root), 12) or 'none'}."
            )
        folder = self.root if listing is not None else given
        labels: dict[str, str] = {}
        unlabelled = 0
        for images, texts in self._pairs(folder):
            found, absent = _matched(self.root, images, texts)
            labels.update(found)
            unlabelled += absent
        if listing is None:
            return _Part(labels, unlabelled)
        listed = {line for _, line in read_lines(listing)}
        chosen = {file: text for file, text in labels.items() if Path(text).stem in listed}
        absent_names = sorted(listed - {Path(text).stem for text in chosen.values()})
        if absent_names:
            raise DataError(
                f"{self.label}: {len(absent_names)} names that {listing} lists have no text file below {folder}, e.g. "
                f"{some(absent_names)}. One name per line is expected, without folder and ending."
            )
        return _Part(chosen, 0)

    def _pairs(self, folder: Path) -> list[tuple[Path, Path]]:
        """Find folders of images with folders of text files, those nearest to a folder."""
        if self.images is not None and self.labels is not None:
            where = f"{self.label}: images or labels"
            pair = inside(folder, self.images, where), inside(folder, self.labels, where)
            for each in pair:
                if not each.is_dir():
                    raise DataError(
                        f"{self.label}: {each} is not a folder. Give images and labels relative to {folder}."
                    )
            return [pair]
        level = [folder]
        for _ in range(_DEPTH + 1):
            found = [usual for each in level if (usual := _usual_pair(each)) is not None]
            if found:
                return found
            level = [each / name for each in level for name in subfolders(each)]
        known = ", ".join(f"{images} with {labels}" for images, labels in _PAIRS)
        raise DataError(
            f"{self.label}: {folder} holds {some(subfolders(folder), 12) or 'no folder'}, expected {known}, there or "
            f"up to {_DEPTH} folders below. Name the folders with images and labels."
        )


class _Part(NamedTuple):
    labels: dict[str, str]  # text file by image, both relative to the root
    unlabelled: int


def _usual_pair(folder: Path) -> tuple[Path, Path] | None:
    for images, labels in _PAIRS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return folder / images, folder / labels
    return None


def _matched(root: Path, images: Path, labels: Path) -> tuple[dict[str, str], int]:
    """Match images and text files by name; return text file by image, and how many images have none."""
    found = by_stem(scan_images(images), images)
    texts = by_stem(scan_files(labels, ".txt"), labels)
    absent = sorted(texts.keys() - found.keys())
    if absent:
        raise DataError(
            f"{len(absent)} of {len(texts)} text files in {labels} have no image in {images}, e.g. "
            f"{some([texts[stem] for stem in absent])}."
        )
    matched = {
        (images / file).relative_to(root).as_posix(): (labels / texts[stem]).relative_to(root).as_posix()
        for stem, file in found.items()
        if stem in texts
    }
    return matched, len(found) - len(matched)


def _read(path: Path, dont_care: str | None) -> tuple[Annotation, int]:
    """Read a text file: its objects, and how many that are marked DontCare were left out: all without a name for them.

    An empty one is of an image without any.
    """
    names, corners = [], []
    ignored = 0
    for number, line in read_lines(path, empty=True):
        name, values = _fields(line, f"{path}, line {number}")
        if name.lower() == _DONT_CARE:
            if dont_care is None:
                ignored += 1
                continue
            name = dont_care
        names.append(name)
        corners.append((values[3], values[4], values[5], values[6]))
    return Annotation("", None, names, corners), ignored


def _fields(line: str, where: str) -> tuple[str, list[float]]:
    """Split a line into a name, which may hold spaces, and the numbers after it."""
    words = line.split()
    # The name ends at the last word that is no number, or, as in "Type 2", at a number after which the rest fits.
    first = 1 + max((index for index, word in enumerate(words) if not _is_number(word)), default=0)
    longer = [at for at in range(first, len(words)) if len(words) - at in _LAYOUTS and _fits(words[at:])]
    whole = not any(map(_is_number, words[1:first])) or first in longer
    if whole and longer and first not in longer and not _fits(words[first:]):
        first = longer[0]
    numbers = words[first:]
    if len(numbers) < _NUMBERS or not whole:
        yolo = " This looks like YOLO: format yolo." if len(words) == 5 and _is_number(words[0]) else ""
        raise DataError(
            f"{where}: expected a name and at least {_NUMBERS} numbers (truncated, occluded, alpha, left, top, right, "
            f"bottom), got {line!r}.{yolo}"
        )
    return " ".join(words[:first]), [float(word) for word in numbers]


def _fits(numbers: Sequence[str]) -> bool:
    """Tell whether numbers are what KITTI writes behind a name: shares, whole numbers, angles, ordered corners."""
    if len(numbers) < _NUMBERS:
        return False
    truncated, _, alpha, left, top, right, bottom = map(float, numbers[:_NUMBERS])
    return (
        (0 <= truncated <= 1 or truncated == -1)
        and re.fullmatch("-1|[0-3]", numbers[1]) is not None
        and -10 <= alpha <= 7
        and left <= right
        and top <= bottom
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
