"""Kinds of data sets: one file per kind, and one line here that makes it known. Imports no torch."""

from synreal.data.datasets import DATA
from synreal.data.kinds import (  # noqa: F401
    cityscapes,
    coco,
    digits,
    gta5,
    imagefolder,
    kitti,
    listed,
    masks,
    pacs,
    perception,
    sim10k,
    solo,
    stamps,
    visda17,
    voc,
    yolo,
)

register = DATA.register
