"""Layers that take the statistics of each image out of its features, and how a term reads what they give."""

from __future__ import annotations

from typing import Any

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


class WhitenedMaps:
    """Keeps what the whitening layers gave in the student's own training pass, for a term that penalises it.

    A term makes one in ``__init__``, asks it for the maps in ``forward``, and calls ``remove`` in ``release``. It hears
    the first pass with gradient and in train mode after each ``take``: within a step that is the task's own, which runs
    before all others.

    Args:
        network: The student, ``site.student``.

    Raises:
        StageError: If it has no such layer: there would be nothing to penalise.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = whitening_layers(network)
        if not layers:
            raise StageError(
                f"{type(network).__name__} has no whitening layers. Apply the transform instance_whitening before "
                "attaching: --transform instance_whitening, or InstanceWhitening().apply(network)."
            )
        self.paths = tuple(layers)
        self._hooks = [_Keep() for _ in layers]
        self._handles = [
            layer.register_forward_hook(hook) for layer, hook in zip(layers.values(), self._hooks, strict=True)
        ]

    def take(self) -> dict[str, Tensor]:
        """Return the maps, (N, C, H, W) with gradient, by path of the layer, and forget them.

        Raises:
            StageError: If a layer did not run.
        """
        found = {path: hook.output for path, hook in zip(self.paths, self._hooks, strict=True)}
        for hook in self._hooks:
            hook.output = None
        silent = [path for path, output in found.items() if output is None]
        if silent:
            raise StageError(f"The whitening layers {', '.join(silent)} did not run in this forward pass.")
        return {path: output for path, output in found.items() if output is not None}

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Keep:
    """A forward hook that can be copied and pickled; it holds nothing between two steps."""

    def __init__(self) -> None:
        self.output: Tensor | None = None

    def __call__(self, layer: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if not layer.training or not torch.is_grad_enabled() or self.output is not None:
            return None
        self.output = output
        return output.clone()  # an activation in place would change what is kept

    def __getstate__(self) -> dict[str, Any]:
        return {"output": None}
