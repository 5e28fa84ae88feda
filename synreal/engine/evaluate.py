"""Testing the student of a finished run again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from synreal.config import make_config
from synreal.distributed import lost_peers_told
from synreal.engine import checkpoint, preflight, run_folder
from synreal.engine.building import build_student, transform
from synreal.engine.loading import dead_workers_named
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.testing import score_student
from synreal.errors import CheckpointError
from synreal.parsing import shortened
from synreal.records import Score
from synreal.weights import Student


def evaluate(
    path: str | Path, *, targets: Iterable[str] = (), device: str = "auto", show_progress: bool = True
) -> dict[str, Score]:
    """Test the student of a finished run again, or on other targets.

    Classes and normalisation are the student's, whatever the folders of the data hold by now: data are matched by the
    names of their classes, and a warning tells each difference.

    Args:
        path: The run folder.
        targets: Real data to test on; by default those of the run. Where some are named, the source need not be there.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        Score by set: ``"source"``, where it is there, and each target.

    Raises:
        ConfigError: If the folder holds no run or a target is unknown.
        CheckpointError: If the student cannot be read, or is not the run's.
        DataError: If data are missing or damaged.
    """
    path, targets = Path(path), tuple(targets)
    stored = run_folder.read(path, "evaluate")
    config = make_config({**stored.config, "device": device, **({"targets": targets} if targets else {})})
    file = path / run_folder.STUDENT_FILE
    state = checkpoint.read_student(file)
    facts = checkpoint.read_student_facts(file)
    _check_facts(facts, stored.classes, config.student.backbone, file)
    accelerator = preflight.accelerator(config)
    bare = config.updated(weights="none")
    task = bare.task.load_tests(bare.setup, stored.classes, source=not targets)
    student = build_student(task, bare)
    transform(student, bare)
    _load_student(student.network, state, file)
    student = _prepared_as(student, facts, file)
    student.network.to(accelerator.device)
    with listening() as request, RunProgress(show=show_progress), dead_workers_named(), lost_peers_told():
        return score_student(student, task, config, accelerator, request)[1]


def _check_facts(facts: Mapping[str, Any], classes: Sequence[str], backbone: str, path: Path) -> None:
    """Check that a student is that of its run folder, as far as it says so itself."""
    for name, own, theirs in (
        ("classes", facts.get("classes"), list(classes)),
        ("backbone", facts.get("backbone"), backbone),
    ):
        if own is not None and own != theirs:
            raise CheckpointError(
                f"{path} does not fit the run's configuration: its {name} is {own!r}, and that of run.json {theirs!r}. "
                "The two files are of different runs: put the right one back."
            )


def _prepared_as(student: Student, facts: Mapping[str, Any], path: Path) -> Student:
    """Give a student the normalisation that it was trained with: networks without weights do not know it."""
    if "statistics" not in facts:  # written by an earlier version
        return student
    try:
        mean, std = (tuple(map(float, values)) for values in facts["statistics"])
        statistics = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError("nothing can be normalised by it")
    except (TypeError, ValueError, IndexError, OverflowError):
        raise CheckpointError(
            f"{path} has statistics {shortened(repr(facts['statistics']))}; expected the mean and the standard "
            "deviation of three channels. Put the run's own file back."
        ) from None
    resizing: Any = getattr(student.network, "transform", None)
    if hasattr(resizing, "image_mean"):  # a detector normalises by itself
        resizing.image_mean, resizing.image_std = list(mean), list(std)
    return replace(student, statistics=statistics)


def _load_student(student: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the run's configuration: {error}") from None
