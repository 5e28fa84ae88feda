"""Transforms: one file each, which changes a network in place before it is attached, and one line here.

No file here may know a task, a trainer, a model zoo or data; how networks are taken apart is in ``synreal.core``.
"""

from synreal.transforms.base import TRANSFORMS, Transform

__all__ = ["TRANSFORMS", "Transform", "available", "get", "register"]

register = TRANSFORMS.register
get = TRANSFORMS.get
available = TRANSFORMS.available
