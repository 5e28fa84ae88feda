"""Exponential moving average: recent weights count most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from synreal.averages.base import AVERAGES, Average, Averaging, Course, MeanWeights


@AVERAGES.register
class EMA(Average):
    """Exponential moving average of the weights after every step.

    ``w_e <- a_t w_e + (1 - a_t) w`` with ``a_t = min(1 - 1/(t + 1), decay)`` after step t = 1, 2, ...: the mean of all
    weights, those at the start included, until the decay is reached (mean teacher, Tarvainen and Valpola, NeurIPS 2017;
    the ramp and 0.999 are those of DAFormer, Hoyer et al., CVPR 2022). Without the ramp ``a_t = decay``, and the
    weights at the start count for long. It takes one copy of the network.

    Attributes:
        decay: In [0, 1); 0 follows the last weights.
        ramp: Whether early steps count alike.
    """

    name: ClassVar[str] = "ema"
    summary: ClassVar[str] = "exponential moving average over steps"
    paper: ClassVar[str] = "Tarvainen and Valpola, NeurIPS 2017"

    decay: float = Field(default=0.999, ge=0, lt=1)
    ramp: bool = True

    def begin(self, start: Mapping[str, Tensor], course: Course) -> Averaging:
        """Begin with the weights at the start."""
        return _Running(self, start)


class _Running(Averaging):
    def __init__(self, spec: EMA, start: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.spec = spec
        self._mean = MeanWeights(start)

    def see(self, network: nn.Module) -> None:
        ramp = 1 - 1 / (self.step + 1)
        self._mean.move(network.state_dict(), min(ramp, self.spec.decay) if self.spec.ramp else self.spec.decay)

    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._mean.weights(last)

    def describe(self) -> str:
        return f"moving average over {self.step} steps"

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self._mean.tensors("mean")

    def load(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        super().load(tensors, like)
        self._mean = MeanWeights.of(tensors, "mean", like)
