"""Testing a student on every set of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from synreal.config import RunConfig
from synreal.engine import environment, saving
from synreal.engine.checkpoint import Evaluation
from synreal.engine.loading import batches, length, make_loader
from synreal.engine.signals import StopRequest
from synreal.engine.state import RunState
from synreal.errors import Interrupted
from synreal.measures import Collection
from synreal.records import Score, with_unit, written
from synreal.tasks.base import Task
from synreal.views import View
from synreal.weights import Student


def score_student(
    student: Student,
    task: Task[Any],
    config: RunConfig,
    accelerator: Accelerator,
    request: StopRequest,
    *,
    names: Iterable[str] | None = None,
    shift: View | None = None,
    asked: Callable[[], bool] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> tuple[dict[str, Collection], dict[str, Score]]:
    """Test a student on every set, each image once, over all processes.

    Args:
        student: The student; its network is afterwards in the mode that it was in.
        task: The task, with the sets.
        config: Sizes of batches and data loading.
        accelerator: Device, precision and the other processes.
        request: Whether the run was asked to stop.
        names: The sets; by default all of the task's.
        shift: A view that changes each image before it is tested.
        asked: Asked between two batches whether to stop, equally often in all processes; by default the request.
        on_stop: Called if so; it raises.

    Returns:
        What was collected and the scores, by set.

    Raises:
        Interrupted: If the run was asked to stop and ``on_stop`` is not given.
    """
    collections = {}
    network = student.network
    was_training = network.training

    def stop() -> None:
        if asked() if asked is not None else request.agreed(accelerator.device):
            if on_stop is not None:
                on_stop()
            raise Interrupted("Stopped while testing.", request.exit_code)

    network.eval()
    for name in task.tests if names is None else names:
        data, collection = task.test_data(name, shift), task.collection(name, config.testing.measures)
        with torch.no_grad(), accelerator.autocast():
            for _, (images, targets) in shared_batches(data, task.collate_test, config, accelerator, stop):
                add_batch(collection, task, student, images, targets, accelerator.device)
        collection.gather(accelerator.device)
        collections[name] = collection
    network.train(was_training)
    return collections, {name: collection.compute() for name, collection in collections.items()}


def shared_batches(
    data: Dataset[Any],
    collate: Callable[[Sequence[Any]], Any],
    config: RunConfig,
    accelerator: Accelerator,
    stop: Callable[[], None],
) -> Iterator[tuple[range, Any]]:
    """Go through the batches of a set that are this process's: each image is in one batch of one process.

    Args:
        data: Items.
        collate: Makes a batch of items.
        config: Sizes of batches and data loading.
        accelerator: Tells which process this is.
        stop: Called after each batch, equally often in all processes; it raises if work is to end.

    Yields:
        Indices of the items of a batch, and the batch.
    """
    size, processes = config.testing.eval_batch_size, accelerator.num_processes
    shard = range(accelerator.process_index, length(data), processes)
    loader = make_loader(data, config.data.workers, collate, batch_size=size, sampler=list(shard))
    left = most_batches(length(data), size, processes)
    for number, batch in enumerate(batches(loader)):
        yield shard[number * size : (number + 1) * size], batch
        left -= 1
        stop()
    for _ in range(left):  # another process has more batches, and asks once after each
        stop()


def add_batch(
    collection: Collection, task: Task[Any], student: Student, images: Any, targets: Any, device: torch.device
) -> None:
    """Predict a batch of test images, and add it to measures with all that they ask for."""
    if collection.asks_confidence:
        output, confidences = task.predict_sure(student, images, device)
        collection.update_sure(output, targets, confidences)
    else:
        collection.update(task.predict(student, images, device), targets)


def most_batches(images: int, batch_size: int, processes: int) -> int:
    """Return how many batches the process has that tests the most images."""
    return math.ceil(math.ceil(images / processes) / batch_size)


def note_memory(state: RunState) -> None:
    """Take note of the peak of memory in training: before the first test or checkpoint, which take more."""
    if state.memory is None:
        state.memory = environment.peak_memory(state.job.accelerator.device)


def score_run(state: RunState) -> tuple[dict[str, Collection], dict[str, Score]]:
    """Test the student of a run where it stands, and keep the scores in the run's history.

    Returns:
        What was collected and the scores, by set.

    Raises:
        Interrupted: If the run was asked to stop; it has a checkpoint.
    """
    job = state.job
    state.count_training()
    note_memory(state)
    state.share_norm_stats()
    collections, scores = scored(state)
    measures = {name: score.measures for name, score in scores.items()}
    state.history.append(Evaluation(step=state.made, measures=measures))
    first = scores["source"].headline_name
    heading, unit = scores["source"].headings[first], scores["source"].units[first]
    text = "  ".join(f"{name} {with_unit(written([s.headline], unit), unit)}" for name, s in scores.items())
    job.progress.say(f"step {state.made}  {heading}  {text}")
    state.log({f"eval/{name}/{m}": v for name, found in measures.items() for m, v in found.items()})
    return collections, scores


def score_shifted(state: RunState) -> tuple[dict[str, Collection], dict[str, Score]]:
    """Test the student on the held-out source in each style of ``testing.shifts``; raises as ``score_run``.

    Returns:
        What was collected and the scores, by the style's name.
    """
    collections, scores = {}, {}
    for shift in cast("tuple[View, ...]", state.job.config.testing.shifts):
        collected, score = scored(state, names=["source"], shift=shift)
        collections[shift.name], scores[shift.name] = collected["source"], score["source"]
    return collections, scores


def scored(
    state: RunState, *, names: Iterable[str] | None = None, shift: View | None = None
) -> tuple[dict[str, Collection], dict[str, Score]]:
    """Test the student as it is, and count the time; if the run is asked to stop, it has a checkpoint, and ends.

    Args:
        state: The run.
        names: The sets; by default all of the task's.
        shift: A view that changes each image before it is tested.

    Returns:
        What was collected and the scores, by set.

    Raises:
        Interrupted: If the run was asked to stop.
    """
    job = state.job

    def stop() -> None:
        state.count_testing()
        raise saving.stop(state)

    found = score_student(
        job.student,
        job.task,
        job.config,
        job.accelerator,
        job.request,
        names=names,
        shift=shift,
        asked=job.stop_asked,
        on_stop=stop,
    )
    state.count_testing()
    return found
