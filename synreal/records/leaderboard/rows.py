"""One line of a leaderboard, and how the runs of a method become some."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from synreal.records.numbers import Unit, bootstrap_interval, headline_of, mean_and_spread
from synreal.records.protocols import in_words, steps_in_words
from synreal.records.record import Chosen, RunRecord
from synreal.records.selection import shifted

Kind: TypeAlias = Literal[
    "run",
    "weight",
    "selected weight",
    "early stop",
    "averaged",
    "best weight (peeks)",
    "best epoch (peeks)",
    "paper",
]
"""What a row is of.

``run``: the last epoch, at default settings or at what the method's name says. ``weight``: a point of a sweep of the
weight, away from its default. ``selected weight``: the point that a rule chose without the target. ``early stop``: the
epoch that is best on held-out synthetic images. ``averaged``: an average of weights. The ones that
peek chose by the target's labels. ``paper``: a number that somebody published.
"""

PEEKING: Final[frozenset[Kind]] = frozenset({"best weight (peeks)", "best epoch (peeks)"})
"""Kinds of rows that chose something by the target's labels."""

RANKED: Final[frozenset[Kind]] = frozenset({"run", "selected weight", "early stop", "averaged"})
"""Kinds of rows that are results, and compete."""


class Row(BaseModel):
    """Some seeds of one method on one pair under one protocol.

    Shares are in [0, 1]; means and differences are of the headline of the target, None where it is not defined.

    Attributes:
        pair: Synthetic and real data, ``"source -> target"``.
        task: Name of the task.
        protocol: Short name of the protocol; rows compare if they share it.
        consists_of: The protocol in words.
        seen_of_target: What training saw of the target; anything but ``"nothing"`` is no zero-shot result.
        real_images: Whether views of training images took something of real images, though of no target.
        saw: The same in words, with the images that it saw.
        method: The regularizers, with what differs from their defaults.
        kind: What the row is of.
        detail: What tells it from other rows of its kind, e.g. the rule by which a weight was selected.
        peeks: Whether something was chosen by the target's labels.
        rank: Place among the ranked rows of its pair and protocol, by the mean; None for a row that does not compete.
        measure: What tables call the headline.
        unit: How it is written.
        higher_is_better: Its direction.
        seeds: The seeds, ascending.
        missing: Seeds that other rows of the same pair and protocol have.
        changed: Seeds whose run went on, after a stop, under other conditions than it began with: other processes,
            threads, versions or another device.
        values: The headline of each seed.
        mean: Their mean.
        std: Their sample standard deviation; None for a single seed.
        difference: Mean over shared seeds of the headline minus the baseline's with the same seed.
        differences: These differences by seed.
        interval: The 95 % bootstrap interval of the difference over seeds; None for fewer than two shared seeds.
        better: In how many of the shared seeds the row is better than the baseline; None without a difference.
        heldout: Mean of the headline on held-out synthetic images.
        shifted: The same in styles that were not trained on, mean over styles and seeds.
        time: Median time of a training step over the baseline's; None where numbers of threads, or clocks, differ.
        memory: Median peak memory over the baseline's.
        weight: The weight of the regularizer, where there is one.
        factor: That weight over its default.
        source: Where a published number stands; None for what was run.
    """

    model_config = ConfigDict(extra="forbid")

    pair: str
    task: str
    protocol: str
    consists_of: str
    seen_of_target: str = "nothing"
    real_images: bool = False
    saw: str = "nothing of the target"
    method: str
    kind: Kind
    detail: str | None = None
    peeks: bool = False
    rank: int | None = None
    measure: str
    unit: Unit
    higher_is_better: bool
    seeds: list[int] = []
    missing: list[int] = []
    changed: list[int] = []
    values: list[float | None] = []
    mean: float | None
    std: float | None = None
    difference: float | None = None
    differences: dict[int, float] = {}
    interval: tuple[float, float] | None = None
    better: int | None = None
    heldout: float | None = None
    shifted: float | None = None
    time: float | None = None
    memory: float | None = None
    weight: float | None = None
    factor: float | None = None
    source: str | None = None

    @property
    def verdict(self) -> str | None:
        """``"better"`` or ``"worse"`` where all shared seeds, at least two, say so; else ``"mixed"``, or None."""
        if self.better is None or len(self.differences) < 2:
            return None
        if self.better == len(self.differences):
            return "better"
        worse = sum(value < 0 if self.higher_is_better else value > 0 for value in self.differences.values())
        return "worse" if worse == len(self.differences) else "mixed"


def defined(value: float) -> float | None:
    """Return a number, None for NaN."""
    return None if math.isnan(value) else value


def mean_of(values: Sequence[float]) -> float | None:
    """Return a mean, None where there is nothing or something is not defined."""
    return defined(mean_and_spread(values)[0]) if values else None


def compared(
    values: Mapping[int, float], baseline: Mapping[int, float] | None, *, higher_is_better: bool
) -> dict[str, Any]:
    """Return what a row says of its values by seed, and of their differences to a baseline's.

    Args:
        values: Headlines by seed, NaN where one is not defined.
        baseline: The baseline's; None for the baseline itself, or where there is none.
        higher_is_better: The direction of the headline.

    Returns:
        Fields of a ``Row``.
    """
    seeds = sorted(values)
    mean, spread = mean_and_spread([values[seed] for seed in seeds])
    said: dict[str, Any] = {
        "seeds": seeds,
        "values": [defined(values[seed]) for seed in seeds],
        "mean": defined(mean),
        "std": None if spread is None else defined(spread),
    }
    if baseline is None:
        return said
    paired = {seed: values[seed] - baseline[seed] for seed in seeds if seed in baseline}
    if not paired or any(map(math.isnan, paired.values())):
        return said
    found = list(paired.values())
    return said | {
        "differences": paired,
        "difference": mean_of(found),
        "interval": bootstrap_interval(found),
        "better": sum(value > 0 if higher_is_better else value < 0 for value in found),
    }


def cost(runs: Sequence[RunRecord], baseline: Sequence[RunRecord]) -> dict[str, float | None]:
    """Return time and memory relative to the baseline's, fields of a ``Row``: ratios of medians over seeds."""
    measured = {(run.cost.threads, run.cost.clock) for run in (*runs, *baseline)}
    return {
        "time": _ratio(runs, baseline, lambda run: run.cost.step_seconds) if len(measured) == 1 else None,
        "memory": _ratio(runs, baseline, lambda run: run.cost.memory),
    }


def _ratio(
    runs: Sequence[RunRecord], baseline: Sequence[RunRecord], of: Callable[[RunRecord], float | None]
) -> float | None:
    ours, theirs = ([value for run in side if (value := of(run)) is not None] for side in (runs, baseline))
    if not ours or not theirs or not statistics.median(theirs):
        return None
    return statistics.median(ours) / statistics.median(theirs)


class RowMaker:
    """Makes the rows of one pair and protocol.

    Args:
        pair: Its pair.
        digest: What tells its protocol from others.
        target: Name of the real data set.
        records: All its runs.
        baseline: Those of them that others are compared with; none if there are none.
    """

    def __init__(
        self, pair: str, digest: str, target: str, records: Sequence[RunRecord], baseline: Sequence[RunRecord]
    ) -> None:
        self.target = target
        self.baseline = baseline
        self.seeds = {record.protocol.seed for record in records}
        record = records[0]
        self.protocol = _short(record, digest)
        score = record.targets[target]
        self.higher_is_better = score.higher_is_better[score.headline_name]
        self.shared = {
            "pair": pair,
            "task": record.protocol.task,
            "protocol": self.protocol,
            "consists_of": in_words(record),
            "seen_of_target": record.protocol.seen_of_target,
            "real_images": bool(record.protocol.real_images),
            "saw": record.protocol.saw,
            "measure": score.headings[score.headline_name],
            "unit": score.units[score.headline_name],
            "higher_is_better": self.higher_is_better,
        }

    def of_method(self, runs: Sequence[RunRecord]) -> Iterator[Row]:
        """Make all rows of the runs of a method, by ascending seed."""
        yield self.row(runs, "run")
        early = {run.protocol.seed: run.source_selected for run in runs if self.target in run.source_selected}
        peeking = {run.protocol.seed: run.target_selected for run in runs if self.target in run.target_selected}
        kinds: tuple[tuple[Kind, dict[int, dict[str, Chosen]]], ...] = (
            ("early stop", early),
            ("best epoch (peeks)", peeking),
        )
        for kind, chosen in kinds:
            if chosen:
                values = {seed: headline_of(one[self.target].measures) for seed, one in chosen.items()}
                yield self.row(runs, kind, values)
        for name in sorted({name for run in runs for name, scores in run.averaged.items() if self.target in scores}):
            scores = {r.protocol.seed: r.averaged[name] for r in runs if self.target in r.averaged.get(name, {})}
            heldout = [one["source"].headline for one in scores.values() if "source" in one]
            yield self.row(
                runs,
                "averaged",
                {seed: one[self.target].headline for seed, one in scores.items()},
                detail=name,
                heldout=mean_of(heldout) if len(heldout) == len(scores) else None,
            )

    def row(
        self,
        runs: Sequence[RunRecord],
        kind: Kind,
        values: Mapping[int, float] | None = None,
        *,
        detail: str | None = None,
        heldout: float | None = None,
    ) -> Row:
        """Make a row.

        Args:
            runs: Runs of one method.
            kind: What the row is of.
            values: Headlines by seed of something else than the last epochs, which alone have held-out scores of their
                own.
            detail: What tells it from other rows of its kind.
            heldout: The held-out score that goes with ``values``, where it is known.
        """
        last = values is None
        if values is None:
            values = self._headlines(runs)
            heldout = mean_of([run.source_heldout.headline for run in runs])
        is_baseline = last and bool(self.baseline) and runs[0].label == self.baseline[0].label
        theirs = None if is_baseline or not self.baseline else self._headlines(self.baseline)
        single = len(runs[0].regularizers) == 1
        specs = (runs[0].regularizers, runs[0].defaults)
        weight, default = (side[0].get("weight") if single else None for side in specs)
        return Row(
            **self.shared,
            method=runs[0].label,
            kind=kind,
            detail=detail,
            peeks=kind in PEEKING,
            missing=sorted(self.seeds - set(values)),
            changed=[run.protocol.seed for run in runs if run.changes and run.protocol.seed in values],
            heldout=heldout,
            shifted=mean_of([shifted(run) for run in runs]) if last and all(run.shifted for run in runs) else None,
            weight=weight,
            factor=weight / default if weight is not None and default else None,
            **compared(values, theirs, higher_is_better=self.higher_is_better),
            **cost(runs, self.baseline),
        )

    def _headlines(self, runs: Sequence[RunRecord]) -> dict[int, float]:
        return {run.protocol.seed: run.targets[self.target].headline for run in runs}


def _short(record: RunRecord, digest: str) -> str:
    protocol = record.protocol
    seen = [] if protocol.seen_of_target == "nothing" else [f"saw {protocol.saw}"]
    seen += ["uses real images"] if protocol.real_images else []
    size = f"{protocol.image_size} px, {steps_in_words(record)}"
    return ", ".join([record.network, size, *seen, digest])
