"""What a run leaves of a test beside its scores: figures, and files of all that was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from synreal.figures import Outcome, figures_of
from synreal.measures import Collection
from synreal.records import Score, write_json
from synreal.tasks.base import Task
from synreal.tasks.shown import shown
from synreal.weights import Student

PREDICTIONS: Final = "predictions"


def styled(style: str) -> str:
    """Return what files call the held-out source in a style that was not trained on."""
    return f"source-{style}"


def write_files(name: str, collection: Collection, folder: Path) -> None:
    """Write into a run folder what goes beyond the score of a test.

    Args:
        name: The set, as files call it.
        collection: Its measures, with everything that was collected.
        folder: The run folder.
    """
    for end, content in collection.files().items():
        (folder / PREDICTIONS).mkdir(exist_ok=True)
        write_json(folder / PREDICTIONS / f"{name}{end}.json", content)


def draw(
    task: Task[Any], name: str, score: Score, student: Student, folder: Path, title: str, more: Sequence[str] = ()
) -> None:
    """Draw the figures of one of a task's tests into a run folder.

    Args:
        task: The task.
        name: Which of its ``tests``.
        score: What its measures made of it.
        student: The student.
        folder: The run folder.
        title: Heading for figures.
        more: Figures beside the task's own, by name.
    """
    images, targets, predictions = shown(task, name, student)
    outcome = Outcome(name, title, task.classes, score, images, targets, predictions)
    for figure in figures_of((*task.spec.figures, *more), task.spec.label):
        figure.draw(outcome, figure.path(folder / "figures", name))
