"""The mathematics as pure functions of tensors and floats: pooling, contrast with queues, distances, losses, scores.

No module, no configuration and no state live here.
"""

from synreal.functional.averages import wise_ft
from synreal.functional.confusion import class_iou, class_recall, confusion_matrix, share_right
from synreal.functional.contrast import causal_invariance, info_nce, queue_logsumexp
from synreal.functional.distances import (
    distillation_kl,
    feature_l2,
    guidance,
    path_importance,
    pooled_difference,
    weight_l2,
)
from synreal.functional.losses import pixel_cross_entropy
from synreal.functional.pooling import attention_weights, attentional_pool, gap, grid_average, patches, pool, unit

__all__ = [
    "attention_weights",
    "attentional_pool",
    "causal_invariance",
    "class_iou",
    "class_recall",
    "confusion_matrix",
    "distillation_kl",
    "feature_l2",
    "gap",
    "grid_average",
    "guidance",
    "info_nce",
    "patches",
    "path_importance",
    "pixel_cross_entropy",
    "pool",
    "pooled_difference",
    "queue_logsumexp",
    "share_right",
    "unit",
    "weight_l2",
    "wise_ft",
]
