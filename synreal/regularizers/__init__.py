"""Regularizers: one file a method, and one line here that makes it known."""

from synreal.core.terms import REGULARIZERS, STUDENT, FeatureRegularizer, Pass, Regularizer, Site, Stages, Step, Term
from synreal.regularizers import (
    baselines,  # noqa: F401
    causal_invariance,  # noqa: F401
    csg,  # noqa: F401
    distillation,  # noqa: F401
    feature_l2,  # noqa: F401
    gcisg,  # noqa: F401
    guidance,  # noqa: F401
    info_nce,  # noqa: F401
    synaptic_intelligence,  # noqa: F401
    weight_l2,  # noqa: F401
)

__all__ = [
    "REGULARIZERS",
    "STUDENT",
    "FeatureRegularizer",
    "Pass",
    "Regularizer",
    "Site",
    "Stages",
    "Step",
    "Term",
    "available",
    "get",
    "register",
]

register = REGULARIZERS.register
get = REGULARIZERS.get
available = REGULARIZERS.available
