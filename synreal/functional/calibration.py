"""Calibration: whether a network is right as often as it says that it is."""

from __future__ import annotations

import torch
from torch import Tensor

from synreal.errors import DataError
from synreal.functional.precision import to_float64

_ROUNDING = 1e-6  # by how much a probability of float32 may exceed 1


def calibration_bins(confidences: Tensor, right: Tensor, bins: int = 15) -> Tensor:
    """Sort predictions into bins of equal width by how sure the network is; batches and processes add up.

    Guo et al., ICML 2017, section 2: bin m of M holds confidences in ``((m - 1)/M, m/M]``; 0 falls into the first.

    Args:
        confidences: Probability that the network gives the class it predicts, in [0, 1], of any shape; may be empty.
        right: bool, of the same shape and on the same device: whether that is the true class.
        bins: M.

    Returns:
        float64, (3, M), on the same device, or the CPU if that has no float64: in each bin the number of predictions,
        how many of them are right, and the sum of their confidences. A confidence of NaN makes the last sum NaN.

    Raises:
        DataError: If a confidence lies outside [0, 1], the shapes differ, or there is no bin.
    """
    if confidences.shape != right.shape or bins < 1:
        raise DataError(
            f"Expected one confidence per prediction and at least 1 bin, got {tuple(confidences.shape)} confidences "
            f"for {tuple(right.shape)} predictions and {bins} bins."
        )
    sure = to_float64(confidences.flatten())
    if bool(((sure < 0) | (sure > 1 + _ROUNDING)).any()):
        raise DataError(
            f"Confidences span {float(sure.min()):g}..{float(sure.max()):g}, expected probabilities, 0..1: take the "
            "softmax of logits first."
        )
    edges = torch.arange(1, bins, dtype=torch.float64, device=sure.device) / bins
    index = torch.bucketize(sure, edges)
    columns = torch.stack([torch.ones_like(sure), right.flatten().to(sure), sure])
    return columns.new_zeros(3, bins).index_add_(1, index, columns)


def calibration_error(table: Tensor) -> Tensor:
    """Return the expected calibration error, ``sum_m |B_m|/n |acc(B_m) - conf(B_m)|``.

    Guo et al., ICML 2017, eq. 3.

    Args:
        table: What ``calibration_bins`` returned, added up over all predictions.

    Returns:
        float64, 0-d, in [0, 1]; NaN without predictions.
    """
    number, right, sure = table.double()
    error: Tensor = (right - sure).abs().sum() / number.sum()
    return error
