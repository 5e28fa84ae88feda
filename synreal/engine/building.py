"""From a configuration to the state of a run: task, network, regularizers, and what each phase begins with."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from synreal import stopping
from synreal.config import RunConfig
from synreal.core.attach import attach
from synreal.core.norm_stats import hold_norm_stats, small_batches_told
from synreal.core.regularized import RegularizedModel
from synreal.engine import averaging, saving
from synreal.engine.checkpoint import Evaluation, Seconds, Snapshot
from synreal.engine.loading import length
from synreal.engine.phases import Phase
from synreal.engine.progress import RunProgress
from synreal.engine.schedule import BatchPlan
from synreal.engine.signals import StopRequest
from synreal.engine.state import Job, RunState, source_plan
from synreal.engine.transforming import transform
from synreal.errors import CheckpointError, ConfigError, Interrupted, TrainingError
from synreal.locking import Lock
from synreal.records import Change
from synreal.tasks.base import Task
from synreal.tasks.batches import memory_format
from synreal.views import derive_seed
from synreal.weights import Student, WeightsOrigin, create_teacher


def phases_of(config: RunConfig) -> tuple[Phase, ...]:
    """Return the stretches of all phases of a run, in order."""
    return tuple(one for phase in _named_phases(config) for one in phase.stretches())


def _named_phases(config: RunConfig) -> tuple[Phase, ...]:
    """Return the phases as the configuration names them."""
    return cast("tuple[Phase, ...]", config.phases)


def build(
    config: RunConfig,
    path: Path,
    accelerator: Accelerator,
    phases: Sequence[Phase],
    progress: RunProgress,
    request: StopRequest,
    lock: Lock | None = None,
    snapshot: Snapshot | None = None,
    classes: Sequence[str] | None = None,
    begin: Callable[[Task[Any], Student, RegularizedModel], Student] | None = None,
) -> RunState:
    """Build all that a run needs, at its start or where a snapshot was taken.

    Args:
        config: The configuration.
        path: The run folder; nothing is written there.
        accelerator: Device, precision and the other processes.
        phases: The phases, in order.
        progress: What people see.
        request: Whether the run was asked to stop.
        lock: On the run folder; None in the processes that do not write.
        snapshot: What to go on from.
        classes: Those that the run was started with, where it is resumed.
        begin: Gives the student other weights to begin with than pretrained ones.

    Raises:
        ConfigError: If settings do not fit the data or the network.
        DataError: If data are missing or damaged.
        WeightsError: If pretrained weights are not available.
        CheckpointError: If the run cannot go on from the snapshot.
        Interrupted: If the run was asked to stop; nothing is saved of what was built.
    """
    job = _build_job(config, path, accelerator, phases, progress, request, lock, classes, begin)
    for phase in phases:
        phase.make_plan(_in_phase(job, phase))  # too few images for a batch are told now, not after days of training
    if snapshot is None:
        state = _begin(job, phases, 0, before=0, history=[], seconds=Seconds(), changes=[], saved=-1)
    else:
        changes = saving.check(snapshot, job)
        facts = snapshot.facts
        state = _begin(
            job,
            phases,
            facts.phase,
            before=snapshot.step - facts.step,
            history=list(facts.history),
            seconds=facts.seconds.model_copy(),
            changes=changes,
            saved=snapshot.step,
            snapshot=snapshot,
        )
    if config.training.batch_size == 1:
        _try_one_image(job)
    job.model.calibrate(_source_images(job))
    return state


def _try_one_image(job: Job) -> None:
    """Run one image through the student as in training, where each batch is one: some layers cannot learn from that.

    Larger batches cannot be too small: a plan leaves the ragged end of an epoch out.

    Raises:
        ConfigError: If a layer needs more; names it.
    """
    data: Any = job.source
    network = job.student.network
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.random.fork_rng(), torch.no_grad(), hold_norm_stats(network), small_batches_told(network):
            views, targets = job.task.collate([data[0, 0]])
            images, more = job.task.inputs(views, targets, job.student, job.accelerator.device)
            job.model.train()
            network(images[0], **more)
    except TrainingError as error:
        raise ConfigError(f"batch_size is 1. {error} Set training.batch_size=2 or more.") from None
    finally:
        for module, mode in modes.items():
            module.training = mode


def advance(state: RunState, phases: Sequence[Phase]) -> RunState:
    """End a phase and begin the next one.

    Args:
        state: The run at the end of a phase that is not its last; not to be used afterwards.
        phases: The phases, in order.
    """
    job = state.job
    for parameter in state.frozen:
        parameter.requires_grad_(True)
    # Accelerate keeps what it has prepared, and would hand the same network back as it is.
    job.accelerator.free_memory()
    for name in ("_is_accelerate_prepared", "_original_forward", "forward"):
        vars(job.model).pop(name, None)
    return _begin(
        job,
        phases,
        state.phase + 1,
        before=state.made,
        history=state.history,
        seconds=state.seconds,
        changes=state.changes,
        saved=state.saved,
        steps=state.steps,
        memory=state.memory,
    )


def build_student(task: Task[Any], config: RunConfig) -> Student:
    """Build a task's network with its head; the only place that asks a task for one."""
    student = task.build_student()
    student.network.to(memory_format=memory_format(config.student.memory_format))
    return student


def load_task(config: RunConfig) -> Task[Any]:
    """Read the data of a run's task."""
    return config.task.load(config.setup)


def _build_job(
    config: RunConfig,
    path: Path,
    accelerator: Accelerator,
    phases: Sequence[Phase],
    progress: RunProgress,
    request: StopRequest,
    lock: Lock | None,
    classes: Sequence[str] | None,
    begin: Callable[[Task[Any], Student, RegularizedModel], Student] | None,
) -> Job:
    task = load_task(config)
    if classes is not None:
        saving.check_classes(path, classes, task.classes)
    stopping.poll()
    seen = tuple(one for phase in _named_phases(config) for one in phase.read(task))
    views = max(spec.views for spec in config.terms)
    data = task.training_data(views)
    training = config.training
    plan = source_plan(config, length(data), accelerator, epochs=training.epochs, most=training.max_steps)
    torch.manual_seed(derive_seed(config.training.seed, "build"))
    student = build_student(task, config)
    reference, reference_origin = _build_reference(config, task)
    if reference is None and config.student.transforms and any(spec.needs_reference for spec in config.terms):
        reference = copy.deepcopy(student.network)  # the teacher stays as it was pretrained
    transform(student.network, config)
    specs = [spec.scheduled(plan.steps_per_epoch, plan.total).for_classes(task.classes) for spec in config.terms]
    model = attach(student.network, specs, reference=reference, norm=config.student.norm)
    if begin is not None:
        student = begin(task, student, model)
    start = None
    if len(phases) == 1 and any(average.uses_start for average in averaging.averages_of(config).values()):
        start = {name: value.detach().clone() for name, value in student.network.state_dict().items()}
    return Job(
        config=config,
        path=path,
        lock=lock,
        accelerator=accelerator,
        phases=tuple(phase.title for phase in phases),
        task=task,
        views=views,
        source=data,
        seen=seen,
        data=data,
        model=model,
        student=student,
        reference=reference_origin,
        start=start,
        progress=progress,
        request=request,
    )


def _build_reference(config: RunConfig, task: Task[Any]) -> tuple[nn.Module | None, WeightsOrigin | None]:
    """Build the teacher where it is not simply the student as it is: another network, or one with its classifier."""
    if config.reference is not None:
        network, origin = create_teacher(config.reference)
    elif any(spec.needs_classifier for spec in config.terms):
        network, origin = task.build_classifier()
    else:
        return None, None
    return network.to(memory_format=memory_format(config.student.memory_format)), origin


def _begin(
    job: Job,
    phases: Sequence[Phase],
    index: int,
    *,
    before: int,
    history: list[Evaluation],
    seconds: Seconds,
    changes: list[Change],
    saved: int,
    snapshot: Snapshot | None = None,
    steps: list[float] | None = None,
    memory: int | None = None,
) -> RunState:
    """Begin a phase, or go on with it from a snapshot."""
    phase = phases[index]
    job = _in_phase(job, phase)
    plan: BatchPlan = phase.make_plan(job)
    made = phase.make_optimizer(job)
    rates = tuple(float(group["lr"]) for group in made.param_groups)
    frozen = _freeze_others(job.model, made)
    wrapped, optimizer = job.accelerator.prepare(job.model, made)
    if phase.regularized:
        job.model.bind(optimizer)
    if snapshot is not None:
        try:
            job.model.load_state_dict(snapshot.model)
            _load_optimizer(optimizer, snapshot)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint of step {snapshot.step} does not fit the run: {error}. Remove it to go on from the "
                "one before."
            ) from None
        if job.accelerator.scaler and snapshot.facts.scaler:
            job.accelerator.scaler.load_state_dict(snapshot.facts.scaler)
    state = RunState(
        job=job,
        phase=index,
        before=before,
        plan=plan,
        optimizer=optimizer,
        rates=rates,
        wrapped=wrapped,
        to_train=partial(phase.to_train, job),
        frozen=frozen,
        step=0 if snapshot is None else snapshot.facts.step,
        history=history,
        seconds=seconds,
        changes=changes,
        saved=saved,
        steps=[] if steps is None else steps,
        memory=memory,
    )
    if state.last:
        averaging.begin(state, None if snapshot is None else snapshot.averages)
    return state


def _in_phase(job: Job, phase: Phase) -> Job:
    """Return a job with what a phase trains on."""
    job = dataclasses.replace(job, data=job.source)
    items = phase.items(job)
    return job if items is None else dataclasses.replace(job, data=items)


def _freeze_others(model: nn.Module, optimizer: Optimizer) -> tuple[nn.Parameter, ...]:
    """Freeze the parameters that a phase does not train: DDP waits for the gradient of each one that takes some."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    others = tuple(p for p in model.parameters() if p.requires_grad and id(p) not in held)
    for parameter in others:
        parameter.requires_grad_(False)
    return others


def _load_optimizer(optimizer: Optimizer, snapshot: Snapshot) -> None:
    optimizer.load_state_dict(dict(snapshot.optimizer))
    for parameter, held in optimizer.state.items():
        for name, value in held.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                held[name] = torch.empty_like(parameter).copy_(value)  # in the order of the parameter, for its bits


def _source_images(job: Job) -> Iterator[Tensor]:
    """Give training images one by one, the same on all processes, to terms that look at some before training."""
    data: Any = job.source
    order = BatchPlan(length(data), 1, 1, derive_seed(job.config.training.seed, "calibrate"))
    for ((_, index),) in order:
        if job.stop_asked():
            raise Interrupted("Stopped.", job.request.exit_code)
        views, _ = job.task.collate([data[0, index]])
        yield job.task.entry_images(views, job.student, job.accelerator.device)
