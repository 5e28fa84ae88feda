"""The methods' mathematics as pure functions of tensors and floats."""

from synreal.contrast import info_nce, queue_logsumexp
from synreal.pooling import attention_weights, attentional_pool, gap, grid_average, patches, pool
from synreal.regularizers.feature_l2 import feature_l2

__all__ = [
    "attention_weights",
    "attentional_pool",
    "feature_l2",
    "gap",
    "grid_average",
    "info_nce",
    "patches",
    "pool",
    "queue_logsumexp",
]
