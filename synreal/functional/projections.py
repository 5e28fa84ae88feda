"""Projections of weights towards the pretrained ones, made after an optimizer's step: SPD and FTP.

``w0`` are the pretrained weights of one parameter, ``u`` its weights after the step, ``c = u - w0``.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

SMALLEST_RADIUS: Final = 1e-8
"""Of FTP: what a radius starts from and never falls below."""

_GUARD = 1e-8  # added to the norm of each row
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def displacement(weight: Tensor, anchor: Tensor) -> Tensor:
    """Return how far weights are from their anchors, ``w - w0``.

    Args:
        weight: ``w``, any shape.
        anchor: ``w0``, of the same shape.

    Returns:
        Of that shape, float32 (float64 for float64 input).
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    return weight.detach().to(wide) - anchor.to(wide)


def spd_share(alignment: Tensor, radius_before: Tensor, radius: Tensor, weight: float = 1.0) -> Tensor:
    """Share of its displacement that a parameter gives back (SPD: Tian et al., NeurIPS 2024, arXiv 2411.01713).

    ``lam * clamp((||c|| - ||w - w0||) / ||c||, 0, 1)`` where ``<g, w - w0> > 0``, that is where the way so far leads
    uphill; elsewhere 0. The new weights are ``u - share * c``; with ``lam = 1`` they are no farther from ``w0`` than
    before the step. A parameter on its anchor (0 / 0) gives nothing back.

    Args:
        alignment: ``<g, w - w0>`` of the gradient and the displacement before the step; any shape, one entry for each
            parameter.
        radius_before: ``||w - w0||`` before the step, of the same shape, at least 0.
        radius: ``||c||`` after it, likewise.
        weight: lam, at least 0.

    Returns:
        Of the same shape, in [0, lam].
    """
    growth = ((radius - radius_before) / torch.where(radius > 0, radius, 1)).clamp(0, 1)
    return torch.where(alignment > 0, weight * growth, 0)


def row_norms(displaced: Tensor) -> Tensor:
    """L1 norms of the rows of a displacement, ``n_i = sum |c_i| + 1e-8`` (FTP: Tian et al., NeurIPS 2023).

    Args:
        displaced: ``c``, any shape. Rows lie along the first dimension; a vector or a number is one row.

    Returns:
        (rows,), or 0-d for a single row.
    """
    return _over_rows(displaced.abs()) + _GUARD


def radius_slope(gradient: Tensor, displaced: Tensor) -> Tensor:
    """Derivative of the loss by FTP's radius, ``sum_i <g_i, c_i> / n_i``.

    Args:
        gradient: ``g`` at this step, any shape.
        displaced: ``c`` of the step before, unprojected, of the same shape.

    Returns:
        0-d, float32 (float64 for float64 input).
    """
    wide = displaced.to(torch.promote_types(displaced.dtype, torch.float32))
    return (_over_rows(gradient.to(wide.dtype) * wide) / row_norms(wide)).sum()


def next_radius(
    radius: Tensor,
    mean: Tensor,
    square: Tensor,
    slope: Tensor,
    step: Tensor,
    largest: Tensor,
    *,
    rate: float = 1e-2,
    annealing: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Learn FTP's radius by one step of Adam, and keep it between 1e-8 and the longest row.

    In a parameter's first step there is no displacement to learn from: the radius is 1e-8, which undoes that step. All
    arguments have one shape, one entry for each parameter.

    Args:
        radius: gamma after the step before.
        mean: Adam's moving average of the slope, 0 at first.
        square: That of its square, 0 at first.
        slope: ``radius_slope``.
        step: t, int64: this parameter's steps, this one included; at least 1.
        largest: ``max_i n_i`` of this step.
        rate: Learning rate of gamma.
        annealing: kappa, what a slope is multiplied by that asks for a smaller radius.

    Returns:
        Radius, mean and square after the step.
    """
    slope = torch.where(slope > 0, annealing * slope, slope)
    later = step > 1
    mean = torch.where(later, _BETAS[0] * mean + (1 - _BETAS[0]) * slope, mean)
    square = torch.where(later, _BETAS[1] * square + (1 - _BETAS[1]) * slope.square(), square)
    # 1 - beta^t without the cancellation that costs float32 half its digits.
    first, second = (-torch.expm1(step.to(slope.dtype) * math.log(beta)) for beta in _BETAS)
    direction = mean / first
    spread = (square / second).sqrt() + _EPSILON
    learnt = torch.where(later, radius - rate * direction / spread, SMALLEST_RADIUS)
    return learnt.clamp(min=SMALLEST_RADIUS).minimum(largest), mean, square


def project_rows(weight: Tensor, anchor: Tensor, radius: Tensor, share: float = 1.0) -> Tensor:
    """Project each row of a parameter into a ball around its anchor: ``w0_i + min(1, gamma / n_i) c_i`` (FTP).

    Rows inside the ball keep their bits.

    Args:
        weight: ``u``, any shape.
        anchor: ``w0``, of the same shape.
        radius: gamma, 0-d.
        share: How far to go to the projection, in [0, 1].

    Returns:
        As ``weight``.
    """
    displaced = displacement(weight, anchor)
    norms = row_norms(displaced)
    scale = (radius / norms).clamp(max=1)
    if weight.ndim > 1:
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    wide = weight.detach().to(displaced.dtype)
    moved = torch.lerp(wide, anchor.to(displaced.dtype) + scale * displaced, share)
    return torch.where(scale < 1, moved, wide).to(weight.dtype)


def _over_rows(values: Tensor) -> Tensor:
    return values.sum(tuple(range(1, values.ndim))) if values.ndim > 1 else values.sum()
