"""What YOLO's files say of a data set: ``data.yaml``, Darknet's ``obj.data`` with ``obj.names``, ``classes.txt``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from synreal.data.files.paths import inside, read_lines
from synreal.errors import DataError
from synreal.parsing import read_mapping, shortened

DESCRIPTIONS: Final = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES: Final = ("classes.txt", "obj.names", "classes.names", "labels.txt")
_DARKNET: Final = "obj.data"
_DARKNET_KEYS: Final = {"train": "train", "valid": "val", "test": "test", "names": "names", "classes": "classes"}
_KEYS: Final = {"train": ("train",), "heldout": ("val",), "test": ("test", "val")}


class Description(NamedTuple):
    """What ``data.yaml`` says.

    Attributes:
        file: The file.
        values: Its content.
        base: The folder that its paths are relative to.
        keypoints: Whether lines go on with key points after the box.
    """

    file: Path
    values: Mapping[str, Any]
    base: Path
    keypoints: bool


def described(root: Path) -> Description | None:
    """Read the YAML file in the root, or Darknet's; None if there is none."""
    file = next((root / name for name in DESCRIPTIONS if (root / name).is_file()), None)
    if file is None:
        return _darknet(root) if (root / _DARKNET).is_file() else None
    values = read_mapping(file, "YOLO data set description")
    return Description(file, values, _base(root, file, values.get("path")), "kpt_shape" in values)


def _darknet(root: Path) -> Description:
    """Read ``obj.data``, as CVAT's YOLO 1.1 writes it: lines ``key = value``, paths from the folder of Darknet."""
    file = root / _DARKNET
    values: dict[str, Any] = {}
    for number, line in read_lines(file):
        key, sign, value = (part.strip() for part in line.partition("="))
        if not sign:
            raise DataError(f"{file}, line {number}: expected 'key = value', got {line!r}.")
        if value and key in _DARKNET_KEYS:
            values[_DARKNET_KEYS[key]] = value
    if "names" in values:
        path = inside(root, found_below(root, values["names"]), f"{file}, names")
        if not path.is_file():
            raise DataError(f"{file}, names: {path} does not exist. Expected a text file with one name per line.")
        values["names"] = names_by_line(path)
    if str(values.get("classes", "")).isdecimal():
        values["classes"] = int(values["classes"])
    return Description(file, values, root, False)


def found_below(root: Path, given: str) -> str:
    """Return a path without the folders before it that other machines have, where that leads to something.

    Darknet and CVAT name files from a folder that holds the root as ``data``; notebooks write absolute paths. Of these
    the longest end that is in the root is taken.
    """
    path = given.replace("\\", "/")
    absolute = re.match(r"/|[A-Za-z]:", path) is not None
    if not absolute and os.path.exists(root / path):
        return given
    parts = path.split("/")
    starts = range(1, len(parts)) if absolute else [parts.index("data") + 1] if "data" in parts[:-1] else []
    ends = ("/".join(parts[start:]) for start in starts if parts[start])
    return next((end for end in ends if os.path.exists(root / end)), given)


def names_by_line(path: Path) -> list[str]:
    """Read the names of classes, one per line; the number of a class is that of its line.

    Raises:
        DataError: If the file is missing, empty or not UTF-8, or a line before a name is blank: tools differ in whether
            it counts.
    """
    lines = read_lines(path)
    for place, (number, line) in enumerate(lines, 1):
        if number != place:
            raise DataError(
                f"{path}, line {place} is blank and {line!r} follows: whether that is class {place - 1} or "
                f"{number - 1} is not known. Remove the blank line, or write a name there."
            )
    return [line for _, line in lines]


def _base(root: Path, file: Path, given: object) -> Path:
    """Find the folder that paths are relative to; it is the root or lies in it."""
    if given is None:
        return root
    path = root / str(given)
    there = os.path.isdir(path)  # unlike Path's, no error where no folder can have this name
    if there:
        if path.resolve().is_relative_to(root.resolve()):
            # As "../parts" leads back to a root "parts"; files are named below the root, as labels are.
            return root / path.resolve().relative_to(root.resolve()) if ".." in path.parts else path
    elif PurePosixPath(str(given)).name in ("", ".", root.name):  # as it was called where it was made
        return root
    raise DataError(
        f"{file}, path: {shortened(str(given))!r} {'lies outside of' if there else 'is not in'} {root}. Either the "
        "root must be that folder, or path is removed, so that all others are relative to the file."
    )


def places_of(root: Path, description: Description, split: str) -> list[str]:
    """Return what the YAML file gives for a part, relative to the root; nothing where it does not name the part."""
    for key in _KEYS[split]:
        given = description.values.get(key)
        names = [given] if isinstance(given, str) else given or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{description.file}, {key}: expected a path or a list of paths, got {given!r}.")
        paths = [_path(description, key, name) for name in names]
        absent = [path for path in paths if not path.exists()]
        if paths and not absent:
            return [path.relative_to(root).as_posix() for path in paths]
        if absent and key != "test":  # Roboflow names a test folder whether there is one or not
            raise DataError(
                f"{description.file}, {key}: {absent[0]} does not exist. Expected a folder of images or a text file "
                "that lists them, relative to that file."
            )
    return []


def _path(description: Description, key: str, given: str) -> Path:
    # Roboflow writes ../train/images for what lies in train/images beside the file.
    if given.startswith("../") and not os.path.exists(description.base / given):
        given = given.removeprefix("../")
    return inside(description.base, found_below(description.base, given), f"{description.file}, {key}")
