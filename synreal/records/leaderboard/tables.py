"""The tables of a leaderboard's page: ranked rows, rows that peek, curves over a weight, and what papers report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from synreal.records.html import Markup, h, joined, number, scrolling
from synreal.records.leaderboard import drawing
from synreal.records.leaderboard.board import Curve, Section, Shown
from synreal.records.leaderboard.rows import Row
from synreal.records.leaderboard.texts import (
    CHANGED_WORDS,
    better_text,
    chosen_text,
    kind_text,
    mean_text,
    ratio_text,
    seeds_text,
)
from synreal.records.numbers import with_unit


class _Column(NamedTuple):
    """A column: its heading, what a cell shows, what it sorts by, and how it looks."""

    heading: str
    cell: Callable[[Row], str]
    key: Callable[[Row], str | float | None]
    look: str = "number"


def _columns(rows: Sequence[Row], section: Section, scale: drawing.Scale | None) -> list[_Column]:
    """Return the columns of which something is known."""
    unit = rows[0].unit
    columns = [_Column(with_unit(rows[0].measure, unit), mean_cell, lambda row: row.mean)]
    if scale is not None:
        columns += [
            _Column(
                f"difference to {section.baseline}",
                lambda row: _difference_cell(row, scale),
                lambda row: row.difference,
                "wide",
            ),
            _Column("better in", better_text, lambda row: row.better),
        ]
    columns += [
        _Column("seeds", _seeds_cell, lambda row: len(row.seeds)),
        _Column(with_unit("held-out", unit), lambda row: number(row.heldout, row.unit), lambda row: row.heldout),
        _Column(with_unit("shifted", unit), lambda row: number(row.shifted, row.unit), lambda row: row.shifted),
        _Column("time ×", lambda row: ratio_text(row.time), lambda row: row.time),
        _Column("memory ×", lambda row: ratio_text(row.memory), lambda row: row.memory),
    ]
    return [column for column in columns if any(column.key(row) is not None for row in rows)]


def ranking(shown: Sequence[Shown], section: Section, *, caption: str, variants: Sequence[Row] = ()) -> Markup:
    """Make a table of rows that a reader can sort.

    Args:
        shown: The rows, best first.
        section: Theirs.
        caption: What they are.
        variants: Those of them that are hidden until a reader asks for them.
    """
    rows = [one.row for one in shown]
    scale = drawing.scale_of(rows)
    columns = _columns(rows, section, scale)
    heads = [_head("method", "text")]
    for place, column in enumerate(columns):
        axis = drawing.axis(scale, rows[0].unit) if scale is not None and column.look == "wide" else None
        heads.append(_head(column.heading, column.look, order="none" if place else "descending", under=axis))
    if not rows[0].higher_is_better:
        heads[1] = _head(columns[0].heading, columns[0].look, order="ascending")
    hidden = {id(row) for row in variants}
    body = [_row(one, columns, section, hidden=id(one.row) in hidden) for one in shown]
    table = h("table", h("caption", caption), h("thead", h("tr", *heads)), h("tbody", *body), class_="sortable")
    return scrolling(table, f"{caption}, {section.pair}")


def _head(heading: str, look: str, *, order: str = "none", under: Markup | None = None) -> Markup:
    return h("th", h("button", heading, type="button"), under, scope="col", class_=look, aria_sort=order)


def _row(one: Shown, columns: Sequence[_Column], section: Section, *, hidden: bool) -> Markup:
    row, about = one.row, kind_text(one.row, one.chosen_by)
    classes = [*(["baseline"] if section.is_baseline(row) else []), *(["variant"] if hidden else [])]
    return h(
        "tr",
        h("th", h("code", row.method), h("small", about) if about else None, scope="row", data_value=row.method),
        *(h("td", column.cell(row), class_=column.look, data_value=_key(column.key(row))) for column in columns),
        class_=" ".join(classes) or None,
        data_text=f"{row.method} {about} {row.kind}".lower(),
        hidden=hidden,
    )


def _key(key: str | float | None) -> str | None:
    return None if key is None else str(key)


def mean_cell(row: Row) -> Markup:
    """Show mean and standard deviation."""
    if row.mean is None or row.std is None:
        return h("b", mean_text(row))
    return joined(h("b", number(row.mean, row.unit)), h("small", f" ± {number(row.std, row.unit)}"))


def _seeds_cell(row: Row) -> str:
    said = [f"missing: {', '.join(map(str, row.missing))}"] if row.missing else []
    said += [f"not of one piece: {', '.join(map(str, row.changed))}. {CHANGED_WORDS}"] if row.changed else []
    return h("span", seeds_text(row), class_="incomplete", title="; ".join(said)) if said else seeds_text(row)


def _difference_cell(row: Row, scale: drawing.Scale) -> Markup:
    if row.difference is None:
        return joined()
    ends = [number(end, row.unit, signed=True) for end in row.interval or ()]
    texts = h(
        "span", h("b", number(row.difference, row.unit, signed=True)), h("small", " to ".join(ends)), class_="texts"
    )
    return h("span", texts, drawing.interval(row, scale), class_=f"difference {row.verdict or 'mixed'}")


def peeking(section: Section) -> Markup | None:
    """Make the table of rows that chose something by the target's labels, apart from those that did not."""
    if not section.peeking:
        return None
    return _unranked(
        "Peeks at the target",
        "The epoch or the weight of these rows was chosen by the target's own labels. They show what a perfect choice "
        "would have given, and are no result.",
        ranking([Shown(row, ()) for row in section.peeking], section, caption="Peeking, not ranked"),
        look="peeks",
    )


def _unranked(title: str, words: str, table: Markup, *, look: str) -> Markup:
    """Fold away a table of what does not compete."""
    return h(
        "details",
        h("summary", title, h("span", "not ranked", class_="tag")),
        h("p", words),
        table,
        class_=f"{look} apart",
    )


def by_weight(curve: Curve, section: Section) -> Markup:
    """Draw and tabulate how a method depends on its weight."""
    rows = [point.row for point in curve.points]
    unit = rows[0].unit
    baseline = next((row for row in section.ranked if section.is_baseline(row)), None)
    heads = ["weight, × default", "held-out", "shifted", with_unit(rows[0].measure, unit), "chosen"]
    body = []
    for point in curve.points:
        row = point.row
        cells = [number(row.heldout, unit), number(row.shifted, unit), mean_cell(row)]
        name = h("th", f"{point.factor:g}", scope="row", class_="number")
        body.append(
            h(
                "tr",
                name,
                *(h("td", cell, class_="number") for cell in cells),
                h("td", chosen_text(point), class_="words"),
            )
        )
    caption = f"{curve.method} by its weight"
    columns = [h("th", head, scope="col", class_=None if head == "chosen" else "number") for head in heads]
    table = h("table", h("caption", caption), h("thead", h("tr", *columns)), h("tbody", *body))
    return h(
        "details",
        h("summary", "How ", h("code", curve.method), " depends on its weight"),
        *(h("p", note) for note in curve.notes),
        h(
            "div",
            drawing.curve(curve, baseline.mean if baseline else None, section.baseline or ""),
            scrolling(table, caption),
            class_="curves",
        ),
    )


def published(rows: Sequence[Row]) -> Markup:
    """Make the table of what papers report on a pair."""
    heads = [
        _head("method", "text"),
        _head(with_unit(rows[0].measure, rows[0].unit), "number"),
        _head("over its source only", "number"),
        _head("paper", "text"),
    ]
    body = []
    for row in rows:
        over = number(row.difference, row.unit, signed=True)
        body.append(
            h(
                "tr",
                h("th", row.method, scope="row", data_value=row.method),
                h("td", mean_text(row), class_="number", data_value=_key(row.mean)),
                h("td", over, class_="number", data_value=_key(row.difference)),
                h("td", row.source, h("small", row.consists_of), class_="words", data_value=row.source),
                data_text=f"{row.method} paper".lower(),
            )
        )
    caption = "Published, not ranked"
    table = h("table", h("caption", caption), h("thead", h("tr", *heads)), h("tbody", *body), class_="sortable")
    return _unranked(
        "As papers report it",
        "Other networks, recipes and machines, and checkpoints chosen on the real validation set: not comparable with "
        "the rows above, nor from one of these protocols to another.",
        scrolling(table, caption),
        look="papers",
    )


def facts(section: Section) -> Markup:
    """Make the table of all that the runs of a section share."""
    rows = [
        h("tr", h("th", name, scope="row"), h("td", h("code", "null" if value is None else str(value))))
        for name, value in section.facts.items()
    ]
    table = h("table", h("caption", "All that runs of this protocol share"), h("tbody", *rows), class_="facts")
    return scrolling(table, "Protocol in full")
