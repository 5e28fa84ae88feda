"""What ``synreal bench`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from synreal.terminal import Console

if TYPE_CHECKING:
    from synreal.bench import Plan
    from synreal.bench.selecting import Selection


def as_plain(planned: Plan, selections: Sequence[Selection], deviating: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return what became of a grid as plain values.

    Args:
        planned: The grid.
        selections: The weights that were chosen.
        deviating: What is not as it is recorded, by name of the run, if that was asked.
    """
    runs: list[dict[str, Any]] = []
    for row in planned.rows:
        cell = row.cell
        runs.append(
            {
                "name": cell.name,
                "pair": cell.pair,
                "method": cell.method,
                "seed": cell.seed,
                "state": row.state,
                "folder": str(cell.folder),
                "log": str(cell.log),
                "headlines": {name: _finite(value) for name, value in row.headlines.items()},
                "problem": "\n".join(filter(None, (row.problem, row.lines))) or None,
            }
        )
        if planned.reproduces:
            runs[-1]["deviations"] = deviating.get(cell.name)
    return {"runs": runs, "selected": [_plain_selection(one) for one in selections]}


def _plain_selection(one: Selection) -> dict[str, Any]:
    weight = {} if one.chosen is None else {"weight": one.chosen.weight, "factor": float(f"{one.chosen.factor:.6g}")}
    return {
        "pair": one.pair,
        "changes": one.changes,
        "method": one.method,
        "rule": one.rule,
        "peeks": one.peeks,
        "weight": None,
        "factor": None,
        **weight,
        "problem": one.problem or None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def print_plan(
    planned: Plan,
    selections: Sequence[Selection] = (),
    deviating: Mapping[str, list[str]] | None = None,
    console: Console | None = None,
) -> None:
    """Print a table of the runs, what was chosen, what deviates and what failed; arguments as of ``as_plain``."""
    console = console or Console()
    console.print(_runs(planned))
    if selections:
        console.print(_weights(selections))
        for one in selections:
            if one.problem:
                console.print(f"{one.pair}, {one.method}, {one.rule}: {one.problem}", soft_wrap=True)
    if planned.reproduces:
        _print_deviations(planned, deviating or {}, console)
    for row in planned.failed:
        console.print(f"\n{row.cell.name} failed ({row.problem}). The end of {row.cell.log}:", soft_wrap=True)
        console.print(row.lines, soft_wrap=True)
    for row in planned.elsewhere:
        console.print(f"{row.cell.name} is being run by another process; the same command takes up its result.")
    ledger = planned.ledger
    if ledger.path is not None and not planned.reproduces and planned.records:
        console.print(f"Records: {ledger.path}", soft_wrap=True)
        if ledger.others:
            console.print(f"{ledger.others} records in it are of runs that this grid does not have; they stay.")


def _runs(planned: Plan) -> Table:
    from synreal.bench.watch import number

    names = list(dict.fromkeys(name for row in planned.rows for name in row.headlines))
    table = Table()
    for heading in ("run", "state"):
        table.add_column(heading, overflow="fold")
    for name in names:
        table.add_column("held-out" if name == "source" else name, justify="right")
    for row in planned.rows:
        found = row.headlines
        values = (number(row.cell, found[name]) if name in found else "" for name in names)
        table.add_row(row.cell.name, row.state, *values)
    return table


def _weights(selections: Sequence[Selection]) -> Table:
    from synreal.records import written
    from synreal.records.selection import heldout

    targets = list(dict.fromkeys(name for one in selections if one.chosen for name in one.chosen.records[0].targets))
    table = Table(title="Weights (what is best on a target peeks: it is no result)", title_justify="left")
    for heading in ("pair", "regularizer", "chosen by"):
        table.add_column(heading, overflow="fold")
    for heading in ("weight", "times default", "held-out", *targets):
        table.add_column(heading, justify="right")
    for one in selections:
        if one.chosen is None:
            continue
        runs = one.chosen.records
        about = runs[0].source_heldout
        unit = about.units[about.headline_name]
        values = [written([heldout(run) for run in runs], unit)]
        for name in targets:
            found = [run.targets[name].headline for run in runs if name in run.targets]
            values.append(written(found, unit) if found else "")
        table.add_row(
            f"{one.pair} {one.changes}".rstrip(),
            one.method,
            f"{one.rule} (peeks)" if one.peeks else one.rule,
            f"{one.chosen.weight:g}",
            f"{one.chosen.factor:g}",
            *values,
        )
    return table


def _print_deviations(planned: Plan, deviating: Mapping[str, list[str]], console: Console) -> None:
    equal = sum(not words for words in deviating.values())
    console.print(f"{equal} of {len(deviating)} runs that are recorded have the recorded numbers, to the bit.")
    missing = len(planned.records) - len(deviating)
    if missing:
        console.print(f"{missing} runs are not recorded.")
    for name, words in deviating.items():
        if words:
            console.print(f"{name} differs: {'; '.join(words)}.", soft_wrap=True)
