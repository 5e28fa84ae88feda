"""Texture of feature maps: Gram matrices and their distances (TLDR: Kim et al., ICCV 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from synreal.errors import ConfigError
from synreal.functional.contrast import Reduction, reduce


def gram(features: Tensor) -> Tensor:
    """Which channels fire together: ``G = v v^T / (H W)``, where ``v`` is the map as a matrix (C, H W).

    Args:
        features: (N, C, H, W), any float dtype.

    Returns:
        (N, C, C), symmetric, float32 (float64 for float64 input).

    Raises:
        ConfigError: If it is no map.
    """
    values = _matrix(features)
    with torch.autocast(features.device.type, enabled=False):
        return values @ values.mT / values.shape[2]


def gram_distance(student_features: Tensor, teacher_features: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Distance of the textures of two maps (TLDR: Kim et al., ICCV 2023, texture regularization).

    ``||G(f(x)) - G(f_o(x))||_F / C`` for each sample. Where the matrices are equal, the gradient is 0.

    Where a map has fewer positions than half its channels, as late stages have, the C x C matrices are not built: with
    ``d = v - v_o`` their difference is ``(d v^T + v_o d^T) / (H W)``, and its norm follows from products of positions.

    Args:
        student_features: ``f(x)``, (N, C, H, W).
        teacher_features: ``f_o(x)``, (N, C, H', W').
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 input).

    Raises:
        ConfigError: If samples or channels differ, or the reduction is unknown.
    """
    _check_alike(student_features, teacher_features)
    channels = student_features.shape[1]
    if student_features.shape != teacher_features.shape or 2 * student_features.shape[2:].numel() >= channels:
        difference = gram(student_features) - gram(teacher_features)
        distances = torch.linalg.vector_norm(difference.flatten(1), dim=1)
    else:
        distances = _distance_by_positions(_matrix(student_features), _matrix(teacher_features))
    return reduce(distances / channels, reduction)


def gram_generalization(
    style_features: Tensor,
    stylized_features: Tensor,
    features: Tensor,
    threshold: float = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """Distance of a stylised image's texture from the style's (TLDR: Kim et al., ICCV 2023, texture generalization).

    ``||(G(f(s)) - G(f(x_s))) o [G(f(x_s)) - G(f(x)) > threshold]||_F / C`` for each sample: only what stylisation
    brought in counts. The mask takes no gradient; where the rest is zero, the gradient is 0.

    Args:
        style_features: ``f(s)``, of the images whose style was taken, (N, C, H'', W'').
        stylized_features: ``f(x_s)``, of the images in that style, (N, C, H', W').
        features: ``f(x)``, of the images as they were, (N, C, H, W); takes no gradient.
        threshold: Of what counts as brought in.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 input).

    Raises:
        ConfigError: If samples or channels differ, or the reduction is unknown.
    """
    _check_alike(style_features, stylized_features)
    _check_alike(style_features, features)
    stylized = gram(stylized_features)
    brought = (stylized.detach() - gram(features.detach())) > threshold
    difference = torch.where(brought, gram(style_features) - stylized, 0)
    return reduce(torch.linalg.vector_norm(difference.flatten(1), dim=1) / style_features.shape[1], reduction)


def _matrix(features: Tensor) -> Tensor:
    """Return a map as (N, C, H W), in float32 or better."""
    if features.ndim != 4:
        raise ConfigError(f"Texture is that of a map of shape (N, C, H, W), got {tuple(features.shape)}.")
    return features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2)


def _check_alike(first: Tensor, second: Tensor) -> None:
    if first.shape[:2] != second.shape[:2]:
        raise ConfigError(
            "Textures are compared of maps with as many samples and channels, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )


def _distance_by_positions(student: Tensor, teacher: Tensor) -> Tensor:
    """Return ``||v v^T - v_o v_o^T||_F / P`` of matrices (N, C, P), as (N,), through products (N, 2 P, 2 P)."""
    with torch.autocast(student.device.type, enabled=False):
        change = student - teacher
        left, right = torch.cat([change, teacher], 2), torch.cat([student, change], 2)
        squares = ((left.mT @ left) * (right.mT @ right)).sum((1, 2))
        sizes = [value.detach().square().sum((1, 2)) for value in (change, student, teacher)]
        # What is below the rounding of the sum is no distance, and a root of it would have a wild gradient.
        noise = torch.finfo(squares.dtype).eps * sizes[0] * (sizes[1] + sizes[2])
        real = squares > noise
        roots = torch.where(real, squares, torch.ones_like(squares)).sqrt()
        return torch.where(real, roots, torch.zeros_like(roots)) / student.shape[2]
