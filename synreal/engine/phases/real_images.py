"""Which real images a phase trains on, and whether they are tested on, too."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, SerializeAsAny

from synreal import data
from synreal.config import RunConfig
from synreal.data import DataSet
from synreal.data.inspection.duplicates import duplicates
from synreal.errors import ConfigError
from synreal.tasks.base import Task
from synreal.tasks.parts import real_images


def _found(value: Any) -> Any:
    return None if value is None else data.find(value)


RealData = Annotated[
    SerializeAsAny[DataSet] | None,
    BeforeValidator(_found),
    PlainSerializer(lambda value: None if value is None else value.text()),
]
"""Real data, in any form that ``synreal.data.find`` reads, written as text; None for those of the target."""


def check_real(phase: str, given: DataSet | None, config: RunConfig) -> None:
    """Check that what a phase trains on is real and has the labels of the task, and that the phase is there once.

    Args:
        phase: Its name.
        given: What its setting names; None for the target.
        config: The run.

    Raises:
        ConfigError: If not.
    """
    if sum(one.name == phase for one in config.phases) > 1:
        raise ConfigError(f"The phase {phase} is there twice. Leave one out.")
    if given is None and not config.data.targets:
        raise ConfigError(
            f"{phase} takes images of the target, and there is none: name real data, {phase}(images=...)."
        )
    if given is not None:
        data.check_domain(given, "target")
        data.check_labels(given, config.task.label)


def part_of(given: DataSet | None, targets: tuple[DataSet, ...]) -> tuple[DataSet, str]:
    """Return the data set, and its part, that a phase trains on.

    Args:
        given: What its setting names; None for the first target.
        targets: What is tested on.

    Returns:
        The training part where there is one; else all images, which of a target are those that are tested on.
    """
    entry = targets[0] if given is None else given
    return entry.training_part() or (entry, "test")


def tested_as(entry: DataSet, part: str, targets: tuple[DataSet, ...]) -> str | None:
    """Return the name of the target that is tested on the images of a part, as far as descriptions tell; else None."""
    return next((one.label for one in targets if part == "test" and one.same_images(entry)), None)


def load_real(task: Task[Any], entry: DataSet, part: str) -> Any:
    """Read a part of real data with the classes of a task's network; a warning lists each difference.

    Raises:
        ConfigError: If they share no class with the network.
        DataError: If data are missing or damaged.
    """
    return real_images(task.spec.label, task.setup, entry, part, task.classes)


def shared_with_tests(images: Any, task: Task[Any]) -> tuple[str, str] | None:
    """Return the name of a target that is tested on some of the images, and one of these; None if there is none."""
    for name, tests in task.tests.items():
        if name == "source":
            continue
        if tests.fingerprint == images.fingerprint:
            return name, "all of them"
        if found := duplicates(images, tests):
            return name, found[0][0]
    return None
