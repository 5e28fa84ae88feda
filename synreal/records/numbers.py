"""Numbers of records as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["%", ""]
"""How a measure is written: ``"%"``, a share in [0, 1] as percent; ``""``, a plain number."""


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; None in place of a deviation of one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


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


def with_unit(text: str, unit: Unit) -> str:
    """Put a unit behind a number or a heading: ``"mIoU %"``."""
    return f"{text} {unit}".rstrip()
