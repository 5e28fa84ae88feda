"""SOLO, which Unity's Perception package writes. Imports no torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from synreal.data.datasets import DATA, Policy
from synreal.data.files.paths import inside, not_utf8, subfolders
from synreal.data.naming import NamedData, Naming
from synreal.errors import DataError
from synreal.reading import read_json

if TYPE_CHECKING:
    from synreal.data.labels.boxes import Boxes
    from synreal.data.sets import ImageSet

_TYPES: Final = {"boxes": "BoundingBox2DAnnotation", "masks": "SemanticSegmentationAnnotation"}
_LABELERS: Final = {"boxes": "BoundingBox2DLabeler", "masks": "SemanticSegmentationLabeler"}
_IGNORED: Final = 255
_BLACK: Final = (0, 0, 0)


@DATA.register
class Solo(NamedData):
    """Frames of a simulation: ``sequence.N/stepM.frame_data.json``, images and colour masks beside them.

    Classes go by label names, in the order of their ids where ``annotation_definitions.json`` gives ids, else sorted.
    In masks, black is ``"background"``.

    Attributes:
        labeler: Id of the labeler whose annotations are read, where several of a kind were active.
        classes: The names that are used; boxes of others are left out, pixels of others are ignored.
        splits: For each part a folder that holds a data set of its own.
    """

    labeler: str | None = None

    kind: ClassVar[str] = "solo"
    label_kinds: ClassVar[tuple[str, ...]] = ("masks", "boxes")
    summary: ClassVar[str] = "Your data set in SOLO, the format of Unity's Perception package."
    needs: ClassVar[str] = "a folder with annotation_definitions.json and sequence.N folders"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read the JSON of all frames; images and masks are decoded one by one, when asked for."""
        from synreal.data.files.file_sets import BoxFiles, MaskFiles, existing, sizes_of
        from synreal.data.files.label_maps import LabelMap, MaskPaths

        folder = self._folder(split)
        dropped: Counter[str] = Counter()
        shots = [shot for path in _frame_files(folder) for shot in self._shots(path, label, dropped)]
        if not shots:
            raise DataError(
                f"Data set {self.label!r}: no image in {folder} has a {_TYPES[label]}. Was a {_LABELERS[label]} active?"
            )
        naming = self._naming(split, folder, label, shots)
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
                resize=resize, dropped=dropped, max_pixels=self.max_pixels,
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
            dropped=dropped,
            max_pixels=self.max_pixels,
        )

    def _folder(self, split: str) -> Path:
        """Find the folder that holds sequences: the one that is named, or the only one in it that does."""
        base = self.root / (self.place(split) or "")
        if not base.is_dir():
            raise DataError(f"Data set {self.label!r}: there is no folder {base}, which splits names.")
        candidates = [base, *(base / name for name in subfolders(base))]
        found = [folder for folder in candidates if any(map(_sequence, subfolders(folder)))]
        if len(found) == 1:
            return found[0]
        here = ", ".join(folder.name for folder in found) or "none"
        raise DataError(
            f"Data set {self.label!r}: expected one SOLO data set in {base}, a folder with sequence.0, sequence.1, "
            f"...; found {here}. Give the folder of one as root, or one per part with splits."
        )

    def _shots(self, path: Path, kind: str, dropped: Counter[str]) -> list[_Shot]:
        """Read one frame."""
        shots: list[_Shot] = []
        for index, capture in enumerate(_list_in(_read_json(path), "captures", path)):
            where = f"{path}, captures[{index}]"
            annotations = [
                each
                for each in _list_in(capture, "annotations", where)
                if str(each.get("@type", "")).endswith(_TYPES[kind]) and self.labeler in (None, each.get("id"))
            ]
            if not isinstance(capture.get("filename"), str) or not capture["filename"]:
                dropped["captures without an image left out"] += 1
            elif not annotations:
                dropped[f"images without {_TYPES[kind]} left out"] += 1
            elif len(annotations) > 1:
                ids = ", ".join(repr(each.get("id")) for each in annotations)
                raise DataError(f"{where} has {len(annotations)} of {_TYPES[kind]}: {ids}. Choose one with labeler.")
            else:
                shots.append(self._shot(path, where, capture, annotations[0], kind))
        return shots

    def _shot(
        self, path: Path, where: str, capture: Mapping[str, Any], annotation: Mapping[str, Any], kind: str
    ) -> _Shot:
        key = "values" if kind == "boxes" else "instances"
        labels: list[tuple[str, tuple[float, ...]]] = []
        for entry in _list_in(annotation, key, where):
            try:
                numbers = (*entry["origin"], *entry["dimension"]) if kind == "boxes" else entry["pixelValue"][:3]
                label, values = str(entry["labelName"]), tuple(float(number) for number in numbers)
                if len(values) != (4 if kind == "boxes" else 3):
                    raise ValueError(f"{len(values)} numbers")
                if kind == "masks" and not all(value in range(256) for value in values):
                    raise ValueError("a colour is of numbers from 0 to 255")
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                expected = "labelName, origin and dimension" if kind == "boxes" else "labelName and pixelValue"
                raise DataError(f"{where}: {key} holds {entry!r}, expected {expected} ({error}).") from None
            labels.append((label, values))
        mask = ""
        if kind == "masks":
            if not isinstance(annotation.get("filename"), str):
                raise DataError(f"{where}: the {_TYPES[kind]} has no filename.")
            mask = self._relative(path, annotation["filename"])
        return _Shot(self._relative(path, capture["filename"]), mask, _size(capture.get("dimension"), where), labels)

    def _relative(self, frame: Path, name: str) -> str:
        inside(frame.parent, name, str(frame))
        return Path(os.path.relpath(frame.parent / name.replace("\\", "/"), self.root)).as_posix()

    def _naming(self, split: str, folder: Path, kind: str, shots: Sequence[_Shot]) -> Naming:
        found = sorted({label for shot in shots for label, _ in shot.labels})
        names = tuple(dict.fromkeys([*_defined(folder, _TYPES[kind], self.labeler), *found]))
        return self.naming(split, lambda _: names, folder, label=kind)


class _Shot(NamedTuple):
    """An image: its file and mask relative to the root, its size, and labels with boxes (x, y, w, h) or colours."""

    file: str
    mask: str
    size: tuple[int, int] | None
    labels: list[tuple[str, tuple[float, ...]]]


def _sequence(name: str) -> bool:
    return re.fullmatch(r"sequence\.\d+", name) is not None


def _frame_files(folder: Path) -> list[Path]:
    """List the JSON files of frames, in the order of sequences and steps."""
    found = [
        path
        for name in subfolders(folder)
        if _sequence(name)
        for path in (folder / name).glob("step*.json")
        if re.fullmatch(r"step\.?\d+\.frame(_data)?\.json", path.name)
    ]
    if not found:
        raise DataError(f"{folder} holds sequences but no frames, expected sequence.0/step0.frame_data.json and so on.")
    return sorted(found, key=lambda path: [int(part) for part in re.findall(r"\d+", f"{path.parent.name} {path.name}")])


def _read_json(path: Path) -> dict[str, Any]:
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


def _list_in(entry: Mapping[str, Any], key: str, where: object) -> list[dict[str, Any]]:
    """Return a list of objects; lists without any are not written."""
    found = entry.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"{where}: expected {key} to be a list of objects, got {str(found)[:80]}.")
    return found


def _size(given: Any, where: str) -> tuple[int, int] | None:
    if given is None:
        return None
    try:
        width, height = (int(number) for number in given)
        if min(width, height) < 1:
            raise ValueError("no pixels")
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: dimension is {given!r}, expected [width, height].") from None
    return height, width


def _defined(folder: Path, kind: str, labeler: str | None) -> list[str]:
    """Return the labels that ``annotation_definitions.json`` gives for a kind of annotation, in the order of ids."""
    for path in (folder / "annotation_definitions.json", folder / "metadata" / "annotation_definitions.json"):
        if not path.is_file():
            continue
        labels: dict[str, int] = {}
        for definition in _list_in(_read_json(path), "annotationDefinitions", path):
            if not re.search(f"{kind}(Definition)?$", str(definition.get("@type", ""))):
                continue
            if labeler in (None, definition.get("id")):
                for place, entry in enumerate(_list_in(definition, "spec", path)):
                    number = entry.get("label_id", place)
                    labels[str(entry.get("label_name"))] = number if isinstance(number, int) else place
        return sorted(labels, key=lambda name: labels[name])
    return []


def _colours(shots: Sequence[_Shot], naming: Naming) -> dict[tuple[int, int, int], int]:
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


def _boxes(shot: _Shot, size: tuple[int, int], naming: Naming, dropped: Counter[str]) -> Boxes:
    from synreal.data.labels.boxes import boxes_of

    uses = [naming.uses.get(label, ()) for label, _ in shot.labels]
    if not all(uses):
        dropped["objects of classes that are not used left out"] += sum(not use for use in uses)
    corners = [(x, y, x + width, y + height) for _, (x, y, width, height) in shot.labels]
    boxes, lost = boxes_of(corners, uses, size)
    dropped.update(lost)
    return boxes
