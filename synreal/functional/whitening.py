"""Whitening losses: how much the channels of an image's map go together (RobustNet: Choi et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_EPS = 1e-5
_Costs = NDArray[np.float64]
_Counts = NDArray[np.int64]


def instance_covariance(maps: Tensor, eps: float = _EPS) -> Tensor:
    """Return the covariance of the channels of each image, ``v v^T / (HW - 1) + eps I``, with ``v`` the map as (C, HW).

    Means are not taken off: behind an InstanceNorm they are 0.

    Args:
        maps: (N, C, H, W), any float dtype, of at least two positions.
        eps: Added to the diagonal.

    Returns:
        (N, C, C), in float32 or better.
    """
    flat = maps.flatten(2)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    covariance = flat @ flat.transpose(1, 2) / (flat.shape[2] - 1)
    return covariance + eps * torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)


def whitening_loss(covariance: Tensor, mask: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Return ``mean_n max(0, sum_ij |S o M|_ij - margin) / |M|``, as published code computes it.

    Args:
        covariance: S, (N, C, C).
        mask: M, (C, C), bool.
        margin: How large the sum may be for nothing, at least 0.

    Returns:
        A scalar; 0 where the mask is empty.
    """
    count = mask.sum()
    sums = (covariance.abs() * mask).sum((1, 2))
    return ((sums - margin).clamp(min=0) / count.clamp(min=1)).mean()


def covariance_variance(first: Tensor, second: Tensor) -> Tensor:
    """Return the variance of each entry over two views of an image, summed over images: ``(S - S')^2 / 2``.

    Args:
        first: Covariances of the images, (N, C, C).
        second: Those of their other views.

    Returns:
        (C, C).
    """
    return ((first - second).square() / 2).sum(0)


def sensitive_entries(variance: Tensor, clusters: int) -> Tensor:
    """Return which entries of a covariance change with an image's look: all but the lowest cluster's.

    The entries are clustered by k-means in one dimension, exactly. As in published code all C x C take part, the
    diagonal and the lower triangle as zeros, which then lie in the lowest cluster and move its centre.

    Args:
        variance: (C, C), at least 0.
        clusters: k, at least 2.

    Returns:
        (C, C), bool, within the strict upper triangle. Nothing where all variances are equal.
    """
    upper = variance.detach().triu(1)
    values, counts = np.unique(upper.double().cpu().numpy(), return_counts=True)
    least = lowest_cluster(values, counts, clusters)
    chosen = upper > float(values[least - 1])
    return torch.ones_like(upper, dtype=torch.bool).triu(1) & chosen


def lowest_cluster(values: _Costs, counts: _Counts, clusters: int) -> int:
    """Return how many of the least values are one cluster in the best k-means of numbers.

    Exact, in O(k n log n): the best clusters of numbers are intervals, and where the last one starts never moves back
    as numbers are added.

    Args:
        values: (n,), different and rising.
        counts: (n,), how often each occurs.
        clusters: k, at least 1; n are enough.

    Returns:
        From 1 to n.
    """
    weights = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    centred = values - np.average(values, weights=counts)  # differences of squares lose less
    sums = np.concatenate([[0.0], np.cumsum(counts * centred)])
    squares = np.concatenate([[0.0], np.cumsum(counts * centred**2)])

    def cost(start: _Counts, stop: _Counts) -> _Costs:
        """Squared distances of values ``start`` to ``stop - 1`` to their mean."""
        total = sums[stop] - sums[start]
        found: _Costs = squares[stop] - squares[start] - total**2 / (weights[stop] - weights[start])
        return np.maximum(found, 0.0)

    n = len(values)
    stops = np.arange(1, n + 1)
    best = cost(np.zeros(n, dtype=np.int64), stops)  # of the first 1 to n values in one cluster
    first = stops.copy()  # and how many of them are in the lowest one
    for _ in range(min(clusters, n) - 1):
        best, first = _one_more(best, first, cost)
    return int(first[-1])


def _one_more(best: _Costs, first: _Counts, cost: Callable[[_Counts, _Counts], _Costs]) -> tuple[_Costs, _Counts]:
    """Allow one more cluster, behind the others; see ``lowest_cluster``.

    The place where it starts is sought for the middle one of the first 2 to n values, then for the middle of each half
    within what that leaves, and so on: all of one depth at once.
    """
    n = len(best)
    cheapest, lowest = best.copy(), first.copy()
    low, high, start, stop = (np.array([value]) for value in (2, n, 1, n - 1))
    while low.size:
        keep = low <= high
        low, high, start, stop = low[keep], high[keep], start[keep], stop[keep]
        middle = (low + high) // 2
        sizes = np.minimum(stop, middle - 1) - start + 1
        begin = np.cumsum(sizes) - sizes
        before = np.arange(sizes.sum()) - np.repeat(begin - start, sizes)  # values in the clusters of before
        costs = best[before - 1] + cost(before, np.repeat(middle, sizes))
        least = np.minimum.reduceat(costs, begin) if begin.size else costs
        hits = np.flatnonzero(costs == np.repeat(least, sizes))
        _, once = np.unique(np.searchsorted(begin, hits, side="right"), return_index=True)
        chosen = before[hits[once]]
        cheapest[middle - 1], lowest[middle - 1] = least, first[chosen - 1]
        low, high = np.concatenate([low, middle + 1]), np.concatenate([middle - 1, high])
        start, stop = np.concatenate([start, chosen]), np.concatenate([chosen, stop])
    return cheapest, lowest
