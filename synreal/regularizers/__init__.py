"""Regularizers: one file a method, and one line here that makes it known."""

from synreal.regularizers import (
    csg,  # noqa: F401
    feature_l2,  # noqa: F401
    none,  # noqa: F401
)
from synreal.regularizers.base import FeatureRegularizer, Pass, Regularizer, Site, Step, Term
from synreal.regularizers.registry import as_spec, as_specs, available, get, register

__all__ = [
    "FeatureRegularizer",
    "Pass",
    "Regularizer",
    "Site",
    "Step",
    "Term",
    "as_spec",
    "as_specs",
    "available",
    "get",
    "register",
]
