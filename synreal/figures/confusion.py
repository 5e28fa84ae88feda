"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from synreal.errors import ConfigError, DataError
from synreal.figures.base import FIGURES, Figure, Outcome
from synreal.figures.page import DARK, GREY, new_figure, save, shortened
from synreal.functional.confusion import class_iou, class_recall, share_right
from synreal.terminal import printable

_MOST_COUNTS = 20  # classes beyond which numbers no longer fit the cells
_MOST_TICKS = 60  # class names beyond which only some are written


@FIGURES.register
class Confusion(Figure):
    """The confusion matrix of the whole set."""

    name = "confusion"
    summary = "confusion matrix of the whole set"
    labels = ("classes", "masks")

    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw the score's confusion matrix.

        Raises:
            ConfigError: If no measure counted one.
        """
        score = outcome.score
        if score.confusion is None or score.counted is None:
            names = ", ".join(score.measures)
            raise ConfigError(f"The figure 'confusion' needs a confusion matrix, which none of {names} counts.")
        return confusion_matrix(score.confusion, outcome.classes, path, title=outcome.title, unit=score.counted)


def confusion_matrix(
    matrix: ArrayLike,
    classes: Sequence[str],
    path: str | Path,
    *,
    title: str = "Confusion matrix",
    unit: str = "images",
) -> Path:
    """Draw which classes are taken for which.

    A row's colours are its shares of 1. Up to 20 classes numbers stand in the cells: counts of images, or the
    percentage of the row's pixels.

    Args:
        matrix: Counts, integer (C, C); rows are the true classes, columns the predicted ones.
        classes: The C class names.
        path: PNG file to write; missing folders are made.
        title: Heading.
        unit: What was counted, e.g. ``"images"``. Pixels are summed up by mean IoU, others by accuracy.

    Returns:
        The path.

    Raises:
        ConfigError: If the path is not a PNG.
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
    figure = new_figure(side + 2.6, side + 1.9)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    ticks = range(0, number, -(-number // _MOST_TICKS))
    font = min(8.0, 0.75 * side * 72 / len(ticks))
    names = [shortened(printable(classes[i]), 18).replace("$", r"\$") for i in ticks]
    long = max(map(len, names)) > 3
    axes.set_xticks(ticks, names, size=font, rotation=90 if long else 0)
    axes.set_yticks(ticks, names, size=font)
    axes.tick_params(length=0, colors=DARK)
    axes.set_xlabel("predicted class", color=DARK, size=9)
    axes.set_ylabel("true class", color=DARK, size=9)
    matrix = torch.from_numpy(counts.astype(np.int64))
    accuracy = _share(share_right(matrix))
    if unit == "pixels":
        summary = f"mean IoU {_share(class_iou(matrix).nanmean())} · pixel accuracy {accuracy}"
    else:
        summary = f"accuracy {accuracy} · mean over classes {_share(class_recall(matrix).nanmean())}"
    axes.set_title(printable(title), size=11, weight="bold", color=DARK, loc="left", pad=20, parse_math=False)
    axes.annotate(
        f"{counts.sum():,} {unit} · {summary}",
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        size=8,
        color=GREY,
    )
    axes.spines[:].set_visible(False)
    if number <= _MOST_COUNTS:
        axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="minor", length=0)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else DARK if count else "#b8c2cc"
            text = f"{count}" if unit == "images" else _percent(count, totals[row, 0])
            size = 8 if len(text) < 5 else 6
            axes.text(column, row, text, size=size, color=colour, ha="center", va="center")
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class", color=DARK, size=8)
    bar.ax.tick_params(labelsize=8, length=0, colors=DARK)
    bar.outline.set_visible(False)
    return save(figure, path)


def _share(value: Tensor) -> str:
    return f"{float(value.nan_to_num()):.1%}"


def _percent(part: int, whole: int) -> str:
    if whole == 0:
        return "–"
    return "<1%" if 0 < part / whole < 0.005 else f"{part / whole:.0%}"
