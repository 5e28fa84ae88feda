"""Whether a method helps where the frozen network beats the fine-tuned one: all pairs of data at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synreal.errors import ConfigError
from synreal.figures.base import FIGURES, Chart
from synreal.figures.page import DARK, GREY, fitting, plural, save_drawing
from synreal.figures.plots import Space, bar_frame, inches_of, name_panel, new_plots, place_labels, write_labels
from synreal.figures.series import COLOURS
from synreal.records.leaderboard import Board, Row, Section

_FROZEN = "oracle"  # the baseline whose backbone stays frozen
_MOST_PANELS = 12
_MOST_NAMED = 4  # pairs that are not drawn

Interval: TypeAlias = "tuple[float, float] | None"


@dataclass(frozen=True)
class Gain:
    """A method on one pair of data: differences of the headline, positive for better.

    Attributes:
        pair: What stands beside the point.
        method: The method.
        frozen: Frozen network minus fine-tuned one.
        gain: The method minus the fine-tuned network.
        frozen_interval: Of ``frozen``, over seeds; None for a single one.
        gain_interval: Of ``gain``, likewise.
    """

    pair: str
    method: str
    frozen: float
    gain: float
    frozen_interval: Interval = None
    gain_interval: Interval = None


@FIGURES.register
class Gains(Chart[Board]):
    """Gain of each method against what freezing would gain, over all pairs."""

    name = "gain"
    summary = "gain of methods over none against that of the frozen network, over all pairs"
    needs: ClassVar[Literal["histories", "board"]] = "board"

    def draw(self, numbers: Board, path: Path) -> Path:
        """Draw the last epochs of all methods at their default weights.

        Raises:
            ConfigError: If no pair has the baseline, the oracle and a method, units differ, or the path is of no
                drawing.
        """
        gains, left_out, unit = gains_of(numbers)
        return save_drawing(gain_scatter(gains, left_out, unit=unit, baseline=numbers.baseline), path)


def gain_scatter(
    gains: Sequence[Gain],
    left_out: Sequence[str] = (),
    *,
    unit: str = "points",
    baseline: str = "none",
    title: str = "When does a method help?",
) -> Figure:
    """Draw gains of methods over the fine-tuned network against what the frozen one gains: a panel for each method.

    A point is a pair of data. To its right of the upright line the frozen network is better on real images than the
    fine-tuned one: training destroyed something. Above the level line the method helps; above the dotted diagonal it is
    better than not training the backbone at all. Bars are intervals over seeds, and a hollow point is one whose gain's
    interval holds zero, or that has a single seed. Both differences take off the same runs of the baseline: what is
    chance in these moves a point along the diagonal, and must not be read as a relation.

    Args:
        gains: The points, in any order. Beyond 12 methods those are drawn that have most pairs.
        left_out: Pairs that could not be drawn; the page names them.
        unit: Of both axes.
        baseline: The fine-tuned network's name.
        title: Heading.

    Returns:
        The figure: the page, then a panel for each method, by name.

    Raises:
        ConfigError: If there is no point, or two of one method and pair.
    """
    if not gains:
        raise ConfigError("A figure of gains needs a method on a pair of data at least; got none.")
    if len({(one.pair, one.method) for one in gains}) < len(gains):
        raise ConfigError("Two gains are of one method and pair; expected one of each.")
    pairs = {method: sum(one.method == method for one in gains) for method in {one.method for one in gains}}
    chosen = sorted(sorted(pairs, key=lambda method: (-pairs[method], method))[:_MOST_PANELS])
    facts = (
        "A point is a pair of data, bars are 95 % bootstrap intervals over seeds; full where the gain's leaves zero "
        f"out. Right of 0 the frozen network beats {baseline}; above 0 the method does; above the dotted line the "
        f"method beats the frozen network. Both axes subtract the same runs of {baseline}: their chance moves points "
        "along that line."
    )
    if len(chosen) < len(pairs):
        facts += f" {plural(len(pairs) - len(chosen), 'method')} on fewer pairs not drawn."
    if left_out:
        named = [*left_out[:_MOST_NAMED], *[f"and {len(left_out) - _MOST_NAMED} more"] * (len(left_out) > _MOST_NAMED)]
        facts += f" Not drawn, for want of a frozen network or a method: {', '.join(named)}."
    figure, panels = new_plots(len(chosen), title=title, facts=facts, across=2, size=(2.4, 2.0), space=Space(top=0.36))
    limits = _limits([one for one in gains if one.method in chosen])
    x, y = (", ".join(filter(None, (text, unit))) for text in (f"frozen − {baseline}", f"gain over {baseline}"))
    for axes, method in zip(panels, chosen, strict=True):
        name_panel(axes, fitting(method, 2.4, 9, bold=True), x=x, y=y)
        _draw_panel(axes, [one for one in gains if one.method == method], limits)
    return figure


def gains_of(board: Board) -> tuple[list[Gain], list[str], str]:
    """Return the gains of all methods of a board at their last epochs, the pairs of which there are none, and the unit.

    Runs that saw something of the target are left out.

    Raises:
        ConfigError: If no pair has the baseline, the oracle and a method, or units differ.
    """
    parts = []
    left_out = []
    sections = [section for section in board.sections if section.rows[0].seen_of_target == "nothing"]
    for section in sections:
        runs = {row.method: row for row in section.rows if row.kind == "run" and row.difference is not None}
        frozen = runs.pop(_FROZEN, None)
        runs.pop(str(section.baseline), None)
        if frozen is None or not runs:
            left_out.append(section)
        else:
            parts.append((section, frozen, list(runs.values())))
    if not parts:
        raise ConfigError(
            f"No pair on the board has runs of {board.baseline}, of {_FROZEN} and of a method with the same seeds and "
            "protocol. A figure of gains needs all three: run them, or give more records."
        )
    if len(units := {frozen.unit for _, frozen, _ in parts}) > 1:
        raise ConfigError(
            f"Headlines of units {sorted(units)} do not share an axis: draw the pairs of each by themselves."
        )
    drawn = [section for section, _, _ in parts]
    names = [_pair_name(section, drawn) for section in drawn]
    gains = [_gain(name, row, frozen) for name, (_, frozen, rows) in zip(names, parts, strict=True) for row in rows]
    return gains, [_pair_name(section, sections) for section in left_out], "points" if units == {"%"} else ""


def _gain(pair: str, row: Row, frozen: Row) -> Gain:
    def points(of: Row) -> tuple[float, Interval]:
        factor = (100 if of.unit == "%" else 1) * (1 if of.higher_is_better else -1)
        assert of.difference is not None  # gains_of has looked
        if of.interval is None:
            return factor * of.difference, None
        low, high = sorted(factor * end for end in of.interval)
        return factor * of.difference, (low, high)

    gain, frozen_points = points(row), points(frozen)
    return Gain(pair, row.method, frozen_points[0], gain[0], frozen_points[1], gain[1])


def _pair_name(section: Section, among: Sequence[Section]) -> str:
    """Name a section by its pair, with the task or the protocol where others of the pair are there, too."""
    same = [one for one in among if one.pair == section.pair]
    name = section.pair.replace(" -> ", " → ")
    if len(same) == 1:
        return name
    if sum(one.task == section.task for one in same) == 1:
        return f"{name} ({section.task})"
    return f"{name} ({section.protocol.rpartition(', ')[2]})"


def _limits(gains: Sequence[Gain]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return what the axes of all panels span: all ends, and zero."""

    def span(values: list[float]) -> tuple[float, float]:
        low, high = min([0.0, *values]), max([0.0, *values])
        room = 0.08 * (high - low) or 1.0
        return low - room, high + room

    across = [end for one in gains for end in (one.frozen, *(one.frozen_interval or ()))]
    up = [end for one in gains for end in (one.gain, *(one.gain_interval or ()))]
    return span(across), span(up)


def _draw_panel(axes: Axes, gains: Sequence[Gain], limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.axhline(0, color=GREY, linewidth=1.0, label="_zero")
    axes.axvline(0, color=GREY, linewidth=1.0, label="_zero")
    ends = [min(limits[0][0], limits[1][0]), max(limits[0][1], limits[1][1])]
    axes.plot(ends, ends, color=GREY, linewidth=1.0, linestyle=(0, (1, 2)), label="_frozen", scalex=False, scaley=False)
    width, height = inches_of(axes)

    def inches(x: float, y: float) -> tuple[float, float]:
        return (
            (x - limits[0][0]) / (limits[0][1] - limits[0][0]) * width,
            (1 - (y - limits[1][0]) / (limits[1][1] - limits[1][0])) * height,
        )

    marks = []
    for one in gains:
        across, up = one.frozen_interval or (one.frozen,) * 2, one.gain_interval or (one.gain,) * 2
        axes.plot(across, [one.gain] * 2, color="#a9b3bd", linewidth=1.0, label="_frozen interval")
        axes.plot([one.frozen] * 2, up, color=COLOURS[0], linewidth=1.6, label="_gain interval")
        marks.append(bar_frame((inches(across[0], 0)[0], inches(across[1], 0)[0]), (inches(0, one.gain)[1],) * 2, 0.01))
        marks.append(bar_frame((inches(one.frozen, 0)[0],) * 2, (inches(0, up[0])[1], inches(0, up[1])[1]), 0.02))
        marks.append(bar_frame((inches(one.frozen, 0)[0],) * 2, (inches(0, one.gain)[1],) * 2))
    sure = [one for one in gains if one.gain_interval and (one.gain_interval[0] > 0 or one.gain_interval[1] < 0)]
    for some, face in ((sure, COLOURS[0]), ([one for one in gains if one not in sure], "white")):
        axes.scatter(
            [one.frozen for one in some],
            [one.gain for one in some],
            s=30,
            facecolor=face,
            edgecolor=COLOURS[0],
            linewidth=1.4,
            zorder=3,
            label="sure" if some is sure else "unsure",
        )
    labels = place_labels(
        [inches(one.frozen, one.gain) for one in gains], [one.pair for one in gains], (width, height), marks
    )
    write_labels(axes, labels, color=DARK)
