"""From a run's state to a checkpoint, and what must hold for the way back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from synreal import atomic
from synreal.config import make_config
from synreal.engine import checkpoint, environment, hashes, identity, run_folder
from synreal.engine.checkpoint import CheckpointFacts, Snapshot
from synreal.engine.signals import StopRequest
from synreal.engine.state import Job, RunState
from synreal.errors import CheckpointError, Interrupted, TrainingError
from synreal.records import Change
from synreal.registry import loaded


def save(state: RunState) -> None:
    """Make a checkpoint of a run between two steps.

    Raises:
        TrainingError: If a tensor is not finite; no checkpoint is made then.
        CheckpointError: If it cannot be written.
        OSError: If the rows of metrics cannot be brought to the disk.
    """
    job = state.job
    state.count_training()
    state.share_norm_stats()
    tensors = state.model.state_dict()
    broken = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise TrainingError(
            f"After step {state.made} {len(broken)} tensors are not finite, e.g. {broken[0]}: no checkpoint was "
            f"made of them; earlier ones are in {checkpoints(job.path)}. Lower lr, or set clip_norm."
        )
    if job.main:
        atomic.sync(job.path / run_folder.METRICS_FILE)  # its rows are not written again from here on
        snapshot = Snapshot(state.made, tensors, state.optimizer.state_dict(), _facts(state), state.average_tensors())
        checkpoint.save(checkpoints(job.path), snapshot, keep=job.config.output.keep_checkpoints)
    state.saved = state.made
    job.accelerator.wait_for_everyone()


def _facts(state: RunState) -> CheckpointFacts:
    job = state.job
    scaler = job.accelerator.scaler
    return CheckpointFacts(
        config=job.config.model_dump(mode="json"),
        data=job.task.fingerprints,
        **_conditions(job),
        scaler=scaler.state_dict() if scaler else None,
        phase=state.phase,
        step=state.step,
        history=state.history,
        seconds=state.seconds,
        changes=state.changes,
    )


def checkpoints(path: Path) -> Path:
    """Return where a run folder keeps its checkpoints."""
    return path / "checkpoints"


def check(snapshot: Snapshot, job: Job) -> list[Change]:
    """Check that a run can go on from a snapshot; say what keeps it from giving the same bits.

    Returns:
        What was changed under the run so far, now included.

    Raises:
        CheckpointError: If configuration or data changed, or the run has not so many phases.
    """
    facts = snapshot.facts
    stored = make_config(facts.config).model_dump(mode="json")  # a setting that is newer has its default
    other = identity.differences(stored, job.config.model_dump(mode="json"))
    if other:
        raise CheckpointError(
            f"The newest checkpoint in {checkpoints(job.path)} is of another configuration than the run:\n"
            f"{identity.table(other, ('key', 'checkpoint', 'run'))}\nPut the run's own checkpoints back."
        )
    check_data(facts.data, job, "the checkpoint was made")
    if facts.phase >= len(job.phases):
        raise CheckpointError(
            f"The checkpoint is of phase {facts.phase + 1}, but the run has {len(job.phases)}: {', '.join(job.phases)}."
        )
    changed = [
        Change(what=name, then=str(then), now=str(now), step=snapshot.step)
        for name, then, now in _changes(facts, _conditions(job))
    ]
    for change in changed:
        job.progress.say(f"Not bit-exact: {change}. The result says so.")
    return [*facts.changes, *changed]


def _conditions(job: Job) -> dict[str, Any]:
    """Return what the last bits of a run's numbers depend on besides its configuration and data."""
    return {
        "processes": job.accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": environment.device_kind(job.accelerator.device),
        "versions": environment.versions(),
        "plugins": environment.plugins(job.used),
    }


def _changes(facts: CheckpointFacts, here: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key, now in here.items():
        then = getattr(facts, key)
        if not isinstance(now, Mapping):
            then, now = {key: then}, {key: now}
        for name in sorted(then.keys() | now.keys()):
            before, after = then.get(name, "none"), now.get(name, "none")
            if before != after:
                yield f"plugin {name}" if key == "plugins" else name, before, after


def check_data(then: Mapping[str, str], job: Job, since: str) -> None:
    """Check that the data are those of before.

    Raises:
        CheckpointError: If they are not; names the parts.
    """
    now = job.task.fingerprints
    if changed := sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key)):
        hashed = run_folder.read(job.path, "resume").files
        named = hashes.changes(job.path, hashed, hashes.lists(job.task, hashed.keys() & set(changed)))
        raise CheckpointError(
            f"The data changed since {since}: {', '.join(changed)}. {''.join(f'{line}. ' for line in named)}Put the "
            "files back as they were, or start a new run."
        )


def stop(state: RunState) -> Interrupted:
    """Save a run that was asked to stop, unless it is saved already, and build what ends it.

    Raises:
        TrainingError: If a tensor is not finite; no checkpoint is made then.
        CheckpointError: If it cannot be written.
    """
    if state.saved != state.made:  # replacing a whole checkpoint by its equal could only lose it
        save(state)
    return stopped(state.job.request, state.job.path, state.made)


def unstarted(stop: Interrupted, path: Path, *, resume: bool) -> Interrupted:
    """Build what ends a run that was asked to stop before its first step.

    Args:
        stop: What said so.
        path: The run folder.
        resume: Whether it goes on with an earlier run.
    """
    how = f"what it had is kept. {_go_on(path)}" if resume else "nothing is written. Start it again in the same way."
    return Interrupted(f"Stopped before the first step; {how}", stop.exit_code)


def check_classes(path: Path, then: Sequence[str], now: Sequence[str]) -> None:
    """Check that data still have the classes that a run was started with, in their order.

    Args:
        path: The run folder.
        then: What its ``run.json`` says.
        now: The classes of the source as it is now.

    Raises:
        CheckpointError: If they differ; names the difference.
    """
    if tuple(then) == tuple(now):
        return
    gone, new = ([name for name in one if name not in other] for one, other in ((then, now), (now, then)))
    changes = [f"gone: {', '.join(gone)}"] * bool(gone) + [f"new: {', '.join(new)}"] * bool(new)
    raise CheckpointError(
        f"Cannot resume {path}: the classes of the source changed since the run was started. "
        f"{'; '.join(changes) or 'They are in another order'}. Then: {', '.join(then)}. Now: {', '.join(now)}. Give "
        "the source its classes back, or start a new run."
    )


def stopped(request: StopRequest, path: Path, step: int) -> Interrupted:
    """Build what ends a run that was asked to stop and has saved everything.

    Args:
        request: Who asked.
        path: The run folder.
        step: Steps made in the whole run.
    """
    return Interrupted(f"Stopped at step {step}; everything is saved. {_go_on(path)}", request.exit_code)


def _go_on(path: Path) -> str:
    files = "".join(f" --plugin {shlex.quote(str(plugin.path))}" for plugin in loaded() if plugin.path)
    return f"Go on with: synreal run --resume {shlex.quote(str(path))}{files}"
