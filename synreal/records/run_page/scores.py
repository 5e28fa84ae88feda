"""The scores of a page: of each set of images, and of each class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from synreal.records.html import Markup, h, joined, number
from synreal.records.numbers import with_unit
from synreal.records.record import RunRecord, Score
from synreal.records.run_page import cells
from synreal.records.run_page.contents import Contents, SetContents, Side


class _Tested(NamedTuple):
    """What was tested: a set of images, and how it or the network was changed for it."""

    name: str
    change: str


def scores(contents: Contents) -> Markup:
    """Make the table of what each test gave."""
    found = [dict(_all(side, place, contents)) for place, side in enumerate(contents.sides)]
    tested = list(dict.fromkeys(key for one in found for key in one))
    if not tested:
        return h("section", h("h2", "Scores"), h("p", "No prediction could be compared with a label."), id="scores")
    bodies = [_body(key, [one.get(key) for one in found], contents.sides) for key in tested]
    return h(
        "section",
        h("h2", "Scores"),
        cells.table("Scores", "tested on", contents.sides, *bodies),
        _legend(contents),
        id="scores",
    )


def _all(side: Side, place: int, contents: Contents) -> Iterator[tuple[_Tested, Score]]:
    record = side.scored
    if record is not None:
        yield _Tested("source", ""), record.source_heldout
    looked_at = {one.name: score for one in contents.sets if (score := one.scores[place]) is not None}
    for name, score in {**(record.targets if record else {}), **looked_at}.items():
        yield _Tested(name, ""), score
    if record is not None:
        yield from _changed(record)


def _changed(record: RunRecord) -> Iterator[tuple[_Tested, Score]]:
    for style, score in record.shifted.items():
        yield _Tested("source", f"in the style {style}"), score
    for average, of_sets in record.averaged.items():
        for name, score in of_sets.items():
            yield _Tested(name, f"averaged weights, {average}"), score


def _body(tested: _Tested, found: Sequence[Score | None], sides: Sequence[Side]) -> Markup:
    known = [score for score in found if score is not None]
    about = known[0]
    kind = "synthetic, held out" if tested.name == "source" else "real"
    words = ", ".join(filter(None, (tested.change, kind, f"{about.images:,} images")))
    same = len({score.fingerprint for score in known}) == 1
    names = [about.headline_name] if tested.change else list(about.measures)
    head = h("th", about.data, h("small", words), scope="rowgroup", colspan=cells.width(sides))
    rows = []
    for name in names:
        values = [None if score is None else score.measures.get(name) for score in found]
        unit, higher = about.units[name], about.higher_is_better[name]
        part = about.parts.get(name)
        title = h("th", with_unit(about.headings[name], unit), h("small", part) if part else None, scope="row")
        rows.append(h("tr", title, *cells.values(values, unit, higher_is_better=higher, compares=same)))
    other = (
        None if same else h("tr", h("td", "These were other images: they do not compare.", colspan=cells.width(sides)))
    )
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
