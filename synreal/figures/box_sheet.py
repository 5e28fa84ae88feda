"""Images of data sets with the boxes around their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from synreal.data.sets import BoxedImages
from synreal.figures.base import FIGURES, Sheet
from synreal.figures.colours import box_palette
from synreal.figures.layout import Items, all_classes, check_grid, lay_sheet, legend_entries, pictures_of, spread
from synreal.figures.marks import Mark, draw_marks, true_marks
from synreal.figures.page import Frame, Pixels, as_pixels, draw_picture, picture_size


@FIGURES.register
class BoxSheet(Sheet):
    """Images with the boxes around their objects."""

    name = "box_sheet"
    summary = "images of data sets with the boxes around their objects"
    labels = ("boxes",)

    def draw(self, rows: Mapping[str, Any], path: Path) -> Path:
        """Draw two lines of images for each heading."""
        return box_sheet(rows, path)


def box_sheet(rows: Mapping[str, BoxedImages], path: str | Path, *, columns: int = 6, lines: int = 2) -> Path:
    """Show some images of each domain with their objects' boxes and classes.

    The choice is fixed. Classes of one name get one colour in all domains; boxes around crowds are dashed.

    Args:
        rows: Images by the heading they get, e.g. the domain's name.
        path: PNG file to write; missing folders are made.
        columns: Images side by side.
        lines: Lines of images for each heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is nothing to show, or the path is not a PNG.
        DataError: If a label is outside the classes.
    """
    check_grid(rows, columns, lines)
    names = all_classes(rows)
    seen: set[int] = set()
    items: dict[str, Items] = {}
    for heading, data in rows.items():
        items[heading] = {}
        for place, index in enumerate(spread(len(data), columns * lines)):
            image, objects = data[index]
            marks = true_marks(objects, data.classes, f"{data.name} ({data.split}), image {index}")
            marks = [replace(mark, label=names.index(data.classes[mark.label])) for mark in marks]
            seen |= {mark.label for mark in marks}
            items[heading][place] = (as_pixels(image), marks)
    colours = box_palette(len(names))

    def draw(axes: Axes, cell: Frame, image: Pixels, marks: Sequence[Mark]) -> None:
        draw_marks(axes, draw_picture(axes, image, cell), image.shape[1], marks, colours)

    return lay_sheet(
        path,
        rows,
        items,
        draw,
        across=dict.fromkeys(rows, columns),
        lines=lines,
        cell=picture_size(pictures_of(items), side=1.8),
        gap=0.1,
        caption=0.1,
        legend=legend_entries(seen, names, colours),
    )
