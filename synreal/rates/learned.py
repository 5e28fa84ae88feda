"""The rates of a training that a policy sets, and the windows in which they hold."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from synreal import distributed
from synreal.errors import ConfigError
from synreal.rates.policy import GROUPS, SHARES, RatePolicy
from synreal.views import derive_seed

_KEY = "rates"


def window_length(current: int, before: int, left: int, shortest: int = 10) -> int:
    """Steps of the next window: ``max(shortest, current + before // 20)``, cut where the epoch ends.

    The published code divides the steps of earlier epochs alone by 20, so windows double within an epoch. For 4763
    steps an epoch: 10, 10, 20, 40, ..., 2560, 2203; then 238, 476, ...

    Args:
        current: Steps of this epoch that were made.
        before: Steps of all earlier epochs.
        left: Steps of this epoch that are left, at least 1.
        shortest: 10 for classification in the published code, 20 for segmentation.

    Returns:
        At least 1.
    """
    return min(max(shortest, current + before // 20), left)


class LearnedRates:
    """Lets a policy set an optimizer's rates. Its state is in the optimizer's groups, and is saved with them.

    Call ``apply`` before each step of the optimizer and ``step`` after it. In the first window every group takes the
    whole base rate. At a window's end the policy sees the mean loss and penalty of all processes, progress, the head's
    weight and the present shares; what it draws on process 0 all processes take.

    Args:
        optimizer: Made of ``rate_groups``; also Accelerate's wrapper of one.
        policy: The policy.
        weight: ``last_weight`` of the model.
        total: Steps of the whole training.
        steps_per_epoch: Steps of an epoch.
        shortest: As of ``window_length``.
        seed: Of the draws.

    Raises:
        ConfigError: If the optimizer is made of other groups, or its state is that of another policy.

    Example:
        >>> import timm, torch
        >>> from synreal.rates import last_weight, rate_groups
        >>> model = timm.create_model("test_resnet", num_classes=3)
        >>> optimizer = torch.optim.SGD(rate_groups(model, 0.1))
        >>> rates = LearnedRates(optimizer, RatePolicy(), last_weight(model), total=20, steps_per_epoch=20)
        >>> for step in range(10):
        ...     rates.apply()
        ...     optimizer.step()
        ...     _ = rates.step(loss=1.0, penalty=0.1)
        >>> len(rates.observations), set(rates.shares.values()) <= set(SHARES)
        (1, True)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: RatePolicy,
        weight: Tensor,
        *,
        total: int,
        steps_per_epoch: int,
        shortest: int = 10,
        seed: int = 0,
    ) -> None:
        self.optimizer = cast("Optimizer", getattr(optimizer, "optimizer", optimizer))
        self.policy = policy.cpu().eval()
        self.weight = weight
        self.total = total
        self.steps_per_epoch = steps_per_epoch
        self.shortest = shortest
        self.seed = seed
        if strange := [group.get("name") for group in self.optimizer.param_groups if group.get("name") not in GROUPS]:
            raise ConfigError(
                f"A policy sets the rates of the groups {', '.join(GROUPS)}; the optimizer has one named "
                f"{strange[0]!r}. Make it from synreal.rates.rate_groups(model, lr)."
            )
        for group in self.optimizer.param_groups:
            group.setdefault("base_lr", group["lr"])
        state = self.optimizer.param_groups[0].setdefault(
            _KEY,
            {
                "policy": policy.fingerprint,
                "shares": [1.0] * len(GROUPS),
                "step": 0,
                "length": self._length(0),
                "filled": 0,
                "loss": 0.0,
                "penalty": 0.0,
                "observations": [],
            },
        )
        if state["policy"] != policy.fingerprint:
            raise ConfigError(
                "The rates were set by another policy so far: give the one that this training began with."
            )

    @property
    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.optimizer.param_groups[0][_KEY]  # another object once a state was loaded
        return state

    @property
    def shares(self) -> dict[str, float]:
        """What each group takes of the base rate now, by its name; those in which nothing learns too."""
        return dict(zip(GROUPS, self._state["shares"], strict=True))

    @property
    def observations(self) -> list[list[float]]:
        """What the policy saw at the end of each window so far, (windows, 5 + groups)."""
        return [list(row) for row in self._state["observations"]]

    def apply(self, factor: float = 1.0) -> None:
        """Set the rate of each group for the next step.

        Args:
            factor: What a schedule makes of the base rate, for all groups alike.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor * self.shares[group["name"]]

    def step(self, loss: float, penalty: float) -> bool:
        """Count a step of the optimizer, and let the policy decide at the end of a window.

        Args:
            loss: The task's loss in that step, in this process.
            penalty: The weighted sum of all penalties, likewise.

        Returns:
            Whether a window has ended.
        """
        state = self._state
        state["step"] += 1
        state["filled"] += 1
        state["loss"] += loss
        state["penalty"] += penalty
        ended = bool(state["filled"] == state["length"] or state["step"] == self.total)
        if ended:
            self._observe(state)
        return ended

    def _observe(self, state: dict[str, Any]) -> None:
        everywhere = distributed.gather_values((state["loss"], state["penalty"]))
        loss, penalty = (sum(values) / len(values) / state["filled"] for values in zip(*everywhere, strict=True))
        weight = self.weight.detach().float()
        scalars = [loss, penalty, state["step"] / self.total, float(weight.mean()), float(weight.std())]
        observation = [*scalars, *state["shares"]]
        state["observations"].append(observation)
        state.update(filled=0, loss=0.0, penalty=0.0)
        if state["step"] < self.total:
            seed = derive_seed(self.seed, "rates", state["step"])
            actions = torch.tensor(self.policy.draw(observation, seed), device=self.weight.device)
            distributed.broadcast(actions)
            state["shares"] = [SHARES[action] for action in actions.tolist()]
            state["length"] = self._length(state["step"])

    def _length(self, step: int) -> int:
        current = step % self.steps_per_epoch
        return window_length(current, step - current, self.steps_per_epoch - current, self.shortest)
