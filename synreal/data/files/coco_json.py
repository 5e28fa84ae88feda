"""COCO's JSON: what is read from it, and what is refused."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synreal.data.files.paths import not_utf8, some
from synreal.errors import DataError
from synreal.reading import read_json

_ANNOTATION: Final = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
_KEYS: Final = (*_ANNOTATION, "file_name", "height", "width", "name")  # images and categories may have an image_id, too
_LINKED: Final = "an object with image_id and category_id"

_COMPARED: Final = 500  # annotations whose box is compared with their polygons


class Record(NamedTuple):
    """An image as the JSON lists it; ``size`` is height and width, None if it does not say."""

    key: Any
    file: str
    size: tuple[int, int] | None


class Shape(NamedTuple):
    """A segmentation: polygons, or run lengths, as they were or as COCO packs them, and their height and width.

    ``key`` is the id of its annotation; ``few`` counts polygons that were left out because they have fewer than three
    corners.
    """

    key: Any
    polygons: tuple[NDArray[np.float64], ...] = ()
    few: int = 0
    runs: NDArray[np.uint32] | bytes | None = None
    size: tuple[int, int] | None = None


class Object(NamedTuple):
    """An annotation that is used, and the classes that it stands for, each with whether it is a crowd of it."""

    key: Any
    uses: tuple[tuple[int, bool], ...]
    box: Any
    area: float
    crowd: bool
    shape: Shape | None


def parse(path: Path, masks: bool) -> dict[str, Any]:
    """Read the JSON; annotations keep what is used alone, segmentations become arrays while it is parsed."""
    compared: list[tuple[bool, Any]] = []

    def slim(entry: dict[str, Any]) -> dict[str, Any]:
        if "image_id" not in entry:
            return entry
        if "segments_info" in entry:
            raise DataError(
                f"{path} is in COCO's panoptic format, which names segments of PNG files. Expected is the format of "
                "objects, as in COCO's instances_*.json; it is chosen with annotations or splits."
            )
        kept: dict[str, Any] = {key: entry[key] for key in _KEYS if key in entry}
        if "segmentation" in kept:
            # Boxes need it only where the file gives no box or no area.
            needed = masks or kept.get("bbox") is None or kept.get("area") is None
            if not masks and len(compared) < _COMPARED and (share := _shared(kept)) is not None:
                compared.append((share < 0.5, kept.get("id")))
            kept["segmentation"] = _shape(path, kept) if needed else None
        return kept

    try:
        content = read_json(path, slim)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}. It may be truncated; export it again.") from None
    expected = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in expected):
        held = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(
            f"{path} is not in COCO's format: expected an object with the lists images, annotations and categories, "
            f"found {held or 'nothing'}. Another JSON is chosen with annotations."
        )
    apart = [key for differs, key in compared if differs]
    if len(apart) > max(2, len(compared) / 2):  # some are meant: a box may enclose what is hidden, too
        warnings.warn(
            f"{path}: the bbox of {len(apart)} of the first {len(compared)} annotations with polygons shares less than "
            f"half with what those span, e.g. that of annotation {apart[0]!r}. Expected is [x, y, width, height] from "
            "the upper left corner; where no bbox is written, it is taken from the polygons.",
            stacklevel=3,
        )
    return content


def _shared(entry: Mapping[str, Any]) -> float | None:
    """Return the area that a box and the box around its polygons share, over the area of both; None if there is one."""
    try:
        x, y, width, height = map(float, entry["bbox"])
        points = np.concatenate([np.asarray(ring, dtype=np.float64).reshape(-1, 2) for ring in entry["segmentation"]])
    except (KeyError, TypeError, ValueError):
        return None
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    both = max(0.0, min(x + width, x1) - max(x, x0)) * max(0.0, min(y + height, y1) - max(y, y0))
    union = width * height + (x1 - x0) * (y1 - y0) - both
    return float(both / union) if union > 0 else None


def _shape(path: Path, entry: Mapping[str, Any]) -> Shape | None:
    """Bring a segmentation to arrays; None if there is none."""
    given, key = entry["segmentation"], entry.get("id")
    if not given:
        return None
    try:
        if isinstance(given, dict):
            counts, (height, width) = given["counts"], given["size"]
            runs = counts.encode("ascii") if isinstance(counts, str) else np.array(counts, dtype=np.uint32)
            return Shape(key, runs=runs, size=(int(height), int(width)))
        rings = given if isinstance(given[0], list) else [given]
        polygons = [np.array(ring, dtype=np.float64) for ring in rings]
        if len(polygons) > 2 and all(ring.shape == (2,) for ring in polygons):
            raise ValueError("it is one list of pairs [x, y]; join them to [[x, y, x, y, ...]]")
        usable = tuple(ring for ring in polygons if ring.size >= 6)
        if any(ring.ndim != 1 or ring.size % 2 for ring in usable) or not all(
            np.isfinite(ring).all() for ring in usable
        ):
            raise ValueError("a polygon is x, y, x, y, ... in pixels")
        return Shape(key, usable, few=len(polygons) - len(usable))
    except (TypeError, ValueError, KeyError, OverflowError, IndexError) as error:
        raise DataError(
            f"{path}: the segmentation of annotation {key!r} is neither polygons [[x, y, x, y, ...], ...] "
            f"nor run lengths {{'size': [height, width], 'counts': ...}}: {error}."
        ) from None


def key_in(entry: Any, name: str, where: str, expected: str) -> int | str:
    """Return an id of an entry: a whole number, which may be written as 1.0, or a text.

    Args:
        entry: The entry.
        name: What holds the id.
        where: File and place, for messages.
        expected: What every entry is.

    Raises:
        DataError: If it is none.
    """
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {entry!r}, expected {expected}.")
    key = entry.get(name)
    if isinstance(key, float) and key.is_integer():  # pandas writes a column of numbers like this
        return int(key)
    if isinstance(key, (int, str)) and not isinstance(key, bool):
        return key
    said = f"the {name} {key!r}, expected a whole number or a text" if name in entry else f"no {name}"
    raise DataError(f"{where} has {said}. Expected is {expected}; it is {entry!r}.")


def _check_twin(where: str, name: str, given: int | str, known: Collection[Any], what: str) -> None:
    """Raise ``DataError`` if an id that is not known differs from one in being text or number alone."""
    other = str(given) if isinstance(given, int) else int(given) if given.isdecimal() else None
    if other in known:
        kinds = ("a number", "a text") if isinstance(given, int) else ("a text", "a number")
        raise DataError(
            f"{where} has the {name} {given!r}, {kinds[0]}, but {what} have the id {other!r}, {kinds[1]}, so they do "
            "not match. Write both alike."
        )


def read_records(path: Path, images: Sequence[Any], max_pixels: int) -> list[Record]:
    """Read the list of images.

    Args:
        path: The JSON file, for messages.
        images: Its ``"images"``.
        max_pixels: Images said to have more are refused.

    Raises:
        DataError: If there is none, one lacks id or file name or has an impossible size, or two share an id or a file.
    """
    records: list[Record] = []
    for index, entry in enumerate(images):
        where = f"{path}: images[{index}]"
        key = key_in(entry, "id", where, "an object with id and file_name")
        file = entry.get("file_name")
        if not isinstance(file, str) or not file:
            raise DataError(f"{where} is {entry!r}, expected an object with id and file_name.")
        height, width = entry.get("height"), entry.get("width")
        size: tuple[int, int] | None = None
        if height is not None and width is not None:
            numbers = isinstance(height, (int, float)) and isinstance(width, (int, float))
            if not (numbers and height >= 1 and width >= 1 and height * width <= max_pixels):
                raise DataError(
                    f"{path}: image {file!r} is said to be {width!r} x {height!r}, expected whole numbers of pixels, "
                    f"{max_pixels:,} at most."
                )
            size = (int(height), int(width))
        records.append(Record(key, file, size))
    if not records:
        raise DataError(f"{path} lists no images.")
    for what in ("key", "file"):
        value, count = Counter(getattr(record, what) for record in records).most_common(1)[0]
        if count > 1:
            name = "id" if what == "key" else "file_name"
            names = len({record.file for record in records if getattr(record, what) == value})
            cause = (
                "Merge exports with a tool that renumbers them."
                if names > 1
                else "They have the same file_name, too: what wrote it lost their names. Export it again, or read "
                "another format of the same data."
            )
            raise DataError(
                f"{path} lists {count} images with the {name} {value!r}, so its annotations cannot be told apart. "
                f"{cause}"
            )
    return records


def _real(value: Any) -> float:
    """Return a number; NaN if it is none."""
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return math.nan


def _crowd(path: Path, key: Any, given: Any) -> bool:
    """Read ``iscrowd``, which some tools write as text: then "0" is not true."""
    if given is None or given == "":
        return False
    try:
        return {0.0: False, 1.0: True}[float(given)]
    except (TypeError, ValueError, KeyError, OverflowError):
        raise DataError(f"{path}: iscrowd of annotation {key!r} is {given!r}, expected 0 or 1.") from None


def by_image(
    path: Path,
    annotations: Sequence[Any],
    records: Sequence[Record],
    used: Mapping[Any, tuple[tuple[int, bool], ...]],
    dropped: Counter[str],
) -> list[list[Object]]:
    """Sort annotations to their images, and count what is left out."""
    places = {record.key: index for index, record in enumerate(records)}
    found: list[list[Object]] = [[] for _ in records]
    for index, entry in enumerate(annotations):
        where = f"{path}: annotations[{index}]"
        image, category = (key_in(entry, name, where, _LINKED) for name in ("image_id", "category_id"))
        if image not in places:
            _check_twin(where, "image_id", image, places, "images")
            dropped["annotations of images that the JSON does not list left out"] += 1
            continue
        if category not in used:
            _check_twin(where, "category_id", category, used, "categories")
            known = some([str(number) for number in used], 20)
            raise DataError(
                f"{path}: annotation {entry.get('id', index)!r} has category_id {category!r}, which is not among "
                f"categories: {known}."
            )
        uses = used[category]
        if not uses:
            dropped["objects of classes that are not used left out"] += 1
            continue
        key = entry.get("id", index)
        crowd = _crowd(path, key, entry.get("iscrowd"))
        shape = entry.get("segmentation")
        found[places[image]].append(Object(key, uses, entry.get("bbox"), _real(entry.get("area")), crowd, shape))
    return found
