"""How pictures lie on a page: sheets of data, panels of predictions, and the legend beneath."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

from synreal.data.sets import ImageSet
from synreal.errors import ConfigError
from synreal.figures.colours import WHITE
from synreal.figures.page import (
    GAP,
    GREY,
    MARGIN,
    Frame,
    Pixels,
    draw_head,
    new_page,
    page_width,
    picture_size,
    rectangle,
    save,
    shortened,
    side_by_side,
    text_width,
    write,
)

_MOST_LEGEND = 40  # classes beyond which a legend stops
_LEGEND_LINE = 0.2  # inches

Items: TypeAlias = dict[int, tuple[Pixels, Any]]
"""Pictures and what is drawn with each, by place."""


@dataclass(frozen=True)
class _Entry:
    """A class in a legend, or words alone."""

    name: str
    colour: Pixels | None


def lay_sheet(
    path: str | Path,
    rows: Mapping[str, ImageSet],
    items: Mapping[str, Items],
    draw: Callable[[Axes, Frame, Pixels, Any], None],
    *,
    across: Mapping[str, int],
    lines: int,
    cell: tuple[float, float],
    gap: float,
    caption: float,
    legend: Sequence[_Entry] = (),
) -> Path:
    """Lay out the items of each row on lines beneath its heading."""
    head = 0.4
    block = head + lines * (cell[1] + caption)
    # The headings' two texts need about four inches.
    width = max(4.0, max(across.values()) * (cell[0] + gap) + 2 * MARGIN - gap)
    keys = _legend_lines(legend, width - 2 * MARGIN)
    figure, axes = new_page(width, len(rows) * block + 0.15 + len(keys) * _LEGEND_LINE)
    for number, (heading, data) in enumerate(rows.items()):
        top = number * block + 0.1
        sizes = {image.shape[:2] for image, _ in items[heading].values()}
        size = " × ".join(str(n) for n in sizes.pop()) if len(sizes) == 1 else "various sizes"
        write(axes, MARGIN, top + 0.14, heading, size=11, weight="bold", va="center")
        write(
            axes,
            width - MARGIN,
            top + 0.14,
            f"{data.split} · {len(data):,} images · {len(data.classes)} classes · {size}",
            size=8,
            color=GREY,
            va="center",
            ha="right",
        )
        for place, item in items[heading].items():
            row, column = divmod(place, across[heading])
            left, upper = MARGIN + column * (cell[0] + gap), top + head - 0.1 + row * (cell[1] + caption)
            draw(axes, Frame(left, upper, *cell), *item)
    _draw_legend(axes, keys, len(rows) * block + 0.1)
    return save(figure, path)


def lay_panels(
    path: str | Path,
    pictures: Sequence[Pixels],
    draw: Callable[[Axes, int, Sequence[Frame]], None],
    *,
    side: float,
    title: str,
    facts: str,
    columns: Sequence[str],
    legend: Sequence[_Entry],
) -> Path:
    """Lay out a group of cells for each picture, two groups side by side."""
    cell = picture_size(pictures, side)
    across = min(len(pictures), 2)
    lines = -(-len(pictures) // across)
    group = len(columns) * (cell[0] + GAP) - GAP
    apart = 0.3
    width = page_width(across * (group + apart) - apart + 2 * MARGIN, title)
    keys = _legend_lines(legend, width - 2 * MARGIN)
    top = 0.88
    bottom = top + lines * (cell[1] + 0.12)
    figure, axes = new_page(width, bottom + len(keys) * _LEGEND_LINE + 0.12)
    draw_head(axes, width, title, facts)
    for index in range(len(pictures)):
        row, column = divmod(index, across)
        frame = Frame(MARGIN + column * (group + apart), top + row * (cell[1] + 0.12), group, cell[1])
        cells = side_by_side(frame, len(columns))
        if row == 0:
            for part, name in zip(cells, columns, strict=True):
                write(axes, part.left + part.width / 2, top - 0.06, name, size=8.5, ha="center", va="bottom")
        draw(axes, index, cells)
    _draw_legend(axes, keys, bottom + 0.02)
    return save(figure, path)


def legend_entries(
    seen: Iterable[int], classes: Sequence[str], colours: Pixels, *, ignored: bool = False
) -> list[_Entry]:
    """Name the classes that occur, in their order, and the colour of ignored pixels."""
    known = sorted(seen)
    entries = [_Entry(shortened(classes[label], 24), colours[label]) for label in known[:_MOST_LEGEND]]
    if len(known) > _MOST_LEGEND:
        entries.append(_Entry(f"and {len(known) - _MOST_LEGEND} more", None))
    if ignored:
        entries.append(_Entry("not counted", np.array(WHITE, np.uint8)))
    return entries


def _legend_lines(entries: Sequence[_Entry], width: float) -> list[list[tuple[float, _Entry]]]:
    """Break a legend into lines; each entry with its distance from the left."""
    lines: list[list[tuple[float, _Entry]]] = []
    x = width
    for entry in entries:
        needed = 0.2 + text_width(entry.name, 8)
        if not lines or x + needed > width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, entry))
        x += needed + 0.16
    return lines


def _draw_legend(axes: Axes, lines: Sequence[Sequence[tuple[float, _Entry]]], top: float) -> None:
    for number, line in enumerate(lines):
        y = top + (number + 0.5) * _LEGEND_LINE
        for x, entry in line:
            if entry.colour is not None:
                swatch = Frame(MARGIN + x, y - 0.06, 0.14, 0.12)
                axes.add_patch(rectangle(swatch, facecolor=entry.colour / 255, edgecolor=GREY, linewidth=0.5))
                x += 0.2
            write(axes, MARGIN + x, y, entry.name, size=8, va="center_baseline")


def pictures_of(items: Mapping[str, Items]) -> list[Pixels]:
    """Return all pictures of a sheet."""
    return [image for some in items.values() for image, _ in some.values()]


def spread(number: int, wanted: int) -> list[int]:
    """Return indices in a fixed, shuffled order."""
    chosen: list[int] = np.random.default_rng(0).permutation(number)[:wanted].tolist()
    return chosen


def all_classes(rows: Mapping[str, ImageSet]) -> list[str]:
    """Return the class names of all data sets, each once."""
    return list(dict.fromkeys(name for data in rows.values() for name in data.classes))


def check_grid(rows: Mapping[str, Any], columns: int, lines: int) -> None:
    """Raise ``ConfigError`` unless there is something to show, and room for it."""
    if not rows or columns < 1 or lines < 1:
        raise ConfigError(
            f"A contact sheet needs a data set, a column and a line at least; "
            f"got {len(rows)} data sets, columns={columns}, lines={lines}."
        )
