"""The state of a run: what stays the same throughout, and what each phase and step changes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from synreal import atomic, distributed
from synreal.averages import Averaging
from synreal.config import RunConfig
from synreal.core.norm_stats import norm_layers
from synreal.core.regularized import RegularizedModel
from synreal.engine import run_folder
from synreal.engine.checkpoint import Evaluation, Seconds
from synreal.engine.loading import length
from synreal.engine.progress import RunProgress
from synreal.engine.schedule import BatchPlan
from synreal.engine.signals import StopRequest
from synreal.errors import TrainingError
from synreal.locking import Lock
from synreal.records import Change, Seen
from synreal.tasks.base import Task
from synreal.weights import Student, WeightsOrigin

START: Final = "start"
"""Before the names of the first weights in the saved state of averages; no average is called so."""


@dataclass(frozen=True)
class Job:
    """What stays the same in all phases of a run.

    Attributes:
        config: The configuration.
        path: The run folder.
        lock: On the run folder; None in the processes that do not write.
        accelerator: Device, precision and the other processes.
        phases: What progress calls each phase, in order.
        task: The task, with its data.
        views: How many views of a training image the regularizers ask for.
        source: The source's training items, read by ``(epoch, index)``.
        seen: Which real images phases train on.
        data: What the present phase trains on, read likewise: the source's items, or its own.
        model: Student and regularizers.
        student: The network that is trained, where its weights came from, and how its images are normalised.
        reference: Where the weights came from of a teacher that is another network.
        start: The student's weights before the first step, where an average of a run of one phase needs them.
        progress: What people see.
        request: Whether the run was asked to stop.
    """

    config: RunConfig
    path: Path
    lock: Lock | None
    accelerator: Accelerator
    phases: tuple[str, ...]
    task: Task[Any]
    views: int
    source: Dataset[Any]
    seen: tuple[Seen, ...]
    data: Dataset[Any]
    model: RegularizedModel
    student: Student
    reference: WeightsOrigin | None
    start: dict[str, Tensor] | None
    progress: RunProgress
    request: StopRequest

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return bool(self.accelerator.is_main_process)

    def stop_asked(self) -> bool:
        """Return whether any process was asked to stop, the same in all; called between two steps or batches.

        Raises:
            TrainingError: If the run folder is no longer there: nothing could be saved.
        """
        if self.lock is not None and not self.lock.held:
            raise TrainingError(
                f"The run folder {self.path} is gone, or its {run_folder.LOCK_FILE}: somebody moved or removed it. The "
                "run ends here, for nothing of it could be saved."
            )
        return self.request.agreed(self.accelerator.device)

    @property
    def used(self) -> dict[str, list[str]]:
        """Names of what the run uses that a plugin may have brought, by the kind's plural."""
        return self.config.used

    def plan(self, *, epochs: int, most: int | None = None, fit: bool = False) -> BatchPlan:
        """Return batches of ``data``, as the configuration sizes and draws them.

        Args:
            epochs: Passes over the images.
            most: Greatest number of steps; None for no limit.
            fit: Make batches smaller where there are fewer images than one step has.
        """
        return source_plan(self.config, length(self.data), self.accelerator, epochs=epochs, most=most, fit=fit)


def source_plan(
    config: RunConfig,
    images: int,
    accelerator: Accelerator,
    *,
    epochs: int,
    most: int | None = None,
    fit: bool = False,
) -> BatchPlan:
    """Return batches of so many training images, before there is a ``Job`` that does."""
    size, share = config.training.batch_size, images // (config.training.accumulate * accelerator.num_processes)
    return BatchPlan(
        images,
        min(size, share) if fit and share else size,
        epochs,
        config.training.seed,
        most=most,
        accumulate=config.training.accumulate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )


@dataclass
class RunState:
    """A run in one of its phases.

    Attributes:
        job: What stays the same in all phases.
        phase: Index of the phase.
        before: Steps that earlier phases made.
        plan: The phase's batches.
        optimizer: The phase's optimizer, as Accelerate wraps it.
        rates: Learning rate of each of its groups, as the phase made it.
        wrapped: The model as Accelerate wraps it: what a phase calls.
        to_train: Brings the model into the mode in which the phase trains it.
        frozen: Parameters that do not learn in this phase only.
        step: Steps made in this phase.
        history: The tests so far, in order.
        seconds: What the run has spent so far.
        changes: What was another when the run went on after a stop.
        saved: Steps of the whole run that the newest checkpoint holds; -1 if there is none.
        since: When the time was taken last.
        tick: When the last step ended, or what came between it and the next, by ``environment.now``.
        steps: Seconds, by the same clock, of each step that this process made, loading of its images included.
        memory: Peak of memory in training, in bytes; None before the first test, and where it is not known.
        averages: The averages of weights by what results call them; empty before the last phase.
        start: The student's weights before the last phase, where an average needs them and they must be saved.
    """

    job: Job
    phase: int
    before: int
    plan: BatchPlan
    optimizer: Optimizer
    rates: tuple[float, ...]
    wrapped: nn.Module
    to_train: Callable[[], None]
    frozen: tuple[nn.Parameter, ...]
    step: int
    history: list[Evaluation]
    seconds: Seconds
    changes: list[Change]
    saved: int
    since: float = field(default_factory=time.monotonic)
    tick: float = 0.0
    steps: list[float] = field(default_factory=list)
    memory: int | None = None
    averages: dict[str, Averaging] = field(default_factory=dict)
    start: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def model(self) -> RegularizedModel:
        """Student and regularizers."""
        return self.job.model

    @property
    def made(self) -> int:
        """Steps made in the whole run."""
        return self.before + self.step

    @property
    def last(self) -> bool:
        """Whether this is the last phase."""
        return self.phase + 1 == len(self.job.phases)

    @property
    def done(self) -> bool:
        """Whether the phase has made all its steps."""
        return self.step == self.plan.total

    def count_training(self) -> None:
        """Add the time since the last call to the seconds of training."""
        self.seconds.training += self._elapsed()

    def count_testing(self) -> None:
        """Add the time since the last call to the seconds of testing."""
        self.seconds.testing += self._elapsed()

    def _elapsed(self) -> float:
        now = time.monotonic()
        spent, self.since = now - self.since, now
        return spent

    def log(self, row: Mapping[str, float | None]) -> None:
        """Append a row to ``metrics.jsonl``; the other processes do nothing."""
        if not self.job.main:
            return
        named: dict[str, Any] = {"step": self.made, "epoch": math.ceil(self.step / self.plan.steps_per_epoch)}
        if len(self.job.phases) > 1:
            named["phase"] = self.job.phases[self.phase]
        atomic.append_line(self.job.path / run_folder.METRICS_FILE, json.dumps({**named, **row}, allow_nan=False))

    def follow(self) -> None:
        """Show the averages the weights that a step has made."""
        for averaging in self.averages.values():
            averaging.update(self.job.student.network)

    def average_tensors(self) -> dict[str, Tensor]:
        """Return the state of the averages, to be saved."""
        found = {f"{START}/{name}": value for name, value in self.start.items()}
        for label, averaging in self.averages.items():
            found |= {f"{label}/{name}": value for name, value in averaging.tensors().items()}
        return found

    def share_norm_stats(self) -> None:
        """Give all processes rank 0's running statistics: with ``norm=train`` each saw other images."""
        for layer in norm_layers(self.model):
            for buffer in layer.buffers():
                distributed.broadcast(buffer)
