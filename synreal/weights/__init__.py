"""Pretrained weights: where they come from, how state dicts fit networks, and backbones that carry them.

Nothing here knows a task, a data set or a configuration.
"""

from synreal.weights.build import check_count, create_backbone, create_teacher, load_encoder, load_smp_encoder
from synreal.weights.origin import (
    IMAGENET_CLASSES,
    Statistics,
    Student,
    WeightsOrigin,
    backbones,
    check,
    check_file,
    imagenet_classes,
    imagenet_ids,
    normalization,
)

__all__ = [
    "IMAGENET_CLASSES",
    "Statistics",
    "Student",
    "WeightsOrigin",
    "backbones",
    "check",
    "check_count",
    "check_file",
    "create_backbone",
    "create_teacher",
    "imagenet_classes",
    "imagenet_ids",
    "load_encoder",
    "load_smp_encoder",
    "normalization",
]
