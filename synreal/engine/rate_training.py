"""Training of the policy that sets ASG's learned rates: many short runs, and REINFORCE after each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from synreal import distributed
from synreal.config import RunConfig
from synreal.engine import building, preflight
from synreal.engine.loading import dead_workers_named
from synreal.engine.phases.learned_rates import LearnedRatesPhase
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.errors import ConfigError
from synreal.rates import RatePolicy, reinforce


def learn_rates(
    config: RunConfig,
    path: Path,
    *,
    episodes: int,
    lr: float = 7e-4,
    gamma: float = 0.0,
    shortest: int = 10,
    tell: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a policy of learning rates, and write it after each episode.

    An episode is the training of a run from the pretrained weights, with the policy as it is, and ends before any test:
    no target is seen. Its seed is that of the configuration plus the episode's number. The policy then takes a step for
    each five decisions (``synreal.rates.reinforce``), by SGD with momentum 0.9; ASG's published script holds these
    settings. What a reward is, is ours: ``synreal.rates.rewards``.

    Args:
        config: The run of an episode; 1 or 2 epochs in ASG. Its phases are replaced.
        path: File of the policy. One that is there is trained further, with the momentum at zero.
        episodes: How many, at least 1.
        lr: Rate of the policy; 7e-4 in ASG's script.
        gamma: Discount of later rewards; 0 there.
        shortest: Steps of the shortest window.
        tell: Called after each episode with its number and mean reward.

    Returns:
        Mean reward of each episode.

    Raises:
        ConfigError: If a setting is wrong, the file is no policy, or there are several processes.
        DataError: If data are missing or damaged.
        TrainingError: If a loss is not finite.
        Interrupted: If it was asked to stop; the policy of the last whole episode is kept.
        OSError: If the file cannot be written.
    """
    if episodes < 1:
        raise ConfigError(f"episodes is {episodes!r}; expected at least 1.")
    policy = RatePolicy.load(path) if path.exists() else RatePolicy(config.training.seed)
    optimizer = torch.optim.SGD(policy.parameters(), lr=lr, momentum=0.9)
    found = []
    for episode in range(episodes):
        with tempfile.TemporaryDirectory(prefix="synreal-rates-") as folder:
            current = Path(folder, "policy.safetensors")
            policy.save(current)
            phase = LearnedRatesPhase(policy=current, shortest=shortest)
            observations = _episode(_with(config, phase, config.training.seed + episode), phase, Path(folder))
        found.append(reinforce(policy, optimizer, observations, gamma=gamma))
        policy.save(path, {"episodes": episode + 1, "source": config.data.source.label, "lr": lr, "gamma": gamma})
        if tell is not None:
            tell(episode, found[-1])
    return found


def _with(config: RunConfig, phase: LearnedRatesPhase, seed: int) -> RunConfig:
    training = config.training.model_copy(update={"seed": seed})
    testing = config.testing.model_copy(update={"eval_every": 0, "wise_ft": ()})
    return config.model_copy(update={"training": training, "testing": testing, "phases": (phase,)})


def _episode(config: RunConfig, phase: LearnedRatesPhase, folder: Path) -> list[list[float]]:
    """Train once, and return what the policy saw."""
    preflight.check(config)
    accelerator = preflight.accelerator(config)
    if distributed.world_size() > 1:
        raise ConfigError("A policy is trained by one process; run it without a launcher.")
    with listening() as request, RunProgress(show=False) as progress, dead_workers_named():
        state = building.build(config, folder, accelerator, (phase,), progress, request)
        phase.run(state)
    return phase.rates(state).observations
