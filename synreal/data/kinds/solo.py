"""SOLO, which Unity's Perception package writes. Imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from synreal.data.datasets import DATA
from synreal.data.files.label_files import UNREADABLE, read_each
from synreal.data.files.paths import subfolders
from synreal.data.unity import Shot, UnityData, list_in, named_in, read_object
from synreal.errors import DataError

_TYPES: Final = {"boxes": "BoundingBox2DAnnotation", "masks": "SemanticSegmentationAnnotation"}


@DATA.register
class Solo(UnityData):
    """Frames of a simulation: ``sequence.N/stepM.frame_data.json``, images and colour masks beside them.

    Classes go by label names, in the order of their ids where ``annotation_definitions.json`` gives ids, else sorted.
    In masks, black is ``"background"``.

    Attributes:
        labeler: Id of the labeler whose annotations are read, where several of a kind were active.
        classes: The names that are used; boxes of others are left out, pixels of others are ignored.
        splits: For each part a folder that holds a data set of its own.
    """

    kind: ClassVar[str] = "solo"
    summary: ClassVar[str] = "Your data set in SOLO, the format of Unity's Perception package from 1.0 on."
    needs: ClassVar[str] = "a folder with annotation_definitions.json and sequence.N folders"
    called: ClassVar[str] = "SOLO"
    layout: ClassVar[str] = "sequence.0, sequence.1, ..."
    others: ClassVar[Mapping[str, str]] = {"perception": "captures_*.json"}

    @staticmethod
    def holds(folder: Path) -> bool:
        """Say whether there is a folder of a sequence."""
        return any(map(_sequence, subfolders(folder)))

    def shots(self, folder: Path, label: str, dropped: Counter[str], *, skip: bool) -> tuple[list[Shot], list[str]]:
        """Read the frames of all sequences."""
        frames, dropped[UNREADABLE] = read_each(_frame_files(folder), read_object, skip=skip)
        shots = [shot for path, frame in frames.items() for shot in self._shots(path, frame, label, dropped)]
        return shots, _defined(folder, _TYPES[label], self.labeler)

    def _shots(self, path: Path, frame: Mapping[str, Any], kind: str, dropped: Counter[str]) -> list[Shot]:
        """Take one frame apart."""
        shots: list[Shot] = []
        for index, capture in enumerate(list_in(frame, "captures", path)):
            where = f"{path}, captures[{index}]"
            annotations = [
                each
                for each in list_in(capture, "annotations", where)
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
    ) -> Shot:
        key = "values" if kind == "boxes" else "instances"
        labels: list[tuple[str, tuple[float, ...]]] = []
        for entry in list_in(annotation, key, where):
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
            mask = self.relative(path.parent, annotation["filename"], path)
        image = self.relative(path.parent, capture["filename"], path)
        return Shot(image, mask, _size(capture.get("dimension"), where), labels)


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
        if path.is_file():
            spec = [
                entry
                for definition in list_in(read_object(path), "annotationDefinitions", path)
                if re.search(f"{kind}(Definition)?$", str(definition.get("@type", "")))
                and labeler in (None, definition.get("id"))
                for entry in list_in(definition, "spec", path)
            ]
            return named_in(spec)
    return []
