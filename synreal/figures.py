"""Figures as PNG files, drawn through matplotlib's objects: no window, no global state."""

from __future__ import annotations

import functools
import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from synreal.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from synreal.data.sets import BoxedImages, Boxes, ImageSet, LabelledImages, SegmentedImages

_DPI = 130
_DARK, _GREY = "#1f2933", "#7b8794"
_RIGHT, _WRONG = "#2b8a3e", "#c92a2a"
_BACKGROUND, _WHITE = (43, 48, 54), (255, 255, 255)
_IGNORED = 255  # synreal.data.sets.IGNORE, which cannot be imported without torch; a test compares
_MOST_COUNTS = 20  # classes beyond which numbers no longer fit the cells
_MOST_TICKS = 60  # class names beyond which only some are written
_MOST_LOOKS = 2_000  # images opened in search of the wanted classes: a folder of photographs is slow
_MOST_LEGEND = 40  # classes beyond which a legend stops
# Lengths on a page, in inches.
_MARGIN = 0.2
_GAP = 0.06  # between pictures that belong together
_LEGEND_LINE = 0.2
_TEXT_HEIGHT = 0.11  # of a label in a picture, box around it included

_Pixels = NDArray[np.uint8]
_Items = dict[int, tuple[_Pixels, Any]]


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
        ConfigError: If there is nothing to show, or the path is no PNG.
    """
    _check_grid(rows, columns, lines)
    across = {heading: min(columns, len(data.classes)) if per_class else columns for heading, data in rows.items()}
    items: dict[str, _Items] = {}
    for heading, data in rows.items():
        wanted = _classes_to_show(len(data.classes), across[heading], lines, per_class=per_class)
        items[heading] = {place: (image, data.classes[label]) for place, (image, label) in _pick(data, wanted).items()}

    def draw(axes: Axes, cell: _Frame, image: _Pixels, name: str) -> None:
        _draw(axes, image, cell)
        x, y = cell.left + cell.width / 2, cell.top + cell.height + 0.03
        _write(axes, x, y, _shortened(name, 13), size=7.5, ha="center", va="top")

    return _sheet(path, rows, items, draw, across=across, lines=lines, cell=(0.8, 0.8), gap=0.1, caption=0.2)


def mask_sheet(rows: Mapping[str, SegmentedImages], path: str | Path, *, columns: int = 4, lines: int = 2) -> Path:
    """Show some images of each domain, each beside the classes of its pixels.

    The choice is fixed. Classes of one name get one colour in all domains; pixels that count nowhere are white.

    Args:
        rows: Images by the heading they get, e.g. the domain's name.
        path: PNG file to write; missing folders are made.
        columns: Pairs of image and mask side by side.
        lines: Lines of pairs for each heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is nothing to show, or the path is no PNG.
        DataError: If a mask fits neither its image nor the classes.
    """
    _check_grid(rows, columns, lines)
    names = _all_classes(rows)
    seen: set[int] = set()
    ignored = False
    items: dict[str, _Items] = {}
    for heading, data in rows.items():
        ids = [names.index(name) for name in data.classes]
        items[heading] = {}
        for place, index in enumerate(_spread(len(data), columns * lines)):
            image, mask = data[index]
            where = f"{data.name} ({data.split}), image {index}"
            classes = _class_ids(mask, image.shape[-2:], len(ids), where)
            seen |= {ids[label] for label in np.unique(classes) if label != _IGNORED}
            ignored |= bool((classes == _IGNORED).any())
            items[heading][place] = (_pixels(image), _coloured(classes, palette(len(names))[ids]))
    width, height = _picture_size(_images(items), side=1.3)

    def draw(axes: Axes, cell: _Frame, image: _Pixels, mask: _Pixels) -> None:
        left, right = _side_by_side(cell, 2)
        _draw(axes, image, left)
        _draw_mask(axes, mask, right)

    return _sheet(
        path,
        rows,
        items,
        draw,
        across=dict.fromkeys(rows, columns),
        lines=lines,
        cell=(2 * width + _GAP, height),
        gap=0.16,
        caption=0.1,
        legend=_legend_entries(seen, names, palette(len(names)), ignored=ignored),
    )


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
        ConfigError: If there is nothing to show, or the path is no PNG.
        DataError: If a label is outside the classes.
    """
    _check_grid(rows, columns, lines)
    names = _all_classes(rows)
    seen: set[int] = set()
    items: dict[str, _Items] = {}
    for heading, data in rows.items():
        items[heading] = {}
        for place, index in enumerate(_spread(len(data), columns * lines)):
            image, objects = data[index]
            marks = _true_marks(objects, data.classes, f"{data.name} ({data.split}), image {index}")
            marks = [replace(mark, label=names.index(data.classes[mark.label])) for mark in marks]
            seen |= {mark.label for mark in marks}
            items[heading][place] = (_pixels(image), marks)
    colours = _box_palette(len(names))

    def draw(axes: Axes, cell: _Frame, image: _Pixels, marks: Sequence[_Mark]) -> None:
        _draw_marks(axes, _draw(axes, image, cell), image.shape[1], marks, colours)

    return _sheet(
        path,
        rows,
        items,
        draw,
        across=dict.fromkeys(rows, columns),
        lines=lines,
        cell=_picture_size(_images(items), side=1.8),
        gap=0.1,
        caption=0.1,
        legend=_legend_entries(seen, names, colours),
    )


def class_panels(
    path: str | Path,
    images: Sequence[Tensor],
    labels: Sequence[int],
    predictions: Sequence[int],
    classes: Sequence[str],
    *,
    title: str,
) -> Path:
    """Show images with their class and the one that a network takes them for; mistakes are red.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        labels: True classes, in ``[0, len(classes))``.
        predictions: Predicted classes.
        classes: Class names.
        title: Heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is no PNG.
        DataError: If an image or a class is not as described.
    """
    _check_counts(images=images, labels=labels, predictions=predictions)
    pictures = [_pixels(image) for image in images]
    for kind, ids in (("Label", labels), ("Prediction", predictions)):
        for index, label in enumerate(ids):
            if not 0 <= label < len(classes):
                raise DataError(f"{kind} {label} of image {index}, expected 0..{len(classes) - 1}.")
    across = min(len(images), 4)
    lines = -(-len(images) // across)
    wide, high = _picture_size(pictures, side=1.6)
    gap, caption, top = 0.15, 0.3, 0.62
    width = _page_width(across * (wide + gap) - gap + 2 * _MARGIN, title)
    figure, axes = _page(width, top + lines * (high + caption) + 0.05)
    right = sum(label == prediction for label, prediction in zip(labels, predictions, strict=True))
    _head(axes, width, title, f"true → predicted class · {right} of {len(images)} right")
    for index, pair in enumerate(zip(labels, predictions, strict=True)):
        row, column = divmod(index, across)
        cell = _Frame(_MARGIN + column * (wide + gap), top + row * (high + caption), wide, high)
        frame = _draw(axes, pictures[index], cell)
        colour = _RIGHT if pair[0] == pair[1] else _WRONG
        axes.add_patch(_rectangle(frame, edgecolor=colour, fill=False, linewidth=2))
        text = " → ".join(classes[label] for label in pair)
        if _text_width(text, 8, bold=True) > wide:
            text = " → ".join(_fitting(classes[label], wide / 2 - 0.12, 8, bold=True) for label in pair)
        x, y = frame.left + frame.width / 2, frame.top + frame.height + 0.05
        _write(axes, x, y, text, size=8, weight="bold", color=colour, ha="center", va="top")
    return _save(figure, path)


def mask_panels(
    path: str | Path,
    images: Sequence[Tensor],
    truths: Sequence[Tensor],
    predictions: Sequence[Tensor],
    classes: Sequence[str],
    *,
    title: str,
) -> Path:
    """Show images beside the true and the predicted classes of their pixels.

    The legend names the classes that occur; pixels that count nowhere are white.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        truths: Class ids, integer (H, W) each; 255 counts nowhere.
        predictions: Class ids, integer (H, W) each.
        classes: Class names, 255 at most.
        title: Heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is no PNG.
        DataError: If an image or a mask is not as described.
    """
    _check_counts(images=images, truths=truths, predictions=predictions)
    pictures = [_pixels(image) for image in images]
    colours = palette(len(classes))
    seen: set[int] = set()
    masks: list[list[_Pixels]] = []
    for index, (picture, *pair) in enumerate(zip(pictures, truths, predictions, strict=True)):
        ids = [
            _class_ids(mask, picture.shape[:2], len(classes), f"{kind} of image {index}")
            for kind, mask in zip(("Truth", "Prediction"), pair, strict=True)
        ]
        seen.update(*(np.unique(mask).tolist() for mask in ids))
        masks.append([_coloured(mask, colours) for mask in ids])

    def draw(axes: Axes, index: int, cells: Sequence[_Frame]) -> None:
        _draw(axes, pictures[index], cells[0])
        for cell, mask in zip(cells[1:], masks[index], strict=True):
            _draw_mask(axes, mask, cell)

    return _panels(
        path,
        pictures,
        draw,
        side=1.7,
        title=title,
        facts=_plural(len(images), "image"),
        columns=("input", "ground truth", "prediction"),
        legend=_legend_entries(seen - {_IGNORED}, classes, colours, ignored=_IGNORED in seen),
    )


def box_panels(
    path: str | Path,
    images: Sequence[Tensor],
    truths: Sequence[Boxes],
    predictions: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    *,
    title: str,
    threshold: float = 0.5,
) -> Path:
    """Show images beside their true and their predicted boxes, with classes and scores.

    A label that would cover another one is left out; the colour tells the class. Crowds are dashed.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        truths: Objects of each image.
        predictions: ``boxes``, float (M, 4), as x0, y0, x1, y1 in pixels; ``labels``, integer (M,), indices into
            ``classes``; ``scores``, float (M,), in [0, 1].
        classes: Class names.
        title: Heading.
        threshold: Boxes of a lower score are not drawn.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is no PNG.
        DataError: If an image or a box is not as described.
    """
    _check_counts(images=images, truths=truths, predictions=predictions)
    pictures = [_pixels(image) for image in images]
    colours = _box_palette(len(classes))
    marks = [
        (
            _true_marks(truth, classes, f"Truth of image {index}"),
            _found_marks(found, classes, threshold, f"Prediction of image {index}"),
        )
        for index, (truth, found) in enumerate(zip(truths, predictions, strict=True))
    ]

    def draw(axes: Axes, index: int, cells: Sequence[_Frame]) -> None:
        picture = pictures[index]
        _draw(axes, picture, cells[0])
        for cell, some in zip(cells[1:], marks[index], strict=True):
            _draw_marks(axes, _draw(axes, picture, cell), picture.shape[1], some, colours)

    return _panels(
        path,
        pictures,
        draw,
        side=2.0,
        title=title,
        facts=" · ".join(
            (
                _plural(len(images), "image"),
                _plural(sum(len(truth) for truth, _ in marks), "object"),
                f"{_plural(sum(len(found) for _, found in marks), 'prediction')} with a score of {threshold:g} or more",
            )
        ),
        columns=("input", "ground truth", "prediction"),
        legend=_legend_entries({mark.label for pair in marks for some in pair for mark in some}, classes, colours),
    )


def confusion_matrix(
    matrix: ArrayLike,
    classes: Sequence[str],
    path: str | Path,
    *,
    title: str = "Confusion matrix",
    unit: Literal["images", "pixels"] = "images",
) -> Path:
    """Draw which classes are taken for which.

    A row's colours are its shares of 1. Up to 20 classes numbers stand in the cells: counts of images, or the
    percentage of the row's pixels.

    Args:
        matrix: Counts, integer (C, C); rows are the true classes, columns the predicted ones.
        classes: The C class names.
        path: PNG file to write; missing folders are made.
        title: Heading.
        unit: What was counted. Images are summed up by accuracy, pixels by mean IoU.

    Returns:
        The path.

    Raises:
        ConfigError: If the path is no PNG.
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
    accuracy = f"{np.trace(counts) / max(counts.sum(), 1):.1%}"
    summary = {
        "images": f"accuracy {accuracy} · mean over classes {_mean_recall(counts):.1%}",
        "pixels": f"mean IoU {_mean_iou(counts):.1%} · pixel accuracy {accuracy}",
    }[unit]
    axes.set_title(title, size=11, weight="bold", color=_DARK, loc="left", pad=20, parse_math=False)
    axes.annotate(
        f"{counts.sum():,} {unit} · {summary}",
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
            text = f"{count}" if unit == "images" else _percent(count, totals[row, 0])
            size = 8 if len(text) < 5 else 6
            axes.text(column, row, text, size=size, color=colour, ha="center", va="center")
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class", color=_DARK, size=8)
    bar.ax.tick_params(labelsize=8, length=0, colors=_DARK)
    bar.outline.set_visible(False)
    return _save(figure, path)


def palette(num_classes: int) -> NDArray[np.uint8]:
    """Return one colour for each class, far from one another and from white.

    Class 0, mostly the background, is dark grey; the next nine are matplotlib's ``tab10`` without its grey; each
    further one is the colour farthest in CIELAB from those before it. So the first colours do not depend on how many
    follow. They repeat from 1,000 on.

    Args:
        num_classes: C, 1 or more.

    Returns:
        sRGB, (C, 3).

    Raises:
        ConfigError: If there is no class.
    """
    if num_classes < 1:
        raise ConfigError(f"A palette needs a class at least; got num_classes={num_classes}.")
    return np.resize(_distinct_colours(min(num_classes, 1_000)), (num_classes, 3))


@functools.cache
def _distinct_colours(number: int) -> _Pixels:
    from skimage.color import rgb2lab

    def lab(colours: _Pixels) -> NDArray[np.float64]:
        return np.asarray(rgb2lab(colours[None] / 255.0)[0])

    axis = range(0, 256, 15)
    grid = np.array(list(itertools.product(axis, axis, axis)), np.uint8)
    lightness, *chroma = lab(grid).T
    grid = grid[(lightness > 40) & (lightness < 88) & (np.hypot(*chroma) > 30) & (np.hypot(*chroma) < 70)]
    tab10 = np.rint(np.array(matplotlib.color_sequences["tab10"]) * 255).astype(np.uint8)
    chosen = [np.array(_BACKGROUND, np.uint8), *np.delete(tab10, 7, axis=0)]
    places = lab(grid)

    def distances(colours: _Pixels) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(places[:, None] - lab(colours), axis=-1).min(1))

    nearest = distances(np.array([*chosen, _WHITE], np.uint8))
    while len(chosen) < number:
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, distances(chosen[-1][None]))
    return np.array(chosen[:number])


def _box_palette(num_classes: int) -> _Pixels:
    """Leave out the background's colour, so that classes look as in the masks beside a background class."""
    return palette(num_classes + 1)[1:]


@dataclass(frozen=True)
class _Frame:
    """A part of a page, in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def overlaps(self, other: _Frame) -> bool:
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )


@dataclass(frozen=True)
class _Mark:
    """A box (x0, y0, x1, y1 in pixels) with its class and what is written at it."""

    box: tuple[float, float, float, float]
    label: int
    text: str
    dashed: bool = False


@dataclass(frozen=True)
class _Entry:
    """A class in a legend, or words alone."""

    name: str
    colour: _Pixels | None


def _sheet(
    path: str | Path,
    rows: Mapping[str, ImageSet],
    items: Mapping[str, _Items],
    draw: Callable[[Axes, _Frame, _Pixels, Any], None],
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
    width = max(4.0, max(across.values()) * (cell[0] + gap) + 2 * _MARGIN - gap)
    keys = _legend_lines(legend, width - 2 * _MARGIN)
    figure, axes = _page(width, len(rows) * block + 0.15 + len(keys) * _LEGEND_LINE)
    for number, (heading, data) in enumerate(rows.items()):
        top = number * block + 0.1
        sizes = {image.shape[:2] for image, _ in items[heading].values()}
        size = " × ".join(str(n) for n in sizes.pop()) if len(sizes) == 1 else "various sizes"
        _write(axes, _MARGIN, top + 0.14, heading, size=11, weight="bold", va="center")
        _write(
            axes,
            width - _MARGIN,
            top + 0.14,
            f"{data.split} · {len(data):,} images · {len(data.classes)} classes · {size}",
            size=8,
            color=_GREY,
            va="center",
            ha="right",
        )
        for place, item in items[heading].items():
            row, column = divmod(place, across[heading])
            left, upper = _MARGIN + column * (cell[0] + gap), top + head - 0.1 + row * (cell[1] + caption)
            draw(axes, _Frame(left, upper, *cell), *item)
    _draw_legend(axes, keys, len(rows) * block + 0.1)
    return _save(figure, path)


def _panels(
    path: str | Path,
    pictures: Sequence[_Pixels],
    draw: Callable[[Axes, int, Sequence[_Frame]], None],
    *,
    side: float,
    title: str,
    facts: str,
    columns: Sequence[str],
    legend: Sequence[_Entry],
) -> Path:
    """Lay out a group of cells for each picture, two groups side by side."""
    cell = _picture_size(pictures, side)
    across = min(len(pictures), 2)
    lines = -(-len(pictures) // across)
    group = len(columns) * (cell[0] + _GAP) - _GAP
    apart = 0.3
    width = _page_width(across * (group + apart) - apart + 2 * _MARGIN, title)
    keys = _legend_lines(legend, width - 2 * _MARGIN)
    top = 0.88
    bottom = top + lines * (cell[1] + 0.12)
    figure, axes = _page(width, bottom + len(keys) * _LEGEND_LINE + 0.12)
    _head(axes, width, title, facts)
    for index in range(len(pictures)):
        row, column = divmod(index, across)
        frame = _Frame(_MARGIN + column * (group + apart), top + row * (cell[1] + 0.12), group, cell[1])
        cells = _side_by_side(frame, len(columns))
        if row == 0:
            for part, name in zip(cells, columns, strict=True):
                _write(axes, part.left + part.width / 2, top - 0.06, name, size=8.5, ha="center", va="bottom")
        draw(axes, index, cells)
    _draw_legend(axes, keys, bottom + 0.02)
    return _save(figure, path)


def _images(items: Mapping[str, _Items]) -> list[_Pixels]:
    return [image for some in items.values() for image, _ in some.values()]


def _side_by_side(frame: _Frame, number: int) -> list[_Frame]:
    width = (frame.width - (number - 1) * _GAP) / number
    return [_Frame(frame.left + i * (width + _GAP), frame.top, width, frame.height) for i in range(number)]


def _picture_size(pictures: Iterable[_Pixels], side: float) -> tuple[float, float]:
    """Return width and height of cells of area ``side``² that suit most of the pictures."""
    ratios = [picture.shape[1] / picture.shape[0] for picture in pictures]
    stretch = min(max(statistics.median(ratios), 0.5), 2.5) ** 0.5
    return side * stretch, side / stretch


def _page_width(needed: float, title: str) -> float:
    """Widen a page for its title, within reason."""
    return max(needed, min(_text_width(title, 11, bold=True) + 2 * _MARGIN + 0.05, 8.0))


def _head(axes: Axes, width: float, title: str, facts: str) -> None:
    _write(
        axes, _MARGIN, 0.22, _fitting(title, width - 2 * _MARGIN, 11, bold=True), size=11, weight="bold", va="center"
    )
    _write(axes, _MARGIN, 0.45, facts, size=8, color=_GREY, va="center")


def _draw(axes: Axes, pixels: _Pixels, cell: _Frame, *, exact: bool = False) -> _Frame:
    """Draw a picture as large as the cell allows, in its middle.

    Args:
        axes: The page.
        pixels: uint8, (H, W, 3).
        cell: Where it may lie.
        exact: Keep the colours: no mixing of neighbours.

    Returns:
        Where it lies.
    """
    height, width = pixels.shape[:2]
    scale = min(cell.width / width, cell.height / height)
    frame = _Frame(
        cell.left + (cell.width - width * scale) / 2,
        cell.top + (cell.height - height * scale) / 2,
        width * scale,
        height * scale,
    )
    # More than twice the dots of the page would cost time and memory only.
    most = [max(1, round(2 * _DPI * side)) for side in (frame.width, frame.height)]
    if width > most[0]:
        method = Image.Resampling.NEAREST if exact else Image.Resampling.BOX
        pixels = np.asarray(Image.fromarray(pixels).resize((most[0], most[1]), method))
    axes.imshow(
        pixels,
        extent=(frame.left, frame.left + frame.width, frame.top + frame.height, frame.top),
        interpolation="nearest" if exact else "antialiased",
        aspect="auto",
    )
    return frame


def _draw_mask(axes: Axes, mask: _Pixels, cell: _Frame) -> None:
    """Draw colours as they are, with a line around them: white ones would melt into the page."""
    frame = _draw(axes, mask, cell, exact=True)
    axes.add_patch(_rectangle(frame, edgecolor=_GREY, fill=False, linewidth=0.5))


def _draw_marks(axes: Axes, frame: _Frame, width: int, marks: Sequence[_Mark], colours: _Pixels) -> None:
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
        boxes.append(_Frame(x0, y0, x1 - x0, y1 - y0))
    # Large boxes first: small ones stay visible on top of them.
    for index in sorted(range(len(marks)), key=lambda i: -boxes[i].width * boxes[i].height):
        style = "dashed" if marks[index].dashed else "solid"
        colour = colours[marks[index].label] / 255
        axes.add_patch(_rectangle(boxes[index], edgecolor=_DARK, fill=False, linewidth=2.4))
        axes.add_patch(_rectangle(boxes[index], edgecolor=colour, fill=False, linewidth=1.3, linestyle=style))
    taken: list[_Frame] = []
    for mark, box in zip(marks, boxes, strict=True):
        text = _fitting(mark.text, frame.width - 0.07, 6)
        size = (_text_width(text, 6) + 0.07, _TEXT_HEIGHT)
        spots = _label_spots(box, size, frame)
        spot = next((spot for spot in spots if not any(spot.overlaps(other) for other in taken)), None)
        if spot is None:
            continue
        taken.append(spot)
        axes.add_patch(_rectangle(spot, facecolor=colours[mark.label] / 255, linewidth=0))
        ink = _ink(colours[mark.label])
        _write(axes, spot.left + 0.03, spot.top + 0.8 * spot.height, text, size=6, color=ink, va="baseline")


def _label_spots(box: _Frame, size: tuple[float, float], frame: _Frame) -> Iterable[_Frame]:
    """Yield where a box's label may lie: outside and inside each corner, within the picture."""
    wide, high = size
    for left in (box.left, box.left + box.width - wide):
        x = min(max(left, frame.left), frame.left + frame.width - wide)
        for y in (box.top - high, box.top, box.top + box.height, box.top + box.height - high):
            if frame.top <= y <= frame.top + frame.height - high:
                yield _Frame(x, y, wide, high)


def _true_marks(objects: Boxes, classes: Sequence[str], where: str) -> list[_Mark]:
    boxes, labels, crowd = (_array(values) for values in (objects.boxes, objects.labels, objects.crowd))
    _check_boxes(boxes, labels, len(classes), where)
    return [
        _Mark(tuple(box), label, classes[label], dashed)
        for box, label, dashed in zip(boxes.tolist(), labels.tolist(), crowd.tolist(), strict=True)
    ]


def _found_marks(found: Mapping[str, Tensor], classes: Sequence[str], threshold: float, where: str) -> list[_Mark]:
    """Keep what scores enough, the surest first."""
    boxes, labels, scores = (_array(found[key]) for key in ("boxes", "labels", "scores"))
    _check_boxes(boxes, labels, len(classes), where)
    if scores.shape != labels.shape:
        raise DataError(f"{where}: scores of shape {scores.shape} for {len(labels)} boxes.")
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= threshold]
    return [_Mark(tuple(boxes[i].tolist()), int(labels[i]), f"{classes[labels[i]]} {scores[i]:.2f}") for i in order]


def _check_boxes(boxes: NDArray[Any], labels: NDArray[Any], classes: int, where: str) -> None:
    if boxes.shape != (len(labels), 4):
        raise DataError(f"{where}: boxes of shape {boxes.shape} for {len(labels)} labels, expected (M, 4).")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{where}: labels span {labels.min()}..{labels.max()}, expected 0..{classes - 1}.")


def _class_ids(mask: Tensor, size: Sequence[int], classes: int, where: str) -> NDArray[np.int64]:
    ids = _array(mask)
    if classes > _IGNORED:
        raise DataError(f"{where}: {classes} classes, expected {_IGNORED} at most.")
    if ids.shape != tuple(size) or ids.dtype.kind not in "iu":
        raise DataError(f"{where}: mask of {ids.dtype} {ids.shape}, expected integers of shape {tuple(size)}.")
    strange = ids[(ids != _IGNORED) & ((ids < 0) | (ids >= classes))]
    if strange.size:
        raise DataError(f"{where}: mask holds {strange[0]}, expected 0..{classes - 1}, or {_IGNORED} for no class.")
    return ids.astype(np.int64)


def _coloured(ids: NDArray[np.int64], colours: _Pixels) -> _Pixels:
    """Return the colours (H, W, 3) of class ids (H, W)."""
    table = np.full((256, 3), _WHITE, np.uint8)
    table[: len(colours)] = colours
    return np.asarray(table[ids])


def _legend_entries(
    seen: Iterable[int], classes: Sequence[str], colours: _Pixels, *, ignored: bool = False
) -> list[_Entry]:
    """Name the classes that occur, in their order, and the colour of pixels that count nowhere."""
    known = sorted(seen)
    entries = [_Entry(_shortened(classes[label], 24), colours[label]) for label in known[:_MOST_LEGEND]]
    if len(known) > _MOST_LEGEND:
        entries.append(_Entry(f"and {len(known) - _MOST_LEGEND} more", None))
    if ignored:
        entries.append(_Entry("not counted", np.array(_WHITE, np.uint8)))
    return entries


def _legend_lines(entries: Sequence[_Entry], width: float) -> list[list[tuple[float, _Entry]]]:
    """Break a legend into lines; each entry with its distance from the left."""
    lines: list[list[tuple[float, _Entry]]] = []
    x = width
    for entry in entries:
        needed = 0.2 + _text_width(entry.name, 8)
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
                swatch = _Frame(_MARGIN + x, y - 0.06, 0.14, 0.12)
                axes.add_patch(_rectangle(swatch, facecolor=entry.colour / 255, edgecolor=_GREY, linewidth=0.5))
                x += 0.2
            _write(axes, _MARGIN + x, y, entry.name, size=8, va="center_baseline")


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
            found[places[label].pop(0)] = (_pixels(image), label)
        if len(found) == len(wanted):
            break
    return found


def _mean_recall(counts: NDArray[Any]) -> float:
    totals = counts.sum(1)
    seen = totals > 0
    return float((np.diag(counts)[seen] / totals[seen]).mean()) if seen.any() else 0.0


def _mean_iou(counts: NDArray[Any]) -> float:
    hits = np.diag(counts)
    unions = counts.sum(0) + counts.sum(1) - hits
    seen = unions > 0
    return float((hits[seen] / unions[seen]).mean()) if seen.any() else 0.0


def _percent(part: int, whole: int) -> str:
    if whole == 0:
        return "–"
    return "<1%" if 0 < part / whole < 0.005 else f"{part / whole:.0%}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _spread(number: int, wanted: int) -> list[int]:
    """Return indices in a fixed, shuffled order."""
    chosen: list[int] = np.random.default_rng(0).permutation(number)[:wanted].tolist()
    return chosen


def _all_classes(rows: Mapping[str, ImageSet]) -> list[str]:
    return list(dict.fromkeys(name for data in rows.values() for name in data.classes))


def _check_grid(rows: Mapping[str, Any], columns: int, lines: int) -> None:
    if not rows or columns < 1 or lines < 1:
        raise ConfigError(
            f"A contact sheet needs a data set, a column and a line at least; "
            f"got {len(rows)} data sets, columns={columns}, lines={lines}."
        )


def _check_counts(**given: Sequence[Any]) -> None:
    counts = {len(values) for values in given.values()}
    if len(counts) > 1 or 0 in counts:
        found = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise ConfigError(f"A figure of predictions needs an image at least and as many of each; got {found}.")


def _array(values: Tensor) -> NDArray[Any]:
    values = values.detach().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
    return array


def _pixels(image: Tensor) -> _Pixels:
    """Return an image (3, H, W) as (H, W, 3)."""
    array = _array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
        raise DataError(f"Image of {array.dtype} {array.shape}, expected uint8 (3, H, W).")
    pixels: _Pixels = array.transpose(1, 2, 0)
    return pixels


def _ink(colour: _Pixels) -> str:
    """Return what is readable on a colour."""
    return _DARK if colour @ (0.299, 0.587, 0.114) > 140 else "white"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _text_width(text: str, size: float, *, bold: bool = False) -> float:
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(TextToPath().get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def _fitting(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Shorten a text until it is no wider than ``width`` inches."""
    length = len(text)
    while length > 1 and _text_width(_shortened(text, length), size, bold=bold) > width:
        length -= 1
    return _shortened(text, length)


def _write(axes: Axes, x: float, y: float, text: str, *, color: str = _DARK, **options: Any) -> None:
    axes.text(x, y, text, color=color, parse_math=False, **options)


def _rectangle(frame: _Frame, **options: Any) -> Rectangle:
    return Rectangle((frame.left, frame.top), frame.width, frame.height, **options)


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty page, and what draws on it in inches from its upper left corner."""
    figure = _figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"Figures are written as PNG; got {path}. Let the name end in .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path
