"""Measures: one file per measure, and one line here that makes it known.

What collects over a test set lives here too; the mathematics is in ``synreal.functional``, tables in
``synreal.records``. Nothing here knows a task.
"""

from synreal.measures import (
    accuracy,  # noqa: F401
    average_precision,  # noqa: F401
    calibration,  # noqa: F401
    cka,  # noqa: F401
    confidence,  # noqa: F401
    drift,  # noqa: F401
    energy,  # noqa: F401
    imagenet,  # noqa: F401
    iou,  # noqa: F401
    match_rate,  # noqa: F401
)
from synreal.measures.base import (
    MEASURES,
    Collector,
    Glance,
    Looker,
    Measure,
    Needs,
    Rows,
    State,
    Sum,
    check_measures,
    fits,
)
from synreal.measures.collection import Collection
from synreal.measures.collectors import Confusion, Detections, ImageConfusion, PixelConfusion

__all__ = [
    "MEASURES",
    "Collection",
    "Collector",
    "Confusion",
    "Detections",
    "Glance",
    "ImageConfusion",
    "Looker",
    "Measure",
    "Needs",
    "PixelConfusion",
    "Rows",
    "State",
    "Sum",
    "check_measures",
    "fits",
    "register",
]

register = MEASURES.register
