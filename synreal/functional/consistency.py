"""Agreement of several views of one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synreal.errors import ConfigError
from synreal.functional.pooling import grid_average


def pyramid_consistency(views: Sequence[Tensor], sizes: Sequence[int] = (1, 2, 4, 8)) -> Tensor:
    """Distance of views from their mean, pooled in grids of several sizes (after DRPC: Yue et al., ICCV 2019).

    ``mean over views k and sizes s of mean |P_s(v^k) - g_s|`` with ``g_s = mean_k P_s(v^k)``, which takes no gradient;
    ``P_s`` averages a map in a grid of s x s cells.

    Args:
        views: ``v^k``, maps of K views of the same images, (N, C, H, W) each, K at least 2. Above a size of 1 cells are
            compared by position, so the views must share their geometry.
        sizes: s, at least 1 each. A map with fewer positions along a side than s shows some of them several times.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ConfigError: If there are fewer than two views, shapes differ, or a size is below 1.
    """
    shapes = [tuple(view.shape) for view in views]
    if len(views) < 2 or len(set(shapes)) > 1:
        raise ConfigError(f"pyramid_consistency compares two or more maps of one shape (N, C, H, W), got {shapes}.")
    if not sizes or min(sizes) < 1:
        raise ConfigError(f"sizes are cells along a side, at least 1 each, got {tuple(sizes)}.")
    losses = []
    for cells in sizes:
        pooled = torch.stack([grid_average(view, cells) for view in views])
        losses.append((pooled - pooled.detach().mean(0)).abs().mean())
    return torch.stack(losses).mean()
