"""How runs are put together: seeds of a method as one row, methods of one protocol as one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from synreal.errors import ConfigError
from synreal.records.numbers import Unit, as_number, headline_of, percent, written
from synreal.records.protocols import leaves
from synreal.records.record import RunRecord, Score

_MAY_DIFFER = frozenset({"regularizers", "seed", "output", "device", "workers", "log_every", "keep_checkpoints"})
"""Settings that move no number, or that rows tell apart; as words of a dotted key."""


class Row(BaseModel):
    """Several seeds of one method under one protocol.

    Attributes:
        method: Short name of the regularizers.
        seeds: The seeds, sorted.
        source_heldout: Each measure on held-out synthetic images, of each seed; NaN where it is not defined.
        targets: The same by target.
        target_selected: Headline of the epoch chosen on the target, of each seed, by target.
        short: Names of the measures that tables show, the headline first.
        headings: What tables call each measure.
        units: How each measure is written.
    """

    method: str
    seeds: list[int]
    source_heldout: dict[str, list[float]]
    targets: dict[str, dict[str, list[float]]]
    target_selected: dict[str, list[float]]
    short: list[str]
    headings: dict[str, str]
    units: dict[str, Unit]


def aggregate(records: Iterable[RunRecord]) -> list[Row]:
    """Group runs by method.

    Raises:
        ConfigError: If two runs of a method share a seed, or runs differ in protocol beyond the seed: such numbers do
            not compare.
    """
    groups: dict[str, list[RunRecord]] = {}
    first: dict[str, Any] | None = None
    for record in records:
        shared = {**record.protocol.model_dump(exclude={"seed", "views"}), "backbone": record.backbone}
        shared |= {f"fingerprint of {name}": score.fingerprint for name, score in record.targets.items()}
        shared |= {key: value for key, value in leaves(record.config).items() if _MAY_DIFFER.isdisjoint(key.split("."))}
        shared |= {"weights": record.weights, "measures": list(record.source_heldout.measures)}
        first = shared if first is None else first
        different = sorted(key for key in first | shared if first.get(key) != shared.get(key))
        if different:
            raise ConfigError(f"Runs do not compare: they differ in {', '.join(different)}.")
        groups.setdefault(record.method, []).append(record)
    rows = []
    for method, runs in groups.items():
        runs.sort(key=lambda run: run.protocol.seed)
        seeds = [run.protocol.seed for run in runs]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"{method} has two runs of one seed: {seeds}.")
        if any(run.regularizers != runs[0].regularizers for run in runs):
            raise ConfigError(f"Runs of {method} have different settings of the regularizer: they are not one method.")
        names, about = list(runs[0].targets), runs[0].source_heldout
        rows.append(
            Row(
                method=method,
                seeds=seeds,
                source_heldout=_by_measure([run.source_heldout for run in runs]),
                targets={name: _by_measure([run.targets[name] for run in runs]) for name in names},
                target_selected={
                    name: [headline_of(run.target_selected[name].measures) for run in runs]
                    for name in names
                    if all(name in run.target_selected for run in runs)
                },
                short=about.short,
                headings=about.headings,
                units=about.units,
            )
        )
    return rows


def _by_measure(scores: Sequence[Score]) -> dict[str, list[float]]:
    return {name: [as_number(score.measures[name]) for score in scores] for name in scores[0].measures}


def render_markdown(rows: Sequence[Row], *, chance: float | None) -> str:
    """Write rows as a Markdown table, shares in percent, mean and standard deviation over seeds.

    Args:
        rows: From ``aggregate``.
        chance: The headline of guessing, in [0, 1], for the last line of the table; None leaves that out.

    Returns:
        The table. Columns marked "peeks" hold the epoch chosen on the target. Measures of a part of the objects, such
        as AP by size, are left to the records.
    """
    targets, measures, units = list(rows[0].targets), rows[0].short, rows[0].units
    peeks = [name for name in targets if name in rows[0].target_selected]
    header = ["regularizer", "seeds"]
    header += [f"{name} {rows[0].headings[m]}" for name in ("source held-out", *targets) for m in measures]
    header += [f"{name} best epoch (peeks)" for name in peeks]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [f"`{row.method}`", str(len(row.seeds))]
        for values in (row.source_heldout, *(row.targets[name] for name in targets)):
            cells += [written(values[m], units[m]) for m in measures]
        cells += [written(row.target_selected[name], units[measures[0]]) for name in peeks]
        lines.append("| " + " | ".join(cells) + " |")
    if chance is not None:
        lines.append("| chance | | " + " | ".join([percent([chance])] * (len(header) - 2)) + " |")
    return "\n".join(lines)
