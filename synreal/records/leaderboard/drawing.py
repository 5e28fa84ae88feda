"""Small drawings of a leaderboard, as SVG within the page; they tell the same without colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from synreal.records.html import Markup, h, joined, number
from synreal.records.leaderboard.board import Curve
from synreal.records.leaderboard.rows import Row
from synreal.records.leaderboard.texts import difference_text
from synreal.records.numbers import Unit

WIDTH: Final = 150
_HEIGHT: Final = 22
_MARGIN: Final = 8


class Scale(NamedTuple):
    """The differences that a table's drawings span, zero included."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Return where a difference lies, in pixels."""
        return round(_MARGIN + (WIDTH - 2 * _MARGIN) * (value - self.low) / (self.high - self.low), 1)


def scale_of(rows: Iterable[Row]) -> Scale | None:
    """Return a scale on which all differences of some rows lie; None if there are none."""
    ends = [end for row in rows if row.difference is not None for end in (*row.differences.values(), row.difference)]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    return Scale(low, high) if high > low else None


def interval(row: Row, scale: Scale) -> Markup:
    """Draw a difference: a dot at its mean, a bar over its interval, a tick at each seed, and a line at zero.

    The dot is full where all seeds agree on the direction.
    """
    if row.difference is None:
        return joined()
    middle = _HEIGHT / 2
    zero = scale.x(0)
    low, high = row.interval or (row.difference, row.difference)
    return h(
        "svg",
        h("line", class_="zero", x1=zero, x2=zero, y1=0, y2=_HEIGHT),
        h("line", class_="bar", x1=scale.x(low), x2=scale.x(high), y1=middle, y2=middle),
        *(
            h("line", class_="tick", x1=scale.x(value), x2=scale.x(value), y1=middle - 5, y2=middle + 5)
            for value in row.differences.values()
        ),
        h("circle", class_="dot", cx=scale.x(row.difference), cy=middle, r=4),
        class_=f"interval {row.verdict or 'mixed'}",
        viewBox=f"0 0 {WIDTH} {_HEIGHT}",
        width=WIDTH,
        height=_HEIGHT,
        role="img",
        aria_label=f"difference {difference_text(row)}",
    )


def axis(scale: Scale, unit: Unit) -> Markup:
    """Draw what the ends of a scale and its zero are, for the head of a column."""
    marks = [(0.0, "0")]
    for value in (scale.low, scale.high):
        if abs(scale.x(value) - scale.x(0)) > 30:
            marks.append((value, number(value, unit, signed=True)))
    return h(
        "svg",
        *(h("text", text, x=scale.x(value), y=10, text_anchor=_anchor(scale.x(value), WIDTH)) for value, text in marks),
        class_="axis",
        viewBox=f"0 0 {WIDTH} 12",
        width=WIDTH,
        height=12,
        aria_hidden="true",
    )


def _anchor(x: float, width: float) -> str:
    return "start" if x < width * 0.15 else "end" if x > width * 0.85 else "middle"


# --- curves ---

_SIZE: Final = (460, 230)
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 108, 14, 40


def curve(one: Curve, baseline: float | None, baseline_name: str) -> Markup:
    """Draw how a method depends on its weight: on the target, on held-out source, and in other styles."""
    series: dict[str, tuple[str, Callable[[Row], float | None]]] = {
        "target": ("target", lambda row: row.mean),
        "shifted": ("shifted", lambda row: row.shifted),
        "heldout": ("held-out", lambda row: row.heldout),
    }
    unit = one.points[0].row.unit
    values = {
        name: [(p.factor, value) for p in one.points if (value := of(p.row)) is not None]
        for name, (_, of) in series.items()
    }
    heights = [y for points in values.values() for _, y in points] + ([] if baseline is None else [baseline])
    factors = [point.factor for point in one.points]
    if not heights or min(factors) <= 0:
        return joined()
    x = _spread([math.log(value) for value in factors], _LEFT, _SIZE[0] - _RIGHT)
    y = _spread(heights, _SIZE[1] - _BOTTOM, _TOP)
    ends_at = {name: y(points[-1][1]) for name, points in values.items() if points}
    labels = _apart(ends_at | ({} if baseline is None else {"none": y(baseline)}))
    parts: list[Markup] = []
    ends = {"x1": _LEFT - 4, "x2": _SIZE[0] - _RIGHT + 4}
    for value in (min(heights), max(heights)):
        level = y(value)
        parts.append(h("text", number(value, unit), class_="scale", x=_LEFT - 10, y=level + 4, text_anchor="end"))
        parts.append(h("line", class_="grid", y1=level, y2=level, **ends))
    if baseline is not None:
        level = y(baseline)
        parts.append(h("line", class_="grid none", y1=level, y2=level, **ends))
        name = f"target, {baseline_name}"
        parts.append(h("text", name, class_="scale", x=_SIZE[0] - _RIGHT + 10, y=labels["none"] + 4))
    for factor in factors:
        parts.append(
            h("text", f"{factor:g}", class_="scale", x=x(math.log(factor)), y=_SIZE[1] - 22, text_anchor="middle")
        )
    middle = (_LEFT + _SIZE[0] - _RIGHT) / 2
    parts.append(h("text", "weight, x default", class_="scale", x=middle, y=_SIZE[1] - 5, text_anchor="middle"))
    for name, points in values.items():
        places = [(x(math.log(factor)), y(value)) for factor, value in points]
        if places:
            parts.append(h("path", class_=f"series {name}", d="M" + " L".join(f"{a:g} {b:g}" for a, b in places)))
            parts += [h("circle", class_=f"point {name}", cx=a, cy=b, r=3.5) for a, b in places]
            parts.append(h("text", series[name][0], class_=f"name {name}", x=places[-1][0] + 10, y=labels[name] + 4))
    return h(
        "svg",
        *parts,
        class_="curve",
        viewBox=f"0 0 {_SIZE[0]} {_SIZE[1]}",
        role="img",
        aria_label=f"{one.method} by its weight; the table beside it holds the numbers",
    )


def _spread(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    """Return the linear map that puts the least of some values at one place and the greatest at another."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return lambda value: round(first + (last - first) * (value - low) / span, 1)


def _apart(heights: Mapping[str, float], least: float = 14.0) -> dict[str, float]:
    """Move labels down until none covers another."""
    placed: dict[str, float] = {}
    below = -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        below = placed[name] = max(height, below + least)
    return placed
