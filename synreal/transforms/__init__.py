"""Transforms: one file each, which changes a network in place before it is attached, and one line here.

No file here may know a task, a trainer, a model zoo or data; how networks are taken apart is in ``synreal.core``.
"""

from synreal.core.noise import load_noise_state, noise_state, remove_noise
from synreal.transforms import (
    dsu,  # noqa: F401
    efdmix,  # noqa: F401
    ibn,  # noqa: F401
    instance_whitening,  # noqa: F401
    mixstyle,  # noqa: F401
    normalization_perturbation,  # noqa: F401
)
from synreal.transforms.base import TRANSFORMS, Transform
from synreal.transforms.dsu import DSU
from synreal.transforms.efdmix import EFDMix
from synreal.transforms.ibn import IBN
from synreal.transforms.instance_whitening import InstanceWhitening
from synreal.transforms.mixstyle import MixStyle
from synreal.transforms.normalization_perturbation import NormalizationPerturbation

__all__ = [
    "DSU",
    "IBN",
    "TRANSFORMS",
    "EFDMix",
    "InstanceWhitening",
    "MixStyle",
    "NormalizationPerturbation",
    "Transform",
    "available",
    "get",
    "load_noise_state",
    "noise_state",
    "register",
    "remove_noise",
]

register = TRANSFORMS.register
get = TRANSFORMS.get
available = TRANSFORMS.available
