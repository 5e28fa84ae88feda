"""Distances from what the pretrained network was: of maps, pooled features, predictions and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.errors import ConfigError
from synreal.functional.contrast import Reduction, reduce
from synreal.functional.pooling import Pooling, grid_average, pool, unit

GRID: Final = 3
"""Cells along a side of ROAD's grid."""


def feature_l2(student_features: Tensor, teacher_features: Tensor, spatial: bool = False) -> Tensor:
    """Squared distance of two feature maps (ROAD: Chen et al., CVPR 2018, eq. 2).

    ``mean over samples and positions of ||f(x) - f_o(x)||^2``, the norm taken over channels.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C, H, W).
        spatial: Average both maps over the cells of a 3 x 3 grid first and compare cells instead of positions, so that
            content may move within a cell; for dense tasks.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ConfigError: If shapes differ.
    """
    if student_features.shape != teacher_features.shape or student_features.ndim != 4:
        raise ConfigError(
            "feature_l2 compares two maps of one shape (N, C, H, W), got "
            f"{tuple(student_features.shape)} and {tuple(teacher_features.shape)}."
        )
    if spatial:
        student_features, teacher_features = (
            grid_average(student_features, GRID),
            grid_average(teacher_features, GRID),
        )
    wide = torch.promote_types(student_features.dtype, torch.float32)
    return (student_features.to(wide) - teacher_features.to(wide)).square().sum(1).mean()


def masked_feature_l2(
    student_features: Tensor,
    teacher_features: Tensor,
    cells: Tensor,
    count: Tensor | None = None,
    squared: bool = False,
) -> Tensor:
    """Distance of two feature maps where there are objects (DAFormer: Hoyer et al., CVPR 2022).

    ``mean over the marked positions of ||f(x) - f_o(x)||_2``, the norm taken over channels and not squared. Where
    nothing is marked it is 0, with a gradient of 0; so is the gradient where both maps are equal.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C, H, W).
        cells: The positions M that count, bool (N, H, W).
        count: What the sum is divided by, 0-d; by default ``|M|``. Of several processes each gives the mean of theirs,
            so that the mean of their results is that over all positions.
        squared: Take the mean over channels of the square in place of the norm (SHADE: Zhao et al., ECCV 2022).

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ConfigError: If shapes differ.
    """
    shape = student_features.shape
    if shape != teacher_features.shape or len(shape) != 4 or cells.shape != (shape[0], *shape[2:]):
        raise ConfigError(
            "masked_feature_l2 compares two maps of one shape (N, C, H, W) at positions (N, H, W), got "
            f"{tuple(shape)}, {tuple(teacher_features.shape)} and {tuple(cells.shape)}."
        )
    wide = torch.promote_types(student_features.dtype, torch.float32)
    difference = student_features.to(wide) - teacher_features.to(wide)
    distances = difference.square().mean(1) if squared else torch.linalg.vector_norm(difference, dim=1)
    total = torch.where(cells, distances, 0).sum()
    number = (cells.sum() if count is None else count).to(wide)
    return total / torch.where(number > 0, number, 1)


def miro(student_features: Tensor, teacher_features: Tensor, variance: Tensor) -> Tensor:
    """Bound on the information that two feature maps share (MIRO: Cha et al., ECCV 2022).

    ``1/2 mean over samples, channels and positions of (f(x) - f_o(x))^2 / s + log s``: the negative log-likelihood of
    the teacher's map around the student's, without its constant. It is below 0 where the maps are close and s is below
    1.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C, H, W).
        variance: s, (C,), above 0.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ConfigError: If shapes differ.
    """
    shape = student_features.shape
    if shape != teacher_features.shape or len(shape) != 4 or variance.shape != shape[1:2]:
        raise ConfigError(
            "miro compares two maps of one shape (N, C, H, W) with a variance for each channel (C,), got "
            f"{tuple(shape)}, {tuple(teacher_features.shape)} and {tuple(variance.shape)}."
        )
    wide = torch.promote_types(student_features.dtype, torch.float32)
    squares = (student_features.to(wide) - teacher_features.to(wide)).square().mean((0, 2, 3))
    scale = variance.to(wide)
    return (squares / scale + scale.log()).mean() / 2


def guidance(
    student_features: Tensor,
    teacher_features: Tensor,
    pooling: Pooling = "attentional",
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared distance of normalised pooled features (GCISG: Nam et al., ECCV 2022, eq. 8).

    ``|| P(f(x)) / ||P(f(x))|| - P(f_o(x)) / ||P(f_o(x))|| ||^2`` for each sample, between 0 and 4. A pooled vector of
    zeros has no direction and stays zero.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C', H', W'), such that both pool to one length.
        pooling: P, as of ``pool``; ``"attentional"`` in the paper.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 input).

    Raises:
        ConfigError: If the pooled features differ in shape, or pooling or reduction is unknown.
    """
    return reduce(pooled_difference(student_features, teacher_features, pooling).square().sum(1), reduction)


def pooled_difference(student_features: Tensor, teacher_features: Tensor, pooling: Pooling = "attentional") -> Tensor:
    """Difference of normalised pooled features, the vector whose squared norm ``guidance`` returns.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C', H', W'), such that both pool to one length.
        pooling: P, as of ``pool``.

    Returns:
        (N, D), float32 (float64 for float64 input).

    Raises:
        ConfigError: If the pooled features differ in shape, or the pooling is unknown.
    """
    student, teacher = pool(student_features, pooling), pool(teacher_features, pooling)
    if student.shape != teacher.shape:
        raise ConfigError(
            f"guidance compares pooled features of one shape, but pooling {pooling!r} makes {tuple(student.shape)} of "
            f"the student's {tuple(student_features.shape)} and {tuple(teacher.shape)} of the teacher's "
            f"{tuple(teacher_features.shape)}. 'gap' and 'attentional' need equal channels only."
        )
    return unit(student) - unit(teacher)


def distillation_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Divergence of the student's class distribution from the teacher's (ASG: Chen et al., ICML 2020).

    ``KL( softmax(teacher / T) || softmax(student / T) ) * T^2``, the mean over samples and positions.

    Args:
        student_logits: (N, C), or (N, C, H, W) for one distribution per position.
        teacher_logits: As ``student_logits``; receives no gradient.
        temperature: T, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ConfigError: If shapes differ or the temperature is not above 0.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim < 2:
        raise ConfigError(
            "distillation_kl compares logits of one shape (N, C, ...), got "
            f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}."
        )
    if not temperature > 0:
        raise ConfigError(f"temperature must be above 0, got {temperature}.")
    wide = torch.promote_types(student_logits.dtype, torch.float32)
    with torch.autocast(student_logits.device.type, enabled=False):
        student = F.log_softmax(student_logits.to(wide) / temperature, dim=1)
        teacher = F.log_softmax(teacher_logits.detach().to(wide) / temperature, dim=1)
        return F.kl_div(student, teacher, log_target=True, reduction="none").sum(1).mean() * temperature**2


def weight_l2(
    parameters: Sequence[Tensor], anchors: Sequence[Tensor], importance: Sequence[Tensor] | None = None
) -> Tensor:
    """Squared distance of weights from anchors, ``sum_p omega_p (w_p - w_p^0)^2`` (L2-SP; EWC, eq. 3; SI, eq. 4).

    Args:
        parameters: ``w``, tensors of any shape.
        anchors: ``w^0``, of the same shapes.
        importance: ``omega``, of the same shapes; 1 everywhere when None.

    Returns:
        Scalar, float32 (float64 for float64 input).
    """
    terms = []
    for index, (weight, anchor) in enumerate(zip(parameters, anchors, strict=True)):
        wide = torch.promote_types(weight.dtype, torch.float32)
        squares = (weight.to(wide) - anchor.to(wide)).square()
        terms.append((squares if importance is None else squares * importance[index]).sum())
    return torch.stack(terms).sum()


def path_importance(path: Tensor, displacement: Tensor, damping: float) -> Tensor:
    """Importance of weights over an interval of training (SI: Zenke et al., ICML 2017, eq. 5).

    ``max(path, 0) / (displacement^2 + xi)``. A weight whose path integral is negative made the loss worse: it gets
    importance 0, because a negative one would push it away from its anchor.

    Args:
        path: ``-sum over steps of gradient * step``, any shape.
        displacement: The weight at the interval's end minus that at its start, of the same shape.
        damping: ``xi``, above 0.

    Returns:
        As ``path``.
    """
    return path.clamp(min=0) / (displacement.square() + damping)
