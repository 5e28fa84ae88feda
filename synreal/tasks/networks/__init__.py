"""Segmenters and detectors around pretrained backbones, as their libraries build them; fresh but for the backbone.

Nothing here knows a configuration, data or a loss.
"""

from synreal.tasks.networks.detectors import (
    TimmFPN,
    anchor_sizes,
    check_detector,
    create_detector,
    detector_recipe,
    proposals,
)
from synreal.tasks.networks.segmenters import check_segmenter, create_segmenter, encoder_stride, segmenter_recipe

__all__ = [
    "TimmFPN",
    "anchor_sizes",
    "check_detector",
    "check_segmenter",
    "create_detector",
    "create_segmenter",
    "detector_recipe",
    "encoder_stride",
    "proposals",
    "segmenter_recipe",
]
