"""What Unity's Perception package writes, in SOLO and in the format before it: what both share. Imports no torch."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from synreal.data.datasets import Policy
from synreal.data.files.paths import inside, not_utf8, subfolders
from synreal.data.naming import NamedData, Naming
from synreal.errors import DataError
from synreal.reading import read_json

if TYPE_CHECKING:
    from synreal.data.labels.boxes import Boxes
    from synreal.data.sets import ImageSet

LABELERS: Final = {"boxes": "BoundingBox2DLabeler", "masks": "SemanticSegmentationLabeler"}
"""What writes each kind of label, as Unity calls it."""

_IGNORED: Final = 255
_BLACK: Final = (0, 0, 0)


class Shot(NamedTuple):
    """An image with what is said of it.

    Attributes:
        file: The image, relative to the root.
        mask: Its mask, relative to the root; empty for boxes.
        size: Height and width, or None where the files do not say.
        labels: Names with boxes (x, y, width, height), or with the colours (red, green, blue) of the mask.
    """

    file: str
    mask: str
    size: tuple[int, int] | None
    labels: Sequence[tuple[str, tuple[float, ...]]]


class UnityData(NamedData):
    """Frames of a simulation with colour masks and boxes.

    Classes go by label names, in the order of their ids where ``annotation_definitions.json`` gives ids, else in that
    file's order, then sorted. In masks, black is ``"background"``.

    Attributes:
        labeler: Id of the labeler whose annotations are read, where several of a kind were active.
        classes: The names that are used; boxes of others are left out, pixels of others are ignored.
        splits: For each part a folder that holds a data set of its own.
    """

    labeler: str | None = None

    label_kinds: ClassVar[tuple[str, ...]] = ("masks", "boxes")
    called: ClassVar[str]
    """The format's name."""
    layout: ClassVar[str]
    """What a folder of a data set holds, to stand behind "a folder with"."""
    others: ClassVar[Mapping[str, str]] = {}
    """Other kinds that a folder without one may hold: what its files are called, by kind."""

    @staticmethod
    @abstractmethod
    def holds(folder: Path) -> bool:
        """Say whether a folder is a data set."""

    @abstractmethod
    def shots(self, folder: Path, label: str, dropped: Counter[str], *, skip: bool) -> tuple[list[Shot], list[str]]:
        """Read a data set.

        Args:
            folder: Its folder.
            label: ``"boxes"`` or ``"masks"``.
            dropped: Counts what is left out, by why.
            skip: Whether files that cannot be read are.

        Returns:
            Its images, and the names that its definitions give, in order.

        Raises:
            DataError: If a file is damaged or does not say what is needed.
        """

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read the JSON of all frames; images and masks are decoded one by one, when asked for."""
        from synreal.data.files.file_sets import BoxFiles, MaskFiles, existing, sizes_of
        from synreal.data.files.label_maps import LabelMap, MaskPaths

        folder = self._folder(split)
        dropped: Counter[str] = Counter()
        shots, defined = self.shots(folder, label, dropped, skip=policy.bad_image == "skip")
        if not shots:
            raise DataError(
                f"Data set {self.label!r}: no image in {folder} has {label}. Was a {LABELERS[label]} active"
                f"{'' if self.labeler is None else f', and is its id {self.labeler!r}'}?"
            )
        naming = self._naming(split, folder, label, shots, defined)
        skip = policy.bad_image == "skip"
        there = existing(self.root, [shot.file for shot in shots], str(folder), skip=skip)
        if len(there) < len(shots):
            dropped["missing images left out"] = len(shots) - len(there)
        chosen = self.part([shots[index].file for index in there], split)
        colours = _colours(shots, naming) if label == "masks" else {}
        shots = [shots[there[index]] for index in chosen]
        names = [shot.file for shot in shots]
        if label == "masks":
            masks = MaskPaths(self.root, [shot.mask for shot in shots], LabelMap(colours=colours), self.max_pixels)
            resize = policy.size_mismatch == "resize"
            return MaskFiles(
                self.label, split, self.root, names, masks, naming.classes,
                resize=resize, dropped=+dropped, max_pixels=self.max_pixels,
            )  # fmt: skip
        said = [shot.size for shot in shots]
        found = sizes_of([self.root / name for name in names], said, self.max_pixels, skip=skip)
        usable = [(shot, size) for shot, size in zip(shots, found, strict=True) if size is not None]
        if len(usable) < len(shots):
            dropped["images that cannot be read left out"] = len(shots) - len(usable)
        boxes = [_boxes(shot, size, naming, dropped) for shot, size in usable]
        names, said = [shot.file for shot, _ in usable], [shot.size for shot, _ in usable]
        return BoxFiles(
            self.label,
            split,
            self.root,
            names,
            boxes,
            said,
            naming.classes,
            dropped=+dropped,
            max_pixels=self.max_pixels,
        )

    def relative(self, base: Path, name: str, where: object) -> str:
        """Return a file that JSON names below a folder, relative to the root, which it may not leave."""
        inside(base, name, str(where))
        return Path(os.path.relpath(base / name.replace("\\", "/"), self.root)).as_posix()

    def _folder(self, split: str) -> Path:
        """Find the folder of the data set: the one that is named, or the only one in it that is one."""
        base = self.root / (self.place(split) or "")
        if not base.is_dir():
            raise DataError(f"Data set {self.label!r}: there is no folder {base}, which splits names.")
        candidates = [base, *(base / name for name in subfolders(base))]
        found = [folder for folder in candidates if self.holds(folder)]
        if len(found) == 1:
            return found[0]
        here = ", ".join(folder.name for folder in found) or "none"
        for kind, pattern in self.others.items() if not found else ():
            for folder in candidates:
                if next(folder.glob(pattern), None) is not None:
                    raise DataError(
                        f"Data set {self.label!r}: {folder} holds {pattern}, which is another format of Unity "
                        f"Perception. Read it as {kind}:{base}."
                    )
        raise DataError(
            f"Data set {self.label!r}: expected one {self.called} data set in {base}, a folder with {self.layout}; "
            f"found {here}. Give the folder of one as root, or one per part with splits."
        )

    def _naming(self, split: str, folder: Path, label: str, shots: Sequence[Shot], defined: Sequence[str]) -> Naming:
        found = sorted({name for shot in shots for name, _ in shot.labels})
        names = tuple(dict.fromkeys([*defined, *found]))
        return self.naming(split, lambda _: names, folder, label=label)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataError: If it cannot be read, is not JSON in UTF-8, or holds anything else.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(path, error)) from None
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON: {error}. The simulation may have been stopped; delete the frame."
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold an object, got a {type(content).__name__}.")
    return content


def list_in(entry: Mapping[str, Any], key: str, where: object) -> list[dict[str, Any]]:
    """Return a list of objects; lists without any are not written.

    Raises:
        DataError: If it is anything else.
    """
    found = entry.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{where}: expected {key} to be a list of objects, got {str(found)[:80]}.")
    return found


def named_in(spec: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of a definition, in the order of their ids, or of the list where there are none."""
    labels: dict[str, int] = {}
    for place, entry in enumerate(spec):
        number = entry.get("label_id", place)
        labels[str(entry.get("label_name"))] = number if isinstance(number, int) else place
    return sorted(labels, key=lambda name: labels[name])


def _colours(shots: Sequence[Shot], naming: Naming) -> dict[tuple[int, int, int], int]:
    """Return the class of each colour; labels have the same colour in all frames."""
    names: dict[tuple[int, int, int], str] = {_BLACK: "background"}
    for shot in shots:
        for label, (red, green, blue) in shot.labels:
            colour = (int(red), int(green), int(blue))
            other = names.setdefault(colour, label)
            if other != label:
                raise DataError(
                    f"{shot.mask}: the colour {colour} stands for {label!r}, elsewhere for {other!r}. Give every label "
                    "a colour of its own, not black, in Unity's SemanticSegmentationLabelConfig."
                )
    pixels = {colour: naming.pixel(name) for colour, name in names.items()}
    return {colour: _IGNORED if pixel is None else pixel for colour, pixel in pixels.items()}


def _boxes(shot: Shot, size: tuple[int, int], naming: Naming, dropped: Counter[str]) -> Boxes:
    from synreal.data.labels.boxes import boxes_of

    uses = [naming.uses.get(label, ()) for label, _ in shot.labels]
    if not all(uses):
        dropped["objects of classes that are not used left out"] += sum(not use for use in uses)
    corners = [(x, y, x + width, y + height) for _, (x, y, width, height) in shot.labels]
    boxes, lost = boxes_of(corners, uses, size)
    dropped.update(lost)
    return boxes
