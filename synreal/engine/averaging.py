"""Averages of weights in a run: they follow its last phase, and are tested beside its last weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import torch
from torch import Tensor

from synreal import distributed
from synreal.averages import AVERAGES, Average, Course
from synreal.averages.base import taken
from synreal.config import RunConfig
from synreal.core.norm_stats import gathered_norm_stats, learning_norm_layers, small_batches_told
from synreal.engine import saving
from synreal.engine.loading import batches, length, make_loader
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import START, RunState
from synreal.engine.testing import note_memory, scored
from synreal.records import Score
from synreal.views import derive_seed

MOST_BATCHES: Final = 100
"""Training batches from which BatchNorm's statistics are computed anew for an average, at most."""

MOST_IMAGES: Final = 512
"""Held-out images that a loss is measured on in the course of a run, at most."""

_AT_A_TIME: Final = 16  # of them; no setting, for a loss may depend on which images are in one batch


@dataclass(frozen=True)
class Averaged:
    """An average at the end of a run.

    Attributes:
        scores: By set.
        weights: State dict of the student, on the CPU.
        told: What it is of, in words.
    """

    scores: dict[str, Score]
    weights: dict[str, Tensor]
    told: str


def averages_of(config: RunConfig) -> dict[str, Average]:
    """Return the averages of a run by what results call them, those of ``testing.wise_ft`` first."""
    shares = [AVERAGES.build("wise_ft", {"alpha": alpha}) for alpha in config.testing.wise_ft]
    return {spec.label: spec for spec in (*shares, *cast("tuple[Average, ...]", config.testing.averages))}


def begin(state: RunState, saved: Mapping[str, Tensor] | None) -> None:
    """Let the averages follow a run's last phase.

    Args:
        state: The run at the start of that phase, or where it goes on.
        saved: Where it goes on: the state of the averages.

    Raises:
        CheckpointError: If the state does not fit.
    """
    job = state.job
    specs = averages_of(job.config)
    if not specs:
        return
    now = job.student.network.state_dict()
    if job.start is not None:
        start = {name: job.start[name].to(value.device) for name, value in now.items()}
    else:
        start = {name: value.detach().clone() for name, value in now.items()}
        if any(spec.uses_start for spec in specs.values()):
            state.start = start
    course = Course(state.plan.total, state.plan.steps_per_epoch, partial(heldout_loss, state))
    state.averages = {label: spec.begin(start, course) for label, spec in specs.items()}
    if saved is None:
        return
    for name, value in state.start.items():
        value.copy_(taken(saved, f"{START}/{name}", value))
    for label, averaging in state.averages.items():
        own = f"{label}/"
        averaging.load({key.removeprefix(own): v for key, v in saved.items() if key.startswith(own)}, now)


def heldout_loss(state: RunState) -> float:
    """Return the mean loss of the student on the held-out source, the same in all processes.

    It is measured on at most ``MOST_IMAGES`` images, evenly spread over the set, made as those that are trained on,
    each drawn once and for all. The run's own numbers do not change by it.
    """
    job = state.job
    state.count_training()
    note_memory(state)
    task = copy.copy(job.task)
    task.train = job.task.tests["source"]
    data: Any = task.training_data(1)
    images, device = length(data), job.accelerator.device
    chosen = [(0, number * images // min(images, MOST_IMAGES)) for number in range(min(images, MOST_IMAGES))]
    parts = [chosen[first : first + _AT_A_TIME] for first in range(0, len(chosen), _AT_A_TIME)]
    mine = range(job.accelerator.process_index, len(parts), job.accelerator.num_processes)
    sampler: Any = [parts[number] for number in mine]
    loader = make_loader(data, job.config.data.workers, task.collate, batch_sampler=sampler)
    losses = []
    with torch.no_grad(), torch.random.fork_rng(), job.accelerator.autocast():
        for number, (views, targets) in zip(mine, batches(loader), strict=True):
            torch.manual_seed(derive_seed(job.config.training.seed, "held-out loss", number))
            loss = float(task.heldout_loss(job.student, views, targets, device))
            losses.append((number, loss * len(parts[number])))
    every = sorted(loss for found in distributed.gather_values(losses) for loss in found)
    state.count_testing()
    return sum(loss for _, loss in every) / len(chosen)


def score_averaged(state: RunState) -> dict[str, Averaged]:
    """Test the averages where a run stands, and put the student back.

    Returns:
        What was found, by what results call the average.

    Raises:
        Interrupted: If the run was asked to stop; it has a checkpoint.
    """
    network = state.job.student.network
    if not state.averages:
        return {}
    if state.saved != state.made:  # a run of no step: what a stop in here saves must not be an average
        saving.save(state)
    specs = averages_of(state.job.config)
    end = {name: value.clone() for name, value in network.state_dict().items()}
    found = {}
    try:
        for label, averaging in state.averages.items():
            network.load_state_dict(averaging.weights(end))
            if specs[label].recompute and learning_norm_layers(network):
                _recompute(state)
            state.share_norm_stats()
            scores = scored(state)[1]
            weights = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
            found[label] = Averaged(scores, weights, averaging.describe())
            state.job.progress.say(f"{label}: {averaging.describe()}")
    finally:
        network.load_state_dict(end)
    return found


def _recompute(state: RunState) -> None:
    """Compute BatchNorm's statistics anew, where they learn, from training views; the same batches in all processes."""
    job = state.job
    network, device, seed = job.student.network, job.accelerator.device, job.config.training.seed
    batch_size = job.config.training.batch_size
    plan = BatchPlan(length(job.data), batch_size, 1, derive_seed(seed, "statistics"), most=MOST_BATCHES)
    loader = make_loader(job.data, job.config.data.workers, job.task.collate, batch_sampler=plan)
    with torch.no_grad(), torch.random.fork_rng(), gathered_norm_stats(network), job.accelerator.autocast():
        for number, (views, targets) in enumerate(batches(loader)):
            torch.manual_seed(derive_seed(seed, "statistics", number))
            images, more = job.task.inputs(views, targets, job.student, device)
            with small_batches_told(network):
                network(images[0], **more)
            if job.stop_asked():
                state.count_testing()
                raise saving.stop(state)
