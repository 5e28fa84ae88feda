"""How much of a regularizer, chosen by what synthetic images tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from synreal.errors import ConfigError, unknown_name
from synreal.records.numbers import mean_and_spread
from synreal.records.protocols import check_comparable
from synreal.records.record import RunRecord


class Weighed(NamedTuple):
    """A method at one weight.

    Attributes:
        weight: The weight.
        factor: The weight over its default.
        records: Its runs, by seed.
    """

    weight: float
    factor: float
    records: tuple[RunRecord, ...]


def by_weight(records: Iterable[RunRecord]) -> dict[str, list[Weighed]]:
    """Return the runs of each method by weight.

    Args:
        records: Runs of one protocol. Only those of one regularizer that differs from its defaults in ``weight`` alone,
            or in nothing, are looked at.

    Returns:
        By name of the method, its weights in ascending order; one of them where nothing was swept.

    Raises:
        ConfigError: If the runs are not of one protocol, or two of them are of one weight and seed.
    """
    found: dict[str, dict[float, list[RunRecord]]] = {}
    runs = [record for record in records if _factor(record) is not None]
    check_comparable(runs)
    for record in runs:
        weight = float(record.regularizers[0]["weight"])
        found.setdefault(record.method, {}).setdefault(weight, []).append(record)
    return {
        name: [_weighed(name, weight, weights[weight]) for weight in sorted(weights)] for name, weights in found.items()
    }


def _factor(record: RunRecord) -> float | None:
    """Return a weight over its default; None for runs in which more than the weight was changed."""
    if len(record.regularizers) != 1:
        return None
    (spec,), (default,) = record.regularizers, record.defaults
    if not default.get("weight") or _without_weight(spec) != _without_weight(default):
        return None
    return float(spec["weight"]) / float(default["weight"])


def _without_weight(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key != "weight"}


def _weighed(name: str, weight: float, runs: list[RunRecord]) -> Weighed:
    runs = sorted(runs, key=lambda run: run.protocol.seed)
    seeds = [run.protocol.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{name} at weight {weight:g} has two runs of one seed: {seeds}.")
    factor = _factor(runs[0])
    assert factor is not None  # by_weight has looked
    return Weighed(weight, factor, tuple(runs))


def heldout(record: RunRecord) -> float:
    """Return the headline on held-out synthetic images; NaN where it is not defined."""
    return record.source_heldout.headline


def shifted(record: RunRecord) -> float:
    """Return the headline on held-out synthetic images in styles that were not trained on, their mean.

    Raises:
        ConfigError: If the run was not tested on any.
    """
    if not record.shifted:
        raise ConfigError(
            f"{record.label}, seed {record.protocol.seed}, was not tested on held-out source in styles that were not "
            "trained on, which the rule 'shifted' needs: run it with testing.shifts, e.g. "
            "--set 'testing.shifts=[blur, noise, recolour, stylise]'."
        )
    return math.fsum(score.headline for score in record.shifted.values()) / len(record.shifted)


_SEEN: Final[dict[str, Callable[[RunRecord], float]]] = {"heldout": heldout, "shifted": shifted}

RULES: Final = tuple(_SEEN)
"""Names of the rules by which a weight is chosen without the target."""


def select(curve: Sequence[Weighed], rule: str) -> Weighed:
    """Choose a weight without looking at any target.

    Both rules take the largest weight that costs nothing measurable: of those whose mean over seeds is within one
    standard error of the best one's, where the error is that of the best weight's mean; 0 for a single seed. Seeds that
    some weight lacks are not looked at.

    Args:
        curve: The weights of one method, as ``by_weight`` gives them.
        rule: ``"heldout"`` looks at the headline on held-out synthetic images; ``"shifted"`` at its mean over the same
            images in styles that were not trained on.

    Returns:
        The weight that was chosen, one of the curve's.

    Raises:
        ConfigError: If there is no such rule, nothing to choose from, or a run lacks the scores that the rule needs.
    """
    if rule not in _SEEN:
        raise unknown_name("rule", rule, RULES)
    if rule == "shifted":
        _check_styles(curve)
    score = curve[0].records[0].source_heldout if curve else None
    means = _means(curve, _SEEN[rule])
    best = _best(means, higher_is_better=score is None or score.higher_is_better[score.headline_name])
    mean, error = means[best]
    largest = max(at for at, (value, _) in means.items() if abs(value - mean) <= error)
    return curve[largest]


def best_on_target(curve: Sequence[Weighed], target: str) -> Weighed:
    """Return the weight whose headline on a target is best, in the mean over seeds: it peeks.

    Args:
        curve: The weights of one method, as ``by_weight`` gives them.
        target: Name of a real data set.

    Raises:
        ConfigError: If there is nothing to choose from.
    """
    means = _means(curve, lambda record: record.targets[target].headline)
    score = curve[0].records[0].targets[target]
    return curve[_best(means, higher_is_better=score.higher_is_better[score.headline_name])]


def _best(means: dict[int, tuple[float, float]], *, higher_is_better: bool) -> int:
    return max(means, key=lambda at: means[at][0] if higher_is_better else -means[at][0])


def _means(curve: Sequence[Weighed], seen: Callable[[RunRecord], float]) -> dict[int, tuple[float, float]]:
    """Return mean and standard error by place, over the seeds that all weights have; undefined means are left out."""
    shared = set.intersection(*({run.protocol.seed for run in one.records} for one in curve)) if curve else set()
    if not shared:
        raise ConfigError(
            "There is no weight to choose: "
            + ("no seed was run at every weight." if curve else "no run differs from its defaults in the weight alone.")
        )
    found = {}
    for at, weighed in enumerate(curve):
        mean, spread = mean_and_spread([seen(run) for run in weighed.records if run.protocol.seed in shared])
        if not math.isnan(mean):
            found[at] = (mean, (spread or 0.0) / math.sqrt(len(shared)))
    if not found:
        raise ConfigError(f"No weight of {curve[0].records[0].method} has a defined score to choose it by.")
    return found


def _check_styles(curve: Sequence[Weighed]) -> None:
    runs = [run for weighed in curve for run in weighed.records]
    styles = {tuple(sorted(run.shifted)) for run in runs if run.shifted}
    if len(styles) > 1:
        raise ConfigError(
            f"Runs of {runs[0].method} were tested in different styles, their means do not compare: "
            + "; ".join(", ".join(names) for names in sorted(styles))
            + "."
        )
