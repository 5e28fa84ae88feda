"""Kinds of labels: one file per kind, with all that depends on the kind; nothing of tasks, networks or files."""

from synreal.data.labels.base import LABELS, Counts, Geometry, LabelKind

from synreal.data.labels import boxes, classes, masks  # noqa: F401  isort: skip

__all__ = ["LABELS", "Counts", "Geometry", "LabelKind", "available", "get", "register"]

register = LABELS.register
get = LABELS.get
available = LABELS.available
