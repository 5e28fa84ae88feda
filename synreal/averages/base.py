"""What every average is made of: a spec, what runs it, and sums of weights that do not lose digits."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from typing_extensions import Self

from synreal.errors import CheckpointError
from synreal.specs import Spec, SpecRegistry


class AverageWarning(UserWarning):
    """An average is not the one that was asked for, and is not far from the last weights."""


@dataclass(frozen=True)
class Course:
    """What an average is told of a training.

    Attributes:
        steps: Optimizer steps in all; None where that is not known.
        epoch: Steps of a pass over the training images; None likewise.
        loss: Measures the network as it stands on images that are not trained on: its loss, lower is better; None where
            there is no such thing. It must leave the network as it was and be the same in all processes.
    """

    steps: int | None = None
    epoch: int | None = None
    loss: Callable[[], float] | None = None


class Average(Spec):
    """The spec of an average of weights.

    Subclasses set ``name``, ``summary`` and ``paper``, add their settings as fields and make what runs it in ``begin``.

    Attributes:
        paper: Where it is from.
        uses_start: Whether the weights at the start are needed until the end.
        recompute: Whether BatchNorm's running statistics are computed anew for the average, where they learn: as a
            cumulative mean over batches of training views. Statistics that are frozen stay as they are.
    """

    paper: ClassVar[str]
    uses_start: ClassVar[bool] = False

    recompute: bool = Field(default=True)

    @property
    def label(self) -> str:
        """What results call it: its name, and the settings that are not at their default."""
        fields = type(self).model_fields
        ordered = sorted(fields, key=lambda key: key == "recompute")
        changed = [f"{key}={getattr(self, key)!r}" for key in ordered if getattr(self, key) != fields[key].default]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    @abstractmethod
    def begin(self, start: Mapping[str, Tensor], course: Course) -> Averaging:
        """Return what follows a network from its start on.

        Args:
            start: The network's state dict at the start. It must stay as it is.
            course: What is known of the training.

        Raises:
            ConfigError: If the average needs to know more of the training.
        """


class Averaging(ABC):
    """A running average. All that it keeps is in ``tensors``: a training that goes on from there ends in the same bits.

    Attributes:
        step: Optimizer steps seen so far.
    """

    def __init__(self) -> None:
        self.step = 0

    def update(self, network: nn.Module) -> None:
        """See the weights after an optimizer step; a step that a GradScaler skipped is none.

        Args:
            network: The network.
        """
        self.step += 1
        self.see(network)

    @abstractmethod
    def see(self, network: nn.Module) -> None:
        """Take in the weights after step ``self.step``, counted from 1."""

    @abstractmethod
    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the average as a state dict of its own.

        Args:
            last: The network's state dict now; dtypes and devices are as there.
        """

    @abstractmethod
    def describe(self) -> str:
        """Say in words what is averaged, e.g. ``"mean of steps 201 to 800"``."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state, to be saved; without the weights at the start."""
        return {"step": torch.tensor(self.step)}

    def load(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        """Go on from a state.

        Args:
            tensors: The state.
            like: A state dict of the network; what is kept gets its devices and order in memory.

        Raises:
            CheckpointError: If it is another average's, or another network's.
        """
        self.step = int(taken(tensors, "step"))


class MeanWeights:
    """A mean of state dicts, in float32 at least, whatever the network's dtype: one copy of the network.

    What is not floating point, such as BatchNorm's count of batches, is copied from the last one.

    Args:
        like: A state dict of the network; the mean has its shapes, devices and order in memory.

    Attributes:
        count: How many weights the mean is of.
    """

    def __init__(self, like: Mapping[str, Tensor]) -> None:
        self.count = 0
        self._floats = {
            name: value.detach().to(torch.promote_types(value.dtype, torch.float32), copy=True)
            for name, value in like.items()
            if value.is_floating_point()
        }
        self._others = {name: v.detach().clone() for name, v in like.items() if not v.is_floating_point()}

    @torch.no_grad()
    def move(self, state: Mapping[str, Tensor], keep: float) -> None:
        """Move towards other weights: ``w <- keep w + (1 - keep) state``.

        Args:
            state: State dict of the same network.
            keep: In [0, 1].
        """
        held = list(self._floats.values())
        if held:
            current = [state[name].to(value.dtype) for name, value in self._floats.items()]
            get_ema_multi_avg_fn(keep)(held, current, 0)
        for name, value in self._others.items():
            value.copy_(state[name])

    def add(self, state: Mapping[str, Tensor], count: int = 1) -> None:
        """Take weights into the mean, or a mean of so many."""
        self.move(state, self.count / (self.count + count))
        self.count += count

    def join(self, other: MeanWeights) -> None:
        """Take another mean in, weighted by its count."""
        if other.count:
            self.add(other.state(), other.count)

    def state(self) -> dict[str, Tensor]:
        """Return the mean itself, by name; it moves on with it."""
        return {**self._floats, **self._others}

    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a copy with the dtypes, devices and order of names of another state dict."""
        held = self.state()
        return {name: held[name].to(value.device, value.dtype, copy=True) for name, value in last.items()}

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return the state, to be saved."""
        return {f"{prefix}/{name}": v for name, v in self.state().items()} | {
            f"{prefix}.count": torch.tensor(self.count)
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], prefix: str, like: Mapping[str, Tensor]) -> Self:
        """Go on from a state.

        Raises:
            CheckpointError: If it is another network's.
        """
        mean = cls(like)
        for name, value in mean.state().items():
            value.copy_(
                taken(tensors, f"{prefix}/{name}", value)
            )  # in the order in memory that the last bits come from
        mean.count = int(taken(tensors, f"{prefix}.count"))
        return mean


def taken(tensors: Mapping[str, Tensor], key: str, like: Tensor | None = None) -> Tensor:
    """Return a tensor of a saved state.

    Args:
        tensors: The state.
        key: Its name.
        like: What it must have the shape of.

    Raises:
        CheckpointError: If it is not there or has another shape.
    """
    found = tensors.get(key)
    if found is None or (like is not None and found.shape != like.shape):
        what = "is missing" if found is None else f"has shape {tuple(found.shape)}"
        expected = "" if like is None else f", expected {tuple(like.shape)}"
        raise CheckpointError(f"The state of an average does not fit: {key} {what}{expected}.")
    return found


def warn(text: str) -> None:
    """Warn of an average that is not the one that was asked for."""
    warnings.warn(text, AverageWarning, stacklevel=3)


AVERAGES: Final[SpecRegistry[Average]] = SpecRegistry(
    "average", "averages", Average, example="ema(decay=0.999)", texts=("summary", "paper"), taken=("start",)
)
