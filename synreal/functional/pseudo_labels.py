"""Class-balanced pseudo-labels: CBST (Zou et al., ECCV 2018) and CRST (Zou et al., ICCV 2019)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

BINS: Final = 2**16
"""Bins of confidences for each class."""

NO_LABEL: Final = -1
"""Label of an item that gets none."""

_SHIFT: Final = 13  # of the 23 bits of a mantissa: 10 stay, so that a bin is at most 2^-10 of its value wide
_LEAST, _HALF = 0x33800000, 0x3F000000  # the bits of 2^-24, the least doubt that float32 knows beside none, and of 0.5
_ABOVE_HALF: Final = ((_HALF - _LEAST) >> _SHIFT) + 1  # bins
_SLACK: Final = 1e-9  # 0.3 * 10 is 3.0000000000000004 for one way to write 0.3 and 2.9999999999999996 for another


def confidence_bins(confidences: Tensor) -> Tensor:
    """Return the bin of each confidence; a lower bin is a higher confidence.

    A bin is 2^-10 of ``min(p, 1 - p)`` wide at most, because networks are sure of most that they say: bins of one width
    would tell nothing apart next to 1. No doubt at all has a bin of its own.

    Args:
        confidences: p, float32, any shape, in [0, 1].

    Returns:
        int64, the same shape, in [0, BINS).
    """
    sure = confidences.float().clamp(0, 1).contiguous()
    above = (((1 - sure).view(torch.int32) - _LEAST) >> _SHIFT) + 1
    below = _ABOVE_HALF + ((_HALF - sure.view(torch.int32)) >> _SHIFT)
    return torch.where(sure > 0.5, above, below).clamp(0, BINS - 1).long()


def class_thresholds(counts: Tensor, least: Tensor, share: float) -> Tensor:
    """Return the confidence that the surest share of the items of each class has at least (CBST, eq. 6).

    Of class k the ``n_k`` items that are predicted to be k are sorted by confidence, the highest first; ``t_k`` is the
    confidence at rank ``floor(share n_k)``, counted from 1. Where that rank is 0, because few or none are predicted to
    be k, ``t_k`` is 1. Items of one bin count as equally sure: ``t_k`` is the lowest of them, so that all of them reach
    it.

    Args:
        counts: int64, (K, BINS): how many items that are predicted to be of a class have a confidence in a bin.
        least: Float32, (K, BINS): the lowest confidence among them; anything in an empty bin.
        share: p, in (0, 1].

    Returns:
        Float32, (K,), in (0, 1].
    """
    ranks = (counts.sum(1).double() * share + _SLACK).floor().long()
    first = (counts.cumsum(1) >= ranks[:, None]).long().argmax(1, keepdim=True)
    return torch.where(ranks == 0, 1.0, least.gather(1, first)[:, 0])


def class_balanced_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """Label items by the class whose probability exceeds its threshold by the largest factor (CBST, eq. 5).

    The label is ``argmax_k p_k / t_k`` where ``max_k p_k / t_k >= 1``. That is another class than ``argmax_k p_k``
    where a class that the network is less sure of elsewhere is nearly as probable. Of equal ratios the first counts.

    Args:
        probabilities: Float32, (N, K).
        thresholds: Float32, (K,), above 0.

    Returns:
        int64, (N,): the class, or ``NO_LABEL``.
    """
    ratios, labels = (probabilities.float() / thresholds.to(probabilities.device)).max(1)
    return torch.where(ratios >= 1, labels, NO_LABEL)
