"""Training on the source with the regularizers: what a run is about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from torch.optim import Optimizer

from synreal import distributed
from synreal.engine.loading import named
from synreal.engine.phases.base import PHASES, Phase, Sees
from synreal.engine.saving import checkpoints
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.engine.stepping import source_batches, step_made
from synreal.errors import TrainingError
from synreal.optim import parameter_groups, warmup_poly
from synreal.views import derive_seed

_MOST_SKIPPED: Final = 48  # a scale that was halved so often lets no gradient overflow that is finite at all


@PHASES.register
class Train(Phase):
    """All that learns, on the source, with the task's loss and the regularizers' penalty."""

    name: ClassVar[str] = "train"
    summary: ClassVar[str] = "all that learns, on the source, with loss and penalty"
    sees: ClassVar[Sees] = "nothing"

    def make_plan(self, job: Job) -> BatchPlan:
        """Return as many passes over the source as the configuration says."""
        return job.plan(epochs=job.config.training.epochs, most=job.config.training.max_steps)

    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the configured optimizer, with a lower rate for the backbone."""
        config = job.config.training
        groups = parameter_groups(job.model, lr=config.lr, backbone_lr_scale=config.backbone_lr_scale)
        if config.optimizer == "adamw":
            return torch.optim.AdamW(groups, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)

    def run(self, state: RunState) -> None:
        """Make the steps that are left.

        Raises:
            TrainingError: If a loss or a gradient is not finite.
            Interrupted: If the run was asked to stop; it has a checkpoint.
        """
        for views, targets in source_batches(state):
            step_made(state, self._step_that_counts(state, views, targets))

    def _step_that_counts(self, state: RunState, views: Any, targets: Any) -> dict[str, float]:
        """Make a step; one that the gradient scaler skips is none: the batch is run again with the smaller scale."""
        for _ in range(_MOST_SKIPPED):
            row = self.step(state, views, targets)
            if not state.job.accelerator.optimizer_step_was_skipped:
                return row
            state.model.forget()  # its keys are made again
        raise TrainingError(
            f"Step {state.made} has gradients that are not finite at any scale ({_MOST_SKIPPED} were tried): "
            f"{_values(row)}. Use precision bf16, lower lr or the weight of the term that grows, or set clip_norm."
        )

    def factor(self, state: RunState) -> float:
        """Return the share of its rate that each group of the optimizer takes in this step."""
        config = state.job.config.training
        if config.schedule == "constant":
            return 1.0
        return warmup_poly(
            state.step,
            state.plan.total,
            warmup=config.warmup_steps,
            power=config.poly_power,
            until=config.poly_until,
        )

    def step(self, state: RunState, views: Any, targets: Any) -> dict[str, float]:
        """Make one step.

        Args:
            state: The run.
            views: Of a batch of images, as the task collates them.
            targets: Likewise.

        Returns:
            What is logged of it.

        Raises:
            TrainingError: If a loss or a gradient is not finite.
        """
        config, accelerator, task = state.job.config.training, state.job.accelerator, state.job.task
        factor = self.factor(state)
        for group, rate in zip(state.optimizer.param_groups, state.rates, strict=True):
            group["lr"] = rate * factor
        # Dropout and its like draw from here: a function of seed, step and process, so a resumed step repeats it.
        torch.manual_seed(derive_seed(config.seed, "step", state.made, accelerator.process_index))
        images, more = task.inputs(views, targets, state.job.student, accelerator.device)
        out = state.wrapped(*images, **more)
        loss = task.loss(out["output"], targets)
        total = loss + out["penalty"]
        names = [name for name in out if name.startswith("penalty")]
        values = torch.stack([loss.detach(), *(out[name].detach() for name in names)]).tolist()
        row = {"loss": values[0], **dict(zip(names, values[1:], strict=True))}
        _check_finite(state, row)
        accelerator.backward(total)
        if config.clip_norm is not None:
            norm = accelerator.clip_grad_norm_(state.wrapped.parameters(), config.clip_norm)
            row["grad_norm"] = float(norm)
            if config.precision != "fp16":  # a scaler skips such a step by itself
                _check_finite(state, row)
        state.optimizer.step()
        state.optimizer.zero_grad()
        row["lr"] = state.optimizer.param_groups[-1]["lr"]
        return row


def _check_finite(state: RunState, row: Mapping[str, float]) -> None:
    """End the run on all processes if any of them has a value that is not finite, and say which images it saw."""
    broken = not all(math.isfinite(value) for value in row.values())
    flag = torch.tensor([float(broken)], device=state.job.accelerator.device)
    if not float(distributed.all_reduce_sum(flag)):
        return
    said = ""
    if broken:
        said = f"{_values(row)}. Its batch: {named(state.job.data, state.plan.at(state.step))}"
    world = distributed.world_size()
    told = [
        text if world == 1 else f"in process {rank} of {world}, {text}"
        for rank, text in enumerate(distributed.gather_values(said))
        if text
    ]
    raise TrainingError(
        f"Step {state.made} is not finite: {'; '.join(told)}. The weights were not changed by it; the newest "
        f"checkpoint is in {checkpoints(state.job.path)}. Lower lr or the weight of the term that grows, or set "
        "clip_norm."
    )


def _values(row: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in row.items())
