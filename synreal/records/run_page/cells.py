"""Cells of a page's tables: values side by side, their difference, and bars that need no colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from synreal.records.html import Markup, h, number, scrolling
from synreal.records.numbers import Unit
from synreal.records.run_page.contents import Side

_SIGNS = {True: ("▲", "better", "better"), False: ("▼", "worse", "worse")}
_HEIGHT = 9  # of a bar, in pixels


def table(caption: str, first: str, sides: Sequence[Side], *bodies: Markup, bars: bool = False) -> Markup:
    """Make a table whose rows have a name, a bar if asked for, a value of each network, and their difference.

    Args:
        caption: What it is of.
        first: Heading of the rows' names.
        sides: The networks.
        bodies: Its rows, in bodies.
        bars: Whether rows have bars.
    """
    heads = [h("th", first, scope="col")]
    heads += [h("th", h("span", "bar", class_="unseen"), scope="col", class_="bars")] if bars else []
    heads += [h("th", side.title, scope="col", class_="number title") for side in sides]
    heads += [h("th", "difference", scope="col", class_="number")] if len(sides) > 1 else []
    made = h("table", h("caption", caption), h("thead", h("tr", *heads)), *bodies, class_="compared")
    return scrolling(made, caption)


def width(sides: Sequence[Side], *, bars: bool = False) -> int:
    """Return how many columns such a table has."""
    return 1 + bars + len(sides) + (len(sides) > 1)


def values(
    found: Sequence[float | None],
    unit: Unit,
    *,
    higher_is_better: bool | None = None,
    compares: bool = True,
    absent: str = "none",
    digits: int | None = None,
) -> list[Markup]:
    """Make the cells of one value of each network, and of the difference of the first to the second.

    Args:
        found: The values; None where there is none.
        unit: How they are written.
        higher_is_better: Which direction is marked as better; None marks none.
        compares: Whether a difference means anything.
        absent: What stands where there is no value.
        digits: As of ``value_text``.
    """
    cells = [
        h(
            "td",
            h("span", absent, class_="absent") if value is None else number(value, unit, digits=digits),
            class_="number",
        )
        for value in found
    ]
    if len(found) < 2:
        return cells
    first, second = found
    if first is None or second is None or not compares:
        return [*cells, h("td", h("span", "–", class_="absent"), class_="number")]
    difference = first - second
    text = number(difference, unit, signed=True, digits=digits)
    if higher_is_better is None or text.strip("+−0.") == "":
        return [*cells, h("td", text, class_="number")]
    sign, words, look = _SIGNS[(difference > 0) == higher_is_better]
    mark = h("span", sign, role="img", aria_label=words, title=words, class_=f"sign {look}")
    return [*cells, h("td", mark, " ", h("b", text), class_=f"number {look}")]


def digits_of(found: Iterable[float | None], unit: Unit) -> int | None:
    """Return how many digits values of a table need: shares of which all are below one percent need more."""
    return 3 if unit == "%" and all(abs(value) < 0.01 for value in found if value is not None) else None


def bar(found: Sequence[float | None], most: float) -> Markup:
    """Draw the values of a row as bars from zero: that of the first network full, the other one hollow.

    Args:
        found: The values.
        most: What the whole width stands for.
    """
    parts = []
    for place, value in enumerate(found):
        if value is not None:
            long = round(100 * min(max(value / most, 0.0), 1.0), 1) if most > 0 else 0.0
            look = "other" if place else "own"
            parts.append(h("rect", class_=look, x=0, y=1 + place * (_HEIGHT + 3), width=long, height=_HEIGHT))
    high = 2 + len(found) * (_HEIGHT + 3) - 3
    drawn = h(
        "svg",
        h("line", class_="zero", x1=0, x2=0, y1=0, y2=high),
        *parts,
        viewBox=f"0 0 100 {high}",
        height=high,
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return h("td", drawn, class_="bars")


def bars_legend(sides: Sequence[Side]) -> Markup | None:
    """Say which bar is whose, where there are two."""
    if len(sides) < 2:
        return None
    return h("p", "Bars: full ", h("b", sides[0].title), ", hollow ", h("b", sides[1].title), ".", class_="legend")
