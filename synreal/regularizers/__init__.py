"""Regularizers: one file per method, with its settings and its term, and one line here that makes it known.

Mathematics lives in ``synreal.functional``, what terms share in ``synreal.core``. No file here may know a task, a
trainer, a model zoo or data. What an author of a regularizer needs is offered here.
"""

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Regularizer, Site, Stages, Term
from synreal.regularizers import (
    baselines,  # noqa: F401
    causal_invariance,  # noqa: F401
    csg,  # noqa: F401
    feature_l2,  # noqa: F401
    ftp,  # noqa: F401
    gcisg,  # noqa: F401
    guidance,  # noqa: F401
    info_nce,  # noqa: F401
    isw,  # noqa: F401
    kl,  # noqa: F401
    masked_feature_l2,  # noqa: F401
    miro,  # noqa: F401
    pyramid_consistency,  # noqa: F401
    si,  # noqa: F401
    spd,  # noqa: F401
    texture,  # noqa: F401
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
    "list_regularizers",
    "register",
]

register = REGULARIZERS.register
get = REGULARIZERS.get
available = list_regularizers = REGULARIZERS.available
