"""The data sets by name.

This package imports no torch: listing data sets and checking names stays quick. Reading imports the rest.
"""

from __future__ import annotations

from synreal.tasks.data import (  # noqa: F401  each name announces data sets
    cityscapes,
    coco,
    embedded,
    gta5,
    imagefolder,
    kitti,
    listed,
    masks,
    sim10k,
    solo,
    stamps,
    visda17,
    voc,
    yolo,
)
from synreal.tasks.data.registry import (
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
