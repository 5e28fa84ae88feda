"""synreal: keep an ImageNet network's knowledge of the real world while it learns from synthetic images.

Public names load on first use (PEP 562), so that ``import synreal`` needs no torch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synreal import functional as functional
    from synreal import metrics as metrics
    from synreal.averages.loop import WeightAverage as WeightAverage
    from synreal.config import RunConfig as RunConfig
    from synreal.core.attach import attach as attach
    from synreal.core.regularized import RegularizedModel as RegularizedModel
    from synreal.core.task_heads import zero_head as zero_head
    from synreal.engine.look import look as look
    from synreal.engine.run import RunResult as RunResult
    from synreal.engine.run import run as run
    from synreal.errors import SynrealError as SynrealError
    from synreal.optim import parameter_groups as parameter_groups
    from synreal.optim import warmup_poly_schedule as warmup_poly_schedule
    from synreal.regularizers import list_regularizers as list_regularizers
    from synreal.regularizers.baselines import NoRegularizer as NoRegularizer
    from synreal.regularizers.baselines import Oracle as Oracle
    from synreal.regularizers.causal_invariance import CausalInvariance as CausalInvariance
    from synreal.regularizers.csg import CSG as CSG
    from synreal.regularizers.feature_l2 import FeatureL2 as FeatureL2
    from synreal.regularizers.ftp import FTP as FTP
    from synreal.regularizers.gcisg import GCISG as GCISG
    from synreal.regularizers.guidance import Guidance as Guidance
    from synreal.regularizers.info_nce import InfoNCE as InfoNCE
    from synreal.regularizers.isw import ISW as ISW
    from synreal.regularizers.kl import KLDistillation as KLDistillation
    from synreal.regularizers.masked_feature_l2 import MaskedFeatureL2 as MaskedFeatureL2
    from synreal.regularizers.miro import MIRO as MIRO
    from synreal.regularizers.pyramid_consistency import PyramidConsistency as PyramidConsistency
    from synreal.regularizers.si import SynapticIntelligence as SynapticIntelligence
    from synreal.regularizers.spd import SPD as SPD
    from synreal.regularizers.texture import Texture as Texture
    from synreal.regularizers.weight_l2 import WeightL2 as WeightL2

_HOME = {
    "CSG": "synreal.regularizers.csg",
    "FTP": "synreal.regularizers.ftp",
    "SPD": "synreal.regularizers.spd",
    "CausalInvariance": "synreal.regularizers.causal_invariance",
    "FeatureL2": "synreal.regularizers.feature_l2",
    "GCISG": "synreal.regularizers.gcisg",
    "ISW": "synreal.regularizers.isw",
    "Guidance": "synreal.regularizers.guidance",
    "InfoNCE": "synreal.regularizers.info_nce",
    "KLDistillation": "synreal.regularizers.kl",
    "MIRO": "synreal.regularizers.miro",
    "MaskedFeatureL2": "synreal.regularizers.masked_feature_l2",
    "PyramidConsistency": "synreal.regularizers.pyramid_consistency",
    "Texture": "synreal.regularizers.texture",
    "NoRegularizer": "synreal.regularizers.baselines",
    "Oracle": "synreal.regularizers.baselines",
    "RegularizedModel": "synreal.core.regularized",
    "RunConfig": "synreal.config",
    "RunResult": "synreal.engine",
    "SynapticIntelligence": "synreal.regularizers.si",
    "SynrealError": "synreal.errors",
    "WeightAverage": "synreal.averages.loop",
    "WeightL2": "synreal.regularizers.weight_l2",
    "attach": "synreal.core.attach",
    "list_regularizers": "synreal.regularizers",
    "look": "synreal.engine",
    "parameter_groups": "synreal.optim",
    "run": "synreal.engine",
    "warmup_poly_schedule": "synreal.optim",
    "zero_head": "synreal.core.task_heads",
}
_MODULES = ("functional", "metrics")

__all__ = sorted(("__version__", *_HOME, *_MODULES))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("synreal")
    if name in _MODULES:
        return importlib.import_module(f"synreal.{name}")
    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        value = getattr(home, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'synreal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
