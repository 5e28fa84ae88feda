"""Images of data sets beside the classes of their pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import SegmentedImages
from synreal.figures.base import FIGURES, Sheet
from synreal.figures.colours import palette
from synreal.figures.layout import Items, all_classes, check_grid, lay_sheet, legend_entries, pictures_of, spread
from synreal.figures.masks import class_ids, coloured, draw_mask
from synreal.figures.page import GAP, Frame, Pixels, as_pixels, draw_picture, picture_size, side_by_side


@FIGURES.register
class MaskSheet(Sheet):
    """Images beside the classes of their pixels."""

    name = "mask_sheet"
    summary = "images of data sets beside the classes of their pixels"
    labels = ("masks",)

    def draw(self, rows: Mapping[str, Any], path: Path) -> Path:
        """Draw two lines of images for each heading."""
        return mask_sheet(rows, path)


def mask_sheet(rows: Mapping[str, SegmentedImages], path: str | Path, *, columns: int = 4, lines: int = 2) -> Path:
    """Show some images of each domain, each beside the classes of its pixels.

    The choice is fixed. Classes of one name get one colour in all domains; ignored pixels are white.

    Args:
        rows: Images by the heading they get, e.g. the domain's name.
        path: PNG file to write; missing folders are made.
        columns: Pairs of image and mask side by side.
        lines: Lines of pairs for each heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is nothing to show, or the path is not a PNG.
        DataError: If a mask fits neither its image nor the classes.
    """
    check_grid(rows, columns, lines)
    names = all_classes(rows)
    seen: set[int] = set()
    ignored = False
    items: dict[str, Items] = {}
    for heading, data in rows.items():
        ids = [names.index(name) for name in data.classes]
        items[heading] = {}
        for place, index in enumerate(spread(len(data), columns * lines)):
            image, mask = data[index]
            where = f"{data.name} ({data.split}), image {index}"
            classes = class_ids(mask, image.shape[-2:], len(ids), where)
            seen |= {ids[label] for label in np.unique(classes) if label != IGNORE}
            ignored |= bool((classes == IGNORE).any())
            items[heading][place] = (as_pixels(image), coloured(classes, palette(len(names))[ids]))
    width, height = picture_size(pictures_of(items), side=1.3)

    def draw(axes: Axes, cell: Frame, image: Pixels, mask: Pixels) -> None:
        left, right = side_by_side(cell, 2)
        draw_picture(axes, image, left)
        draw_mask(axes, mask, right)

    return lay_sheet(
        path,
        rows,
        items,
        draw,
        across=dict.fromkeys(rows, columns),
        lines=lines,
        cell=(2 * width + GAP, height),
        gap=0.16,
        caption=0.1,
        legend=legend_entries(seen, names, palette(len(names)), ignored=ignored),
    )
