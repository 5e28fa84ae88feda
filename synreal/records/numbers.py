"""Numbers of records as people read them."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

Unit: TypeAlias = Literal["%", ""]
"""How a measure is written: ``"%"``, a share in [0, 1] as percent; ``""``, a plain number."""


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; None in place of a deviation of one value."""
    mean = _mean(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


_MOST_ENUMERATED: Final = 6
_DRAWS: Final = 10_000
_TAIL: Final = 0.025


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a mean; None for fewer than two values.

    All n^n ways to draw n of n values with replacement are counted where n is at most 6; otherwise 10,000 seeded draws
    are. An end is a mean of such a draw, never between two: of three values, of which each of the 27 draws is more than
    2.5 %, it is the least and the greatest value.
    """
    if len(values) < 2:
        return None
    counted: Counter[float] = Counter()
    if len(values) <= _MOST_ENUMERATED:
        for chosen in itertools.combinations_with_replacement(range(len(values)), len(values)):
            orders = math.factorial(len(values))
            for times in Counter(chosen).values():
                orders //= math.factorial(times)
            counted[_mean([values[index] for index in chosen])] += orders
    else:
        generator = random.Random(0)
        counted.update(_mean(generator.choices(values, k=len(values))) for _ in range(_DRAWS))
    means = sorted(counted)
    return _end(means, counted), _end(means[::-1], counted)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _end(means: Sequence[float], counted: Mapping[float, int]) -> float:
    """Return the first of some means up to which there are enough draws."""
    total, enough = 0, _TAIL * sum(counted.values())
    return next(mean for mean in means if (total := total + counted[mean]) >= enough)


def headline_of(measures: Mapping[str, float | None]) -> float:
    """Return the first of some measures; NaN where it is not defined."""
    return as_number(next(iter(measures.values())))


def as_number(value: float | None) -> float:
    """Return a measure as a float, NaN where it is not defined."""
    return math.nan if value is None else value


def percent(values: Sequence[float]) -> str:
    """Write shares as percent: ``"43.1"`` for one value, ``"43.1 ± 2.0"`` for several, ``"n/a"`` if any is NaN."""
    if any(math.isnan(value) for value in values):
        return "n/a"
    mean, spread = mean_and_spread([100 * value for value in values])
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"


def written(values: Sequence[float], unit: Unit) -> str:
    """Write values of a measure, their mean and spread where there are several, without the unit."""
    if unit == "%":
        return percent(values)
    if any(math.isnan(value) for value in values):
        return "n/a"
    mean, spread = mean_and_spread(values)
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def value_text(value: float | None, unit: Unit, *, signed: bool = False, digits: int | None = None) -> str:
    """Write a headline or a difference of two, without its unit; ``"n/a"`` where it is not defined.

    Args:
        value: The value.
        unit: How it is written.
        signed: Whether what is positive has a plus.
        digits: Behind the point; by default one of percent, three of plain numbers.
    """
    if value is None:
        return "n/a"
    sign = "+" if signed else ""
    if unit == "%":
        text = f"{100 * value:{sign}.{1 if digits is None else digits}f}"
    else:
        text = f"{value:{sign}.{3 if digits is None else digits}f}"
    return text.lstrip("+-") if not float(text) else text


def with_unit(text: str, unit: Unit) -> str:
    """Put a unit behind a number or a heading: ``"mIoU %"``."""
    return f"{text} {unit}".rstrip()
