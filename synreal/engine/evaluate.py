"""Testing the student of a finished run again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from synreal.distributed import lost_peers_told
from synreal.engine import preflight
from synreal.engine.loading import dead_workers_named
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.testing import score_student
from synreal.engine.trained import LAST, read_trained
from synreal.records import Score


def evaluate(
    path: str | Path,
    *,
    targets: Iterable[str] = (),
    average: str | None = None,
    device: str = "auto",
    show_progress: bool = True,
) -> dict[str, Score]:
    """Test the student of a finished run again, or on other targets.

    Classes and normalisation are the student's, whatever the folders of the data hold by now: data are matched by the
    names of their classes, and a warning tells each difference.

    Args:
        path: The run folder.
        targets: Real data to test on; by default those of the run. Where some are named, the source need not be there.
        average: An average of weights of the run, e.g. ``"ema(decay=0.99)"``, or the name of a checkpoint; by default
            its last weights.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        Score by set: ``"source"``, where it is there, and each target.

    Raises:
        ConfigError: If the folder holds no run, or a target or an average is unknown.
        CheckpointError: If the student cannot be read, or is not the run's.
        DataError: If data are missing or damaged.
    """
    targets = tuple(targets)
    given: dict[str, Any] = {"device": device, **({"targets": targets} if targets else {})}
    trained = read_trained(Path(path), "evaluate", average or LAST, **given)
    accelerator = preflight.accelerator(trained.config)
    task = trained.load_tests(source=not targets)
    student = trained.student(task)
    student.network.to(accelerator.device)
    with listening() as request, RunProgress(show=show_progress), dead_workers_named(), lost_peers_told():
        return score_student(student, task, trained.config, accelerator, request)[1]
