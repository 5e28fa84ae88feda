"""The few items of each set that figures and pages show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from synreal.weights import Student

SHOWN: Final = 8
"""How many images of each set a run draws its predictions for."""


def shown(
    task: Any, name: str, student: Student, indices: Sequence[int] | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return images, targets and predictions for some items of a set, one by one.

    Args:
        task: A ``Task``.
        name: One of its ``tests``.
        student: The student; its mode stays.
        indices: Which items; by default a fixed few, spread evenly over the set.
    """
    tests: Any = task.test_data(name)
    network = student.network
    device = next(network.parameters()).device
    if indices is None:
        few = min(SHOWN, len(tests))
        indices = [place * len(tests) // few for place in range(few)]
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
