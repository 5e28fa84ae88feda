"""Averages of weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from synreal.errors import ConfigError


def wise_ft(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float = 0.5) -> dict[str, Tensor]:
    """Return the weights between a network's start and its end: ``(1 - alpha) start + alpha end``.

    WiSE-FT (Wortsman et al., CVPR 2022, eq. 2) over a whole state dict: running statistics of norm layers too.

    Args:
        start: State dict before training.
        end: State dict after it, with the same keys and shapes.
        alpha: Share of the way, in [0, 1].

    Returns:
        A new state dict, of the end's dtypes and devices; what is not floating point is the end's.

    Raises:
        ConfigError: If the two do not fit each other, or alpha is out of range.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha!r}; expected the share of the way from start to end, in [0, 1].")
    different = sorted(start.keys() ^ end.keys()) or sorted(k for k in end if start[k].shape != end[k].shape)
    if different:
        raise ConfigError(f"The two state dicts are not of one network: they differ in {', '.join(different[:5])}.")
    return {
        name: value.clone() if not value.is_floating_point() else start[name].to(value).lerp(value, alpha)
        for name, value in end.items()
    }
