"""synreal: keep an ImageNet network's knowledge of the real world while it learns from synthetic images.

Public names load on first use (PEP 562), so that ``import synreal`` needs no torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synreal import functional, metrics
    from synreal.config import RunConfig
    from synreal.core.attach import RegularizedModel, attach
    from synreal.core.task_heads import zero_head
    from synreal.engine import RunResult, run
    from synreal.errors import SynrealError
    from synreal.optim import parameter_groups, warmup_poly_schedule
    from synreal.regularizers import available as list_regularizers
    from synreal.regularizers.baselines import NoRegularizer, Oracle
    from synreal.regularizers.causal_invariance import CausalInvariance
    from synreal.regularizers.csg import CSG
    from synreal.regularizers.distillation import KLDistillation
    from synreal.regularizers.feature_l2 import FeatureL2
    from synreal.regularizers.gcisg import GCISG
    from synreal.regularizers.guidance import Guidance
    from synreal.regularizers.info_nce import InfoNCE
    from synreal.regularizers.synaptic_intelligence import SynapticIntelligence
    from synreal.regularizers.weight_l2 import WeightL2

_HOME = {
    "CSG": "synreal.regularizers.csg",
    "CausalInvariance": "synreal.regularizers.causal_invariance",
    "FeatureL2": "synreal.regularizers.feature_l2",
    "GCISG": "synreal.regularizers.gcisg",
    "Guidance": "synreal.regularizers.guidance",
    "InfoNCE": "synreal.regularizers.info_nce",
    "KLDistillation": "synreal.regularizers.distillation",
    "NoRegularizer": "synreal.regularizers.baselines",
    "Oracle": "synreal.regularizers.baselines",
    "RegularizedModel": "synreal.core.attach",
    "RunConfig": "synreal.config",
    "RunResult": "synreal.engine",
    "SynapticIntelligence": "synreal.regularizers.synaptic_intelligence",
    "SynrealError": "synreal.errors",
    "WeightL2": "synreal.regularizers.weight_l2",
    "attach": "synreal.core.attach",
    "list_regularizers": "synreal.regularizers",
    "parameter_groups": "synreal.optim",
    "run": "synreal.engine",
    "warmup_poly_schedule": "synreal.optim",
    "zero_head": "synreal.core.task_heads",
}
_MODULES = ("functional", "metrics")

__all__ = [
    "CSG",
    "GCISG",
    "CausalInvariance",
    "FeatureL2",
    "Guidance",
    "InfoNCE",
    "KLDistillation",
    "NoRegularizer",
    "Oracle",
    "RegularizedModel",
    "RunConfig",
    "RunResult",
    "SynapticIntelligence",
    "SynrealError",
    "WeightL2",
    "__version__",
    "attach",
    "functional",
    "list_regularizers",
    "metrics",
    "parameter_groups",
    "run",
    "warmup_poly_schedule",
    "zero_head",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("synreal")
    if name in _MODULES:
        return importlib.import_module(f"synreal.{name}")
    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        value = getattr(home, "available" if name == "list_regularizers" else name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'synreal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
