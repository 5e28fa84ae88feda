"""Figures as PNG files, drawn through matplotlib's objects: no window, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from synreal.errors import ConfigError, DataError

if TYPE_CHECKING:
    from synreal.tasks.data.base import LabelledImages

_DARK, _GREY = "#1f2933", "#7b8794"
_MOST_COUNTS = 20  # classes beyond which numbers no longer fit the cells
_MOST_TICKS = 60  # class names beyond which only some are written
_MOST_LOOKS = 2_000  # images opened in search of the wanted classes: a folder of photographs is slow


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
        ConfigError: If there is nothing to show.
    """
    if not rows or columns < 1 or lines < 1:
        raise ConfigError(
            f"A contact sheet needs a data set, a column and a line at least; "
            f"got {len(rows)} data sets, columns={columns}, lines={lines}."
        )
    cell, gap, head = 0.8, 0.1, 0.4  # inches
    caption = 0.2
    block = head + lines * (cell + caption)
    across = {heading: min(columns, len(data.classes)) if per_class else columns for heading, data in rows.items()}
    # The headings' two texts need about four inches.
    width, height = max(4.0, max(across.values()) * (cell + gap) + 0.3), len(rows) * block + 0.15
    figure = _figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    for number, (heading, data) in enumerate(rows.items()):
        wanted = _classes_to_show(len(data.classes), across[heading], lines, per_class=per_class)
        images = _pick(data, wanted)
        top = number * block + 0.1
        sizes = {image.shape[:2] for image, _ in images.values()}
        size = " × ".join(str(n) for n in sizes.pop()) if len(sizes) == 1 else "various sizes"
        axes.text(0.2, top + 0.14, heading, size=11, weight="bold", color=_DARK, va="center", parse_math=False)
        axes.text(
            width - 0.2,
            top + 0.14,
            f"{data.split} · {len(data):,} images · {len(data.classes)} classes · {size}",
            size=8,
            color=_GREY,
            va="center",
            ha="right",
            parse_math=False,
        )
        for place, (image, label) in images.items():
            left = 0.2 + place % across[heading] * (cell + gap)
            upper = top + head - 0.1 + place // across[heading] * (cell + caption)
            tall, wide = np.array(image.shape[:2]) / max(image.shape[:2]) * cell / 2
            x, y = left + cell / 2, upper + cell / 2
            axes.imshow(
                image,
                extent=(x - wide, x + wide, y + tall, y - tall),
                interpolation="antialiased",
                aspect="auto",
            )
            axes.text(
                x,
                upper + cell + 0.03,
                _shortened(data.classes[label], 13),
                size=7.5,
                color=_DARK,
                ha="center",
                va="top",
                parse_math=False,
            )
    axes.set(xlim=(0, width), ylim=(height, 0))
    return _save(figure, path)


def confusion_matrix(
    matrix: ArrayLike, classes: Sequence[str], path: str | Path, *, title: str = "Confusion matrix"
) -> Path:
    """Draw which classes are taken for which.

    A row's colours are its shares of 1; up to 20 classes the counts stand in the cells.

    Args:
        matrix: Counts, integer (C, C); rows are the true classes, columns the predicted ones.
        classes: The C class names.
        path: PNG file to write; missing folders are made.
        title: Heading.

    Returns:
        The path.

    Raises:
        DataError: If the matrix holds no counts or does not fit the classes.
    """
    counts = np.asarray(matrix)
    number = len(classes)
    if counts.shape != (number, number) or number == 0:
        raise DataError(f"Confusion matrix of {counts.shape} for {number} classes, expected ({number}, {number}).")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise DataError(
            f"Confusion matrix of {counts.dtype} with least value {counts.min()}, expected counts: integers, 0 or more."
        )
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)

    side = min(max(0.46 * number, 3.0), 11.0)
    figure = _figure(side + 2.6, side + 1.9)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    ticks = range(0, number, -(-number // _MOST_TICKS))
    font = min(8.0, 0.75 * side * 72 / len(ticks))
    names = [_shortened(classes[i], 18).replace("$", r"\$") for i in ticks]
    long = max(map(len, names)) > 3
    axes.set_xticks(ticks, names, size=font, rotation=90 if long else 0)
    axes.set_yticks(ticks, names, size=font)
    axes.tick_params(length=0, colors=_DARK)
    axes.set_xlabel("predicted class", color=_DARK, size=9)
    axes.set_ylabel("true class", color=_DARK, size=9)
    accuracy = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(title, size=11, weight="bold", color=_DARK, loc="left", pad=20, parse_math=False)
    axes.annotate(
        f"{counts.sum():,} images · accuracy {accuracy:.1%} · mean over classes {_mean_recall(counts):.1%}",
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        size=8,
        color=_GREY,
    )
    axes.spines[:].set_visible(False)
    if number <= _MOST_COUNTS:
        axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else _DARK if count else "#b8c2cc"
            size = 8 if count < 10_000 else 6
            axes.text(column, row, f"{count}", size=size, color=colour, ha="center", va="center")
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class", color=_DARK, size=8)
    bar.ax.tick_params(labelsize=8, length=0, colors=_DARK)
    bar.outline.set_visible(False)
    return _save(figure, path)


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
            found[places[label].pop(0)] = (image.permute(1, 2, 0).numpy(), label)
        if len(found) == len(wanted):
            break
    return found


def _mean_recall(counts: NDArray[Any]) -> float:
    totals = counts.sum(1)
    seen = totals > 0
    return float((np.diag(counts)[seen] / totals[seen]).mean()) if seen.any() else 0.0


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), dpi=130, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path
