"""Boxes as YOLO's text files hold them, one file per image. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from synreal.data.datasets import DATA, Policy
from synreal.data.files.label_files import UNREADABLE, read_each
from synreal.data.files.paths import (
    Inside,
    inside,
    read_lines,
    scan_files,
    scan_images,
    some,
    subfolders,
    without_duplicates,
)
from synreal.data.files.yolo_descriptions import (
    DESCRIPTIONS,
    NAMES,
    Description,
    described,
    found_below,
    names_by_line,
    places_of,
)
from synreal.data.naming import NamedData, Uses
from synreal.data.own import read_names
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.labels.boxes import Boxes
    from synreal.data.sets import BoxedImages

_IMAGES, _LABELS = "images", "labels"
Object: TypeAlias = tuple[int, int, list[float]]
"""An object of a label file: its line; the number of its class; x0, y0, x1, y1 as shares of the image's size."""

_FARTHEST = 0.5  # of the image's size: what lies farther outside it is not a share of it


@DATA.register
class Yolo(NamedData):
    """Boxes in YOLO's text files: ``images/**/x.png`` with ``labels/**/x.txt``, or ``x.txt`` beside ``x.png``.

    Of images outside of ``images``, they may also lie in ``labels`` beside them, or in ``labels`` in the root.

    A line is ``class x y width height``, centre and size as shares of the image's; of a polygon,
    ``class x y x y x y ...``, its bounding box is read. An image without a text file has no objects. Names and parts
    are read from ``data.yaml`` (``names``, ``train``, ``val``, ``test``), or from ``obj.data`` and ``obj.names`` as
    Darknet and CVAT's YOLO 1.1 have them; names also from ``classes.txt``, where the number of a class is that of its
    line.

    Attributes:
        classes: Names in the order of their numbers; where a file gives the names, those that are used.
        splits: For each part the folder of its images or a text file that lists them, e.g.
            ``{"train": "images/train", "test": "images/val"}``. Default what ``data.yaml`` says: as a source ``train``
            and, held out, ``val``; as a target ``test``, or else ``val``.
        labels: The folder of the text files that stands where the images' paths have ``images``; default ``labels``.
    """

    labels: str | None = None

    kind: ClassVar[str] = "yolo"
    label_kinds: ClassVar[tuple[str, ...]] = ("boxes",)
    summary: ClassVar[str] = "Your images with boxes in YOLO's text files, as Ultralytics and Label Studio write them."
    numbered: ClassVar[bool] = True
    needs: ClassVar[str] = "images with text files beside them or in labels/, and data.yaml, classes.txt or classes"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> BoxedImages:
        """Read the text files and the headers of images; these are decoded when they are asked for."""
        from synreal.data.files.file_sets import BoxFiles, sizes_of
        from synreal.data.labels.boxes import boxes_of

        description = described(self.root)
        numbers = self._numbers(split, _listed_names(self.root, description))
        dropped: Counter[str] = Counter()
        files = self._images(split, self._places(description, split), policy, dropped)
        texts, dropped["label files without image"] = _label_files(self.root, files, self.labels)
        kept = list(range(len(files)))
        if split != "test" and self._places(description, "heldout") == self._places(description, "train"):
            kept = self.chosen(files, split)

        skip = policy.bad_image == "skip"
        sizes = sizes_of([self.root / files[index] for index in kept], [None] * len(kept), self.max_pixels, skip=skip)
        nothing = boxes_of([], [], (1, 1))[0]
        keypoints = description is not None and description.keypoints
        read, dropped[UNREADABLE] = read_each(
            [text for index in kept if (text := texts[index]) is not None],
            lambda text: list(read_objects(self.root / text, keypoints=keypoints)),
            skip=skip,
        )
        found: dict[str, Boxes] = {}
        for index, size in zip(kept, sizes, strict=True):
            text = texts[index]
            if size is None:
                dropped["images that cannot be read left out"] += 1
            elif text is None:
                dropped["images without label file, taken to hold no object"] += 1
                found[files[index]] = nothing
            elif text in read:
                found[files[index]] = _boxes(self.root / text, read[text], size, numbers, dropped)
        if found and split != "heldout" and all(objects.crowd.all() for objects in found.values()):  # those may be few
            raise DataError(
                f"{self.label} ({split}): no image has a box of {some(numbers.classes, 12)}. Left out: "
                f"{', '.join(f'{count} {what}' for what, count in dropped.items() if count) or 'nothing'}."
            )
        return BoxFiles(
            self.label,
            split,
            self.root,
            list(found),
            list(found.values()),
            [None] * len(found),  # shares are of the upright image, as tools show it
            numbers.classes,
            dropped={what: count for what, count in dropped.items() if count},
            max_pixels=self.max_pixels,
        )

    def _numbers(self, split: str, names: _Names | None) -> _Numbers:
        """Look up what the numbers in the files stand for."""
        groups = self.label_map or {}
        given = [*(each for group in groups.values() for each in group), *self.ignore]
        if names is not None:
            listed, where = dict(enumerate(names.names)), str(names.file)
        elif self.label_map is None and self.classes is not None:
            listed, where = dict(enumerate(self.classes)), "classes"
        elif self.label_map is not None and all(isinstance(each, int) for each in given):
            listed, where = {int(number): str(number) for number in given}, "label_map"
        else:
            raise DataError(
                f"Data set {self.label!r}: {self.root} has no {DESCRIPTIONS[0]} with names and no "
                f"{' or '.join(NAMES)}. Give the names in the order of their numbers, classes=['car', 'bus'], "
                "or numbers in label_map."
            )
        for number in given:
            if isinstance(number, int) and number not in listed:
                raise DataError(
                    f"Data set {self.label!r}: {where} has no number {number}, only 0 to {len(listed) - 1}."
                )

        def name_of(given: Sequence[str | int]) -> tuple[str, ...]:
            return tuple(listed[each] if isinstance(each, int) else each for each in given)

        named = {name: name_of(group) for name, group in groups.items()} or None
        data = self.model_copy(update={"label_map": named, "ignore": name_of(self.ignore)})
        naming = data.naming(split, lambda _: tuple(listed.values()), where)
        uses = {number: naming.uses.get(name, ()) for number, name in listed.items()}
        return _Numbers(naming.classes, uses, None if where == "label_map" else len(listed))

    def _places(self, description: Description | None, split: str) -> list[str]:
        """Return folders or lists of a part: what ``splits`` says or else the YAML file."""
        if self.splits or description is None:
            place = self.place(split)
            return [] if place is None else [place]
        places = places_of(self.root, description, split)
        return places or (places_of(self.root, description, "train") if split == "heldout" else [])

    def _images(self, split: str, places: Sequence[str], policy: Policy, dropped: Counter[str]) -> list[str]:
        """List images, relative to the root, in some folders and text files; without any, in the root."""
        from synreal.data.files.file_sets import existing

        if not places:
            return scan_images(self.folder(split))
        where = f"Data set {self.label!r}, splits"
        files: list[str] = []
        for place in places:
            path = inside(self.root, place, where)
            if path.is_dir():
                below = path.relative_to(self.root)
                files += [(below / file).as_posix() for file in scan_images(path)]
            elif path.is_file():
                listed = _listed_images(path, self.root)
                there = existing(self.root, listed, str(path), skip=policy.bad_image == "skip")
                dropped["missing images left out"] += len(listed) - len(there)
                files += [listed[index] for index in there]
            else:
                raise DataError(
                    f"{where}: {path} does not exist, expected a folder of images or a text file that lists them. "
                    f"Folders in {self.root}: {some(subfolders(self.root), 12) or 'none'}."
                )
        return list(dict.fromkeys(files))


class _Numbers(NamedTuple):
    """Class names, what each number stands for, and how many have names; None where others are left out."""

    classes: tuple[str, ...]
    uses: Mapping[int, Uses]
    known: int | None


class _Names(NamedTuple):
    """The names of classes, in the order of their numbers, and the file that gives them."""

    file: Path
    names: tuple[str, ...]


def _listed_names(root: Path, description: Description | None) -> _Names | None:
    """Find the names of classes."""
    if description is not None and description.values.get("names") is not None:
        file, given = description.file, description.values["names"]
    else:
        usual = next((root / name for name in NAMES if (root / name).is_file()), None)
        if usual is None:
            return None
        file, given = usual, names_by_line(usual)
    try:
        names = read_names(given)
    except ValueError as error:
        raise DataError(f"{file}, names: {error}.") from None
    count = None if description is None else description.values.get("nc", description.values.get("classes"))
    if count is not None and count != len(names):
        key = "nc" if description is None or "nc" in description.values else "classes"
        raise DataError(f"{file}: {key} is {count!r}, but there are {len(names)} names. Correct one of them.")
    return _Names(file, names)


def _listed_images(path: Path, root: Path) -> list[str]:
    """Read a text file that lists images, relative to the root or, with ./ as Ultralytics has it, to that file.

    Darknet's and CVAT's lists name them from a folder that holds the root as ``data``.
    """
    jail = Inside(root)
    files = []
    for number, given in without_duplicates(read_lines(path), path):
        where = f"{path}, line {number}"
        line = found_below(root, given)
        image = jail(line, where)
        if not image.is_file() and path.parent != root:
            beside = f"{path.parent.relative_to(root).as_posix()}/{line}"
            image = jail(beside, where) if (root / beside).is_file() else image
        files.append(image.relative_to(root).as_posix())
    return files


def _label_files(root: Path, files: Sequence[str], named: str | None) -> tuple[list[str | None], int]:
    """Find the label file of each image.

    Returns:
        Paths relative to the root, None where there is none; and how many label files in the same folders have no
        image.

    Raises:
        DataError: If no image has one.
    """
    there: dict[str, str] = {}
    for name in scan_files(root, ".txt"):  # of a.txt and a.TXT the former
        there[name[:-4] + ".txt"] = name
    wanted = (named or _LABELS).strip("/")
    parts = {part for place in there for part in PurePosixPath(place).parts[:-1] if part.lower() == wanted.lower()}
    folders = sorted({wanted, *parts}, key=lambda folder: (folder != wanted, folder))
    places = {file: _label_places(file, folders) for file in files}
    labels = [next((there[place] for place in places[file] if place in there), None) for file in files]
    if files and not any(labels):
        tried = list(dict.fromkeys(place for place in places[files[0]] if wanted in place or "/" not in place))
        raise DataError(
            f"{root}: {'the image has no' if len(files) == 1 else f'none of {len(files)} images has a'} label file, "
            f"e.g. {files[0]} has none as {' or '.join(tried or places[files[0]])}. {_elsewhere(files, there)}"
        )
    near = {PurePosixPath(place).parent for file in files for place in places[file][:1]}
    taken = {place for file in scan_images(root) for place in _label_places(file, folders)}
    alone = [file for file in there.keys() - taken if PurePosixPath(file).parent in near]
    return labels, sum(PurePosixPath(file).name not in NAMES for file in alone)


def _label_places(file: str, folders: Sequence[str]) -> list[str]:
    """Say where the label file of an image may lie: in labels/ where the image is in images/, or beside it.

    Of an image that is in no images/, it may also lie in labels/ beside it, or in labels/ in the root.
    """
    path = PurePosixPath(file).with_suffix(".txt")
    parts = list(path.parts)
    lower = [part.lower() for part in parts[:-1]]
    places = [str(path)]
    if _IMAGES in lower:
        last = len(lower) - 1 - lower[::-1].index(_IMAGES)
        places[:0] = [str(PurePosixPath(*parts[:last], folder, *parts[last + 1 :])) for folder in folders]
    else:
        below = [
            place for folder in folders for place in (path.parent / folder / path.name, PurePosixPath(folder) / path)
        ]
        places += [str(place) for place in below]
    return places


def _elsewhere(files: Sequence[str], there: Mapping[str, str]) -> str:
    """Say where text files with the names of images lie."""
    stems = {PurePosixPath(file).stem: PurePosixPath(file).parts[:-1] for file in files}
    for place in sorted(there):
        path = PurePosixPath(place)
        if path.stem in stems:
            own = next((part for part in path.parts[:-1] if part not in stems[path.stem]), None)
            if own is not None:
                return f"There is {place}: if it is one, give labels: {own}, the folder that stands for images."
    return "Give the root that holds images and labels."


def read_objects(path: Path, *, keypoints: bool = False) -> Iterator[Object]:
    """Read a label file.

    Args:
        path: The file; it may be empty.
        keypoints: Whether key points follow each box, which are left out.

    Yields:
        Of each line that does not repeat another: its number; the number of the class; x0, y0, x1, y1 as shares of
        the image's width and height, which may lie outside [0, 1].

    Raises:
        DataError: If the file is missing or holds anything else; names the line.
    """
    seen: set[str] = set()
    for number, line in read_lines(path, empty=True):
        if line not in seen:
            seen.add(line)
            yield (number, *_object(line, f"{path}, line {number}", keypoints))


def _object(line: str, where: str, keypoints: bool) -> tuple[int, list[float]]:
    try:
        label, *values = map(float, line.split())
    except ValueError:
        raise DataError(f"{where}: expected numbers, 'class x y width height', got {line!r}.") from None
    if not math.isfinite(label) or label != int(label) or label < 0:
        raise DataError(f"{where}: the class is {line.split()[0]}, expected a whole number from 0.")
    if keypoints:
        values = values[:4]
    if len(values) == 5:
        raise DataError(f"{where}: 6 fields. The last is a prediction's confidence; expected labels, with 5 fields.")
    if not values:
        raise DataError(
            f"{where} is {line!r} alone, expected 'class x y width height'. Where that is the number of boxes, their "
            "corners follow in pixels, as BBox-Label-Tool writes them: convert them to YOLO."
        )
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if not polygon and len(values) != 4:
        raise DataError(
            f"{where}: {len(values) + 1} fields, expected 5, 'class x y width height', or of a polygon the class and 3 "
            "or more pairs."
        )
    if not all(-_FARTHEST <= value <= 1 + _FARTHEST for value in values):  # true for NaN
        raise DataError(
            f"{where}: expected shares of the image's width and height, 0 to 1, got {line!r}. Divide pixels by width "
            "and height."
        )
    if polygon:
        return int(label), [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
    x, y, width, height = values
    if width < 0 or height < 0:
        raise DataError(f"{where}: width {width:g} and height {height:g}, expected none below 0.")
    return int(label), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _boxes(
    path: Path, objects: Sequence[Object], size: tuple[int, int], numbers: _Numbers, dropped: Counter[str]
) -> Boxes:
    """Place the objects of a label file in an image of this height and width, and count what is left out or clipped."""
    from synreal.data.labels.boxes import boxes_of

    height, width = size
    corners, uses = [], []
    for line, found, (x0, y0, x1, y1) in objects:
        if numbers.known is not None and found >= numbers.known:
            raise DataError(
                f"{path}, line {line}: class {found}, but there are names for 0 to {numbers.known - 1} alone. Numbers "
                "begin at 0; add the missing names."
            )
        if not numbers.uses.get(found):
            dropped["objects of other classes left out"] += 1
            continue
        corners.append((x0 * width, y0 * height, x1 * width, y1 * height))
        uses.append(numbers.uses[found])
        # Rounded shares reach out of the image by less than half a pixel.
        out = max(-x0 * width, -y0 * height, (x1 - 1) * width, (y1 - 1) * height)
        dropped["boxes clipped that reach out of their image"] += out > 0.5
    boxes, lost = boxes_of(corners, uses, size)
    dropped.update(lost)
    return boxes
