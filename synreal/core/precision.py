"""What stays in float32 when a model is cast to half precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def kept_wide(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what moves tensors as ``change`` does and leaves them no narrower than float32.

    Moving averages take steps that are below the resolution of half precision: there they would stand still.

    Args:
        change: What ``nn.Module._apply`` is given.
    """

    def moved(tensor: Tensor) -> Tensor:
        new = change(tensor)
        return new.to(torch.promote_types(new.dtype, torch.float32)) if new.is_floating_point() else new

    return moved
