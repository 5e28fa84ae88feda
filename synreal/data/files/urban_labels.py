"""Label files of Cityscapes and GTA5: numbers, colours, polygons, and the objects in them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from synreal.data.files.cache import Arrays, cached
from synreal.data.files.decoding import read_ids
from synreal.data.files.fingerprints import fingerprint_files
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.files.threads import in_threads
from synreal.data.files.urban import CLASSES, THINGS, TRAIN_IDS, VOID, VOID_COLOURS, VOID_THINGS
from synreal.data.labels.boxes import FIELDS, Boxes
from synreal.data.labels.masks import IGNORE
from synreal.data.limits import MAX_PIXELS
from synreal.errors import DataError
from synreal.reading import read_json

BOXES_VERSION: Final = 1
"""Raise it when boxes come out otherwise: what the cache holds is then made again."""

_LICENSE_PLATE = "license plate"
_NUMBERS = {each.name: each.raw_id for each in CLASSES} | {name: number for number, name in VOID.items()}
_SEPARATE = {each.raw_id for each in THINGS} | set(VOID_THINGS)
_PER_CLASS = 1000  # an object's number is its class times this, plus a count
_FARTHEST = 1_000_000
_MOST_NUMBERS = 65_536
_UNKNOWN = -1


def raw_ids(most: int, setting: str, advice: str, colour_advice: str) -> LabelMap:
    """Return the map of label files that hold raw ids.

    Args:
        most: The largest raw id: 33 in Cityscapes, 34 in GTA5.
        setting: How to say that files hold train ids, for the hint.
        advice: What to do about numbers that are neither.
        colour_advice: What to do about colour images.
    """
    return LabelMap(
        {number: TRAIN_IDS.get(number, IGNORE) for number in range(most + 1)},
        hints={
            IGNORE: f"it holds 255, which no file of raw ids does (they end at {most}): these are train ids already. "
            f"Say so with {setting}."
        },
        advice=advice,
        colour_advice=colour_advice,
    )


def train_ids(most: int, setting: str, advice: str, colour_advice: str) -> LabelMap:
    """Return the map of label files that hold train ids; arguments as those of ``raw_ids``."""
    measured = len(CLASSES)
    return LabelMap(
        {**{number: number for number in range(measured)}, IGNORE: IGNORE},
        hints={
            number: f"it holds {number}, but train ids are 0 to {measured - 1} and 255: these are raw ids, which need "
            f"mapping. It is done in memory with {setting}."
            for number in range(measured, most + 1)
        },
        advice=advice,
        colour_advice=colour_advice,
    )


def class_colours() -> LabelMap:
    """Return the map of label files that hold colours."""
    return LabelMap(
        colours={colour: IGNORE for colour in VOID_COLOURS} | {each.colour: i for i, each in enumerate(CLASSES)},
        advice="Label images must not be resized smoothly or saved as JPEG.",
    )


def check_some(masks: MaskPaths, setting: str | None = None, *, tolerant: bool = False, most: int = 16) -> None:
    """Read some label files, spread over the set, so that a wrong encoding shows before training.

    Args:
        masks: The label files.
        setting: How to say that files hold train ids, where raw ids are expected; warns if they look like it.
        tolerant: Whether files that cannot be read are passed over, as long as one can.
        most: How many are read.

    Raises:
        DataError: If one cannot be read, or, if tolerant, none.
    """
    places = np.unique(np.linspace(0, len(masks.files) - 1, most).round().astype(int)).tolist()
    seen: set[int] = set()
    faults: list[DataError] = []
    for index in places:
        path = masks.root / masks.files[index]
        try:
            values = np.unique(masks.label_map.values(path, masks.max_pixels))
            masks.label_map.classes(values, path)
            seen.update(values.tolist())
        except DataError as error:
            faults.append(error)
            if not tolerant or len(faults) == len(places):
                raise
    if setting is not None and max(seen) < len(CLASSES):
        warnings.warn(
            f"No number above {len(CLASSES) - 1} stands in {len(places) - len(faults)} label files of {masks.root}, "
            f"e.g. {masks.files[0]}: they look like train ids, yet are read as raw ids. If they are, every class is "
            f"wrong; say so with {setting}.",
            stacklevel=2,
        )


class _Shape(NamedTuple):
    """A polygon: its raw class, whether it stands for a group, its corners."""

    raw_id: int
    group: bool
    corners: list[tuple[float, float]]


def _read_polygons(path: Path, max_pixels: int) -> tuple[tuple[int, int], list[_Shape]]:
    """Read a ``*_polygons.json`` file.

    As in cityscapesScripts, what is marked as deleted and license plates (raw id -1) are not drawn, and names that end
    in "group" stand for many objects of the class before it.

    Returns:
        Width and height, and what is drawn, in that order.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    except ValueError as error:
        raise DataError(
            f"{path} is not JSON: {error}. It may be truncated; unpack gtFine_trainvaltest.zip again."
        ) from None
    try:
        width, height = content["imgWidth"], content["imgHeight"]
        objects = [(each["label"], each["polygon"], each.get("deleted", 0)) for each in content["objects"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: {error!r}. Expected imgWidth, imgHeight, and objects, each with label and polygon."
        ) from None
    if not all(type(side) is int and side > 0 for side in (width, height)) or width * height > max_pixels:
        raise DataError(
            f"{path}: imgWidth and imgHeight are {width!r} and {height!r}, expected whole numbers from 1 with a "
            f"product of at most {max_pixels:,}."
        )
    shapes = []
    for number, (label, polygon, deleted) in enumerate(objects):
        if deleted or label == _LICENSE_PLATE:
            continue
        name, group = str(label), False
        if name not in _NUMBERS and name.endswith("group"):
            name, group = name.removesuffix("group"), True
        if name not in _NUMBERS:
            raise DataError(f"{path}: objects[{number}] has label {label!r}, which Cityscapes does not know.")
        shapes.append(_Shape(_NUMBERS[name], group, _corners(polygon, f"{path}: objects[{number}] ({label})")))
    return (width, height), shapes


def _corners(polygon: Any, where: str) -> list[tuple[float, float]]:
    try:
        corners = [(float(x), float(y)) for x, y in polygon]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: expected the polygon as [[x, y], ...].") from None
    if len(corners) < 2:
        raise DataError(f"{where}: its polygon has {len(corners)} corners.")
    if not all(math.isfinite(value) and abs(value) < _FARTHEST for corner in corners for value in corner):
        raise DataError(f"{where}: a corner of its polygon lies beyond {_FARTHEST:,} pixels.")
    return corners


def draw_classes(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Draw the mask that a ``*_polygons.json`` file describes, later polygons over earlier ones.

    Returns:
        Train ids or ``IGNORE``, uint8 (H, W): what cityscapesScripts' ``json2labelImg`` draws.

    Raises:
        DataError: If the file is missing, damaged or no such file.
    """
    size, shapes = _read_polygons(path, max_pixels)
    mask = Image.new("L", size, IGNORE)
    drawer = ImageDraw.Draw(mask)
    for shape in shapes:
        drawer.polygon(shape.corners, fill=TRAIN_IDS.get(shape.raw_id, IGNORE))
    return np.array(mask)


def draw_instances(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Draw the objects that a ``*_polygons.json`` file describes, later polygons over earlier ones.

    Returns:
        Numbers as in ``*_instanceIds.png``, int32 (H, W): what cityscapesScripts' ``json2instanceImg`` draws.

    Raises:
        DataError: If the file is missing, damaged or no such file.
    """
    size, shapes = _read_polygons(path, max_pixels)
    drawn = Image.new("I", size, 0)
    drawer = ImageDraw.Draw(drawn)
    counts = dict.fromkeys(_SEPARATE, 0)
    for shape in shapes:
        number = shape.raw_id
        if number in counts and not shape.group:
            number = shape.raw_id * _PER_CLASS + counts[shape.raw_id]
            counts[shape.raw_id] += 1
        drawer.polygon(shape.corners, fill=number)
    return np.array(drawn, dtype=np.int32)


def read_instances(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read a ``*_instanceIds.png`` file.

    Returns:
        A number per pixel, int32 (H, W): class * 1000 + count of an object; the class alone where objects are not told
        apart, which in a class that has objects is a group of them.

    Raises:
        DataError: If the file is missing or damaged, or has 8 bits, so that numbers were lost.
    """
    numbers = read_ids(path, max_pixels)
    if numbers.dtype != np.int32:
        raise DataError(
            f"{path} has 8 bits per pixel, but instance ids need 16: it was converted. Unpack gtFine_trainvaltest.zip "
            "again."
        )
    return numbers.astype(np.int32, copy=False)


class Objects(NamedTuple):
    """The objects in an image.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels, half-open: float32, (M, 4).
        labels: Indices into ``urban.THINGS``: int64, (M,).
        crowd: Whether it is a group: bool, (M,).
        area: Visible pixels: float32, (M,).
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32]


def objects_in(numbers: NDArray[np.int32], path: Path) -> Objects:
    """Find the objects of the eight classes that are measured: what each box encloses is visible.

    Args:
        numbers: As ``read_instances`` and ``draw_instances`` give them.
        path: Where they are from, for messages.

    Returns:
        The objects by ascending number; the groups of a class in one image are one.

    Raises:
        DataError: If a number stands for no class.
    """
    # A table look-up and one pass over the image: a mask for each object takes seconds on a full street.
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= _MOST_NUMBERS:
        raise DataError(f"{path} holds numbers from {numbers.min()} to {numbers.max()}, expected 16 bits.")
    pixels = np.bincount(numbers.ravel())
    present = np.flatnonzero(pixels)
    single = present >= _PER_CLASS
    classes = np.where(single, present // _PER_CLASS, present)
    wrong = present[~np.where(single, np.isin(classes, list(_SEPARATE)), np.isin(classes, list(_NUMBERS.values())))]
    if len(wrong):
        hint = " 255 is a train id: expected raw ids." if IGNORE in wrong else ""
        raise DataError(
            f"{path} holds {', '.join(map(str, wrong[:8]))}, which stands for no class of Cityscapes. Expected 0 to "
            f"33, and 1000 times the number of a class that has objects, 24 to 33, plus a count.{hint}"
        )
    labels = np.full(len(present), _UNKNOWN)
    for label, each in enumerate(THINGS):
        labels[classes == each.raw_id] = label
    kept = labels != _UNKNOWN
    ranks = np.zeros(int(present[-1]) + 1, dtype=np.int32)
    ranks[present[kept]] = np.arange(1, kept.sum() + 1)
    slices = ndimage.find_objects(ranks[numbers])
    boxes = [(across.start, down.start, across.stop, down.stop) for down, across in slices]
    return Objects(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels[kept].astype(np.int64),
        ~single[kept],
        pixels[present[kept]].astype(np.float32),
    )


class PolygonMasks:
    """Masks drawn from ``*_polygons.json`` files.

    Args:
        root: The folder.
        files: The JSON files, relative to it.
        max_pixels: Larger masks are refused.
    """

    def __init__(self, root: Path, files: Sequence[str], max_pixels: int = MAX_PIXELS) -> None:
        self.root = root
        self.files = list(files)
        self.max_pixels = max_pixels

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a mask: train ids or ``IGNORE``, uint8 (H, W)."""
        return draw_classes(self.mask_file(index), self.max_pixels)

    def place(self, index: int) -> str:
        """Return its file."""
        return str(self.mask_file(index))

    def digest(self) -> list[bytes]:
        """Return a fingerprint of the files."""
        return [fingerprint_files(self.root, self.files).encode()]

    def path(self, index: int) -> None:
        """Return None: it is drawn."""

    def mask_file(self, index: int) -> Path:
        """Return what it is drawn from."""
        return self.root / self.files[index]

    def fault(self, index: int) -> str:
        """Name what keeps a mask from being read."""
        return "bad label"


class Found(NamedTuple):
    """The objects of one label file, with indices into ``urban.THINGS``, and height and width of its labels."""

    boxes: Boxes
    size: tuple[int, int]


def find_boxes(
    root: Path,
    files: Sequence[str],
    *,
    polygons: bool,
    tolerant: bool = False,
    cache: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Found | None]:
    """Find the objects in many label files; what was found is kept in the cache.

    Args:
        root: The folder.
        files: ``*_instanceIds.png`` or ``*_polygons.json`` files, relative to it.
        polygons: Whether they are the latter.
        tolerant: Whether a file that cannot be used gives None, and no error.
        cache: Folder of the cache; default ``synreal.data.files.cache.cache_folder()``.
        max_pixels: Larger files are refused.

    Returns:
        One entry a file.

    Raises:
        DataError: If a file is missing, damaged or of another kind, unless tolerant.
    """

    def one(file: str) -> tuple[Objects, tuple[int, int]] | None:
        path = root / file
        try:
            numbers = draw_instances(path, max_pixels) if polygons else read_instances(path, max_pixels)
            return objects_in(numbers, path), (numbers.shape[0], numbers.shape[1])
        except DataError:
            if not tolerant:
                raise
            return None

    def make() -> Arrays:
        found = list(in_threads(one, files))
        objects = [each[0] for each in found if each is not None]
        return {
            "counts": np.array([_UNKNOWN if each is None else len(each[0].labels) for each in found], dtype=np.int64),
            "sizes": np.array([(0, 0) if each is None else each[1] for each in found], dtype=np.int64),
            "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(each.boxes for each in objects)]),
            "labels": np.concatenate([np.zeros(0, np.int64), *(each.labels for each in objects)]),
            "crowd": np.concatenate([np.zeros(0, np.bool_), *(each.crowd for each in objects)]),
            "area": np.concatenate([np.zeros(0, np.float32), *(each.area for each in objects)]),
        }

    variant = f"{BOXES_VERSION}-{max_pixels}{'-tolerant' if tolerant else ''}"
    key = f"urban-boxes-{variant}-{fingerprint_files(root, files)}"  # the kind shows in the names
    arrays = cached(key, make, cache)
    counts = arrays["counts"].clip(0).tolist()
    columns = zip(*(torch.from_numpy(arrays[name]).split(counts) for name in FIELDS), strict=True)
    return [
        Found(Boxes(*row), (int(height), int(width))) if count != _UNKNOWN else None
        for row, count, (height, width) in zip(columns, arrays["counts"], arrays["sizes"], strict=True)
    ]
