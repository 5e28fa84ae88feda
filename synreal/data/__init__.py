"""The data sets by name.

This package imports no torch: listing data sets and checking names stays quick. Reading imports the rest.
"""

from __future__ import annotations

from synreal.data import kinds as _kinds  # noqa: F401  announces every kind
from synreal.data.registry import (
    PARTS,
    DataSet,
    FolderData,
    Policy,
    available,
    check_domain,
    check_labels,
    default_targets,
    find,
    get,
    kinds,
    load,
)

__all__ = [
    "PARTS",
    "DataSet",
    "FolderData",
    "Policy",
    "available",
    "check_domain",
    "check_labels",
    "default_targets",
    "find",
    "get",
    "kinds",
    "load",
]
