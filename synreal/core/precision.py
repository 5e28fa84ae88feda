"""What stays in float32 when a model is cast to half precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self


class KeptWide(nn.Module):
    """A module that follows changes of device and dtype and leaves its tensors no narrower than float32.

    Moving averages take steps that are below the resolution of half precision: there they would stand still.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            return new.to(torch.promote_types(new.dtype, torch.float32)) if new.is_floating_point() else new

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self
