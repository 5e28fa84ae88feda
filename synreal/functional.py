"""The methods' mathematics as pure functions of tensors and floats."""

from synreal.contrast import causal_invariance, info_nce, queue_logsumexp
from synreal.pooling import attention_weights, attentional_pool, gap, grid_average, patches, pool, unit
from synreal.regularizers.distillation import distillation_kl
from synreal.regularizers.feature_l2 import feature_l2
from synreal.regularizers.guidance import guidance
from synreal.regularizers.synaptic_intelligence import path_importance
from synreal.regularizers.weight_l2 import weight_l2

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
