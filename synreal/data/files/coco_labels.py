"""Labels of COCO's JSON: boxes, and masks that are drawn from polygons and run lengths."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synreal.data.files.coco_json import Object, Shape
from synreal.data.labels.boxes import Boxes
from synreal.data.labels.boxes import boxes_of as named_boxes
from synreal.errors import DataError

_LOOKED_AT: Final = 4  # images: drawing takes as long as decoding
_MOST_DRAWN: Final = 500_000_000  # pixels, summed over objects
_FAR: Final = 8  # corners of polygons farther out than this many sides of the image are a mistake, and slow to draw


def boxes_of(path: Path, size: tuple[int, int], objects: Sequence[Object], dropped: Counter[str]) -> Boxes:
    """Return the objects of an image of this height and width, and count those that are left out."""
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
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{path}: the bbox of annotation {each.key!r} is {box!r}, expected [x, y, width, height] in pixels."
            ) from None
        corners.append((x, y, x + width, y + height))
        areas.append(math.nan if area is None else float(area))
    boxes, lost = named_boxes(
        corners, [each.uses for each in objects], size, crowd=[each.crowd for each in objects], area=areas
    )
    dropped.update(lost)
    return boxes


def check_drawn(path: Path, objects: Sequence[Sequence[Object]]) -> None:
    """Raise ``DataError`` unless all objects have a segmentation."""
    without = [each.key for drawing in objects for each in drawing if each.shape is None]
    if without:
        number = sum(map(len, objects))
        raise DataError(
            f"{path}: {len(without)} of {number} annotations have no segmentation, the first with id {without[0]!r}. "
            "Masks are drawn from polygons or run lengths; boxes alone are read as boxes."
        )


class Drawing(NamedTuple):
    """What a mask is drawn from."""

    size: tuple[int, int]
    objects: tuple[tuple[int, Shape], ...]


def drawing_of(path: Path, size: tuple[int, int], objects: Sequence[Object], *, smaller: bool = False) -> Drawing:
    """Return what the mask of an image of this height and width is drawn from.

    Args:
        path: The JSON file, for messages.
        size: Height and width.
        objects: The objects of the image, in the order of the file.
        smaller: Whether smaller ones are drawn over larger ones; else later ones over earlier ones. What counts is the
            area of the segmentation: tools write other areas.
    """
    drawn: list[tuple[int, Shape]] = []
    for each in objects:
        if each.shape is not None:
            _check_shape(path, each.shape, size)
            drawn.append((each.uses[0][0], each.shape))
    if smaller:
        drawn.sort(key=lambda item: float(_measured("area", path, item[1], size) or 0), reverse=True)
    return Drawing(size, tuple(drawn))


def warn_of_hidden(path: Path, drawings: Sequence[Drawing]) -> None:
    """Warn of objects of which nothing is seen since others are drawn over them; looks at a few images."""
    hidden = number = looked = work = 0
    for drawing in drawings[:_LOOKED_AT]:
        work += math.prod(drawing.size) * len(drawing.objects)
        if work > _MOST_DRAWN:
            break
        looked += 1
        top = np.zeros(drawing.size, dtype=np.int64, order="F")
        for label, shape in drawing.objects:
            if (drawn := _measured("decode", path, shape, drawing.size)) is not None:
                np.copyto(top, label + 1, where=drawn.view(np.bool_))
        for label, shape in drawing.objects:  # drawn again: all of them at once may not fit into memory
            drawn = _measured("decode", path, shape, drawing.size)
            if drawn is not None and drawn.any():
                number += 1
                hidden += not (top[drawn.view(np.bool_)] == label + 1).any()
    if hidden:
        warnings.warn(
            f"{path}: of {number} objects in the first {looked} images, {hidden} are wholly covered by objects of "
            "other classes that come later in the file. overlap: smaller draws the smaller on top.",
            stacklevel=4,
        )


class Drawings:
    """Masks that are drawn from polygons and run lengths; see ``synreal.data.files.file_sets.MaskSource``.

    Args:
        path: The JSON file.
        drawings: What to draw on each image.
        background: Class of pixels without an object.
    """

    def __init__(self, path: Path, drawings: Sequence[Drawing], background: int) -> None:
        self.file = path
        self.drawings = list(drawings)
        self.background = background

    def read(self, index: int) -> NDArray[np.uint8]:
        """Draw a mask: classes, uint8 (H, W); later objects over earlier ones."""
        drawing = self.drawings[index]
        # Column by column, as COCO unpacks run lengths: twice as quick.
        mask = np.full(drawing.size, self.background, dtype=np.uint8, order="F")
        for label, shape in drawing.objects:
            drawn = _measured("decode", self.file, shape, drawing.size)
            if drawn is not None:
                np.copyto(mask, np.uint8(label), where=drawn.view(np.bool_))
        return np.ascontiguousarray(mask)

    def place(self, index: int) -> str:
        """Return the JSON file."""
        return f"drawn from {self.file}"

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

    def mask_file(self, index: int) -> None:
        """Return None: the JSON was read once."""

    def path(self, index: int) -> None:
        """Return None: it is drawn."""

    def fault(self, index: int) -> str:
        """Name what keeps a mask from being drawn."""
        return "bad label"


def _measured(what: str, path: Path, shape: Shape, size: tuple[int, int]) -> Any:
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


def _check_shape(path: Path, shape: Shape, size: tuple[int, int]) -> None:
    """Raise ``DataError`` unless a segmentation fits the size of its image."""
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
