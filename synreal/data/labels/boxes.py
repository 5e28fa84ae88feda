"""Boxes around objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from synreal.data.labels.base import LABELS, Counts, Geometry, LabelKind, Table, span_problem

FIELDS: Final = ("boxes", "labels", "crowd", "area")
"""The fields of ``Boxes``, in that order."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one image.

    Attributes:
        boxes: x0, y0, x1, y1 in pixels from the upper left corner, half-open (``x1 - x0`` is the width):
            float32, (M, 4); M may be 0.
        labels: Classes: int64, (M,).
        crowd: Whether a box stands for a group that nobody told apart (COCO's ``iscrowd``): bool, (M,).
        area: Pixels of the object's visible mask, or of the box where there is no mask: float32, (M,).
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    area: Tensor

    def chosen(self, kept: Tensor) -> Boxes:
        """Return some of the objects.

        Args:
            kept: Which ones: bool, (M,).
        """
        return Boxes(self.boxes[kept], self.labels[kept], self.crowd[kept], self.area[kept])


@LABELS.register
class Objects(LabelKind[Boxes]):
    """Boxes with classes around the objects of an image: see ``Boxes``."""

    name: ClassVar[str] = "boxes"
    summary: ClassVar[str] = "Boxes with classes around objects."
    unit: ClassVar[str] = "boxes"
    ignored: ClassVar[str] = "crowds"
    unlabelled: ClassVar[str | None] = "Without any object"

    def realign(self, label: Boxes, table: Table) -> Boxes:
        """Look classes up; boxes of classes that the source does not have are left out, and the image stays."""
        labels = torch.tensor([-1 if number is None else number for number in table])[label.labels]
        return replace(label, labels=labels).chosen(labels >= 0)

    def resize(self, label: Boxes, before: tuple[int, int], after: tuple[int, int]) -> Boxes:
        """Scale boxes and areas; no box leaves the image by rounding."""
        (height, width), (rows, columns) = before, after
        scale = torch.tensor([columns / width, rows / height] * 2)
        corners = (label.boxes * scale).clamp(max=torch.tensor([columns, rows] * 2))
        return replace(label, boxes=corners, area=label.area * scale[0] * scale[1])

    def transform(self, label: Boxes, geometry: Geometry) -> Boxes:
        """Move boxes; areas change as their boxes do, and boxes that have no area afterwards are left out."""
        before = BoundingBoxes(label.boxes, format=BoundingBoxFormat.XYXY, canvas_size=geometry.before)
        corners = geometry(before).as_subclass(Tensor)
        moved = replace(label, boxes=corners, area=label.area * _areas(corners) / _areas(label.boxes))
        return moved.chosen(((corners[:, 2:] - corners[:, :2]) > 0).all(1))

    def count(self, label: Boxes, classes: int) -> Counts:
        """Count boxes, crowds apart, and boxes with a side below one pixel; a crowd of several classes is one."""
        objects = label.chosen(~label.crowd)
        crowds = len(torch.unique(label.boxes[label.crowd], dim=0))
        small = ((objects.boxes[:, 2:] - objects.boxes[:, :2]) < 1).any(1)
        return Counts(np.bincount(objects.labels.numpy(), minlength=classes), crowds, int(small.sum()))

    def problem(self, label: Boxes, image_size: tuple[int, int] | None, classes: Sequence[str]) -> str | None:
        """Say what does not fit: fields to one another, classes, or boxes into the image."""
        count = len(label.labels)
        expected = {
            "boxes": (label.boxes, torch.float32, (count, 4)),
            "labels": (label.labels, torch.int64, (count,)),
            "crowd": (label.crowd, torch.bool, (count,)),
            "area": (label.area, torch.float32, (count,)),
        }
        for field, (given, dtype, shape) in expected.items():
            if given.dtype != dtype or given.shape != shape:
                return f"expected {field} as {dtype} of shape {shape}, got {given.dtype} {tuple(given.shape)}."
        span = span_problem(label.labels, classes)
        if span is not None or image_size is None:
            return span
        height, width = image_size
        x0, y0, x1, y1 = label.boxes.unbind(1)
        inside = (x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= width) & (y1 <= height)  # false for NaN
        if inside.all():
            return None
        wrong = label.boxes[~inside][0].tolist()
        return (
            f"the box {wrong} is empty or leaves the image, expected x0 < x1 within 0..{width} "
            f"and y0 < y1 within 0..{height}."
        )

    def teaches(self, counts: Counts) -> str | None:
        """Say that there is no object, that all are crowds, or that all are below a pixel."""
        total = int(counts.labels.sum())
        if not total:
            crowds = "all boxes stand for crowds (iscrowd, or names to ignore), which are not trained on"
            return crowds if counts.ignored else "there is no object"
        small = "every box has a side below one pixel, as where shares of width and height are read as pixels"
        return small if counts.small == total else None

    def digest(self, label: Boxes) -> bytes:
        """Return the fields, one after the other."""
        return b"".join(getattr(label, field).contiguous().numpy().tobytes() for field in FIELDS)

    def digests(self, labels: Iterable[Boxes]) -> Iterator[bytes]:
        """Return the number of objects of each image, then the objects."""
        # Each image's tensors hold as many rows as its boxes, and the counts come first: no two sets run together.
        given = list(labels)
        yield torch.tensor([len(label.boxes) for label in given]).numpy().tobytes()
        yield from map(self.digest, given)

    def encode(self, label: Boxes) -> dict[str, NDArray[Any]]:
        """Return the fields."""
        return {field: getattr(label, field).numpy() for field in FIELDS}

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> Boxes:
        """Make objects of the fields."""
        return Boxes(*(torch.from_numpy(arrays[field]) for field in FIELDS))


def _areas(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(1)


def boxes_of(
    corners: ArrayLike,
    uses: Sequence[Sequence[tuple[int, bool]]],
    size: tuple[int, int],
    *,
    crowd: Sequence[bool] | None = None,
    area: ArrayLike | None = None,
) -> tuple[Boxes, Counter[str]]:
    """Make boxes of objects that stand for none, one or several classes; see ``usable_boxes``.

    Args:
        corners: x0, y0, x1, y1 of each object.
        uses: Of each object the classes that it stands for, each with whether it is a crowd of that class: an object
            that is to be ignored is a crowd of all.
        size: Height and width of the image in pixels.
        crowd: Which objects are crowds of whatever they stand for.
        area: Pixels of each object's visible mask.

    Returns:
        The boxes, one for each object and class, and how many objects were left out, by why.
    """
    given = [index for index, use in enumerate(uses) if use]
    plain, lost = usable_boxes(
        np.asarray(corners, dtype=np.float64).reshape(len(uses), 4)[given],
        given,
        size,
        crowd=None if crowd is None else [crowd[index] for index in given],
        area=None if area is None else np.asarray(area, dtype=np.float64)[given],
    )
    rows = [(row, label, many) for row, index in enumerate(plain.labels.tolist()) for label, many in uses[index]]
    chosen = torch.tensor([row for row, _, _ in rows], dtype=torch.int64)
    labels = torch.tensor([label for _, label, _ in rows], dtype=torch.int64)
    crowds = torch.tensor([many for _, _, many in rows], dtype=torch.bool)
    return Boxes(plain.boxes[chosen], labels, plain.crowd[chosen] | crowds, plain.area[chosen]), lost


def usable_boxes(
    corners: ArrayLike,
    labels: Sequence[int] | NDArray[np.integer],
    size: tuple[int, int],
    *,
    crowd: Sequence[bool] | NDArray[np.bool_] | None = None,
    area: ArrayLike | None = None,
) -> tuple[Boxes, Counter[str]]:
    """Bring boxes as annotations give them to what a detector can learn from.

    Boxes are clipped to the image; those without area afterwards, or with a corner that is not finite, are left out.

    Args:
        corners: x0, y0, x1, y1 in pixels from the upper left corner, half-open: real, (M, 4); M may be 0.
        labels: Classes: M of them.
        size: Height and width of the image in pixels.
        crowd: Whether a box stands for a group that nobody told apart: M of them; none does if not given.
        area: Pixels of the object's visible mask: M of them; where not finite and positive, the area of the clipped
            box.

    Returns:
        The objects, and how many were left out, by why: those whose first corner is right of or below the second are
        told from those without area.
    """
    height, width = size
    raw = np.asarray(corners, dtype=np.float64).reshape(len(labels), 4)
    # Rounded to float32 before areas are looked at: a sliver may vanish in it.
    boxes = np.clip(raw, 0, [width, height, width, height]).astype(np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    kept = np.isfinite(raw).all(1) & (sides > 0).all(1)
    areas = sides.prod(1)
    if area is not None:
        with np.errstate(over="ignore"):
            said = np.asarray(area, dtype=np.float64).astype(np.float32)
        areas = np.where(np.isfinite(said) & (said > 0), said, areas)
    groups = np.zeros(len(labels), dtype=np.bool_) if crowd is None else np.asarray(crowd, dtype=np.bool_)
    objects = Boxes(
        torch.from_numpy(boxes[kept]),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)[kept]),
        torch.from_numpy(groups[kept]),
        torch.from_numpy(areas[kept]),
    )
    swapped = np.isfinite(raw).all(1) & (raw[:, 2:] < raw[:, :2]).any(1)
    counts = {
        "boxes without area left out": int((~kept & ~swapped).sum()),
        "boxes with swapped corners (width or height below 0) left out": int(swapped.sum()),
    }
    return objects, Counter({what: count for what, count in counts.items() if count})
