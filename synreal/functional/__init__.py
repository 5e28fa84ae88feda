"""The methods' mathematics as pure functions of tensors and floats."""

from synreal.functional.contrast import causal_invariance, info_nce, queue_logsumexp
from synreal.functional.distances import distillation_kl, feature_l2, guidance, path_importance, weight_l2
from synreal.functional.pooling import attention_weights, attentional_pool, gap, grid_average, patches, pool, unit

__all__ = [
    "attention_weights",
    "attentional_pool",
    "causal_invariance",
    "distillation_kl",
    "feature_l2",
    "gap",
    "grid_average",
    "guidance",
    "info_nce",
    "patches",
    "path_importance",
    "pool",
    "queue_logsumexp",
    "unit",
    "weight_l2",
]
