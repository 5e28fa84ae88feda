"""Layers that take the statistics of each image out of its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synreal.errors import StageError


class InstanceNorm(nn.InstanceNorm2d):
    """``InstanceNorm2d`` without running statistics, which says what is wrong with a map of one position.

    It leaves the order of the map in memory as it is.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each channel of each image, (N, C, H, W).

        Raises:
            StageError: If there is one position.
        """
        if input.shape[2] * input.shape[3] < 2:
            raise StageError(
                f"InstanceNorm gets a map of one position, (N, C, H, W) = {tuple(input.shape)}, which has no "
                "deviation. Use larger images."
            )
        output = super().forward(input)
        last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
        return output.contiguous(memory_format=torch.channels_last) if last else output


class Whitening(InstanceNorm):
    """The InstanceNorm without scale and shift that ``instance_whitening`` puts into a network (Choi et al., 2021).

    Args:
        num_features: C.
        eps: Added to the variance.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps, affine=False)


def whitening_layers(network: nn.Module) -> dict[str, Whitening]:
    """Return the layers that ``instance_whitening`` put into a network, by path, in order of depth."""
    return {path: layer for path, layer in network.named_modules() if isinstance(layer, Whitening)}
