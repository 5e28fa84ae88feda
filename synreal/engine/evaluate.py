"""Testing the student of a finished run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor, nn

from synreal.config import make_config
from synreal.engine import checkpoint, preflight, run_folder
from synreal.engine.building import build_student, load_task, transform
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.testing import score_student
from synreal.errors import CheckpointError
from synreal.records import Score


def evaluate(
    path: str | Path, *, targets: Iterable[str] = (), device: str = "auto", show_progress: bool = True
) -> dict[str, Score]:
    """Test the student of a finished run again, or on other targets.

    Args:
        path: The run folder.
        targets: Real data to test on; by default those of the run.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        Score by set: ``"source"`` and each target.

    Raises:
        ConfigError: If the folder holds no run or a target is unknown.
        CheckpointError: If the student cannot be read.
    """
    path = Path(path)
    stored = run_folder.read(path, "evaluate").config
    config = make_config({**stored, "device": device, **({"targets": tuple(targets)} if targets else {})})
    state = checkpoint.read_student(path / run_folder.STUDENT_FILE)
    accelerator = preflight.accelerator(config)
    bare = config.updated(weights="none")
    task = load_task(bare)
    student = build_student(task, bare)
    transform(student, bare)
    _load_student(student.network, state, path / run_folder.STUDENT_FILE)
    student.network.to(accelerator.device)
    with listening() as request, RunProgress(show=show_progress):
        return score_student(student, task, config, accelerator, request)[1]


def _load_student(student: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the run's configuration: {error}") from None
