"""The weights that a sweep chooses, for each regularizer of a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from synreal.bench.board import Row
from synreal.errors import ConfigError
from synreal.records import RunRecord
from synreal.records.selection import Weighed, best_on_target, by_weight, select


@dataclass(frozen=True)
class Selection:
    """The weight of one regularizer on one pair, chosen in one way.

    Attributes:
        pair: Name of the pair.
        changes: As ``Cell.changes``.
        method: Name of the regularizer.
        rule: Which way: ``"default"``, one of ``RULES``, or ``"best on NAME"`` of a target, which peeks.
        peeks: Whether it looked at a target.
        chosen: The weight; None where it could not be chosen.
        problem: Why it could not be chosen.
    """

    pair: str
    changes: str
    method: str
    rule: str
    peeks: bool = False
    chosen: Weighed | None = None
    problem: str = ""


def selections(rows: Iterable[Row], rules: Sequence[str]) -> list[Selection]:
    """Choose weights from the results of a grid.

    Args:
        rows: The grid's rows; those without a result are passed over.
        rules: Of ``synreal.records.selection.RULES``.

    Returns:
        For each pair, change of settings and regularizer that was run at several weights: the default, the choice of
        each rule, and the best on each target.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for row in rows:
        if row.record is not None:
            groups.setdefault((row.cell.pair, row.cell.changes), []).append(row.record)
    found: list[Selection] = []
    for (pair, changes), records in groups.items():
        for method, curve in by_weight(records).items():
            if len(curve) > 1:
                found += _of(pair, changes, method, curve, rules)
    return found


def _of(pair: str, changes: str, method: str, curve: Sequence[Weighed], rules: Sequence[str]) -> list[Selection]:
    found = [Selection(pair, changes, method, "default", chosen=one) for one in curve if one.factor == 1]
    for rule in rules:
        try:
            found.append(Selection(pair, changes, method, rule, chosen=select(curve, rule)))
        except ConfigError as error:
            found.append(Selection(pair, changes, method, rule, problem=str(error)))
    for target in curve[0].records[0].targets:
        rule = f"best on {target}"
        try:
            found.append(Selection(pair, changes, method, rule, peeks=True, chosen=best_on_target(curve, target)))
        except ConfigError as error:
            found.append(Selection(pair, changes, method, rule, peeks=True, problem=str(error)))
    return found
