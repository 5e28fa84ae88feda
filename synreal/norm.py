"""What happens to running statistics of normalisation layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def norm_layers(model: nn.Module) -> list[_NormBase]:
    """Return the layers that keep running statistics (BatchNorm and its relatives, InstanceNorm that tracks)."""
    return [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]


def freeze_norm_stats(model: nn.Module) -> None:
    """Make the network normalise with its stored statistics and leave them alone, until the next ``train()``.

    The affine parameters still learn: this is how CSG trains (Chen et al., ICLR 2021, published code).
    """
    for layer in norm_layers(model):
        layer.eval()


@contextmanager
def hold_norm_stats(model: nn.Module) -> Iterator[None]:
    """Keep running statistics still during an extra forward pass; the pass's own output does not change."""
    held = [layer for layer in norm_layers(model) if layer.training]
    for layer in held:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in held:
            layer.track_running_stats = True
