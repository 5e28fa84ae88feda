"""What training did to the network: the measures of a look, and those that stages have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from synreal.records.html import Markup, h, joined
from synreal.records.look import Look, Measured
from synreal.records.numbers import with_unit
from synreal.records.run_page import cells
from synreal.records.run_page.contents import Contents, Side

_ALONE = ""  # in place of a set, for what is measured of the weights alone


def measures(contents: Contents) -> Markup:
    """Make the table of all measures, and those of stages."""
    names = list(dict.fromkeys(name for side in contents.sides for _, name, _ in _all(side.look)))
    if not names:
        return h("section", h("h2", "The network"), h("p", "Nothing was measured of it."), id="network")
    bodies = [_body(name, contents) for name in names]
    stages = [table for name in names for table in _by_stage(name, contents)]
    return h(
        "section",
        h("h2", "The network"),
        h(
            "p",
            "How diverse its features are, how far it is from what it was pretrained as, and how its predictions hold.",
        ),
        cells.table("Measures", "measure", contents.sides, *bodies),
        *([h("h3", "Stage by stage"), cells.bars_legend(contents.sides), *stages] if stages else []),
        id="network",
    )


def _all(look: Look) -> Iterator[tuple[str, str, Measured]]:
    """Go through what was measured: the set, the measure's name, and what was found."""
    for name, one in look.sets.items():
        for measure, found in one.measures.items():
            yield name, measure, found
    for measure, found in look.measures.items():
        yield _ALONE, measure, found


def _found(name: str, sides: Sequence[Side]) -> dict[str, list[Measured | None]]:
    """Return what each network has of a measure, by set."""
    each = [{place: found for place, measure, found in _all(side.look) if measure == name} for side in sides]
    return {place: [one.get(place) for one in each] for place in dict.fromkeys(place for one in each for place in one)}


def _about(found: Sequence[Measured | None]) -> Measured:
    return next(one for one in found if one is not None)


def _same_images(place: str, sides: Sequence[Side]) -> bool:
    known = [side.look.sets[place].fingerprint for side in sides if place in side.look.sets]
    return len(set(known)) < 2


def _body(name: str, contents: Contents) -> Markup:
    by_set = _found(name, contents.sides)
    about = _about(next(iter(by_set.values())))
    meaning = contents.meanings.get(name, "")
    better = f"{'Higher' if about.higher_is_better else 'Lower'} is better."
    words = " ".join(filter(None, (f"{meaning[:1].upper()}{meaning[1:]}." if meaning else "", better)))
    head = h(
        "th",
        with_unit(about.heading, about.unit),
        h("small", words),
        scope="rowgroup",
        colspan=cells.width(contents.sides),
    )
    rows = []
    for place, found in by_set.items():
        notes = dict.fromkeys(one.note for one in found if one is not None and one.note)
        title = h("th", place or "weights", *(h("small", note) for note in notes), scope="row")
        values = [None if one is None else one.value for one in found]
        compares, digits = _same_images(place, contents.sides), cells.digits_of(values, about.unit)
        rows.append(h("tr", title, *cells.values(values, about.unit, compares=compares, digits=digits)))
    return h("tbody", h("tr", head, class_="group"), *rows)


def _by_stage(name: str, contents: Contents) -> Iterator[Markup]:
    for place, found in _found(name, contents.sides).items():
        about = _about(found)
        if not about.stages:
            continue
        stages = list(dict.fromkeys(stage for one in found if one is not None for stage in one.stages))
        table = {stage: [None if one is None else one.stages.get(stage) for one in found] for stage in stages}
        most = max((value for values in table.values() for value in values if value is not None), default=1.0)
        if about.higher_is_better:
            most = max(most, 1.0)
        compares = _same_images(place, contents.sides)
        digits = cells.digits_of((value for values in table.values() for value in values), about.unit)
        rows = [
            h(
                "tr",
                h("th", stage, scope="row"),
                cells.bar(values, most),
                *cells.values(values, about.unit, compares=compares, digits=digits),
            )
            for stage, values in table.items()
        ]
        heading = with_unit(about.heading, about.unit)
        caption = f"{heading} of each stage{f', {place}' if place else ''}"
        yield joined(h("h4", caption), cells.table(caption, "stage", contents.sides, h("tbody", *rows), bars=True))
