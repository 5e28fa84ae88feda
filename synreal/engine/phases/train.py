"""Training on the source with the regularizers: what a run is about."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from synreal import distributed
from synreal.engine.loading import named
from synreal.engine.phases.base import PHASES, Phase, Sees
from synreal.engine.saving import checkpoints
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.engine.stepping import source_steps, step_made
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
        return self.optimizer(job, self.groups(job, job.config.training.lr))

    def groups(self, job: Job, lr: float) -> list[dict[str, Any]]:
        """Return what learns, the backbone at a lower rate; without penalties, the student's parameters alone.

        Args:
            job: The run.
            lr: Rate of the head.
        """
        groups = parameter_groups(job.model, lr=lr, backbone_lr_scale=job.config.training.backbone_lr_scale)
        if self.regularized:
            return groups
        own = {id(parameter) for parameter in job.student.network.parameters()}
        return [{**group, "params": [p for p in group["params"] if id(p) in own]} for group in groups]

    @staticmethod
    def optimizer(job: Job, groups: list[dict[str, Any]]) -> Optimizer:
        """Return the configured optimizer for groups of parameters, each with its rate."""
        config = job.config.training
        if config.optimizer == "adamw":
            return torch.optim.AdamW(groups, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)
        return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)

    def run(self, state: RunState) -> None:
        """Make the steps that are left.

        Raises:
            TrainingError: If a loss or a gradient is not finite.
            Interrupted: If the run was asked to stop; it has a checkpoint.
        """
        for batches in source_steps(state):
            step_made(state, self.step_that_counts(state, batches))

    def step_that_counts(self, state: RunState, batches: Iterator[Any]) -> dict[str, float]:
        """Make a step; one that the gradient scaler skips is none: it is made again with the smaller scale."""
        if state.job.accelerator.scaler is None:
            return self.make_step(state, batches)
        row: dict[str, float] = {}
        for _ in range(_MOST_SKIPPED):
            batches, attempt = itertools.tee(batches)
            row = self.make_step(state, attempt)
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
            warmup=self.warmup(state),
            power=config.poly_power,
            until=config.poly_until,
        )

    def warmup(self, state: RunState) -> int:
        """Return the length of the warm-up, in steps."""
        return state.job.config.training.warmup_steps

    def set_rates(self, state: RunState) -> None:
        """Give each group of the optimizer its rate for this step."""
        factor = self.factor(state)
        for group, rate in zip(state.optimizer.param_groups, state.rates, strict=True):
            group["lr"] = rate * factor

    def make_step(self, state: RunState, batches: Iterable[Any]) -> dict[str, float]:
        """Make one step: the mean of its batches' losses and penalties, and one step of the optimizer.

        Args:
            state: The run.
            batches: The step's batches, ``(views, targets)`` as the task collates them.

        Returns:
            What is logged of it.

        Raises:
            TrainingError: If a loss or a gradient is not finite.
        """
        config, accelerator = state.job.config.training, state.job.accelerator
        self.set_rates(state)
        row: dict[str, float] = {}
        losses: list[dict[str, Tensor]] = []
        for part, (views, targets) in enumerate(batches):
            last = part + 1 == state.plan.accumulate
            with contextlib.nullcontext() if last else accelerator.no_sync(state.wrapped):  # gradients meet once
                total, values = self._loss(state, part, views, targets)
                losses.append(values)
                if last:
                    row = _mean(state, losses)
                accelerator.backward(total / state.plan.accumulate)
            del total  # the graph goes before the next one is made
        if config.clip_norm is not None:
            norm = accelerator.clip_grad_norm_(state.wrapped.parameters(), config.clip_norm)
            row["grad_norm"] = float(norm)
            if config.precision != "fp16":  # a scaler skips such a step by itself
                _check_finite(state, [row])
        state.optimizer.step()
        state.optimizer.zero_grad()
        row["lr"] = state.optimizer.param_groups[-1]["lr"]
        return row

    def _loss(self, state: RunState, part: int, views: Any, targets: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what one of a step's batches is to teach, and its share of it by name, without gradient."""
        task, accelerator = state.job.task, state.job.accelerator
        # Dropout and its like draw from here: a function of seed, step, process and batch, which a resumed run repeats.
        draw = (state.job.config.training.seed, "step", state.made, accelerator.process_index)
        torch.manual_seed(derive_seed(*draw, *([part] if part else [])))
        out = self.output(state, views, targets)
        loss = task.loss(out["output"], targets)
        penalties = {name: value.detach() for name, value in out.items() if name.startswith("penalty")}
        return loss + out["penalty"] if penalties else loss, {"loss": loss.detach(), **penalties}

    def output(self, state: RunState, views: Any, targets: Any) -> dict[str, Any]:
        """Run the model on a batch as the task collates it: what it says, and its penalties."""
        task, device = state.job.task, state.job.accelerator.device
        images, more = task.inputs(views, targets, state.job.student, device)
        if state.model.needs_targets and "targets" not in more:
            more["targets"] = task.labels(targets, device)
        found: dict[str, Any] = state.wrapped(*images, **more)
        return found


def _mean(state: RunState, losses: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Average what a step's batches have, and end the run on all processes if any of it is not finite."""
    numbers = iter(torch.stack([value for values in losses for value in values.values()]).tolist())
    rows = [{name: next(numbers) for name in values} for values in losses]
    _check_finite(state, rows)
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def _check_finite(state: RunState, rows: Sequence[Mapping[str, float]]) -> None:
    """End the run on all processes if any of them has a value that is not finite, and say which images it saw.

    Args:
        state: The run.
        rows: Values of each of the step's batches, or one row for all of them.
    """
    broken = [index for index, row in enumerate(rows) if not all(math.isfinite(value) for value in row.values())]
    flag = torch.tensor([float(bool(broken))], device=state.job.accelerator.device)
    if not float(distributed.all_reduce_sum(flag)):
        return
    said = _told(state, rows, broken) if broken else ""
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


def _told(state: RunState, rows: Sequence[Mapping[str, float]], broken: Sequence[int]) -> str:
    """Name the values and images of the first batch of a step that is not finite."""
    first, parts = broken[0], state.plan.at(state.step)
    if len(rows) == len(parts):
        which, images = ("" if len(parts) == 1 else f", number {first + 1} of {len(parts)} of the step"), parts[first]
        likewise = f" ({len(broken) - 1} more of its batches likewise)" if len(broken) > 1 else ""
        return f"{_values(rows[first])}. Its batch{which}: {named(state.job.data, images)}{likewise}"
    together = [position for part in parts for position in part]
    return f"{_values(rows[first])}. Its {len(parts)} batches: {named(state.job.data, together)}"


def _values(row: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in row.items())
