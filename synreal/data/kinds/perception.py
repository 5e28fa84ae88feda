"""The format that Unity's Perception package wrote before SOLO. Imports no torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from synreal.data.datasets import DATA
from synreal.data.files.label_files import UNREADABLE, read_each
from synreal.data.files.paths import is_image
from synreal.data.unity import Shot, UnityData, list_in, named_in, read_object
from synreal.errors import DataError

_BOX: Final = ("x", "y", "width", "height")
_DEFINITIONS: Final = "annotation_definitions.json"
_Colour = tuple[int, int, int]


class _Labeler(NamedTuple):
    """What a definition says: its id and name, the names of its labels in order, and the colours of a mask."""

    key: str
    name: str
    labels: list[str]
    colours: dict[str, _Colour] | None


@DATA.register
class Perception(UnityData):
    """Frames of a simulation: ``captures_000.json`` and so on, with images and colour masks in other folders.

    Those folders are named from the one above the JSON files, ``Dataset...``. Classes go by label names, in the order
    of their ids in ``annotation_definitions.json``, of masks in that file's order. In masks, black is
    ``"background"``.

    Attributes:
        labeler: Id or name of the labeler whose annotations are read, where several of a kind were active.
        classes: The names that are used; boxes of others are left out, pixels of others are ignored.
        splits: For each part a folder that holds a data set of its own.
    """

    kind: ClassVar[str] = "perception"
    summary: ClassVar[str] = "Your data set as Unity's Perception package wrote it before SOLO, up to 0.11."
    needs: ClassVar[str] = "the folder above Dataset*, which holds captures_*.json and annotation_definitions.json"
    called: ClassVar[str] = "Perception"
    layout: ClassVar[str] = "captures_000.json, captures_001.json, ..., or the folder above it"
    others: ClassVar[Mapping[str, str]] = {"solo": "sequence.*"}

    @staticmethod
    def holds(folder: Path) -> bool:
        """Say whether there are lists of captures."""
        return bool(_capture_files(folder))

    def shots(self, folder: Path, label: str, dropped: Counter[str], *, skip: bool) -> tuple[list[Shot], list[str]]:
        """Read all lists of captures."""
        lists, dropped[UNREADABLE] = read_each(_capture_files(folder), read_object, skip=skip)
        captures = [
            (f"{path}, captures[{index}]", capture)
            for path, content in lists.items()
            for index, capture in enumerate(list_in(content, "captures", path))
        ]
        path = folder / _DEFINITIONS
        if label == "masks" and not path.is_file():
            raise DataError(
                f"Data set {self.label!r}: {folder} has no {_DEFINITIONS}, which says what the colours of masks stand "
                "for. Unity writes it when the simulation ends; copy it there, or run the simulation to its end."
            )
        labelers = {each.key: each for each in _labelers(path, captures, label)}
        if self.labeler is not None:
            labelers = {key: each for key, each in labelers.items() if self.labeler in (each.key, each.name)}
        base = self._base(folder, captures)
        shots = []
        for where, capture in captures:
            given = [
                each
                for each in list_in(capture, "annotations", where)
                if str(each.get("annotation_definition")) in labelers
            ]
            file = _image(capture)
            if file is None:
                dropped["captures without an image left out"] += 1
            elif not given:
                dropped[f"images without {label} left out"] += 1
            elif len(given) > 1:
                names = ", ".join(repr(labelers[str(each["annotation_definition"])].key) for each in given)
                raise DataError(f"{where} has {label} of {len(given)} labelers: {names}. Choose one with labeler.")
            else:
                labeler = labelers[str(given[0]["annotation_definition"])]
                shots.append(self._shot(where, base, file, given[0], labeler))
        return shots, list(dict.fromkeys(name for each in labelers.values() for name in each.labels))

    def _shot(self, where: str, base: Path, file: str, annotation: Mapping[str, Any], labeler: _Labeler) -> Shot:
        image = self.relative(base, file, where)
        if labeler.colours is None:
            return Shot(image, "", None, [_box(entry, where) for entry in list_in(annotation, "values", where)])
        mask = annotation.get("filename")
        if not isinstance(mask, str) or not mask:
            raise DataError(f"{where}: its semantic segmentation {labeler.key!r} has no filename.")
        return Shot(image, self.relative(base, mask, where), None, list(labeler.colours.items()))

    def _base(self, folder: Path, captures: Sequence[tuple[str, Mapping[str, Any]]]) -> Path:
        """Find the folder that files are named from: the one above that of the lists, or that one."""
        files = [file for _, capture in captures if (file := _image(capture)) is not None]
        for base in (folder.parent, folder):
            if any(os.path.isfile(base / file) for file in files):
                if base == folder.parent and folder == self.root:
                    raise DataError(
                        f"Data set {self.label!r}: the images lie beside {self.root}, in {base}. Give that folder as "
                        "root."
                    )
                return base
        return folder if folder == self.root else folder.parent


def _image(capture: Mapping[str, Any]) -> str | None:
    """Return the image of a capture; None if it has none: that of a LIDAR is a cloud of points."""
    file = capture.get("filename")
    file = file.replace("\\", "/") if isinstance(file, str) else ""
    return file if is_image(file.rpartition("/")[2]) else None


def _capture_files(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("captures_*.json") if re.fullmatch(r"captures_\d+\.json", path.name)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _labelers(path: Path, captures: Sequence[tuple[str, Mapping[str, Any]]], label: str) -> list[_Labeler]:
    """Read the definitions of a kind of label: of boxes by what they hold, of masks by their colours."""
    boxed = dict.fromkeys(
        str(annotation.get("annotation_definition"))
        for where, capture in captures
        for annotation in list_in(capture, "annotations", where)
        if label == "boxes" and _boxed(annotation.get("values"))
    )
    if not path.is_file():
        return [_Labeler(key, key, [], None) for key in boxed]
    found = []
    for index, definition in enumerate(list_in(read_object(path), "annotation_definitions", path)):
        where = f"{path}, annotation_definitions[{index}]"
        key = str(definition.get("id"))
        name = str(definition.get("name", key))
        spec = list_in(definition, "spec", where)
        coloured = [entry for entry in spec if "pixel_value" in entry]
        if label == "masks" and coloured:
            found.append(_Labeler(key, name, named_in(coloured), _colours(coloured, where)))
        elif label == "boxes" and (key in boxed or name in ("bounding box", "2d bounding box")):
            found.append(_Labeler(key, name, named_in(spec), None))
    return found


def _boxed(values: Any) -> bool:
    """Say whether the first of some values is a box in the image: key points are lists in some versions."""
    return isinstance(values, list) and bool(values) and isinstance(values[0], dict) and set(_BOX) <= set(values[0])


def _colours(spec: Sequence[Mapping[str, Any]], where: str) -> dict[str, _Colour]:
    """Read the colours of a mask: numbers from 0 to 255, or shares from 0 to 1 as the first versions have them."""
    given: dict[str, list[float]] = {}
    for entry in spec:
        value = entry["pixel_value"]
        colour = [value.get(channel) for channel in ("r", "g", "b", "a")] if isinstance(value, dict) else []
        if len(colour) != 4 or not all(isinstance(each, (int, float)) and 0 <= each <= 255 for each in colour):
            raise DataError(
                f"{where}: pixel_value of {entry.get('label_name')!r} is {value!r}, expected a colour, "
                "{'r': ..., 'g': ..., 'b': ..., 'a': ...}, of numbers from 0 to 255 or from 0 to 1."
            )
        given[str(entry.get("label_name"))] = [float(each) for each in colour if each is not None]
    # One colour alone may be dark: what speaks for shares is that nothing in all of them, opacity included, is above 1.
    scale = 255 if all(channel <= 1 for colour in given.values() for channel in colour) else 1
    return {name: (round(r * scale), round(g * scale), round(b * scale)) for name, (r, g, b, _) in given.items()}


def _box(entry: Mapping[str, Any], where: str) -> tuple[str, tuple[float, ...]]:
    try:
        return str(entry["label_name"]), tuple(float(entry[key]) for key in _BOX)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: values holds {entry!r}, expected label_name, x, y, width and height ({error})."
        ) from None
