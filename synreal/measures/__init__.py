"""Measures: one file per measure, and one line here that makes it known.

What collects over a test set lives here too; the mathematics is in ``synreal.functional``, tables in
``synreal.records``. Nothing here knows a task.
"""

from synreal.measures import (
    accuracy,  # noqa: F401
    average_precision,  # noqa: F401
    calibration,  # noqa: F401
    iou,  # noqa: F401
)
from synreal.measures.base import MEASURES, Collector, Measure, Rows, State, Sum, check_measures
from synreal.measures.collection import Collection
from synreal.measures.collectors import Confusion, Detections, ImageConfusion, PixelConfusion

__all__ = [
    "MEASURES",
    "Collection",
    "Collector",
    "Confusion",
    "Detections",
    "ImageConfusion",
    "Measure",
    "PixelConfusion",
    "Rows",
    "State",
    "Sum",
    "check_measures",
    "register",
]

register = MEASURES.register
