"""The few items of each set that figures show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from synreal.weights import Student

SHOWN: Final = 8
"""How many images of each set a run draws its predictions for."""


def shown(task: Any, name: str, student: Student) -> tuple[list[Any], list[Any], list[Any]]:
    """Return images, targets and predictions for the fixed few items of a set, one by one.

    Args:
        task: A ``Task``.
        name: One of its ``tests``.
        student: The student; its mode stays.
    """
    tests: Any = task.test_data(name)
    network = student.network
    device = next(network.parameters()).device
    spread = [index * len(tests) // SHOWN for index in range(SHOWN)] if len(tests) > SHOWN else range(len(tests))
    images, targets, predictions = [], [], []
    was_training = network.training
    network.eval()
    for index in spread:
        batch, target = task.collate_test([tests[index]])
        with torch.no_grad():
            predictions.append(task.predict(student, batch, device)[0])
        images.append(batch[0])
        targets.append(target[0])
    network.train(was_training)
    return images, targets, predictions
