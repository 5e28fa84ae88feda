"""One run, from a checked configuration to its result."""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from synreal import distributed
from synreal.config import RunConfig
from synreal.engine import averaging, building, checkpoint, environment, hashes, identity, preflight, run_folder, saving
from synreal.engine.building import phases_of
from synreal.engine.checkpoint import Snapshot
from synreal.engine.loading import dead_workers_named, length
from synreal.engine.look import keep_end, look_at_end
from synreal.engine.phases import seen_of_target
from synreal.engine.progress import RunProgress
from synreal.engine.run_folder import RunFacts
from synreal.engine.signals import StopRequest, listening
from synreal.engine.state import Job, RunState
from synreal.engine.testing import score_run, score_shifted
from synreal.engine.trained import Beginning, read_beginning
from synreal.engine.transforming import recipe
from synreal.errors import Interrupted, TrainingError
from synreal.locking import Lock
from synreal.measures import Collection
from synreal.records import Chosen, Cost, Look, Protocol, RunRecord, Score, best_epoch, read_record, write_json
from synreal.registry import loaded
from synreal.tasks.reporting import draw, styled, write_files


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        folder: The run folder.
        record: What ``result.json`` holds.
    """

    folder: Path
    record: RunRecord


def run(config: RunConfig, *, resume: bool = False, overwrite: bool = False, show_progress: bool = True) -> RunResult:
    """Train on synthetic images, test on real ones, and leave a run folder.

    Args:
        config: The configuration.
        resume: Go on with the run in ``config.output.folder``, from its newest whole checkpoint.
        overwrite: Replace a run in ``config.output.folder``.
        show_progress: Write progress to stderr.

    Returns:
        The result; its headline is the last epoch.

    Raises:
        ConfigError: If a setting is wrong or the run folder cannot be used; before any data are read.
        DataError: If data are missing or damaged.
        WeightsError: If pretrained weights are not available.
        CheckpointError: If a run cannot be resumed.
        TrainingError: If a loss is not finite.
        Interrupted: If the run was asked to stop; it has saved a checkpoint.
    """
    preflight.check(config)
    accelerator = preflight.accelerator(config)
    path = config.output.folder or run_folder.default_output(config)
    stored = None
    if resume:
        stored = run_folder.read(path, "resume")
        identity.check(path, stored.config, config)
        run_folder.check_copy(path, stored)
        if (path / run_folder.RESULT_FILE).exists():
            return RunResult(path, read_record(path))
    main = accelerator.is_main_process
    with contextlib.ExitStack() as stack:
        claim = run_folder.claim(path, resume=resume, overwrite=overwrite) if main else None
        lock = None if claim is None else stack.enter_context(claim)
        if resume and (path / run_folder.RESULT_FILE).exists():  # somebody else has just ended it
            return RunResult(path, read_record(path))
        request = stack.enter_context(listening())
        progress = stack.enter_context(RunProgress(show=show_progress and main))
        try:
            with dead_workers_named(), distributed.lost_peers_told():
                return _run(config, path, accelerator, progress, request, lock, stored)
        except OSError as error:  # a full disk, a folder that went away
            raise TrainingError(f"The run in {path} cannot go on: {error}. Its checkpoints are whole.") from error


def _run(
    config: RunConfig,
    path: Path,
    accelerator: Accelerator,
    progress: RunProgress,
    request: StopRequest,
    lock: Lock | None,
    stored: RunFacts | None,
) -> RunResult:
    classes = None if stored is None else stored.classes
    phases = building.phases_of(config)
    snapshot = None if stored is None else checkpoint.load_latest(saving.checkpoints(path))
    begin = None
    if (start := config.student.start) is not None:
        known = snapshot is not None and not config.testing.wise_ft and stored is not None
        begin = Beginning(str(stored.weights.get("start")), None) if known and stored else read_beginning(start)
    try:
        state = building.build(
            config,
            path,
            accelerator,
            phases,
            progress,
            request,
            lock,
            snapshot,
            classes,
            begin=None if begin is None else begin.begin,
        )
        files = _hashed(state) if config.data.strict else {}
    except Interrupted as stop:
        raise saving.unstarted(stop, path, resume=stored is not None) from None
    if stored is not None:
        _take_up(state, stored, snapshot, files)
    if state.job.main:
        if stored is None:
            run_folder.clear(path)
        run_folder.record(path, stored or _run_facts(state.job), config, files)
    accelerator.wait_for_everyone()
    phases[state.phase].run(state)
    while not state.last:
        state = building.advance(state, phases)
        phases[state.phase].run(state)
    collections, scores = score_run(state)
    in_styles, shifted = score_shifted(state)
    averaged = averaging.score_averaged(state)
    collections |= {styled(name): collection for name, collection in in_styles.items()}
    return _finish(state, collections, scores, shifted, averaged, look_at_end(state))


def _hashed(state: RunState) -> dict[str, bytes]:
    state.job.progress.say("Hashing all files of the data.")
    return hashes.lists(state.job.task)


def _take_up(state: RunState, stored: RunFacts, snapshot: Snapshot | None, files: Mapping[str, bytes]) -> None:
    """Say where a run goes on, and drop the rows that it writes again.

    Raises:
        CheckpointError: If the data are others than those that the run began with.
    """
    path, progress = state.job.path, state.job.progress
    saving.check_data(stored.data, state.job, "the run was started")
    hashes.check(path, stored.files, files)
    if unknown := sorted(files.keys() - stored.files.keys()):
        progress.say(f"Files are compared from here on, they were not hashed before: {', '.join(unknown)}.")
    if snapshot is None:
        progress.say(f"{path} holds no checkpoint yet: starting at step 0.")
    if state.job.main:
        tested = [evaluation.step for evaluation in state.history]
        run_folder.truncate_metrics(path / run_folder.METRICS_FILE, state.made, tested)
    if snapshot is not None:
        progress.say(f"Resuming {path} at step {state.made}.")


def _run_facts(job: Job) -> RunFacts:
    return RunFacts(
        format=run_folder.FORMAT,
        config=job.config.model_dump(mode="json"),
        classes=list(job.task.classes),
        data=job.task.fingerprints,
        weights=job.student.origin.as_dict(),
        reference=None if job.reference is None else job.reference.as_dict(),
        versions=environment.versions(),
        plugins=[plugin.facts() for plugin in loaded()],
        command=Path(sys.argv[0]).name,
        environment=environment.describe(job.accelerator.device, job.accelerator.num_processes),
    )


def _finish(
    state: RunState,
    collections: dict[str, Collection],
    scores: dict[str, Score],
    shifted: dict[str, Score],
    averaged: dict[str, averaging.Averaged],
    found: Look | None,
) -> RunResult:
    job = state.job
    config, task = job.config, job.task
    record = RunRecord(
        regularizers=[spec.model_dump(mode="json") for spec in config.terms],
        defaults=[spec.model_dump(mode="json") for spec in config.plain_terms],
        backbone=config.student.backbone,
        architecture=config.task.built_around,
        weights=job.student.origin.as_dict(),
        config=config.model_dump(mode="json"),
        protocol=Protocol(
            task=config.task.name,
            source=config.data.source.label,
            source_fingerprint=task.fingerprints["train"],
            source_images=length(job.source),
            image_size=config.data.image_size,
            views=job.views,
            evaluation=task.evaluation,
            test_time_flips=task.flips,
            checkpoint="last",
            seed=config.training.seed,
            epochs=config.training.epochs,
            steps=state.made,
            batch_size=config.training.batch_size,
            processes=job.accelerator.num_processes,
            chance=task.chance,
            left_out=task.left_out,
            phases=[phase.name for phase in config.phases],
            seen_of_target=seen_of_target(phases_of(config)),
            real_images={name: images.fingerprint for name, images in task.lent.items()},
            seen=list(job.seen),
            versions=environment.versions(),
        ),
        source_heldout=scores["source"],
        shifted=shifted,
        targets={name: score for name, score in scores.items() if name != "source"},
        source_selected=_selected(state, scores, by="source"),
        target_selected=_selected(state, scores),
        averaged={label: average.scores for label, average in averaged.items()},
        seconds={name: round(value, 1) for name, value in state.seconds},
        cost=Cost(
            step_seconds=round(statistics.median(state.steps), 4) if state.steps else None,
            clock=environment.step_clock(job.accelerator.device),
            memory=state.memory,
            device=environment.device_kind(job.accelerator.device),
            threads=torch.get_num_threads(),
        ),
        changes=state.changes,
    )
    if job.main:
        metadata: dict[str, Any] = {
            "backbone": config.student.backbone,
            "classes": task.classes,
            "library": config.task.library,
            "statistics": job.student.statistics,
            **recipe(task, config),
        }
        checkpoint.export_student(job.path / run_folder.STUDENT_FILE, job.model.student.state_dict(), metadata)
        for label, average in averaged.items():
            told = {**metadata, "average": label, "averaged": average.told}
            checkpoint.export_student(job.path / run_folder.average_file(label), average.weights, told)
        for name, collection in collections.items():
            write_files(name, collection, job.path)
        for name, score in scores.items():
            title = f"{score.data} ({score.split}), {record.method}, seed {config.training.seed}"
            draw(task, name, score, job.student, job.path, title, config.testing.figures)
        if found is not None:
            keep_end(job.path, found)
        write_json(job.path / run_folder.RESULT_FILE, record.model_dump(mode="json"))
    job.accelerator.wait_for_everyone()
    return RunResult(job.path, record)


def _selected(state: RunState, scores: Mapping[str, Score], by: str | None = None) -> dict[str, Chosen]:
    """Choose a tested epoch for each target, by one set or by the target itself."""
    best = {}
    history = [{"step": row.step, **row.measures} for row in state.history]
    for name, score in scores.items():
        higher = score.higher_is_better[score.headline_name]
        if name != "source" and (found := best_epoch(history, by or name, name, higher_is_better=higher)) is not None:
            best[name] = found
    return best
