"""What tests gave over the steps of runs: on held-out synthetic images, and on real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synreal.errors import ConfigError
from synreal.figures.base import FIGURES, Chart
from synreal.figures.page import plural, save_drawing, text_width
from synreal.figures.plots import SMALL, Space, label_ends, name_panel, new_plots
from synreal.figures.series import Style, styles_of
from synreal.measures import MEASURES
from synreal.records import History, Unit, with_unit
from synreal.records.history import SOURCE

_MOST_BANDS = 5  # methods beyond which bands hide one another


@dataclass(frozen=True)
class Line:
    """A method on one set of images over steps.

    Attributes:
        steps: Steps that had been made, ascending; T of them.
        values: One sequence of T values for each seed, in the unit of the axis; NaN where one is not defined.
    """

    steps: Sequence[int]
    values: Sequence[Sequence[float]]


@FIGURES.register
class Curves(Chart[Sequence[History]]):
    """Headlines over the steps of runs."""

    name = "curves"
    summary = "scores on held-out source and on targets over the steps of runs"
    needs: ClassVar[Literal["histories", "board"]] = "histories"

    def draw(self, numbers: Sequence[History], path: Path) -> Path:
        """Draw one panel for the held-out source and one for each target.

        Raises:
            ConfigError: If there is no history, or the path is of no drawing.
        """
        panels: dict[str, dict[str, Line]] = {}
        measures: dict[str, str] = {}
        for name in dict.fromkeys(name for one in numbers for name in one.sets):
            labels = dict.fromkeys(one.label for one in numbers if name in one.sets)
            heading, unit = _measure(numbers, name)
            measures[name] = with_unit(heading, unit)
            panels[name] = {label: _line(numbers, name, label, 100 if unit == "%" else 1) for label in labels}
        return save_drawing(history_curves(panels, measures), path)


def history_curves(
    panels: Mapping[str, Mapping[str, Line]],
    measures: Mapping[str, str],
    *,
    baseline: str = "none",
    title: str = "Scores over training",
) -> Figure:
    """Draw scores over steps: a panel for each set of images, in it a line for each method.

    A line is the mean over seeds, the band around it the range from the worst to the best seed. Steps at which a seed
    was not tested, or its score is not defined, leave a gap. Each panel has a scale of its own: a fall on real images
    shows beside a rise on synthetic ones however small it is.

    Args:
        panels: Lines by method, by set; the set ``"source"`` is called held-out source.
        measures: What the axis of each set says, with its unit, e.g. ``"mean-class %"``.
        baseline: The method that is drawn heavier.
        title: Heading.

    Returns:
        The figure: the page, then the panels.

    Raises:
        ConfigError: If there is nothing to draw, or a line has not as many values as steps.
    """
    if not panels or not all(panels.values()):
        raise ConfigError("Curves need a tested run at least; got none.")
    methods = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    methods.sort(key=lambda name: name != baseline)
    styles = styles_of(methods, baseline)
    seeds = {len(line.values) for lines in panels.values() for line in lines.values()}
    for name, lines in panels.items():
        for method, line in lines.items():
            if not line.steps or not line.values or any(len(one) != len(line.steps) for one in line.values):
                raise ConfigError(
                    f"{method} on {name}: {plural(len(line.steps), 'step')} and values of "
                    f"{', '.join(str(len(one)) for one in line.values) or 'no seed'}; expected one value a step."
                )
    widest = max(text_width(name, SMALL) for name in methods)
    facts = "One seed of each method."
    if max(seeds) > 1:
        number = f"{min(seeds)} to {max(seeds)}" if len(seeds) > 1 else str(max(seeds))
        facts = f"At each test the mean over {number} seeds; the band goes from the worst seed to the best."
        if len(methods) > _MOST_BANDS and baseline in methods:
            facts += f" Of {len(methods)} methods, {baseline} alone has a band."
    figure, axes = new_plots(
        len(panels),
        title=title,
        facts=facts,
        across=1,
        size=(3.1, 2.1),
        space=Space(left=0.6, right=0.35 + widest),
    )
    for one, (name, lines) in zip(axes, panels.items(), strict=True):
        shown = "held-out source (synthetic)" if name == SOURCE else f"{name} (real)"
        name_panel(one, shown, x="step", y=measures[name])
        ends = []
        for method in reversed(methods):  # the baseline last: it lies on top
            if method in lines:
                banded = method == baseline or len(methods) <= _MOST_BANDS
                ends.append((_draw_line(one, lines[method], styles[method], method, banded), method, styles[method]))
        one.set_xlim(left=0)
        one.margins(y=0.08)
        one.set_ylim(one.get_ylim())
        label_ends(one, [end for end in ends if np.isfinite(end[0])])
    return figure


def _draw_line(axes: Axes, line: Line, look: Style, name: str, banded: bool) -> float:
    """Draw a line and its band; return where its last defined point is."""
    values = np.asarray(line.values, np.float64)
    middle = values.mean(0)
    if banded and len(values) > 1:
        axes.fill_between(
            line.steps, values.min(0), values.max(0), color=look.colour, alpha=0.12, linewidth=0, label=f"_{name}"
        )
    axes.plot(
        line.steps,
        middle,
        color=look.colour,
        marker=look.marker,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle=look.dash,
        linewidth=look.width,
        label=name,
    )
    defined = middle[np.isfinite(middle)]
    return float(defined[-1]) if len(defined) else float("nan")


def _measure(histories: Sequence[History], name: str) -> tuple[str, Unit]:
    """Return heading and unit of a set's headline: of a finished run, else of the measure's own class."""
    tested = [one.sets[name] for one in histories if name in one.sets]
    for one in tested:
        if one.heading is not None and one.unit is not None:
            return one.heading, one.unit
    try:
        measure = MEASURES.get(tested[0].measure)
    except ConfigError:  # of a plugin that is not loaded
        return tested[0].measure, ""
    return measure.heading, measure.unit


def _line(histories: Sequence[History], name: str, label: str, factor: int) -> Line:
    """Join the seeds of a method; a step that some seed lacks has no mean."""
    seeds = [one.sets[name] for one in histories if one.label == label and name in one.sets]
    steps = sorted({step for one in seeds for step in one.steps})
    values = []
    for one in seeds:
        known = dict(zip(one.steps, one.values, strict=True))
        values.append([factor * known.get(step, float("nan")) for step in steps])
    return Line(steps, values)
