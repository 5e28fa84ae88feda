"""Stochastic weight averaging: the mean of weights that lie an epoch apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from synreal.averages.base import AVERAGES, Average, Averaging, Course, MeanWeights, warn
from synreal.errors import ConfigError


@AVERAGES.register
class SWA(Average):
    """Mean of the weights at the ends of epochs, from some point of the training on.

    Izmailov et al., UAI 2018, algorithm 1. There the rate is constant or cyclic; with one that decays to zero the last
    weights hardly differ, and the mean is close to them. It takes one copy of the network.

    Attributes:
        start: Share of the steps before which nothing is averaged, in [0, 1).
        every: ``"epoch"``, or a number of steps. The end of the training counts as the end of an epoch.
    """

    name: ClassVar[str] = "swa"
    summary: ClassVar[str] = "mean of the weights at the ends of epochs, late in the training"
    paper: ClassVar[str] = "Izmailov et al., UAI 2018"

    start: float = Field(default=0.75, ge=0, lt=1)
    every: Literal["epoch"] | Annotated[int, Field(ge=1, strict=True)] = "epoch"

    def begin(self, start: Mapping[str, Tensor], course: Course) -> Averaging:
        """Begin with nothing."""
        if course.steps is None:
            raise ConfigError("swa begins after a share of the training: say how many steps it takes, steps=NUMBER.")
        every = course.epoch if self.every == "epoch" else self.every
        if every is None:
            raise ConfigError("swa averages ends of epochs: say how many steps one takes, epoch=len(loader), or every.")
        return _Running(self, start, course.steps, every)


class _Running(Averaging):
    def __init__(self, spec: SWA, start: Mapping[str, Tensor], steps: int, every: int) -> None:
        super().__init__()
        self.spec = spec
        self.steps = steps
        self.every = every
        self._mean = MeanWeights(start)

    def see(self, network: nn.Module) -> None:
        if self.step >= self.spec.start * self.steps and (self.step % self.every == 0 or self.step == self.steps):
            self._mean.add(network.state_dict())

    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._mean.count < 2:
            warn(
                f"{self.spec.label} has averaged {self._mean.count} weights in {self.step} steps, so it is no more "
                "than these weights. Lower start or every."
            )
        return self._mean.weights(last) if self._mean.count else {name: value.clone() for name, value in last.items()}

    def describe(self) -> str:
        return f"mean of {self._mean.count} weights, up to {self.every} steps apart"

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self._mean.tensors("mean")

    def load(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        super().load(tensors, like)
        self._mean = MeanWeights.of(tensors, "mean", like)
