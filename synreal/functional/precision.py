"""Wide numbers for long sums."""

from __future__ import annotations

import torch
from torch import Tensor


def to_float64(values: Tensor) -> Tensor:
    """Return values as float64, without gradient: on their own device, or on the CPU if that has no float64 (MPS).

    Args:
        values: Of any dtype and shape.
    """
    values = values.detach()
    return values.to("cpu" if values.device.type == "mps" else values.device, torch.float64)
