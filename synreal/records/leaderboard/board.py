"""A leaderboard: for each pair and protocol the rows of all methods, and how each depends on its weight."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from synreal.errors import ConfigError
from synreal.records.leaderboard.papers import published
from synreal.records.leaderboard.reading import Found
from synreal.records.leaderboard.rows import RANKED, Row, RowMaker
from synreal.records.protocols import differing, digest, identity
from synreal.records.record import RunRecord
from synreal.records.selection import RULES, Weighed, best_on_target, by_weight, select


@dataclass(frozen=True)
class Point:
    """A method at one weight.

    Attributes:
        weight: The weight.
        factor: The weight over its default.
        row: Its runs.
        chosen_by: The rules that chose it without the target.
        best: Whether it is the best on the target.
    """

    weight: float
    factor: float
    row: Row
    chosen_by: tuple[str, ...]
    best: bool


@dataclass(frozen=True)
class Curve:
    """How a method depends on its weight.

    Attributes:
        method: Its name.
        points: By weight, ascending.
        notes: Why a rule chose nothing, where one did not.
    """

    method: str
    points: list[Point]
    notes: list[str]


class Shown(NamedTuple):
    """A row for people, and the rules that chose its weight without the target, in order of ``RULES``."""

    row: Row
    chosen_by: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """All rows of one pair under one protocol.

    Attributes:
        pair: ``"source -> target"``.
        task: Name of the task.
        protocol: Short name of the protocol.
        facts: All that the runs share, by name.
        differs: What tells the protocol from the pair's first one; empty for that one.
        baseline: The method that others are compared with; None if it was not run.
        chance: The headline of guessing; None where it has no meaning.
        rows: Ranked ones, best first; then points of curves; then those that peek.
        curves: Of the methods that were run at several weights.
    """

    pair: str
    task: str
    protocol: str
    facts: Mapping[str, Any]
    differs: list[str]
    baseline: str | None
    chance: float | None
    rows: list[Row]
    curves: list[Curve]

    @property
    def ranked(self) -> list[Row]:
        """The rows that compete, best first."""
        return [row for row in self.rows if row.kind in RANKED]

    def shown(self, *, variants: bool = False) -> list[Shown]:
        """Return the ranked rows for people, best first: a weight that was chosen is told once, by whichever rules.

        Args:
            variants: Whether early stops and averages of others than the baseline are wanted, too.
        """
        rules: dict[str, list[str]] = {}
        for row in self.ranked:
            if row.kind == "selected weight":
                rules.setdefault(row.method, []).append(str(row.detail))
        runs = {row.method for row in self.ranked if row.kind == "run"}
        found, told = [], set(runs)
        for row in self.ranked:
            if row.kind == "selected weight":
                if row.method not in told:
                    found.append(Shown(row, tuple(rules[row.method])))
                told.add(row.method)
            elif row.kind == "run":
                found.append(Shown(row, tuple(rules.get(row.method, ()))))
            elif variants or row.method == self.baseline:
                found.append(Shown(row, ()))
        return found

    def is_baseline(self, row: Row) -> bool:
        """Return whether a row is that of the baseline itself, which others are compared with."""
        return row.kind == "run" and row.method == self.baseline

    @property
    def peeking(self) -> list[Row]:
        """The rows that chose something by the target's labels, best first."""
        return [row for row in self.rows if row.peeks]


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Attributes:
        sections: Those of one pair and task stand together, in the order in which these were found.
        papers: Published numbers of pairs that are on the board, by pair and task.
        baseline: The method that others are compared with.
    """

    sections: list[Section]
    papers: dict[tuple[str, str], list[Row]] = field(default_factory=dict)
    baseline: str = "none"

    @property
    def rows(self) -> list[Row]:
        """All rows, published ones last."""
        return [row for part in (*(s.rows for s in self.sections), *self.papers.values()) for row in part]

    @property
    def pairs(self) -> dict[tuple[str, str], list[Section]]:
        """The sections of each pair and task."""
        found: dict[tuple[str, str], list[Section]] = {}
        for section in self.sections:
            found.setdefault((section.pair, section.task), []).append(section)
        return found


def build(found: Iterable[Found], *, baseline: str = "none") -> Board:
    """Put records into rows.

    Args:
        found: Records and where they come from; ``find`` reads some.
        baseline: The method, as rows name it, that the others of its pair and protocol are compared with.

    Raises:
        ConfigError: If one run is there twice with different scores, the baseline is nowhere, or no run has a target.
    """
    groups: dict[tuple[str, str, str], _Group] = {}
    found = list(found)
    if found and not any(one.record.targets for one in found):
        raise ConfigError("No run was tested on a target: a leaderboard compares scores on real images.")
    for one in found:
        for target in one.record.targets:
            facts = identity(one.record, [target])
            key = (_pair(one.record, target), one.record.protocol.task, digest(facts))
            groups.setdefault(key, _Group(*key, target, facts)).add(one)
    if groups and not any(baseline == record.label for group in groups.values() for record in group.records):
        labels = sorted({record.label for group in groups.values() for record in group.records})
        raise ConfigError(f"No run of the baseline {baseline!r} is there: found {', '.join(labels)}.")
    ordered: dict[tuple[str, str], list[_Group]] = {}
    for (pair, task, _), group in groups.items():
        ordered.setdefault((pair, task), []).append(group)
    sections = []
    papers: dict[tuple[str, str], list[Row]] = {}
    for (pair, task), several in ordered.items():
        # What saw the target comes last: others are compared with the pair's first protocol.
        several.sort(key=lambda group: (group.records[0].protocol.seen_of_target != "nothing", -len(group.records)))
        sections += [group.section(several[0].facts, baseline) for group in several]
        if rows := published(pair, several[0].records[0], several[0].target):
            papers[pair, task] = rows
    return Board(sections, papers, baseline)


class _Group:
    """The runs of one pair and protocol while they are put into rows.

    Args:
        pair: Its pair.
        task: Its task.
        name: The digest of its protocol.
        target: Name of the real data set.
        facts: All that its runs share.
    """

    def __init__(self, pair: str, task: str, name: str, target: str, facts: dict[str, Any]) -> None:
        self.pair = pair
        self.task = task
        self.name = name
        self.target = target
        self.facts = facts
        self.found: dict[tuple[str, int], Found] = {}

    @property
    def records(self) -> list[RunRecord]:
        return [one.record for one in self.found.values()]

    def add(self, one: Found) -> None:
        """Take a run in, once."""
        key = (json.dumps(one.record.regularizers, sort_keys=True), one.record.protocol.seed)
        there = self.found.setdefault(key, one)
        if there is not one and self._scores(there.record) != self._scores(one.record):
            raise ConfigError(
                f"{one.record.label}, seed {key[1]}, on {self.pair} is there twice, with different scores: "
                f"{there.place} and {one.place}. Leave one out."
            )

    def _scores(self, record: RunRecord) -> tuple[Any, ...]:
        return record.source_heldout.measures, record.targets[self.target].measures

    def section(self, first: Mapping[str, Any], baseline: str) -> Section:
        """Make the rows; ``first`` are the facts of the pair's first protocol."""
        methods: dict[str, list[RunRecord]] = {}
        for record in sorted(self.records, key=lambda record: record.protocol.seed):
            methods.setdefault(record.label, []).append(record)
        maker = RowMaker(self.pair, self.name, self.target, self.records, methods.get(baseline, []))
        sweeps = {name: curve for name, curve in by_weight(self.records).items() if len(curve) > 1}
        swept = {one.records[0].label for curve in sweeps.values() for one in curve if one.factor != 1}
        rows = [maker.row(methods[label], "weight") for label in swept]
        rows += [row for label, runs in methods.items() if label not in swept for row in maker.of_method(runs)]
        curves = []
        for name, sweep in sweeps.items():
            curve, chosen = _curve(name, sweep, maker)
            curves.append(curve)
            rows += chosen
        return Section(
            pair=self.pair,
            task=self.task,
            protocol=maker.protocol,
            facts=self.facts,
            differs=differing(first, self.facts),
            baseline=baseline if baseline in methods else None,
            chance=self.records[0].protocol.chance,
            rows=_ordered(rows),
            curves=curves,
        )


def _pair(record: RunRecord, target: str) -> str:
    return f"{record.protocol.source} -> {target}"


def _curve(name: str, curve: Sequence[Weighed], maker: RowMaker) -> tuple[Curve, list[Row]]:
    """Return how a method depends on its weight, and the rows of the weights that are chosen from it."""
    chosen: dict[str, Weighed] = {}
    notes: list[str] = []
    peak: Weighed | None = None
    try:
        peak = best_on_target(curve, maker.target)
        for rule in RULES:
            if rule != "shifted" or any(run.shifted for one in curve for run in one.records):
                chosen[rule] = select(curve, rule)
    except ConfigError as error:  # a sweep that is not complete yet is no reason to show nothing
        notes.append(str(error))
    rows = [maker.row(one.records, "selected weight", detail=rule) for rule, one in chosen.items()]
    if peak is not None:
        rows.append(maker.row(peak.records, "best weight (peeks)"))
    points = [
        Point(
            weight=one.weight,
            factor=one.factor,
            row=maker.row(one.records, "weight"),
            chosen_by=tuple(rule for rule, weighed in chosen.items() if weighed is one),
            best=one is peak,
        )
        for one in curve
    ]
    return Curve(name, points, notes), rows


def _ordered(rows: Iterable[Row]) -> list[Row]:
    """Put ranked rows first, best first, and say their ranks; then the others, by kind."""

    def quality(row: Row) -> float:
        if row.mean is None:
            return -math.inf
        return row.mean if row.higher_is_better else -row.mean

    rows = sorted(rows, key=quality, reverse=True)
    ranked = [row for row in rows if row.kind in RANKED]
    placed = [
        row.model_copy(update={"rank": 1 + sum(quality(other) > quality(row) for other in ranked)})
        if row.mean is not None
        else row
        for row in ranked
    ]
    points = sorted((row for row in rows if row.kind == "weight"), key=lambda row: (_name(row), row.weight or 0.0))
    return [*placed, *points, *(row for row in rows if row.peeks)]


def _name(row: Row) -> str:
    return row.method.partition("(")[0]
