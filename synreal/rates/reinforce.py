"""How a policy learns from an episode: REINFORCE on training losses alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from synreal.rates.policy import SCALARS, SHARES, RatePolicy

_TINY = 1e-8


def rewards(losses: Sequence[float], decay: float = 0.9) -> list[float]:
    """Reward of each decision: ``r_t = log(ema_t-1 / L_t)``, how far a window's loss is below those before it.

    The published code has none, for it only uses a policy. Ours sees training losses alone, loss plus penalty, and no
    target; the average starts at the first window, in which no policy has decided anything.

    Args:
        losses: ``L`` of each window, (windows,), above 0.
        decay: Of the moving average.

    Returns:
        (windows - 1,); of windows 1 on.
    """
    average, found = max(losses[0], _TINY), []
    for loss in losses[1:]:
        bounded = max(loss, _TINY)
        found.append(math.log(average / bounded))
        average = decay * average + (1 - decay) * bounded
    return found


def returns(values: Sequence[float], gamma: float = 0.0) -> list[float]:
    """Return of each decision, ``R_t = r_t + gamma R_t+1``.

    Args:
        values: Rewards, (decisions,).
        gamma: Discount; 0 in the published script for segmentation.
    """
    found: list[float] = []
    for value in reversed(values):
        found.append(value + gamma * (found[-1] if found else 0.0))
    return found[::-1]


def policy_loss(policy: RatePolicy, observations: Tensor, actions: Tensor, gained: Tensor) -> Tensor:
    """What REINFORCE minimises: ``- mean_t R_t sum_g log pi_g(a_t)``, without baseline or entropy.

    Args:
        policy: The policy.
        observations: What it saw, (decisions, 5 + groups), float32.
        actions: What it drew, indices into ``SHARES``, (decisions, groups), int64.
        gained: ``R``, (decisions,).

    Returns:
        0-d, differentiable.
    """
    chosen: Tensor = policy(observations).log_softmax(2).gather(2, actions[:, :, None])[:, :, 0]
    return -(gained * chosen.sum(1)).mean()


def reinforce(
    policy: RatePolicy, optimizer: Optimizer, observations: Sequence[Sequence[float]], *, gamma: float = 0.0
) -> float:
    """Learn from one episode: a step for each five decisions, in their order; a rest below five is a step, too.

    Args:
        policy: The policy that decided.
        optimizer: Of its parameters; SGD at 7e-4 with momentum 0.9 in the published script.
        observations: Those of the episode, (windows, 5 + groups); what a window's shares were is what was drawn.
        gamma: As of ``returns``.

    Returns:
        Mean reward of the decisions; 0 if there was none.
    """
    rows = torch.tensor([list(row) for row in observations], dtype=torch.float64)
    found = rewards((rows[:, 0] + rows[:, 1]).tolist())
    if not found:
        return 0.0
    gained = torch.tensor(returns(found, gamma), dtype=torch.float32)
    actions = (rows[1:, len(SCALARS) :] * (len(SHARES) - 1)).round().long()
    policy.train()
    for seen, drawn, value in zip(*(part.split(5) for part in (rows[:-1].float(), actions, gained)), strict=True):
        optimizer.zero_grad()
        policy_loss(policy, seen, drawn, value).backward()
        optimizer.step()
    return sum(found) / len(found)
