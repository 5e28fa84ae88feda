"""``WeightAverage``: an average of weights in a loop of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from synreal.averages.base import AVERAGES, Average, Course
from synreal.core.norm_stats import gathered_norm_stats
from synreal.core.regularized import RegularizedModel
from synreal.errors import CheckpointError, ConfigError

_START = "start/"


class WeightAverage:
    """Follows a network through a training and holds an average of its weights.

    Make it once the network has its final device, before the first step. Plain PyTorch, Accelerate and Lightning step
    the bound optimizer alike. ``state_dict`` and ``load_state_dict`` are there for ``torch.save`` and for Accelerate's
    ``register_for_checkpointing``.

    Args:
        network: The network; of what ``attach`` returns the student is averaged.
        average: A spec, or text such as ``"ema(decay=0.99)"``.
        steps: Optimizer steps of the whole training; ``swa`` asks for it, and ``swad`` then closes its last segment.
        epoch: Optimizer steps of an epoch; ``swa`` asks for it.
        loss: Returns the network's loss on held-out images, as it stands; ``swad`` asks for it. It must leave the
            network's mode as it was, and be equal in all processes.

    Raises:
        ConfigError: If the average is unknown, or asks for what is not given.
    """

    def __init__(
        self,
        network: nn.Module,
        average: str | Average,
        *,
        steps: int | None = None,
        epoch: int | None = None,
        loss: Callable[[], float] | None = None,
    ) -> None:
        self.network = network.student if isinstance(network, RegularizedModel) else network
        self.spec = AVERAGES.spec(average)
        self._start = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self._averaging = self.spec.begin(self._start, Course(steps, epoch, loss))
        if not self.spec.uses_start:
            self._start = {}
        self._handle: Any = None

    def bind(self, optimizer: Optimizer) -> Self:
        """Update after each step of an optimizer, but for those that a GradScaler skips.

        Args:
            optimizer: Any torch optimizer, or what Accelerate or Lightning wraps around one; an earlier one goes.

        Returns:
            The average.

        Raises:
            ConfigError: If it is no optimizer.
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(inner, Optimizer):
            raise ConfigError(f"bind() takes an optimizer, got {type(inner).__name__}.")
        if self._handle is not None:
            self._handle.remove()
        self._handle = inner.register_step_post_hook(self._after_step)
        return self

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        found = getattr(optimizer, "found_inf", None)  # a fused optimizer is called for a skipped step, too
        if found is None or not bool(found):
            self.update()

    def update(self) -> None:
        """See the network's weights after a step; for loops that bind no optimizer."""
        self._averaging.update(self.network)

    @property
    def step(self) -> int:
        """Steps seen so far."""
        return self._averaging.step

    def describe(self) -> str:
        """Say in words what is averaged."""
        return self._averaging.describe()

    def weights(self) -> dict[str, Tensor]:
        """Return the average as a state dict of the network, with its dtypes and devices.

        BatchNorm's running statistics are the average's own; where they learn, see ``applied``.
        """
        return self._averaging.weights(self.network.state_dict())

    @contextmanager
    def applied(self, batches: Iterable[Any] = (), run: Callable[[Any], Any] | None = None) -> Iterator[nn.Module]:
        """Give the network the averaged weights meanwhile, e.g. to test or to save it; it gets its own back.

        Args:
            batches: Where BatchNorm's statistics learn (``attach(norm="train")``, or no ``attach``): batches of
                training images, e.g. a hundred, from which they are computed anew as a cumulative mean. Without any
                they stay the average's.
            run: Runs the network on a batch; by default on the batch itself, or the first of a pair.

        Yields:
            The network.
        """
        own = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        run = run or self._run
        self.network.load_state_dict(self.weights())
        try:
            with torch.no_grad(), gathered_norm_stats(self.network):
                for batch in batches:
                    run(batch)
            yield self.network
        finally:
            self.network.load_state_dict(own)

    def _run(self, batch: Any) -> Any:
        return self.network(batch[0] if isinstance(batch, (list, tuple)) else batch)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that a training goes on from."""
        return self._averaging.tensors() | {f"{_START}{name}": value for name, value in self._start.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state; the next updates give the same bits.

        Raises:
            CheckpointError: If it is another average's, or another network's.
        """
        for name, value in self._start.items():
            found = state.get(f"{_START}{name}")
            if found is None or found.shape != value.shape:
                raise CheckpointError(f"The state of {self.spec.label} does not fit: it has no start of {name}.")
            value.copy_(found)
        self._averaging.load(state, self.network.state_dict())
