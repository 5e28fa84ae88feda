"""The scores of a page: of each set of images, and of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from synreal.records.html import Markup, h, joined, number
from synreal.records.numbers import with_unit
from synreal.records.record import Score
from synreal.records.run_page import cells
from synreal.records.run_page.contents import Contents, SetContents, Side


class _Group(NamedTuple):
    """Tests that stand together.

    Attributes:
        heading: What was tested, or how the network or the images were changed for it.
        words: More of that, in words.
        by_measure: Whether rows are the measures of one test; else they are tests, with the headline of each.
    """

    heading: str
    words: str
    by_measure: bool


_Scores: TypeAlias = Mapping[_Group, Mapping[str, Score]]
"""The scores of each group, by the name of the test."""


def scores(contents: Contents) -> Markup:
    """Make the table of what each test gave."""
    found = [_all(side, place, contents) for place, side in enumerate(contents.sides)]
    groups = list(dict.fromkeys(group for one in found for group in one))
    if not groups:
        return h("section", h("h2", "Scores"), h("p", "No prediction could be compared with a label."), id="scores")
    bodies = [_body(group, [one.get(group, {}) for one in found], contents.sides) for group in groups]
    return h(
        "section",
        h("h2", "Scores"),
        cells.table("Scores", "tested on", contents.sides, *bodies),
        _legend(contents),
        id="scores",
    )


def _all(side: Side, place: int, contents: Contents) -> _Scores:
    record = side.scored
    tested = {} if record is None else {"source": record.source_heldout, **record.targets}
    tested |= {one.name: score for one in contents.sets if (score := one.scores[place]) is not None}
    found: dict[_Group, dict[str, Score]] = {}
    for name, score in tested.items():
        found[_Group(score.data, f"{_kind(name)}, {score.images:,} images", True)] = {name: score}
    if record is None:
        return found
    if record.shifted:
        group = _Group(f"{record.source_heldout.data} in other styles", "held out; not trained on", False)
        found[group] = dict(record.shifted)
    for average, of_sets in record.averaged.items():
        group = _Group(f"averaged weights, {average}", "of one run", False)
        found[group] = {f"{score.data}, {_kind(name)}": score for name, score in of_sets.items()}
    return found


def _kind(name: str) -> str:
    return "synthetic, held out" if name == "source" else "real"


def _body(group: _Group, found: Sequence[Mapping[str, Score]], sides: Sequence[Side]) -> Markup:
    tests = list(dict.fromkeys(name for one in found for name in one))
    same = all(len({one[name].fingerprint for one in found if name in one}) == 1 for name in tests)
    head = h("th", group.heading, h("small", group.words), scope="rowgroup", colspan=cells.width(sides))
    rows = []
    for test in tests:
        each = [one.get(test) for one in found]
        about = next(score for score in each if score is not None)
        for name in about.measures if group.by_measure else [about.headline_name]:
            values = [None if score is None else score.measures.get(name) for score in each]
            unit, higher = about.units[name], about.higher_is_better[name]
            heading, part = with_unit(about.headings[name], unit), about.parts.get(name)
            title, words = (heading, part) if group.by_measure else (test, heading)
            row = h("th", title, h("small", words) if words else None, scope="row")
            rows.append(h("tr", row, *cells.values(values, unit, higher_is_better=higher, compares=same)))
    other = None
    if not same:
        other = h("tr", h("td", "These were other images: they do not compare.", colspan=cells.width(sides)))
    return h("tbody", h("tr", head, class_="group"), *rows, other)


def _legend(contents: Contents) -> Markup:
    said: list[str] = []
    records = [side.record for side in contents.sides if side.record is not None]
    if records and records[0].protocol.chance is not None:
        said.append(f"Guessing gives {number(records[0].protocol.chance, '%')} %. ")
    if len(contents.sides) > 1:
        said.append(
            f"▲ {contents.sides[0].title} is better, ▼ it is worse. These are two single runs: how much chance in "
            "training moves a score is not seen here, but in a leaderboard over seeds."
        )
    return h("p", *said, class_="legend")


def by_class(one: SetContents, sides: Sequence[Side]) -> Markup | None:
    """Make the table of the scores of each class, the worst first; None where there are none."""
    first = one.scores[0]
    if first is None or not first.per_class:
        return None
    name = first.headline_name
    unit, higher = first.units[name], first.higher_is_better[name]
    found = {label: [None if s is None else s.per_class.get(label) for s in one.scores] for label in first.per_class}
    known = sorted(
        (label for label, values in found.items() if values[0] is not None),
        key=lambda label: (found[label][0] or 0.0) * (1 if higher else -1),
    )
    order = [*known, *(label for label in found if label not in known)]
    most = 1.0 if unit == "%" else max((value for values in found.values() for value in values if value), default=1.0)
    same = len({score.fingerprint for score in one.scores if score is not None}) == 1
    rows = [
        h(
            "tr",
            h("th", label, scope="row"),
            cells.bar(found[label], most),
            *cells.values(found[label], unit, higher_is_better=higher, compares=same, absent="no image"),
        )
        for label in order
    ]
    heading = with_unit(first.per_class_heading or "score", unit)
    caption = f"{heading} of each class on {one.name}"
    return joined(
        h("h3", f"{first.per_class_heading} of each class, the worst first"),
        cells.table(caption, f"class, {heading}", sides, h("tbody", *rows), bars=True),
        cells.bars_legend(sides),
    )
