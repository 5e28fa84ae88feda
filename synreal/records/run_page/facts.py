"""What a page says of how its networks came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from synreal.records.history import SOURCE, History
from synreal.records.html import Markup, h, joined, number, scrolling
from synreal.records.protocols import differing, identity, in_words
from synreal.records.record import RunRecord
from synreal.records.run_page.contents import Contents, Side


def opening(contents: Contents) -> Markup:
    """Say what the network is, in a sentence."""
    first = contents.sides[0]
    said: list[str] = []
    if first.record is None:
        said.append(f"{first.look.backbone}, {first.look.task}, looked at on {', '.join(first.look.sets) or 'nothing'}")
    else:
        protocol = first.record.protocol
        said += [f"{first.record.network}, {protocol.task}, trained on synthetic ", h("b", protocol.source)]
        if first.record.targets:
            said += [", tested on real ", h("b", ", ".join(first.record.targets))]
    if len(contents.sides) > 1:
        said += ["; beside ", h("b", contents.sides[1].title)]
    return h("p", *said, ".", class_="lead")


def facts(contents: Contents) -> Markup:
    """Make the table of what each network is, and say whether the two compare."""
    rows = [
        h("tr", h("th", name, scope="row"), *_cells(values))
        for name, say in _FACTS.items()
        if any(values := [say(side) for side in contents.sides])
    ]
    heads = [h("th", h("span", "what", class_="unseen"), scope="col")]
    heads += [h("th", side.title, scope="col") for side in contents.sides]
    caption = "How it came about"
    made = h("table", h("caption", caption), h("thead", h("tr", *heads)), h("tbody", *rows), class_="facts")
    return h("section", h("h2", caption), _compared(contents.sides), scrolling(made, caption), id="facts")


def _cells(values: Sequence[str | None]) -> list[Markup]:
    """Make a cell of each value, or one of all where they are the same."""
    if len(set(values)) == 1:
        return [h("td", values[0], colspan=len(values))]
    return [h("td", value or h("span", "–", class_="absent")) for value in values]


def _compared(sides: Sequence[Side]) -> Markup | None:
    records = [side.record for side in sides if side.record is not None]
    if len(sides) < 2:
        return None
    if len(records) < 2:
        return h("p", "Not both are finished runs: whether they compare is not known.")
    one, other = records
    shared = [name for name in one.targets if name in other.targets]
    names = differing(identity(one, shared), identity(other, shared))
    if not names:
        return h("p", "They share their protocol: nothing but the regularizers and the seed differs.")
    return h("p", h("strong", "They do not share their protocol: "), f"they differ in {', '.join(names)}.")


def _weights(side: Side) -> str | None:
    found = side.record.weights if side.record is not None else side.look.weights
    if found is None:
        return None
    return ", ".join(filter(None, (found["detail"], found["source"])))


def _data(record: RunRecord) -> str:
    return f"{record.protocol.source}, {record.protocol.source_images:,} images"


def _unused(record: RunRecord) -> str:
    found = record.protocol.left_out
    return "; ".join(f"{part}: {number} {why}" for part, reasons in found.items() for why, number in reasons.items())


def _of_run(say: Callable[[RunRecord], str]) -> Callable[[Side], str | None]:
    """Return what says something of the record, nothing where there is none."""
    return lambda side: None if side.record is None else say(side.record)


def _versions(side: Side) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(side.look.versions.items()))


def _trained_with(side: Side) -> str | None:
    """Versions of the training, where they are others than those of the look."""
    if side.record is None or side.record.protocol.versions == side.look.versions:
        return None
    return ", ".join(f"{name} {version}" for name, version in sorted(side.record.protocol.versions.items()))


_FACTS: dict[str, Callable[[Side], str | None]] = {
    "regularizers": _of_run(lambda record: record.label),
    "seed": _of_run(lambda record: str(record.protocol.seed)),
    "network": lambda side: side.record.network if side.record else side.look.backbone,
    "pretrained weights": _weights,
    "trained on": _of_run(_data),
    "looked at on": lambda side: ", ".join(f"{one.data}, {one.split}" for one in side.look.sets.values()),
    "not used of the data": _of_run(_unused),
    "protocol": _of_run(in_words),
    "not of one piece": _of_run(lambda record: "; ".join(map(str, record.changes))),
    "network's weights": lambda side: side.look.checkpoint,
    "SHA-256 of them": lambda side: side.look.sha256,
    "versions of the look": _versions,
    "versions of the training": _trained_with,
}


def numbers_of(histories: Mapping[str, History]) -> Markup | None:
    """Make the tables of what the curves show."""
    if not histories:
        return None
    tables = []
    for title, one in histories.items():
        steps = sorted({step for found in one.sets.values() for step in found.steps})
        heads = [h("th", "step", scope="col", class_="number")]
        heads += [
            h("th", "held-out source" if name == SOURCE else name, scope="col", class_="number") for name in one.sets
        ]
        rows = []
        for step in steps:
            cells = []
            for found in one.sets.values():
                value = dict(zip(found.steps, found.values, strict=True)).get(step)
                text = "" if value is None or value != value else number(value, found.unit or "")
                cells.append(h("td", text, class_="number"))
            rows.append(h("tr", h("th", f"{step:,}", scope="row", class_="number"), *cells))
        made = h("table", h("caption", f"Scores of {title} over steps"), h("thead", h("tr", *heads)), h("tbody", *rows))
        tables.append(joined(h("p", h("b", title)), scrolling(made, f"Scores of {title} over steps")))
    return h("details", h("summary", "The numbers in the curves"), *tables)
