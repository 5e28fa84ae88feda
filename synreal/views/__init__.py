"""Views: one file each, and one line here that makes it known; the pipeline that draws them, and the seeds of draws.

Nothing here knows a task, a data set or a configuration; images stay uint8 until ``to_float``, the last step.
"""

from synreal.views import (
    augmix,  # noqa: F401
    blur,  # noqa: F401
    crop,  # noqa: F401
    geometry,  # noqa: F401
    jitter,  # noqa: F401
    noise,  # noqa: F401
    pasta,  # noqa: F401
    randaugment,  # noqa: F401
    recolour,  # noqa: F401
    strong,  # noqa: F401
    style_bank,  # noqa: F401
    stylise,  # noqa: F401
)
from synreal.views.base import VIEWS, FurtherView, Geometry, GeometryDraw, View
from synreal.views.crop import classification_transform
from synreal.views.pipeline import AlignedViews, MultiView, ViewPipeline
from synreal.views.prepared import PreparedImage, PreparedViews, evaluation_view, to_float, training_views
from synreal.views.randaugment import OPERATIONS, RandAugment
from synreal.views.seeds import derive_seed, seeded

__all__ = [
    "OPERATIONS",
    "VIEWS",
    "AlignedViews",
    "FurtherView",
    "Geometry",
    "GeometryDraw",
    "MultiView",
    "PreparedImage",
    "PreparedViews",
    "RandAugment",
    "View",
    "ViewPipeline",
    "classification_transform",
    "derive_seed",
    "evaluation_view",
    "register",
    "seeded",
    "to_float",
    "training_views",
]

register = VIEWS.register
