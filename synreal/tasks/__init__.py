"""Tasks by name. Imports no torch: names are checked before anything heavy loads."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from synreal.errors import unknown_name

if TYPE_CHECKING:
    from synreal.tasks.base import Task

_SHORT = {"cls": "classification", "seg": "segmentation", "det": "detection"}
_SUMMARY = {
    "classification": "one class an image; mean-class and overall accuracy",
    "segmentation": "one class a pixel; mean IoU",
    "detection": "boxes with classes; COCO AP",
}
_ARCHITECTURES = {
    "classification": (),
    # Those of segmentation_models_pytorch that take any encoder; a test compares.
    "segmentation": (
        *("deeplabv3plus", "deeplabv3", "fpn", "unet", "unetplusplus", "upernet", "segformer"),
        *("linknet", "manet", "pan", "pspnet", "dpt"),
    ),
    "detection": ("fasterrcnn", "retinanet", "fcos"),
}


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


def architectures(task: str) -> tuple[str, ...]:
    """Return what can be built around a backbone for a task, by its long name; the default first."""
    return _ARCHITECTURES[task]


def task_class(name: str) -> type[Task]:
    """Return the class of a task."""
    module, cls = {
        "classification": ("classification", "Classification"),
        "segmentation": ("segmentation", "Segmentation"),
        "detection": ("detection", "Detection"),
    }[task_name(name)]
    found: type[Task] = getattr(importlib.import_module(f"synreal.tasks.{module}"), cls)
    return found
