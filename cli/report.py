"""What a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from synreal.records import Look, Measured, RunRecord, Score, as_number, headline_of, percent, with_unit, written
from synreal.terminal import Console, printable


def print_result(record: RunRecord, folder: Path | None, console: Console | None = None) -> None:
    """Print the headline table, the values per class, and the run folder if there is one."""
    console = console or Console()
    scores = {"source": record.source_heldout, **record.targets}
    origin = record.weights["detail"] or record.weights["source"]
    title = f"{record.method}, {record.network} ({origin}), {record.protocol.steps} steps, seed {record.protocol.seed}"
    console.print(score_table(scores, chance=record.protocol.chance, title=title))
    if record.source_heldout.per_class:
        console.print(class_table(scores))
    if record.weights["source"] == "none":
        console.print("Weights were random (weights: none): there was no knowledge of the real world to keep.")
    for change in record.changes:
        console.print(f"Not bit-exact: {change}.")
    for name, best in record.target_selected.items():
        if best.step != record.protocol.steps:
            unit = record.source_heldout.units[record.source_heldout.headline_name]
            value = with_unit(written([headline_of(best.measures)], unit), unit)
            console.print(f"Not the result, for it peeks at the target: {name} would read {value} at step {best.step}.")
    if folder is not None:
        console.print(f"Run folder: {folder}", soft_wrap=True)


def score_table(scores: Mapping[str, Score], *, title: str, chance: float | None = None) -> Table:
    """Make the table of measures, shares in percent: one row per set, the held-out source first if there."""
    table = Table(title=title, title_justify="left")
    table.add_column("tested on")
    about = next(iter(scores.values()))
    headings = [with_unit(about.headings[name], about.units[name]) for name in about.short]
    for heading in ("images", *headings, *(["chance %"] if chance is not None else [])):
        table.add_column(heading, justify="right")
    for name, score in scores.items():
        kind = "synthetic, held out" if name == "source" else "real"
        values = [written([as_number(score.measures[measure])], about.units[measure]) for measure in about.short]
        table.add_row(
            f"{score.data} ({kind})",
            str(score.images),
            *values,
            *([percent([chance])] if chance is not None else []),
        )
    return table


def class_table(scores: Mapping[str, Score]) -> Table:
    """Make the table by class, e.g. of recall, IoU or AP, and beneath it what was measured on parts of the objects."""
    about = next(iter(scores.values()))
    unit = about.units[about.headline_name]
    by_class = f"{about.per_class_heading} by class"
    table = Table(title=f"{by_class}, {unit}" if unit else by_class, title_justify="left")
    table.add_column("class")
    for score in scores.values():
        table.add_column(score.data, justify="right")
    for name in about.per_class:
        values = [score.per_class[name] for score in scores.values()]
        table.add_row(printable(name), *("none" if value is None else written([value], unit) for value in values))
    table.add_section()
    for measure, part in about.parts.items():
        values = [score.measures[measure] for score in scores.values()]
        table.add_row(part, *("none" if value is None else written([value], about.units[measure]) for value in values))
    return table


def look_tables(looks: Sequence[Look]) -> list[Table]:
    """Make the table of what looking into networks found, and one by stage; a column is a network and a set.

    Args:
        looks: One of each network.
    """
    columns = [(look, name) for look in looks for name in look.sets if name != "imagenet"]
    columns = columns or [(look, name) for look in looks for name in look.sets] or [(look, "") for look in looks]
    found: dict[str, list[Measured | None]] = {}
    for name in dict.fromkeys(name for look in looks for one in _all(look) for name in one):
        found[name] = [look.find(name, key) for look, key in columns]
    if not found:
        return []
    tables = [_look_table("Looked into", columns)]
    by_stage = _look_table("By stage", columns)
    for values in found.values():
        about = next(one for one in values if one is not None)
        heading = with_unit(about.heading, about.unit)
        better = "higher" if about.higher_is_better else "lower"
        tables[0].add_row(
            f"{heading} ({better} is better)", *(_value(one.value if one else None, about) for one in values)
        )
        for stage in about.stages:
            row = [_value(one.stages.get(stage) if one else None, about) for one in values]
            by_stage.add_row(f"{heading}, stage {stage}", *row)
    return [*tables, *([by_stage] if by_stage.row_count else [])]


def _all(look: Look) -> list[dict[str, Measured]]:
    return [*(one.measures for one in look.sets.values()), look.measures]


def _look_table(title: str, columns: Sequence[tuple[Look, str]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for look, name in columns:
        images = f" ({look.sets[name].images} images)" if name else ""
        table.add_column(f"{printable(look.title)}\n{name}{images}", justify="right")
    return table


def _value(value: float | None, about: Measured) -> str:
    return written([as_number(value)], about.unit)
