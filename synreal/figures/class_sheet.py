"""Images of data sets with their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from synreal.data.sets import LabelledImages
from synreal.figures.base import FIGURES, Sheet
from synreal.figures.layout import Items, check_grid, lay_sheet
from synreal.figures.page import Frame, Pixels, as_pixels, draw_picture, shortened, write

_MOST_LOOKS = 2_000  # images opened in search of the wanted classes: a folder of photographs is slow


@FIGURES.register
class ClassSheet(Sheet):
    """Images with their classes beneath them."""

    name = "class_sheet"
    summary = "images of data sets with their classes"
    labels = ("classes",)

    def draw(self, rows: Mapping[str, Any], path: Path) -> Path:
        """Draw two lines of images for each heading."""
        return contact_sheet(rows, path)


def contact_sheet(
    rows: Mapping[str, LabelledImages],
    path: str | Path,
    *,
    columns: int = 12,
    lines: int = 2,
    per_class: bool = False,
) -> Path:
    """Show some images of each domain, with their classes beneath them.

    The choice is fixed and spread over the classes in order: all of them appear where ``columns * lines``
    allows it and the data set holds them.

    Args:
        rows: Images by the heading they get, e.g. the domain's name.
        path: PNG file to write; missing folders are made.
        columns: Images side by side.
        lines: Lines of images for each heading.
        per_class: Give each column one class, examples of it below one another; no more columns than classes.

    Returns:
        The path.

    Raises:
        ConfigError: If there is nothing to show, or the path is not a PNG.
    """
    check_grid(rows, columns, lines)
    across = {heading: min(columns, len(data.classes)) if per_class else columns for heading, data in rows.items()}
    items: dict[str, Items] = {}
    for heading, data in rows.items():
        wanted = _classes_to_show(len(data.classes), across[heading], lines, per_class=per_class)
        items[heading] = {place: (image, data.classes[label]) for place, (image, label) in _pick(data, wanted).items()}

    def draw(axes: Axes, cell: Frame, image: Pixels, name: str) -> None:
        draw_picture(axes, image, cell)
        x, y = cell.left + cell.width / 2, cell.top + cell.height + 0.03
        write(axes, x, y, shortened(name, 13), size=7.5, ha="center", va="top")

    return lay_sheet(path, rows, items, draw, across=across, lines=lines, cell=(0.8, 0.8), gap=0.1, caption=0.2)


def _classes_to_show(number: int, across: int, lines: int, *, per_class: bool) -> list[int]:
    """Return the class of each place, line by line."""
    if per_class:
        return [place * number // across for place in range(across)] * lines
    return [place * number // (across * lines) for place in range(across * lines)]


def _pick(data: LabelledImages, wanted: Sequence[int]) -> dict[int, tuple[NDArray[np.uint8], int]]:
    """Search in a fixed, shuffled order for the class that each place wants.

    Returns:
        Image (H, W, 3) and label by place; a place whose class was not met is left out.
    """
    places: dict[int, list[int]] = {}
    for place, label in enumerate(wanted):
        places.setdefault(label, []).append(place)
    found: dict[int, tuple[NDArray[np.uint8], int]] = {}
    for index in np.random.default_rng(0).permutation(len(data))[:_MOST_LOOKS]:
        image, label = data[int(index)]
        if places.get(label):
            found[places[label].pop(0)] = (as_pixels(image), label)
        if len(found) == len(wanted):
            break
    return found
