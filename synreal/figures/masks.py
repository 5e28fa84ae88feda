"""Classes of pixels as colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.errors import DataError
from synreal.figures.colours import WHITE
from synreal.figures.page import GREY, Frame, Pixels, as_array, draw_picture, rectangle


def class_ids(mask: Tensor, size: Sequence[int], classes: int, where: str) -> NDArray[np.int64]:
    """Return a mask (H, W) once it fits ``size`` and the number of classes; ``where`` begins an error's message."""
    ids = as_array(mask)
    if classes > IGNORE:
        raise DataError(f"{where}: {classes} classes, expected {IGNORE} at most.")
    if ids.shape != tuple(size) or ids.dtype.kind not in "iu":
        raise DataError(f"{where}: mask of {ids.dtype} {ids.shape}, expected integers of shape {tuple(size)}.")
    strange = ids[(ids != IGNORE) & ((ids < 0) | (ids >= classes))]
    if strange.size:
        raise DataError(f"{where}: mask holds {strange[0]}, expected 0..{classes - 1}, or {IGNORE} for no class.")
    return ids.astype(np.int64)


def coloured(ids: NDArray[np.int64], colours: Pixels) -> Pixels:
    """Return the colours (H, W, 3) of class ids (H, W)."""
    table = np.full((256, 3), WHITE, np.uint8)
    table[: len(colours)] = colours
    return np.asarray(table[ids])


def draw_mask(axes: Axes, mask: Pixels, cell: Frame) -> None:
    """Draw colours as they are, with a line around them: white ones would melt into the page."""
    frame = draw_picture(axes, mask, cell, exact=True)
    axes.add_patch(rectangle(frame, edgecolor=GREY, fill=False, linewidth=0.5))
