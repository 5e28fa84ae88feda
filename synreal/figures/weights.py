"""How a method depends on its weight, on held-out synthetic images and on real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from synreal.errors import ConfigError
from synreal.figures.base import FIGURES, Chart
from synreal.figures.page import DARK, GREY, fitting, save_drawing, text_width
from synreal.figures.plots import SMALL, Space, label_ends, name_panel, new_plots
from synreal.figures.series import COLOURS, Style
from synreal.records import with_unit
from synreal.records.leaderboard import Board, Section
from synreal.records.leaderboard.board import Curve

_REAL, _SYNTHETIC = COLOURS[0], COLOURS[1]


@dataclass(frozen=True)
class Sweep:
    """A method at several weights on one pair of data.

    Scores are in the unit of the axis; NaN where one is not known. W is the number of weights.

    Attributes:
        title: What is swept, e.g. ``"csg, cartoon -> photo"``.
        measure: What the axis says, with its unit.
        factors: Each weight over its default, W, ascending, above 0.
        target: Scores of each seed on real images, by weight: W sequences.
        heldout: Mean scores on held-out synthetic images, W.
        none: Mean scores of ``none`` on real and on held-out synthetic images; None where it was not run.
        chosen: Indices of the weights that a rule chose by synthetic images alone.
    """

    title: str
    measure: str
    factors: Sequence[float]
    target: Sequence[Sequence[float]]
    heldout: Sequence[float]
    none: tuple[float, float] | None = None
    chosen: Sequence[int] = ()


@FIGURES.register
class Weights(Chart[Board]):
    """Scores against the weight of a regularizer."""

    name = "weights"
    summary = "scores on held-out source and on the target against the weight of a regularizer"
    needs: ClassVar[Literal["histories", "board"]] = "board"

    def draw(self, numbers: Board, path: Path) -> Path:
        """Draw a panel for each curve of the board.

        Raises:
            ConfigError: If no method was run at several weights, or the path is of no drawing.
        """
        sweeps = [_sweep(section, curve) for section in numbers.sections for curve in section.curves]
        if not sweeps:
            raise ConfigError(
                "No curve of a weight is on the board: no method was run at two weights or more under one protocol. "
                "'weights: [0.1, 1, 10]' in a grid of 'synreal bench' runs several."
            )
        return save_drawing(weight_curves(sweeps, baseline=numbers.baseline), path)


def weight_curves(sweeps: Sequence[Sweep], *, baseline: str = "none", title: str = "What the weight does") -> Figure:
    """Draw scores against weights as multiples of the default, on a logarithmic axis: a panel for each sweep.

    Round markers and a full line: real images, mean over seeds, each seed a small tick. Squares and dashes: held-out
    synthetic images. Level lines, full and dashed, are the baseline's two scores; an upright line marks the default, a
    ring the weight that a rule chose without the target.

    Args:
        sweeps: What to draw.
        baseline: What ``none`` of a sweep is called.
        title: Heading.

    Returns:
        The figure: the page, then a panel for each sweep.

    Raises:
        ConfigError: If there is no sweep, or one has fewer than two weights, a weight of 0 or less, or not as many
            scores as weights.
    """
    if not sweeps:
        raise ConfigError("A curve over weights needs a sweep at least; got none.")
    for one in sweeps:
        number = len(one.factors)
        if number < 2 or {len(one.target), len(one.heldout)} != {number} or min(one.factors) <= 0:
            raise ConfigError(
                f"{one.title}: weights {', '.join(f'{factor:g}' for factor in one.factors) or 'none'} of the default, "
                f"with {len(one.target)} scores on real and {len(one.heldout)} on synthetic images. Expected two "
                "weights above 0 or more, and a score of each."
            )
    room = max(text_width(text, SMALL) for text in _names(baseline))
    figure, panels = new_plots(
        len(sweeps),
        title=title,
        facts="Real images: mean over seeds, each seed a tick. A ring: the weight that a rule chose by synthetic "
        "images alone.",
        across=1,
        size=(3.1, 2.1),
        space=Space(left=0.6, right=0.35 + room),
    )
    for axes, one in zip(panels, sweeps, strict=True):
        _draw_panel(axes, one, baseline)
    return figure


def _names(baseline: str) -> tuple[str, str, str, str]:
    return "real", "synthetic", f"{baseline}, real", f"{baseline}, synthetic"


def _draw_panel(axes: Axes, sweep: Sweep, baseline: str) -> None:
    name_panel(axes, fitting(sweep.title, 4.2, 9, bold=True), x="weight, times its default", y=sweep.measure)
    factors = np.asarray(sweep.factors, np.float64)
    means = [float(np.mean(values)) if len(values) else math.nan for values in sweep.target]
    real, synthetic, none_real, none_synthetic = _names(baseline)
    axes.set_xscale("log")
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)), label="default")
    ends = []
    if sweep.none is not None:
        for value, name, dash in zip(sweep.none, (none_real, none_synthetic), ("-", (0, (4, 2))), strict=True):
            if math.isfinite(value):
                axes.axhline(value, color=DARK, linewidth=1.0, linestyle=dash, label=name)
                ends.append((value, name, Style(DARK, "")))
    lines: tuple[tuple[Sequence[float], str, str, str, Any], ...] = (
        (sweep.heldout, synthetic, _SYNTHETIC, "s", (0, (4, 1.5))),
        (means, real, _REAL, "o", "-"),
    )
    for values, name, colour, marker, dash in lines:
        axes.plot(
            factors, values, color=colour, marker=marker, markersize=4.5, linestyle=dash, linewidth=1.6, label=name
        )
        defined = [value for value in values if math.isfinite(value)]
        if defined:
            ends.append((defined[-1], name, Style(colour, marker)))
    for factor, values in zip(factors, sweep.target, strict=True):
        if len(values) > 1:
            axes.plot(
                [factor] * len(values), values, marker="_", color=_REAL, markersize=6, linestyle="", label="_seeds"
            )
    chosen = [index for index in sweep.chosen if math.isfinite(means[index])]
    axes.plot(
        factors[chosen],
        [means[index] for index in chosen],
        marker="o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=DARK,
        markeredgewidth=1.1,
        linestyle="",
        label="chosen",
    )
    marks = sorted({*factors.tolist(), 1.0})
    axes.xaxis.set_major_locator(FixedLocator(_few(marks)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.08, y=0.1)
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    axes.annotate(
        "default", (1, 1), (2, -2), xycoords=("data", "axes fraction"), textcoords="offset points", size=SMALL,
        color=GREY, va="top",
    )  # fmt: skip
    label_ends(axes, ends)


def _few(marks: Sequence[float]) -> list[float]:
    """Leave out marks whose numbers would touch on a logarithmic axis; 1 stays."""
    span = math.log(marks[-1] / marks[0])
    kept = [1.0]
    for mark in marks:
        if all(abs(math.log(mark / other)) > 0.13 * span for other in kept):
            kept.append(mark)
    return sorted(kept)


def _sweep(section: Section, curve: Curve) -> Sweep:
    row = curve.points[0].row
    factor = 100.0 if row.unit == "%" else 1.0

    def number(value: float | None) -> float:
        return math.nan if value is None else factor * value

    base = next((one for one in section.rows if section.is_baseline(one)), None)
    points = [point for point in curve.points if point.factor > 0]  # 0 has no place on a logarithmic axis
    return Sweep(
        title=f"{curve.method}, {section.pair.replace(' -> ', ' → ')}",
        measure=with_unit(row.measure, row.unit),
        factors=[point.factor for point in points],
        target=[[number(value) for value in point.row.values] for point in points],
        heldout=[number(point.row.heldout) for point in points],
        none=None if base is None else (number(base.mean), number(base.heldout)),
        chosen=[index for index, point in enumerate(points) if point.chosen_by],
    )
