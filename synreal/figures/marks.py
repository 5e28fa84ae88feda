"""Boxes over a picture, with labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from synreal.data.labels.boxes import Boxes
from synreal.errors import DataError
from synreal.figures.colours import ink_on
from synreal.figures.page import DARK, Frame, Pixels, as_array, fitting, rectangle, text_width, write

_IGNORED_GREY = 190
_TEXT_HEIGHT = 0.11  # of a label in a picture, box around it included; inches


@dataclass(frozen=True)
class Mark:
    """A box (x0, y0, x1, y1 in pixels) with its class and what is written at it; grey if it is of several classes."""

    box: tuple[float, float, float, float]
    label: int
    text: str
    dashed: bool = False
    grey: bool = False


def draw_marks(axes: Axes, frame: Frame, width: int, marks: Sequence[Mark], colours: Pixels) -> None:
    """Draw boxes over a picture; a label goes where it covers no other one, or is left out.

    Args:
        axes: The page.
        frame: Where the picture lies.
        width: Pixels from its left to its right.
        marks: The boxes; the first are the first to get their labels.
        colours: uint8, (C, 3).
    """
    scale = frame.width / width
    right, bottom = frame.left + frame.width, frame.top + frame.height
    boxes = []
    for mark in marks:
        x0, x1 = (min(max(frame.left + x * scale, frame.left), right) for x in mark.box[::2])
        y0, y1 = (min(max(frame.top + y * scale, frame.top), bottom) for y in mark.box[1::2])
        boxes.append(Frame(x0, y0, x1 - x0, y1 - y0))
    # Large boxes first: small ones stay visible on top of them.
    for index in sorted(range(len(marks)), key=lambda i: -boxes[i].width * boxes[i].height):
        style = "dashed" if marks[index].dashed else "solid"
        colour = _colour(marks[index], colours) / 255
        axes.add_patch(rectangle(boxes[index], edgecolor=DARK, fill=False, linewidth=2.4))
        axes.add_patch(rectangle(boxes[index], edgecolor=colour, fill=False, linewidth=1.3, linestyle=style))
    taken: list[Frame] = []
    for mark, box in zip(marks, boxes, strict=True):
        text = fitting(mark.text, frame.width - 0.07, 6)
        size = (text_width(text, 6) + 0.07, _TEXT_HEIGHT)
        spots = _label_spots(box, size, frame)
        spot = next((spot for spot in spots if not any(spot.overlaps(other) for other in taken)), None)
        if spot is None:
            continue
        taken.append(spot)
        under = _colour(mark, colours)
        axes.add_patch(rectangle(spot, facecolor=under / 255, linewidth=0))
        ink = ink_on(under)
        write(axes, spot.left + 0.03, spot.top + 0.8 * spot.height, text, size=6, color=ink, va="baseline")


def true_marks(objects: Boxes, classes: Sequence[str], where: str) -> list[Mark]:
    """Return the objects of an image, crowds dashed; ``where`` begins an error's message.

    A box that is a crowd of several classes is drawn once, as ignored.
    """
    boxes, labels, crowd = (as_array(values) for values in (objects.boxes, objects.labels, objects.crowd))
    _check_boxes(boxes, labels, len(classes), where)
    marks: list[Mark] = []
    crowds: dict[tuple[float, ...], int] = {}
    for box, label, dashed in zip(map(tuple, boxes.tolist()), labels.tolist(), crowd.tolist(), strict=True):
        place = crowds.setdefault(box, len(marks)) if dashed else len(marks)
        if place < len(marks):
            marks[place] = Mark(box, label, "ignored", dashed, grey=True)
        else:
            marks.append(Mark(box, label, classes[label], dashed))
    return marks


def found_marks(found: Mapping[str, Tensor], classes: Sequence[str], threshold: float, where: str) -> list[Mark]:
    """Keep what scores enough, the surest first."""
    boxes, labels, scores = (as_array(found[key]) for key in ("boxes", "labels", "scores"))
    _check_boxes(boxes, labels, len(classes), where)
    if scores.shape != labels.shape:
        raise DataError(f"{where}: scores of shape {scores.shape} for {len(labels)} boxes.")
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= threshold]
    return [Mark(tuple(boxes[i].tolist()), int(labels[i]), f"{classes[labels[i]]} {scores[i]:.2f}") for i in order]


def _colour(mark: Mark, colours: Pixels) -> Pixels:
    return np.full(3, _IGNORED_GREY, np.uint8) if mark.grey else colours[mark.label]


def _label_spots(box: Frame, size: tuple[float, float], frame: Frame) -> Iterable[Frame]:
    """Yield where a box's label may lie: outside and inside each corner, within the picture."""
    wide, high = size
    for left in (box.left, box.left + box.width - wide):
        x = min(max(left, frame.left), frame.left + frame.width - wide)
        for y in (box.top - high, box.top, box.top + box.height, box.top + box.height - high):
            if frame.top <= y <= frame.top + frame.height - high:
                yield Frame(x, y, wide, high)


def _check_boxes(boxes: NDArray[Any], labels: NDArray[Any], classes: int, where: str) -> None:
    if boxes.shape != (len(labels), 4):
        raise DataError(f"{where}: boxes of shape {boxes.shape} for {len(labels)} labels, expected (M, 4).")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{where}: labels span {labels.min()}..{labels.max()}, expected 0..{classes - 1}.")
