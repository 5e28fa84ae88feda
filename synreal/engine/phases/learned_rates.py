"""Training with ASG's learned rates: a policy sets the rate of each group of layers (Chen et al., ICML 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch.optim import Optimizer

from synreal.config import RunConfig
from synreal.engine.phases.base import PHASES, Sees
from synreal.engine.phases.train import Train
from synreal.engine.state import Job, RunState
from synreal.engine.stepping import source_steps, step_made
from synreal.errors import CheckpointError, ConfigError
from synreal.rates import LearnedRates, RatePolicy, last_weight, rate_groups


@PHASES.register
class LearnedRatesPhase(Train):
    """As ``train``, with a policy that sets the rate of the stem, of each stage and of the head, window by window.

    A group takes 0, 0.1, ..., 1 of ``lr``, and the schedule acts on all of them alike; ``backbone_lr_scale`` has no
    part in it.

    Attributes:
        policy: File of a policy, as ``synreal.engine.learn_rates`` writes it; None draws a fresh one, which has learnt
            nothing, from the run's seed.
        shortest: Steps of the shortest window; ASG takes 10 for classification and 20 for segmentation.
    """

    name: ClassVar[str] = "learned_rates"
    summary: ClassVar[str] = "as train, with a policy that sets the rate of each group of layers (ASG)"
    sees: ClassVar[Sees] = "nothing"

    policy: Path | None = None
    shortest: int = Field(default=10, ge=1)

    def check(self, config: RunConfig) -> None:
        """Read the policy.

        Raises:
            ConfigError: If it cannot be read.
        """
        if self.policy is not None:
            RatePolicy.load(self.policy)

    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the configured optimizer, with a group for each stage and one for the rest."""
        return self.optimizer(job, rate_groups(job.model, job.config.training.lr))

    def run(self, state: RunState) -> None:
        """Make the steps that are left.

        Raises:
            TrainingError: If a loss or a gradient is not finite.
            CheckpointError: If the run was begun with another policy.
            Interrupted: If the run was asked to stop; it has a checkpoint.
        """
        rates = self.rates(state)
        for batches in source_steps(state):
            rates.apply(self.factor(state))
            taken = {f"rates/{group}": share for group, share in rates.shares.items()}
            row = self.step_that_counts(state, batches)
            rates.step(row["loss"], row["penalty"])
            step_made(state, {**row, **taken})

    def set_rates(self, state: RunState) -> None:
        """Leave the rates as the policy has set them."""

    def rates(self, state: RunState) -> LearnedRates:
        """Return what sets the rates of a run, as far as it has come.

        Raises:
            CheckpointError: If the run was begun with another policy.
        """
        seed = state.job.config.training.seed
        try:
            return LearnedRates(
                state.optimizer,
                RatePolicy(seed) if self.policy is None else RatePolicy.load(self.policy),
                last_weight(state.model),
                total=state.plan.total,
                steps_per_epoch=state.plan.steps_per_epoch,
                shortest=self.shortest,
                seed=seed,
            )
        except ConfigError as error:
            if state.step == 0:
                raise
            raise CheckpointError(f"The run cannot go on with the policy {self.policy}. {error}") from None
