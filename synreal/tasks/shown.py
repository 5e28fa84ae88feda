"""Some items of a set with what a student says of them: the fixed few that a run draws, or others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch

from synreal.data.sets import evenly
from synreal.weights import Student

SHOWN: Final = 8
"""How many images of each set a run draws its predictions for."""


class Tested(Protocol):
    """What is asked of a task."""

    def test_data(self, name: str) -> Any:
        """Return the items of one of its tests."""

    def collate_test(self, items: Sequence[Any]) -> Any:
        """Make a batch of some."""

    def predict(self, student: Student, images: Any, device: torch.device) -> Any:
        """Return what a student says of a batch."""


def shown(
    task: Tested, name: str, student: Student, indices: Sequence[int] | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return images, targets and predictions for some items, one by one.

    Args:
        task: The task.
        name: Which of its ``tests``.
        student: The student; its network is afterwards in the mode that it was in.
        indices: Which items; by default the fixed few that figures show.
    """
    tests: Any = task.test_data(name)
    network = student.network
    device = next(network.parameters()).device
    if indices is None:
        indices = evenly(len(tests), SHOWN)
    images, targets, predictions = [], [], []
    was_training = network.training
    network.eval()
    for index in indices:
        batch, target = task.collate_test([tests[index]])
        with torch.no_grad():
            predictions.append(task.predict(student, batch, device)[0])
        images.append(batch[0])
        targets.append(target[0])
    network.train(was_training)
    return images, targets, predictions
