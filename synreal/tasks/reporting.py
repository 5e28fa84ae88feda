"""What a run leaves of a test beside its scores: figures, and files of all that was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synreal.figures import Outcome, figures_of
from synreal.measures import Collection
from synreal.records import Score, write_json
from synreal.tasks.base import Task
from synreal.tasks.shown import shown
from synreal.weights import Student


def report(
    task: Task[Any],
    name: str,
    collection: Collection,
    score: Score,
    student: Student,
    folder: Path,
    title: str,
    more: Sequence[str] = (),
) -> None:
    """Write figures, and files that go beyond the score, of one of a task's tests into a run folder.

    Args:
        task: The task.
        name: Which of its ``tests``.
        collection: Its measures, with everything that was collected.
        score: What they made of it.
        student: The student.
        folder: The run folder.
        title: Heading for figures.
        more: Figures beside the task's own, by name.
    """
    for end, content in collection.files().items():
        (folder / "predictions").mkdir(exist_ok=True)
        write_json(folder / "predictions" / f"{name}{end}.json", content)
    images, targets, predictions = shown(task, name, student)
    outcome = Outcome(name, title, task.classes, score, images, targets, predictions)
    for figure in figures_of((*task.spec.figures, *more), task.spec.label):
        figure.draw(outcome, figure.path(folder / "figures", name))
