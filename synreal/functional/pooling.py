"""From feature maps (N, C, H, W) to vectors. All functions compute in float32 or better."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.errors import ConfigError, unknown_name

Pooling = Literal["none", "gap", "channel", "spatial", "attentional"]


def _wide(features: Tensor) -> Tensor:
    """Half precision is computed in float32: sums over positions overflow or round away otherwise."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def _check_map(features: Tensor, name: str = "features") -> None:
    if features.ndim != 4:
        raise ConfigError(f"{name} must be a map of shape (N, C, H, W), got {tuple(features.shape)}.")


def gap(features: Tensor) -> Tensor:
    """Average a map over its positions: (N, C, H, W) -> (N, C)."""
    _check_map(features)
    return _wide(features).mean((2, 3))


def attention_weights(features: Tensor) -> Tensor:
    """Attention of each position to the map's mean (A-Pool, Chen et al., ICLR 2021).

    ``a[i, j] = <v[:, i, j], g> / sum over positions of <v, g>``, with ``g`` the mean of ``v`` over positions.

    The denominator is ``H * W * ||g||^2``: never negative, and zero only where the mean is zero; such a map gets
    uniform weights. After a ReLU all weights are non-negative. Backbones with signed features (SiLU, GELU, linear
    bottlenecks) give some negative weights; they still sum to one.

    Args:
        features: (N, C, H, W), any float dtype.

    Returns:
        (N, H, W), float32 (float64 for float64 input), summing to one over positions.
    """
    _check_map(features)
    values = _wide(features).flatten(2)
    # Scaling by the largest magnitude cancels in the ratio and keeps the squares finite.
    scale = values.detach().abs().amax((1, 2), keepdim=True)
    values = values / torch.where(scale > 0, scale, torch.ones_like(scale))
    mean = values.mean(2)
    with torch.autocast(features.device.type, enabled=False):
        scores = torch.einsum("nc,ncl->nl", mean, values)
    total = values.shape[2] * mean.square().sum(1, keepdim=True)
    # Below this the mean is rounding noise of the sum, and a quotient of noise is not attention.
    defined = total > values.shape[2] * (8 * torch.finfo(values.dtype).eps) ** 2
    weights = torch.where(defined, scores / torch.where(defined, total, torch.ones_like(total)), 1 / scores.shape[1])
    return weights.reshape(features.shape[0], *features.shape[2:])


def attentional_pool(features: Tensor, attend_from: Tensor | None = None) -> Tensor:
    """Sum a map over its positions with attention weights (A-Pool, Chen et al., ICLR 2021).

    ``P_a(v)[c] = sum over positions of v[c, i, j] * a[i, j]``; see ``attention_weights`` for ``a`` and its edge cases.

    Args:
        features: (N, C, H, W), the map to pool.
        attend_from: (N, C', H, W), the map that gives the weights; ``features`` itself when None. CSG pools the
            teacher's map with the attention of the student's.

    Returns:
        (N, C), float32 (float64 for float64 input).

    Raises:
        ConfigError: If the two maps differ in batch or size.
    """
    source = features if attend_from is None else attend_from
    _check_map(features)
    _check_map(source, "attend_from")
    if features.shape[0] != source.shape[0] or features.shape[2:] != source.shape[2:]:
        raise ConfigError(
            f"attend_from {tuple(source.shape)} must have the batch and the size of features {tuple(features.shape)}."
        )
    weights = attention_weights(source)
    values = _wide(features)
    with torch.autocast(features.device.type, enabled=False):
        return torch.einsum("nchw,nhw->nc", values, weights.to(values.dtype))


def pool(features: Tensor, kind: Pooling) -> Tensor:
    """Pool a map in one of the ways of GCISG's ablation (Nam et al., ECCV 2022).

    Args:
        features: (N, C, H, W).
        kind: ``"none"`` flattens to (N, C*H*W); ``"gap"`` gives (N, C); ``"channel"`` averages channels to (N, H*W);
            ``"spatial"`` joins the mean over height (N, C*W) and the mean over width (N, C*H); ``"attentional"``
            gives (N, C).

    Returns:
        (N, D), float32 (float64 for float64 input).
    """
    _check_map(features)
    if kind == "none":
        return _wide(features).flatten(1)
    if kind == "gap":
        return gap(features)
    if kind == "channel":
        return _wide(features).mean(1).flatten(1)
    if kind == "spatial":
        values = _wide(features)
        return torch.cat([values.mean(2).flatten(1), values.mean(3).flatten(1)], dim=1)
    if kind == "attentional":
        return attentional_pool(features)
    raise unknown_name("pooling", kind, get_args(Pooling))


def unit(vectors: Tensor) -> Tensor:
    """Scale each row to length 1: (N, D) -> (N, D). A row of zeros stays zero and passes no gradient."""
    # By the largest magnitude first, so that squares neither overflow nor vanish.
    scale = vectors.detach().abs().amax(1, keepdim=True)
    zero = scale == 0
    scaled = vectors / torch.where(zero, torch.ones_like(scale), scale)
    length = torch.linalg.vector_norm(torch.where(zero, torch.ones_like(scaled), scaled), dim=1, keepdim=True)
    return torch.where(zero, torch.zeros_like(scaled), scaled / length)


def patches(features: Tensor, n: int) -> Tensor:
    """Cut a map in n x n patches (CSG: Chen et al., ICLR 2021, eq. 6).

    A size that n does not divide is first averaged adaptively to the next smaller multiple of n, and a size below n is
    stretched to n, so that the patches always cover the whole map.

    Args:
        features: (N, C, H, W).
        n: Patches along each side, at least 1.

    Returns:
        (N * n * n, C, H // n, W // n), at least 1 x 1 each, in the dtype of ``features``; ordered by sample, then by
        row, then by column.

    Raises:
        ConfigError: If ``n`` is below 1 or ``features`` is not a map.
    """
    _check_map(features)
    if n < 1:
        raise ConfigError(f"A map is cut in n x n patches with n of at least 1, got {n}.")
    samples, channels, height, width = features.shape
    rows, columns = max(1, height // n), max(1, width // n)
    if (height, width) != (n * rows, n * columns):
        features = F.adaptive_avg_pool2d(features, (n * rows, n * columns))
    cut = features.reshape(samples, channels, n, rows, n, columns).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(samples * n * n, channels, rows, columns)


def grid_average(features: Tensor, cells: int) -> Tensor:
    """Average a map in a grid of cells: (N, C, H, W) -> (N, C, cells, cells).

    A size that ``cells`` does not divide is cut adaptively, as ``torch.nn.AdaptiveAvgPool2d`` does.
    """
    _check_map(features)
    return F.adaptive_avg_pool2d(_wide(features), cells)
