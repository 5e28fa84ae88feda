"""Tasks: one file each, and one line here that makes it known. Importing this package imports no torch.

A task knows data, networks and measures; nothing of trainers or configurations.
"""

from synreal.tasks import (
    classification,  # noqa: F401
    detection,  # noqa: F401
    segmentation,  # noqa: F401
)
from synreal.tasks.base import TASKS, TaskSpec
from synreal.tasks.setup import Recipe, Setup

__all__ = ["TASKS", "Recipe", "Setup", "TaskSpec", "available", "get", "register"]

register = TASKS.register
get = TASKS.get
available = TASKS.available
