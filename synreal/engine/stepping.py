"""The steps of a phase: batches from where it stands, and what is due between two of them."""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from synreal.engine import environment, saving
from synreal.engine.loading import batches, make_loader
from synreal.engine.state import RunState
from synreal.engine.testing import note_memory, score_run


def source_steps(state: RunState) -> Iterator[Iterator[Any]]:
    """Give the batches of what the phase trains on, ``(views, targets)``, of each step of the phase that is left.

    A step has ``state.plan.accumulate`` batches, each loaded when it is asked for. Call ``step_made`` after each step.
    The model is in the mode that the phase trains it in.

    Raises:
        DataError: If an image cannot be used.
        Interrupted: If the run was asked to stop; it has a checkpoint.
    """
    job = state.job
    job.progress.start(job.phases[state.phase], state.plan.total, state.step)
    state.since = time.monotonic()
    state.plan.start = state.step
    if job.stop_asked():
        raise saving.stop(state)
    if _test_due(state) and state.made not in [evaluation.step for evaluation in state.history]:
        score_run(state)  # the run was stopped before this test had ended
    state.to_train()
    state.tick = environment.now(job.accelerator.device)
    loader = make_loader(job.data, job.config.data.workers, job.task.collate, batch_sampler=state.plan)
    left = batches(loader)
    for _ in range(state.step, state.plan.total):
        step = itertools.islice(left, state.plan.accumulate)
        yield step
        collections.deque(step, maxlen=0)  # batches that a phase has no use for are not the next step's


def step_made(state: RunState, row: Mapping[str, float]) -> None:
    """Count a step; log, test and save where that is due; stop if the run was asked to.

    Args:
        state: The run.
        row: What is logged of the step. Losses and penalties are shown.

    Raises:
        Interrupted: If the run was asked to stop; it has a checkpoint.
        TrainingError: If a checkpoint is due and a tensor is not finite.
    """
    job = state.job
    state.step += 1
    state.steps.append(environment.now(job.accelerator.device) - state.tick)
    state.follow()
    job.progress.step(state.step, {k: v for k, v in row.items() if k.startswith(("loss", "penalty"))})
    if state.made % job.config.output.log_every == 0 or state.done:
        noise = state.model.noise
        left_out = 0 if noise is None else noise.left_out
        state.log({**row, "noise_left_out": left_out} if left_out else row)
    if state.done or state.step % (job.config.output.checkpoint_every or state.plan.steps_per_epoch) == 0:
        note_memory(state)
        saving.save(state)  # before the test: it may take long, and is made again from here
    if job.stop_asked():
        raise saving.stop(state)
    if _test_due(state):
        score_run(state)
        state.to_train()
    state.tick = environment.now(job.accelerator.device)


def _test_due(state: RunState) -> bool:
    """Whether an epoch has just ended after which to test; the test at the end of the run is made in any case."""
    epoch, rest = divmod(state.step, state.plan.steps_per_epoch)
    every = state.job.config.testing.eval_every
    end = state.last and state.done
    return state.step > 0 and not end and rest == 0 and every > 0 and epoch % every == 0
