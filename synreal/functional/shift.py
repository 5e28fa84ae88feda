"""What a network's confidence tells of images without labels."""

from __future__ import annotations

import torch
from torch import Tensor

from synreal.errors import DataError
from synreal.functional.precision import to_float64


def thresholded_confidence(confidences: Tensor, right: Tensor, elsewhere: Tensor) -> float:
    """Estimate the share of right predictions on images without labels: average thresholded confidence.

    Garg et al., ICLR 2022, eq. 1 and 2, with the greatest probability as the score: the threshold t is where as many
    labelled predictions are less sure than t as are wrong, and the estimate is the share of the unlabelled ones that
    are as sure as t or surer. It holds where confidence means the same on both; a network that is sure of what it has
    never seen is rated too high.

    Args:
        confidences: Probability of the class that is predicted, of labelled images or pixels, (N,), N >= 1.
        right: bool, (N,): whether that is the true class.
        elsewhere: The same probability where there are no labels, (M,), M >= 1.

    Returns:
        The estimate, in [0, 1].

    Raises:
        DataError: If there is nothing to compare, or shapes differ.
    """
    if confidences.ndim != 1 or confidences.shape != right.shape or not len(confidences) or not elsewhere.numel():
        raise DataError(
            f"Expected confidences and whether they are right, (N,), and others, (M,), none empty; got "
            f"{tuple(confidences.shape)}, {tuple(right.shape)} and {tuple(elsewhere.shape)}."
        )
    ordered = to_float64(confidences).sort().values
    wrong = int((~right).sum())
    if wrong == len(ordered):
        return 0.0
    return float((to_float64(elsewhere) >= ordered[wrong]).double().mean())


def agreement(one: Tensor, other: Tensor) -> float:
    """Return the share of predictions in which two networks agree.

    Of two that were trained alike with other seeds it estimates their accuracy (Jiang et al., ICLR 2022, eq. 3); of two
    that were trained differently it only bounds it: where they disagree, one of them is wrong.

    Args:
        one: Class ids, (N,), N >= 1.
        other: The other network's for the same images or pixels, (N,).

    Returns:
        In [0, 1].

    Raises:
        DataError: If shapes differ, or there is none.
    """
    if one.shape != other.shape or not one.numel():
        raise DataError(f"Expected as many class ids of both, got {tuple(one.shape)} and {tuple(other.shape)}.")
    return float(torch.eq(one, other).double().mean())
