"""COCO's JSON, which BlenderProc, Omniverse Replicator and most labelling tools write. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from synreal.data.files.paths import Inside, is_litter, some, subfolders
from synreal.data.own import OwnData
from synreal.data.registry import Policy, register
from synreal.errors import DataError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synreal.data.sets import Images

_KEYS: Final = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
_FAR: Final = 8  # corners of polygons farther out than this many sides of the image are a mistake, and slow to draw


@register
class Coco(OwnData):
    """Images with objects in one JSON file.

    Classes go by the categories' names, in the order of their ids. In segmentation, objects are drawn in the order of
    the file, later ones over earlier ones, crowds too; pixels without one are ``"background"``, as are objects of
    classes that are not used.

    Attributes:
        annotations: The JSON file, relative to ``root``; by default the only one in the root or in a folder of it.
            ``splits`` gives one a part.
        images: The folder that file names are relative to, relative to ``root``; by default it is found: beside the
            JSON, the root, ``images``, or a folder whose name is part of the JSON's, e.g. ``val2017``.
    """

    annotations: str | None = None
    images: str | None = None

    kind: ClassVar[str] = "coco"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "detection")
    summary: ClassVar[str] = "Your images with objects in COCO's JSON: boxes, polygons or run lengths."
    needs: ClassVar[str] = "a JSON file with images, annotations and categories, and the images, in one folder"

    def read(self, split: str, *, task: str, seed: int, cache: str | Path | None, policy: Policy) -> Images:
        """Read the JSON; images and masks are decoded one by one, when asked for."""
        from synreal.data.files.file_sets import BoxFiles, MaskFiles, existing

        path = self._json(split)
        masks = task == "segmentation"
        content = _parse(path, masks)
        classes, numbers = self._classes(path, content["categories"], masks)
        records = _records(path, content["images"], self.max_pixels)
        folder = self._folder(path, [record.file for record in records])
        files = self._relative(folder, [record.file for record in records], path)
        dropped: Counter[str] = Counter()

        there = existing(self.root, files, str(path), skip=policy.bad_image == "skip")
        if len(there) < len(files):
            dropped["missing images left out"] = len(files) - len(there)
        chosen = self.part([files[index] for index in there], split)
        kept = [there[index] for index in chosen]
        objects = _by_image(path, content["annotations"], records, numbers, dropped)
        del content

        records = [records[index] for index in kept]
        found = [objects[index] for index in kept]
        names = [files[index] for index in kept]
        sizes = [record.size for record in records]
        where = (self.label, split, self.root, names)
        if not masks:
            boxes = [_boxes(path, self.root / n, s, o, dropped) for n, s, o in zip(names, sizes, found, strict=True)]
            return BoxFiles(*where, boxes, sizes, classes, dropped=dropped, max_pixels=self.max_pixels)
        _all_drawn(path, found)
        drawings = [_drawing(path, self.root / n, s, o) for n, s, o in zip(names, sizes, found, strict=True)]
        few = sum(each.shape.few for drawing in found for each in drawing if each.shape is not None)
        if few:
            dropped["polygons with fewer than 3 corners left out"] = few
        background = classes.index("background")
        return MaskFiles(
            *where,
            Drawings(path, drawings, background),
            classes,
            resize=policy.size_mismatch == "resize",
            dropped=dropped,
            max_pixels=self.max_pixels,
        )

    def _json(self, split: str) -> Path:
        given = self.place(split, self.annotations)
        found = [path for folder in ("", "*/") for path in sorted(self.root.glob(f"{folder}*.json"))]
        found = [path for path in found if not is_litter(path.name)]
        names = some([path.relative_to(self.root).as_posix() for path in found], 12) or "none"
        if given is not None:
            if (self.root / given).is_file():
                return self.root / given
            raise DataError(
                f"Data set {self.label!r}: there is no file {self.root / given}. JSON files there: {names}."
            )
        if len(found) == 1:
            return found[0]
        raise DataError(
            f"Data set {self.label!r}: expected one JSON file in {self.root} or a folder of it, found {names}. Choose "
            "one with annotations, or one a part with splits, e.g. splits: {train: annotations/train.json}."
        )

    def _classes(self, path: Path, categories: Any, masks: bool) -> tuple[tuple[str, ...], dict[Any, int | None]]:
        """Return class names, and by category id the number of its class, None where it is not used."""
        listed: dict[Any, str] = {}
        for index, entry in enumerate(categories):
            name = entry.get("name") if isinstance(entry, dict) else None
            if not isinstance(name, (str, int)) or not isinstance(entry.get("id"), (int, str)):  # BlenderProc: numbers
                raise DataError(f"{path}: categories[{index}] is {entry!r}, expected an object with id and name.")
            if listed.setdefault(entry["id"], str(name)) != str(name):
                raise DataError(
                    f"{path}: categories {listed[entry['id']]!r} and {str(name)!r} have the same id {entry['id']!r}."
                )
        # Two categories may share a name: Roboflow lists the name of the project besides its classes.
        names = tuple(dict.fromkeys(listed[key] for key in sorted(listed, key=lambda key: (isinstance(key, str), key))))
        if not names:
            raise DataError(f"{path} lists no categories, expected [{{'id': 1, 'name': 'car'}}, ...].")
        for name in self.classes or ():
            if name not in names and not (masks and name == "background"):
                raise unknown_name(f"class of {path}", name, names)
        classes = self.classes or names
        if masks and "background" not in classes:
            classes = ("background", *classes)
        return classes, {key: classes.index(name) if name in classes else None for key, name in listed.items()}

    def _folder(self, path: Path, files: Sequence[str]) -> Path:
        if self.images is not None:
            if (self.root / self.images).is_dir():
                return self.root / self.images
            raise DataError(
                f"Data set {self.label!r}: there is no folder {self.root / self.images}, which images names."
            )
        around = [path.parent, self.root, path.parent / "images", self.root / "images"]
        named = [
            base / name
            for base in (*around, path.parent.parent)
            if base.is_dir()
            for name in subfolders(base)
            if name.lower() in path.stem.lower()
        ]
        candidates = list(dict.fromkeys([*around, *named]))
        sample = [file.replace("\\", "/") for file in files[:20]]
        counts = [sum((folder / file).is_file() for file in sample) for folder in candidates]
        if not any(counts):
            looked = ", ".join(str(folder) for folder in candidates if folder.is_dir())
            raise DataError(
                f"{path}: no image that it lists was found, e.g. {files[0]!r}. Looked in {looked}. Name the folder "
                "that file names are relative to with images."
            )
        return candidates[counts.index(max(counts))]

    def _relative(self, folder: Path, files: Sequence[str], path: Path) -> list[str]:
        """Return files relative to the root, which none may leave."""
        below, inside = os.path.relpath(folder, self.root), Inside(self.root)
        found: list[str] = []
        for file in files:
            absolute = re.match(r"[/\\]|[A-Za-z]:", file)
            joined = (file if absolute else f"{below}/{file}").replace("\\", "/").removeprefix("./")
            inside.check(joined, str(path))
            found.append(joined)
        return found


class _Record(NamedTuple):
    """An image as the JSON lists it; ``size`` is height and width, None if it does not say."""

    key: Any
    file: str
    size: tuple[int, int] | None


class _Shape(NamedTuple):
    """A segmentation: polygons, or run lengths, as they were or as COCO packs them, and their height and width.

    ``key`` is the id of its annotation; ``few`` counts polygons that were left out because they have fewer than three
    corners.
    """

    key: Any
    polygons: tuple[NDArray[np.float64], ...] = ()
    few: int = 0
    runs: NDArray[np.uint32] | bytes | None = None
    size: tuple[int, int] | None = None


class _Object(NamedTuple):
    """An annotation that is used."""

    key: Any
    label: int
    box: Any
    area: float
    crowd: bool
    shape: _Shape | None


class _Drawing(NamedTuple):
    """What a mask is drawn from."""

    size: tuple[int, int]
    objects: tuple[tuple[int, _Shape], ...]


class Drawings:
    """Masks that are drawn from polygons and run lengths; see ``synreal.data.files.file_sets.Masks``.

    Args:
        path: The JSON file.
        drawings: What to draw on each image.
        background: Class of pixels without an object.
    """

    def __init__(self, path: Path, drawings: Sequence[_Drawing], background: int) -> None:
        self.path = path
        self.drawings = list(drawings)
        self.background = background

    def read(self, index: int) -> NDArray[np.uint8]:
        """Draw a mask: classes, uint8 (H, W); later objects over earlier ones."""
        import numpy as np

        drawing = self.drawings[index]
        # Column by column, as COCO unpacks run lengths: twice as quick.
        mask = np.full(drawing.size, self.background, dtype=np.uint8, order="F")
        for label, shape in drawing.objects:
            drawn = _measured("decode", self.path, shape, drawing.size)
            if drawn is not None:
                np.copyto(mask, np.uint8(label), where=drawn.view(np.bool_))
        return np.ascontiguousarray(mask)

    def place(self, index: int) -> str:
        """Return the JSON file."""
        return f"drawn from {self.path}"

    def digest(self) -> list[bytes]:
        """Return a hash over everything that is drawn."""
        digest = hashlib.sha256(str(self.background).encode())
        for size, objects in self.drawings:
            digest.update(f"{size} {len(objects)}\n".encode())
            for label, shape in objects:
                parts = shape.polygons if shape.runs is None else (shape.runs,)
                data = [part if isinstance(part, bytes) else part.tobytes() for part in parts]
                digest.update(f"{label} {[len(part) for part in data]}\n".encode())
                digest.update(b"".join(data))
        return [digest.digest()]

    def subset(self, kept: Sequence[int]) -> Drawings:
        """Return the masks of some of the images."""
        return Drawings(self.path, [self.drawings[index] for index in kept], self.background)


def _measured(what: str, path: Path, shape: _Shape, size: tuple[int, int]) -> Any:
    """Apply ``"decode"``, ``"area"`` or ``"toBbox"`` of COCO's mask functions to a segmentation; None if it is empty.

    Raises:
        DataError: If its run lengths are damaged.
    """
    from faster_coco_eval import mask as masks

    try:
        if isinstance(shape.runs, bytes):
            runs = {"size": list(size), "counts": shape.runs}
        elif shape.runs is not None:
            runs = masks.frPyObjects({"size": list(size), "counts": shape.runs.tolist()}, *size)
        elif shape.polygons:
            runs = masks.merge(masks.frPyObjects([polygon.tolist() for polygon in shape.polygons], *size))
        else:
            return None
        return getattr(masks, what)(runs)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"{path}: the run lengths of annotation {shape.key!r} do not fit an image of {size[1]} x {size[0]} pixels: "
            f"{error}."
        ) from None


def _parse(path: Path, masks: bool) -> dict[str, Any]:
    """Read the JSON; annotations keep what is used alone, segmentations become arrays while it is parsed."""

    def slim(entry: dict[str, Any]) -> dict[str, Any]:
        if "image_id" not in entry:
            return entry
        kept: dict[str, Any] = {key: entry[key] for key in _KEYS if key in entry}
        if "segmentation" in kept:
            # Boxes need it only where the file gives no box or no area.
            needed = masks or kept.get("bbox") is None or kept.get("area") is None
            kept["segmentation"] = _shape(path, kept) if needed else None
        return kept

    try:
        content = json.loads(path.read_bytes(), object_hook=slim)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}. It may be truncated; export it again.") from None
    expected = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in expected):
        held = ", ".join(map(str, content)) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(
            f"{path} is not in COCO's format: expected an object with the lists images, annotations and categories, "
            f"found {held or 'nothing'}. Another JSON is chosen with annotations."
        )
    return content


def _shape(path: Path, entry: Mapping[str, Any]) -> _Shape | None:
    """Bring a segmentation to arrays; None if there is none."""
    import numpy as np

    given, key = entry["segmentation"], entry.get("id")
    if not given:
        return None
    try:
        if isinstance(given, dict):
            counts, (height, width) = given["counts"], given["size"]
            runs = counts.encode("ascii") if isinstance(counts, str) else np.array(counts, dtype=np.uint32)
            return _Shape(key, runs=runs, size=(int(height), int(width)))
        rings = given if isinstance(given[0], list) else [given]
        polygons = [np.array(ring, dtype=np.float64) for ring in rings]
        usable = tuple(ring for ring in polygons if ring.size >= 6)
        if any(ring.ndim != 1 or ring.size % 2 for ring in usable) or not all(
            np.isfinite(ring).all() for ring in usable
        ):
            raise ValueError("a polygon is x, y, x, y, ... in pixels")
        return _Shape(key, usable, few=len(polygons) - len(usable))
    except (TypeError, ValueError, KeyError, OverflowError, IndexError) as error:
        raise DataError(
            f"{path}: the segmentation of annotation {key!r} is neither polygons [[x, y, x, y, ...], ...] "
            f"nor run lengths {{'size': [height, width], 'counts': ...}}: {error}."
        ) from None


def _records(path: Path, images: Sequence[Any], max_pixels: int) -> list[_Record]:
    records: list[_Record] = []
    for index, entry in enumerate(images):
        key = entry.get("id") if isinstance(entry, dict) else None
        file = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(key, (int, str)) or not isinstance(file, str) or not file:
            raise DataError(f"{path}: images[{index}] is {entry!r}, expected an object with id and file_name.")
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
        records.append(_Record(key, file, size))
    if not records:
        raise DataError(f"{path} lists no images.")
    for what in ("key", "file"):
        value, count = Counter(getattr(record, what) for record in records).most_common(1)[0]
        if count > 1:
            name = "id" if what == "key" else "file_name"
            raise DataError(
                f"{path} lists {count} images with the {name} {value!r}, so its annotations cannot be told apart. "
                "Merge exports with a tool that renumbers them."
            )
    return records


def _by_image(
    path: Path,
    annotations: Sequence[Any],
    records: Sequence[_Record],
    numbers: Mapping[Any, int | None],
    dropped: Counter[str],
) -> list[list[_Object]]:
    """Sort annotations to their images, and count what is left out."""
    places = {record.key: index for index, record in enumerate(records)}
    found: list[list[_Object]] = [[] for _ in records]
    for index, entry in enumerate(annotations):
        image, category = (entry.get("image_id"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(image, (int, str)) or not isinstance(category, (int, str)):
            raise DataError(f"{path}: annotations[{index}] has no image_id or no category_id.")
        if image not in places:
            dropped["annotations of images that the JSON does not list left out"] += 1
            continue
        if category not in numbers:
            known = some([str(number) for number in numbers], 20)
            raise DataError(
                f"{path}: annotation {entry.get('id', index)!r} has category_id {category!r}, which is not among "
                f"categories: {known}."
            )
        label = numbers[category]
        if label is None:
            dropped["objects of classes that are not used left out"] += 1
            continue
        area = entry.get("area")
        area = float(area) if isinstance(area, (int, float)) else math.nan
        key = entry.get("id", index)
        shape = entry.get("segmentation")
        found[places[image]].append(_Object(key, label, entry.get("bbox"), area, bool(entry.get("iscrowd")), shape))
    return found


def _boxes(
    path: Path, image: Path, said: tuple[int, int] | None, objects: Sequence[_Object], dropped: Counter[str]
) -> Any:
    from synreal.data.files.decoding import size_of
    from synreal.data.files.file_sets import usable_boxes

    size = said or size_of(image)
    corners: list[tuple[float, float, float, float]] = []
    areas: list[float] = []
    for each in objects:
        box, area = each.box, each.area
        if each.shape is not None:
            _check_shape(path, each.shape, size)
            box = _measured("toBbox", path, each.shape, size) if box is None else box
            area = _measured("area", path, each.shape, size) if math.isnan(area) else area
        try:
            x, y, width, height = map(float, box)
        except (TypeError, ValueError):
            raise DataError(
                f"{path}: the bbox of annotation {each.key!r} is {box!r}, expected [x, y, width, height] in pixels."
            ) from None
        corners.append((x, y, x + width, y + height))
        areas.append(math.nan if area is None else float(area))
    boxes, empty = usable_boxes(
        corners, [each.label for each in objects], size, crowd=[each.crowd for each in objects], area=areas
    )
    if empty:
        dropped["boxes without area left out"] += empty
    return boxes


def _all_drawn(path: Path, objects: Sequence[Sequence[_Object]]) -> None:
    """Raise ``DataError`` unless all objects have a segmentation."""
    without = [each.key for drawing in objects for each in drawing if each.shape is None]
    if without:
        number = sum(map(len, objects))
        raise DataError(
            f"{path}: {len(without)} of {number} annotations have no segmentation, the first with id {without[0]!r}. "
            "Segmentation needs polygons or run lengths; boxes alone serve detection."
        )


def _drawing(path: Path, image: Path, said: tuple[int, int] | None, objects: Sequence[_Object]) -> _Drawing:
    from synreal.data.files.decoding import size_of

    size = said or size_of(image)
    drawn: list[tuple[int, _Shape]] = []
    for each in objects:
        if each.shape is not None:
            _check_shape(path, each.shape, size)
            drawn.append((each.label, each.shape))
    return _Drawing(size, tuple(drawn))


def _check_shape(path: Path, shape: _Shape, size: tuple[int, int]) -> None:
    """Raise ``DataError`` unless a segmentation fits the size of its image."""
    import numpy as np

    image = f"its image {size[1]} x {size[0]}"
    if shape.size is not None and shape.size != size:
        raise DataError(
            f"{path}: the segmentation of annotation {shape.key!r} has {shape.size[1]} x {shape.size[0]} pixels, "
            f"{image}. The annotations belong to other images, or the images were resized afterwards."
        )
    if shape.runs is not None and not isinstance(shape.runs, bytes):  # packed ones are checked when they are unpacked
        covered = int(shape.runs.sum(dtype=np.int64))
        if covered != math.prod(size):
            raise DataError(f"{path}: the run lengths of annotation {shape.key!r} make {covered} pixels, {image}.")
    reach = max((float(np.abs(ring).max()) for ring in shape.polygons), default=0.0)
    if reach > _FAR * max(size):
        raise DataError(
            f"{path}: a polygon of annotation {shape.key!r} reaches to {reach:g} pixels, {image}. Corners are pixels "
            "from the upper left corner."
        )
