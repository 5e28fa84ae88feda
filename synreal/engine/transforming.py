"""What a run's transforms make of a network, and how others build it again."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from synreal.config import RunConfig
from synreal.tasks.base import Task
from synreal.transforms import Transform


def transforms_of(config: RunConfig) -> tuple[Transform, ...]:
    """Return the transforms of a run, in order."""
    return cast("tuple[Transform, ...]", config.student.transforms)


def transform(network: nn.Module, config: RunConfig) -> None:
    """Apply the run's transforms to a network, in place and in order."""
    for each in transforms_of(config):
        each.apply(network)


def convert(network: nn.Module, config: RunConfig) -> None:
    """Apply those of the run's transforms that change what a network consists of; in eval mode nothing else shows."""
    for each in transforms_of(config):
        if each.changes_state:
            each.apply(network)


def recipe(task: Task[Any], config: RunConfig) -> dict[str, Any]:
    """Return what somebody needs to build the network that the exported weights fit.

    ``"build"`` is Python that leaves it in ``model``. Where transforms changed what it consists of, that takes synreal,
    and ``"transforms"`` holds them.
    """
    changing = [each.model_dump(mode="json") for each in transforms_of(config) if each.changes_state]
    told: dict[str, Any] = dict(task.recipe)
    if changing:
        told["build"] = (
            f"{told['build'].rstrip()}\n\n"
            "# synreal changed layers of this network: it cannot be built without it (pip install synreal).\n"
            "from synreal.transforms import TRANSFORMS\n\n"
            f"for transform in {changing!r}:\n    TRANSFORMS.spec(transform).apply(model)\n"
        )
        told["transforms"] = changing
    return told
