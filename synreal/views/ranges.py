"""Ranges of numbers that a view draws from."""

from __future__ import annotations

import torch
from pydantic import AfterValidator
from torch import Tensor


def within(least: float, greatest: float) -> AfterValidator:
    """Return the check of a setting that is a range ``(low, high)`` inside given bounds."""

    def check(value: tuple[float, float]) -> tuple[float, float]:
        if not least <= value[0] <= value[1] <= greatest:
            raise ValueError(f"expected {least:g} <= low <= high <= {greatest:g}")
        return value

    return AfterValidator(check)


def uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
    """Draw uniformly from a range, float32 of a shape, from torch's default CPU generator."""
    low, high = bounds
    return low + (high - low) * torch.rand(shape)
