"""Plots on a page: panels with axes beneath a heading, and texts beside what they name, none over another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from synreal.figures.page import DARK, GREY, MARGIN, Frame, draw_head, new_page, text_width, write
from synreal.figures.series import Style
from synreal.terminal import printable

GRID = "#dfe4ea"
SMALL = 8.0  # points: the least that is read on a phone
_LINE = 0.16  # inches, of text of that size
_HEIGHT = 0.13  # inches, of a label
END_ROOM = 0.06  # inches between the marker behind a line and its name


@dataclass(frozen=True)
class Space:
    """Room around the axes of a panel, in inches."""

    left: float = 0.55
    right: float = 0.15
    top: float = 0.32
    bottom: float = 0.48


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Break a text at its spaces into lines of at most ``width`` inches; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def new_plots(
    number: int,
    *,
    title: str,
    facts: str,
    across: int,
    size: tuple[float, float],
    space: Space = Space(),
    square: bool = False,
    legend: Sequence[tuple[str, Style]] = (),
) -> tuple[Figure, list[Axes]]:
    """Return a page with panels in rows, beneath a title and what there is to know.

    Args:
        number: How many panels.
        title: Heading of the page.
        facts: What is shown, and how to read it; broken into lines.
        across: Panels in a row, at most.
        size: Width and height of the axes of a panel, in inches.
        space: Around the axes, for their texts.
        square: Whether panels hold a drawing of their own, without ticks, as wide as high in its units.
        legend: What stands beneath the panels: names with their markers.

    Returns:
        The figure, whose first axes are the page in inches, and the axes of the panels.
    """
    across = min(number, across)
    cell = (size[0] + space.left + space.right, size[1] + space.top + space.bottom)
    width = max(across * cell[0] + 2 * MARGIN, 4.0)
    lines = wrapped(facts, width - 2 * MARGIN, SMALL)
    head = 0.42 + len(lines) * _LINE
    rows = -(-number // across)
    keys = list(_in_lines(legend, width - 2 * MARGIN))
    foot = head + rows * cell[1] + 0.05
    height = foot + 0.1 + (0.19 * (1 + keys[-1][1]) if keys else 0)
    figure, page = new_page(width, height)
    draw_head(page, width, title)
    for place, line in enumerate(lines):
        write(page, MARGIN, 0.46 + place * _LINE, line, size=SMALL, color=GREY, va="center")
    for left, row, name, look in keys:
        x, y = MARGIN + left, foot + 0.08 + row * 0.19
        page.plot([x + 0.06], [y], marker=look.marker, color=look.colour, markersize=5, linestyle="", label="_key")
        write(page, x + 0.16, y, name, size=SMALL, va="center")
    panels = []
    for place in range(number):
        row, column = divmod(place, across)
        left = MARGIN + column * cell[0] + space.left
        top = head + row * cell[1] + space.top
        axes = figure.add_axes((left / width, 1 - (top + size[1]) / height, size[0] / width, size[1] / height))
        panels.append(axes)
        if square:
            axes.set_axis_off()
            axes.set_aspect("equal")
        else:
            dress(axes)
    return figure, panels


def _in_lines(legend: Iterable[tuple[str, Style]], width: float) -> Iterator[tuple[float, int, str, Style]]:
    """Break a legend into lines: each entry with its distance from the left and its line."""
    x, line = 0.0, 0
    for name, look in legend:
        needed = 0.2 + text_width(name, SMALL)
        if x and x + needed > width:
            x, line = 0.0, line + 1
        yield x, line, name, look
        x += needed + 0.14


def dress(axes: Axes) -> None:
    """Give axes the look of all: no frame but two thin lines, a light grid, small texts."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=SMALL, colors=DARK, length=2.5, color=GREY)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def name_panel(axes: Axes, title: str, *, x: str = "", y: str = "") -> None:
    """Write what a panel is of, and what its axes are."""
    axes.set_title(printable(title), size=9, weight="bold", color=DARK, loc="left", pad=6, parse_math=False)
    axes.set_xlabel(printable(x), size=SMALL, color=DARK, parse_math=False)
    axes.set_ylabel(printable(y), size=SMALL, color=DARK, parse_math=False)


def inches_of(axes: Axes) -> tuple[float, float]:
    """Return width and height of axes in inches."""
    box = axes.get_position()
    width, height = axes.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    return float(box.width * width), float(box.height * height)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Style]]) -> None:
    """Name lines at the right edge of axes, in order of their ends, pushed apart where they would touch.

    The limits of the axes must be set before.

    Args:
        axes: The axes.
        ends: Of each line the height of its end in data, its name, and its look.
    """
    width, height = inches_of(axes)
    low, high = axes.get_ylim()
    wanted = sorted(((end - low) / (high - low) * height, name, look) for end, name, look in ends)
    places = apart([place for place, _, _ in wanted], _HEIGHT + 0.02, height)
    for place, (end, name, look) in zip(places, wanted, strict=True):
        axes.plot(
            [1, 1 + 0.14 / width],
            [end / height, place / height],
            transform=axes.transAxes,
            color=look.colour,
            linewidth=0.6,
            marker=look.marker,
            markersize=4,
            markevery=[1],
            clip_on=False,
            scalex=False,
            scaley=False,
            label="_leader",
        )
        axes.text(
            1 + (0.14 + END_ROOM) / width,
            place / height,
            printable(name),
            transform=axes.transAxes,
            size=SMALL,
            color=DARK,
            va="center",
            parse_math=False,
        )


def apart(places: Sequence[float], least: float, most: float) -> list[float]:
    """Move ascending places little, until neighbours are ``least`` apart; within [0, most] if they fit."""
    # Neighbours that touch form a block about the mean of where they want to be.
    blocks: list[list[float]] = []

    def start(block: Sequence[float]) -> float:
        middle = sum(block) / len(block) - least * (len(block) - 1) / 2
        return max(min(middle, most - least * (len(block) - 1)), 0.0)

    for place in places:
        blocks.append([place])
        while len(blocks) > 1 and start(blocks[-2]) + least * len(blocks[-2]) > start(blocks[-1]) + 1e-9:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [start(block) + least * i for block in blocks for i in range(len(block))]


@dataclass(frozen=True)
class Label:
    """A text beside a point of axes, where both lie in inches from the axes' upper left corner.

    Attributes:
        text: What is written.
        frame: Where.
        point: What it names.
    """

    text: str
    frame: Frame
    point: tuple[float, float]


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], size: tuple[float, float], marks: Iterable[Frame]
) -> list[Label]:
    """Find places for texts beside their points: within the axes, over no mark and no other text where there is room.

    Args:
        points: Where the points lie, in inches from the upper left corner of the axes.
        texts: Their names.
        size: Width and height of the axes in inches.
        marks: What should stay free, e.g. markers and the bars of intervals.
    """
    marks = list(marks)
    placed: list[Label] = []
    # Those at the edge have the least choice.
    order = sorted(range(len(points)), key=lambda i: -abs(points[i][0] - size[0] / 2))
    for index in order:
        spots = list(_spots(points[index], text_width(texts[index], SMALL) + 0.04, size))
        taken = [label.frame for label in placed]

        def cost(spot: tuple[float, Frame], taken: Sequence[Frame] = tuple(taken)) -> tuple[int, int, float]:
            away, frame = spot
            return sum(frame.overlaps(one) for one in taken), sum(frame.overlaps(one) for one in marks), away

        placed.append(Label(texts[index], min(spots, key=cost)[1], points[index]))
    return placed


def _spots(point: tuple[float, float], width: float, size: tuple[float, float]) -> Iterator[tuple[float, Frame]]:
    """Yield places for a text with their distances from its point, all within the axes if it fits there at all."""
    x, y = point
    for step in range(1, 14):
        away = 0.02 + 0.06 * step
        for left in (x + away, x - away - width, x - width / 2, x - width + 0.1, x - 0.1):
            for top in (y - _HEIGHT / 2, y - away - _HEIGHT, y + away):
                level = top == y - _HEIGHT / 2
                if level and x - width - 0.02 < left < x + 0.02:
                    continue  # it would lie on its own point
                held_left = min(max(left, 0.0), max(size[0] - width, 0.0))
                held_top = min(max(top, 0.0), size[1] - _HEIGHT)
                moved = abs(held_left - left) + abs(held_top - top)
                yield away + moved + (0 if level else 0.01), Frame(held_left, held_top, width, _HEIGHT)
    # Where points crowd, anywhere will do.
    for row in range(int((size[1] - _HEIGHT) / (_HEIGHT / 2)) + 1):
        for column in range(max(int((size[0] - width) / 0.2), 0) + 1):
            frame = Frame(column * 0.2, row * _HEIGHT / 2, width, _HEIGHT)
            yield 1 + abs(frame.left + width / 2 - x) + abs(frame.top + _HEIGHT / 2 - y), frame


def write_labels(axes: Axes, labels: Iterable[Label], *, color: str = DARK) -> None:
    """Write texts where they were placed; a thin line leads to one that lies away from its point."""
    width, height = inches_of(axes)
    for label in labels:
        frame, (x, y) = label.frame, label.point
        middle = frame.top + frame.height / 2
        nearest = (min(max(x, frame.left), frame.left + frame.width), min(max(y, frame.top), frame.top + frame.height))
        if abs(nearest[0] - x) + abs(nearest[1] - y) > 0.14:
            axes.plot(
                [x / width, nearest[0] / width],
                [1 - y / height, 1 - nearest[1] / height],
                transform=axes.transAxes,
                color=GREY,
                linewidth=0.5,
                scalex=False,
                scaley=False,
                label="_leader",
            )
        axes.text(
            (frame.left + 0.02) / width,
            1 - middle / height,
            printable(label.text),
            transform=axes.transAxes,
            size=SMALL,
            color=color,
            va="center",
            parse_math=False,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # readable over lines
        )


def bar_frame(x: tuple[float, float], y: tuple[float, float], thick: float = 0.05) -> Frame:
    """Return what a bar or a marker covers, from its ends in inches."""
    left, right = sorted(x)
    top, bottom = sorted(y)
    return Frame(left - thick, top - thick, right - left + 2 * thick, bottom - top + 2 * thick)
