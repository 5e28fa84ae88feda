"""Images that a text file lists, each with its class. Imports no torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from synreal.data.datasets import DATA, Policy
from synreal.data.files.paths import Inside, inside, is_litter, read_lines, some, without_duplicates
from synreal.data.own import OwnData, composed, warn_of_empty
from synreal.errors import DataError, unknown_name

if TYPE_CHECKING:
    from synreal.data.sets import LabelledImages

_ENDINGS = (".txt", ".lst", ".csv", ".tsv")
_PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "name")
_LABEL_COLUMNS = ("label", "class", "target", "category", "class_name", "label_name", "class_id", "label_id")
_MOST_NUMBERS = 10_000


@DATA.register
class Listed(OwnData):
    """Images that a text file lists: one per line, its path relative to the root and, as last field, its class.

    A file that ends in ``.csv`` or ``.tsv`` has columns, with or without a line of their names; in any other, a tab
    or white space stands before the class.

    Attributes:
        file: The list, relative to the root, of what ``splits`` does not name.
        classes: Names in the order of their numbers, where the list holds numbers; where it holds names, those that
            are used. Default: the names that are found, sorted; or the numbers from 0 to the greatest.
        splits: For each part its list, e.g. ``{"train": "train.txt", "test": "val.txt"}``.
    """

    file: str | None = None

    kind: ClassVar[str] = "list"
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    summary: ClassVar[str] = "Your images with a class each, as a text file, CSV or TSV lists them."
    needs: ClassVar[str] = "a list of paths and classes, and the images, in one folder"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> LabelledImages:
        """Read the list; images are decoded when they are asked for."""
        from synreal.data.files.file_sets import LabelFiles, existing

        path = self._list(split)
        rows = _read(path, self.root)
        lists = {self._list(part) for part in self.alike(split)} - {path}
        numbering = self._numbering(path, [*rows, *(row for other in lists for row in _read(other, self.root))])
        used = [row for row in rows if numbering.number(row) is not None]
        there = existing(self.root, [row.file for row in used], str(path), skip=policy.bad_image == "skip")
        files = [used[index].file for index in there]
        labels = [number for index in there if (number := numbering.number(used[index])) is not None]
        warn_of_empty(str(path), numbering.classes, labels)
        kept = self.part(files, split)
        dropped = {
            "images of classes that are not used left out": len(rows) - len(used),
            "missing images left out": len(used) - len(there),
        }
        return LabelFiles(
            self.label,
            split,
            self.root,
            [files[index] for index in kept],
            [labels[index] for index in kept],
            numbering.classes,
            dropped={what: count for what, count in dropped.items() if count},
            max_pixels=self.max_pixels,
        )

    def _list(self, split: str) -> Path:
        given = self.place(split, self.file)
        where = f"Data set {self.label!r}"
        if given is not None and (path := inside(self.root, given, where)).is_file():
            return path
        found = sorted(p.name for p in self.root.iterdir() if p.suffix.lower() in _ENDINGS and not is_litter(p.name))
        raise DataError(
            f"{where}: {'no list is given' if given is None else f'there is no file {self.root / given}'}. Name it "
            f"with file='labels.txt', or one per part with splits={{'train': ..., 'test': ...}}. Lists in {self.root}: "
            f"{some(found, 12) or 'none'}."
        )

    def _numbering(self, path: Path, rows: Sequence[_Row]) -> _Numbering:
        labels = {row.label for row in rows}
        # Classes may be named by numerals, in any order: then those count.
        numerals = all(re.fullmatch(r"-?[0-9]{1,9}", label) for label in labels)
        if not numerals or (self.classes and labels <= set(self.classes)):
            classes = self.classes or tuple(sorted(labels))
            if not labels & set(classes):
                raise unknown_name(f"class in {path}, whose labels are {some(sorted(labels), 8)}:", classes[0], labels)
            return _Numbering(classes, {name: number for number, name in enumerate(classes)})
        most = max(map(int, labels))
        number = len(self.classes) if self.classes else min(most + 1, _MOST_NUMBERS)
        for row in rows:
            if not 0 <= int(row.label) < number:
                raise DataError(
                    f"{row.where}: class {row.label}, expected 0 to {number - 1}"
                    f"{f' for {number} classes' if self.classes else ''}. Numbers begin at 0."
                )
        return _Numbering(self.classes or tuple(map(str, range(number))), {label: int(label) for label in labels})


class _Row(NamedTuple):
    file: str
    label: str
    where: str


class _Numbering(NamedTuple):
    classes: tuple[str, ...]
    numbers: dict[str, int]

    def number(self, row: _Row) -> int | None:
        """Return the number of an image's class; None if it is not used."""
        return self.numbers.get(row.label)


def _read(path: Path, root: Path) -> list[_Row]:
    """Read a list; every image is listed once."""
    lines = without_duplicates(read_lines(path), path)
    table = path.suffix.lower() in (".csv", ".tsv")
    entries = _columns(path, lines) if table else [(number, *_fields(path, number, line)) for number, line in lines]
    jail = Inside(root)
    rows: dict[Path, _Row] = {}
    for number, file, label in entries:
        where = f"{path}, line {number}"
        if not label:
            raise DataError(f"{where}: {file!r} has no class, expected one.")
        row = _Row(file.replace("\\", "/"), composed(label), where)
        image = jail(file, where)
        if (other := rows.setdefault(image, row)).label != row.label:
            raise DataError(
                f"{where}: {file!r} has the class {label!r}, but {other.where.rpartition(', ')[2]} says "
                f"{other.label!r}. Expected one class per image."
            )
    return list(rows.values())


def _fields(path: Path, number: int, line: str) -> tuple[str, str]:
    """Split a line at its last tab or else white space: paths may hold spaces, and after a tab classes, too."""
    fields = line.rsplit("\t", 1) if "\t" in line else line.rsplit(None, 1)
    if len(fields) < 2:
        hint = " Name the file .csv if commas separate its fields." if "," in line else ""
        raise DataError(f"{path}, line {number}: expected 'path class', e.g. 'images/1.png car', got {line!r}.{hint}")
    return fields[0].strip(), fields[1].strip()


def _columns(path: Path, lines: Sequence[tuple[int, str]]) -> list[tuple[int, str, str]]:
    """Split the lines of a table into columns, and choose those of path and class."""
    first = lines[0][1]
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    table = []
    for number, line in lines:
        try:
            (fields,) = csv.reader([line], delimiter=separator, strict=True)
        except (csv.Error, ValueError) as error:
            raise DataError(f"{path}, line {number} is not a line of a table: {error}. Got {line!r}.") from None
        table.append((number, [field.strip() for field in fields]))
    names = [name.lower() for name in table[0][1]]
    at = [
        next((names.index(name) for name in known if name in names), None) for known in (_PATH_COLUMNS, _LABEL_COLUMNS)
    ]
    file, label = at
    if file is None or label is None or file == label:
        file, label, width = 0, 1, 2
    else:
        width = len(names)
        table = table[1:]
    for number, fields in table:
        if len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns, expected {width}: path and class, or more with a first "
                f"line that names them, e.g. path{separator}label."
            )
    if not table:
        raise DataError(f"{path} lists nothing.")
    return [(number, fields[file], fields[label]) for number, fields in table]
