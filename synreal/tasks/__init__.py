"""Tasks by name. Imports no torch: names are checked before anything heavy loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synreal.errors import unknown_name

if TYPE_CHECKING:
    from synreal.tasks.base import Task

_SHORT = {"cls": "classification"}
_SUMMARY = {"classification": "one class an image; mean-class and overall accuracy"}


def available() -> dict[str, str]:
    """Return each task's long name and a line about it."""
    return dict(_SUMMARY)


def task_name(name: str) -> str:
    """Return the long name of a task.

    Args:
        name: Long (``"classification"``) or short (``"cls"``).

    Raises:
        ConfigError: If there is no such task; suggests the nearest.
    """
    long = _SHORT.get(name, name)
    if long not in _SUMMARY:
        raise unknown_name("task", name, [*_SHORT, *_SUMMARY])
    return long


def task_class(name: str) -> type[Task]:
    """Return the class of a task."""
    from synreal.tasks.classification import Classification

    return {"classification": Classification}[task_name(name)]
