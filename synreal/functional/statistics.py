"""Statistics of feature maps, and maps whose statistics were changed: the maths of the feature-noise transforms.

Maps are (N, C, ...) with any number of axes of positions, float32 or wider; there must be two positions or more.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6


def channel_statistics(maps: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation over positions of each channel of each image.

    ``sig = sqrt(var + eps)`` with the unbiased variance.

    Args:
        maps: (N, C, ...), two positions or more.
        eps: Added to the variance, so that a constant map can be divided by its deviation.

    Returns:
        ``mu`` and ``sig``, (N, C, 1, ...), of the maps' dtype.
    """
    axes = tuple(range(2, maps.ndim))
    variance, mean = torch.var_mean(maps, axes, correction=1, keepdim=True)
    return mean, (variance + eps).sqrt()


def mix_statistics(maps: Tensor, partner: Tensor, share: Tensor, eps: float = EPS) -> Tensor:
    """Give each image statistics between its own and another image's (MixStyle: Zhou et al., ICLR 2021).

    ``(x - mu) / sig * (l sig + (1 - l) sig_p) + l mu + (1 - l) mu_p``. No gradient flows through statistics, as in the
    paper: a map's gradient is scaled by the ratio of new and old deviation.

    Args:
        maps: (N, C, ...).
        partner: int64, (N,): which image each is mixed with.
        share: l, (N,), in [0, 1].
        eps: As for ``channel_statistics``.

    Returns:
        Maps of the same shape.
    """
    mean, deviation = (value.detach() for value in channel_statistics(maps, eps))
    share = _like(share, maps)
    new_mean = share * mean + (1 - share) * mean[partner]
    new_deviation = share * deviation + (1 - share) * deviation[partner]
    return (maps - mean) / deviation * new_deviation + new_mean


def match_distributions(maps: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mix the sorted values of each channel with those of another image (EFDMix: Zhang et al., CVPR 2022).

    ``x + (1 - l) (sorted(x_p)[rank(x)] - sg(x))``: a value goes towards the partner's value of the same rank. The
    gradient to x is the identity; the partner's values get theirs, too. Equal values are ranked by position.

    Args:
        maps: (N, C, ...).
        partner: int64, (N,): which image each is mixed with.
        share: l, (N,), in [0, 1].

    Returns:
        Maps of the same shape.
    """
    flat = maps.flatten(2)
    ordered, order = flat.sort(dim=2, stable=True)
    ranks = torch.empty_like(order).scatter_(2, order, torch.arange(flat.shape[2], device=maps.device).expand_as(order))
    matched = ordered[partner].gather(2, ranks).view(maps.shape)
    return maps + (1 - _like(share, maps)) * (matched - maps.detach())


def shift_statistics(maps: Tensor, mean_noise: Tensor, deviation_noise: Tensor, eps: float = EPS) -> Tensor:
    """Draw each image's statistics anew, as widely as they differ within the batch (DSU: Li et al., ICLR 2022).

    ``(x - mu) / sig * (sig + e_sig S_sig) + mu + e_mu S_mu``, ``S`` being ``sqrt(var + eps)`` of ``mu`` and ``sig``
    with the unbiased variance over the batch. Gradient flows through all of it.

    Args:
        maps: (N, C, ...), two images or more.
        mean_noise: e_mu, (N, C), of N(0, 1).
        deviation_noise: e_sig, (N, C), likewise.
        eps: Added to all three variances.

    Returns:
        Maps of the same shape.
    """
    mean, deviation = channel_statistics(maps, eps)
    mean_spread, deviation_spread = ((value.var(0, correction=1) + eps).sqrt() for value in (mean, deviation))
    new_mean = mean + _like(mean_noise, maps) * mean_spread
    new_deviation = deviation + _like(deviation_noise, maps) * deviation_spread
    return (maps - mean) / deviation * new_deviation + new_mean


def perturb_statistics(maps: Tensor, deviation_factor: Tensor, mean_factor: Tensor) -> Tensor:
    """Scale a map's deviation and its mean (NP: Fan et al., 2023).

    ``a x + (b - a) mu``, which is ``a (x - mu) + b mu``. Gradient flows through the mean.

    Args:
        maps: (N, C, ...); one position is enough.
        deviation_factor: a, (N, C). Where it is negative, contrast is inverted.
        mean_factor: b, (N, C).

    Returns:
        Maps of the same shape.
    """
    mean = maps.mean(tuple(range(2, maps.ndim)), keepdim=True)
    factor = _like(deviation_factor, maps)
    return factor * maps + (_like(mean_factor, maps) - factor) * mean


def relative_spread(maps: Tensor) -> Tensor:
    """Return how much the means of each channel differ within a batch, against the channel that differs most (NP+).

    ``d_c / max_c d`` with ``d`` the unbiased deviation of ``mu`` over the batch, without gradient; 1 for all channels
    where no mean differs.

    Args:
        maps: (N, C, ...), two images or more.

    Returns:
        (C,), in [0, 1].
    """
    spread = maps.detach().flatten(2).mean(2).std(0, correction=1)
    largest = spread.amax()
    return torch.where(largest > 0, spread / largest.clamp_min(torch.finfo(spread.dtype).tiny), 1.0)


def _like(values: Tensor, maps: Tensor) -> Tensor:
    """Bring values of each image, or of each channel of it, to the number of axes of maps."""
    return values.view(*values.shape, *[1] * (maps.ndim - values.ndim)).to(maps.dtype)
