"""Maps over images: rows of images, a column for each network, and one scale of colours for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from synreal.errors import ConfigError, DataError
from synreal.figures.page import (
    DARK,
    GAP,
    GREY,
    MARGIN,
    Frame,
    Pixels,
    as_array,
    as_pixels,
    draw_head,
    fitting,
    new_page,
    page_width,
    picture_size,
    write,
)
from synreal.figures.plots import SMALL, wrapped

Map = NDArray[np.float64]
"""One value for each position of a map, (h, w)."""

SHADES = matplotlib.colormaps["inferno"]
"""From dark to light in even steps, in greys and for each kind of colour blindness too."""

_LINE = 0.16


@dataclass(frozen=True)
class Scale:
    """What colours stand for: from ``low`` to ``high``, with marks and a text that says what they mean."""

    low: float
    high: float
    marks: tuple[float, ...]
    meaning: str

    def shades(self, values: Map) -> Pixels:
        """Return the colour of each value, uint8 (h, w, 3)."""
        parts = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        shades: Pixels = np.rint(np.asarray(SHADES(parts))[..., :3] * 255).astype(np.uint8)
        return shades


def checked(
    images: Sequence[Tensor], maps: dict[str, Sequence[Tensor]], what: str
) -> tuple[list[Pixels], list[list[Map]]]:
    """Return images as pixels, and the maps of each network as float64.

    Raises:
        ConfigError: If there is no image or no network, or not a map of each image.
        DataError: If an image or a map is not as described.
    """
    if not images or not maps:
        raise ConfigError(
            f"A figure of {what} needs an image and a network at least; got {len(images)} and {len(maps)}."
        )
    rows = []
    for name, ones in maps.items():
        if len(ones) != len(images):
            raise ConfigError(f"{name} has {len(ones)} maps of {what} for {len(images)} images; expected one of each.")
        arrays = [as_array(one).astype(np.float64) for one in ones]
        for index, array in enumerate(arrays):
            if array.ndim != 2 or array.size == 0 or not np.isfinite(array).all():
                raise DataError(f"{what.capitalize()} of {name}, image {index}: {array.shape}, expected finite (h, w).")
        rows.append(arrays)
    return [as_pixels(image) for image in images], rows


def lay_heat(
    pictures: Sequence[Pixels],
    columns: Sequence[str],
    draw: Callable[[Axes, int, int, Frame], None],
    *,
    title: str,
    facts: str,
    scale: Scale,
    caption: float,
    bar: Pixels | None = None,
) -> Figure:
    """Lay out a row for each picture and a cell for each column, with a bar of colours beneath.

    Args:
        pictures: One of each row, for the shape of the cells.
        columns: What stands above the columns.
        draw: Draws one cell: page, row, column, and where the cell lies.
        title: Heading.
        facts: What is shown; broken into lines.
        scale: What the colours stand for.
        caption: Room for a text beneath each cell, in inches.
        bar: The colours from the low to the high end of the scale as they are seen, uint8 (h, w, 3); by default those
            of the scale.
    """
    side = 1.35 if len(columns) <= 4 else 1.1
    wide, high = picture_size(pictures, side)
    width = max(page_width(len(columns) * (wide + GAP) - GAP + 2 * MARGIN, title), 4.4)
    lines = wrapped(facts, width - 2 * MARGIN, SMALL)
    names = [wrapped(name, wide, SMALL)[:2] for name in columns]
    top = 0.42 + _LINE * len(lines) + 0.06 + _LINE * max(map(len, names))
    bottom = top + len(pictures) * (high + caption)
    meaning = wrapped(scale.meaning, width - 2 * MARGIN, SMALL)
    figure, page = new_page(width, bottom + 0.5 + _LINE * len(meaning))
    draw_head(page, width, title)
    for place, line in enumerate(lines):
        write(page, MARGIN, 0.46 + place * _LINE, line, size=SMALL, color=GREY, va="center")
    for column, words in enumerate(names):
        middle = MARGIN + column * (wide + GAP) + wide / 2
        for place, word in enumerate(reversed(words)):
            text = fitting(word, wide, SMALL, bold=True)
            write(page, middle, top - 0.05 - place * _LINE, text, size=SMALL, weight="bold", ha="center", va="bottom")
        for row in range(len(pictures)):
            cell = Frame(MARGIN + column * (wide + GAP), top + row * (high + caption), wide, high)
            draw(page, row, column, cell)
    _draw_bar(page, Frame(MARGIN, bottom + 0.1, min(3.2, width - 2 * MARGIN), 0.12), scale, bar)
    for place, line in enumerate(meaning):
        write(page, MARGIN, bottom + 0.5 + place * _LINE, line, size=SMALL, va="center")
    return figure


def _draw_bar(page: Axes, frame: Frame, scale: Scale, bar: Pixels | None) -> None:
    steps = scale.shades(np.linspace(scale.low, scale.high, 256)[None]) if bar is None else bar
    page.imshow(
        steps,
        extent=(frame.left, frame.left + frame.width, frame.top + frame.height, frame.top),
        aspect="auto",
        interpolation="nearest",
        label="_bar",
    )
    for mark in scale.marks:
        x = frame.left + (mark - scale.low) / (scale.high - scale.low) * frame.width
        bottom = frame.top + frame.height
        page.plot([x, x], [bottom, bottom + 0.05], color=DARK, linewidth=0.8, label="_mark")
        write(page, x, bottom + 0.13, f"{mark:g}", size=SMALL, ha="center", va="center")
