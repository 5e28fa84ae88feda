"""Named recipes: each task's default on the embedded data, and the papers'. Imports no torch.

A run takes one recipe: a preset or, without one, its task's own. What that leaves out has the default of ``RunConfig``,
which is CSG's where its paper says something. Published sizes and rates are from the papers and their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from synreal.errors import unknown_name

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Settings that belong together.

    Attributes:
        task: Long name of the task.
        summary: One line for listings.
        settings: Values of ``RunConfig`` fields.
        regularizers: What is trained with where none is named.
        terms: Settings of regularizers by name, for those of a run that do not set them themselves.
    """

    task: str
    summary: str
    settings: Settings
    regularizers: str = "csg"
    terms: Mapping[str, Settings] = field(default_factory=dict)


def _dense(patches: int, **settings: Any) -> dict[str, dict[str, Any]]:
    """Return what makes the terms compare places instead of whole images; further settings are the queue losses'."""
    cut = {"patches": patches, **settings}
    return {
        "csg": cut,
        "info_nce": cut,
        "causal_invariance": cut,
        "gcisg": cut,
        "feature_l2": {"spatial": True},
    }


TASKS: Final[dict[str, Recipe]] = {
    "classification": Recipe(
        "classification",
        "two CPU cores, embedded numerals, 300 steps",
        {
            "image_size": 64,
            "crop": "random",
            "augment_ops": 1,
            "augment_magnitude": 6,
            "epochs": 2,
            "batch_size": 32,
            "lr": 0.02,
            "eval_batch_size": 250,
        },
    ),
    "segmentation": Recipe(
        "segmentation",
        "two CPU cores, embedded scenes, 600 steps",
        {
            "architecture": "deeplabv3plus",
            "on_size_mismatch": "error",
            "image_size": 128,
            "flip": 0.0,
            "scale": (0.75, 1.25),
            "jitter": 0.4,
            "epochs": 4,
            "batch_size": 8,
            "optimizer": "adamw",
            "lr": 0.002,
            "backbone_lr_scale": 0.3,
            "weight_decay": 0.01,
            "warmup_steps": 50,
            "eval_every": 0,
            "eval_batch_size": 16,
        },
        terms=_dense(8, queue_size=4096),
    ),
    "detection": Recipe(
        "detection",
        "two CPU cores, embedded scenes, 200 steps",
        {
            "architecture": "fasterrcnn",
            "image_size": 128,
            "flip": 0.0,
            "scale": (0.75, 1.25),
            "jitter": 0.4,
            "epochs": 2,
            "max_steps": 200,
            "warmup_steps": 50,
            "eval_every": 0,
            "batch_size": 8,
            "lr": 0.02,
            "eval_batch_size": 16,
        },
        terms=_dense(4, queue_size=4096),
    ),
}
"""By long name of the task. Numerals are not mirrored; 128-pixel scenes have 4 x 4 places at stride 32."""

_CSG_CLS = {
    "backbone": "resnet101",
    "head_width": 512,
    "image_size": 224,
    "crop": "random",
    "augment_ops": 1,
    "augment_magnitude": 6,
    "epochs": 30,
    "batch_size": 32,
    "lr": 1e-4,
    "test_flip": True,
    "eval_batch_size": 100,
}
_CSG_SEG = {
    "backbone": "resnet50",
    "architecture": "deeplabv3",
    "output_stride": 8,
    "on_size_mismatch": "error",
    "image_size": 512,
    "flip": 0.5,
    "scale": (0.75, 1.25),
    "jitter": 0.4,
    "epochs": 50,
    "max_steps": 100_000,
    "batch_size": 6,
    "lr": 1e-3,
    "eval_batch_size": 1,
    "checkpoint_every": 2_000,
    "eval_every": 5,
}
_GCISG_LOOP = {"backbone_lr_scale": 1.0, "schedule": "constant", "norm": "train", "lr": 1e-3}
_SIM10K = {
    "backbone": "resnet101",
    "architecture": "fasterrcnn",
    "image_size": 600,
    "flip": 0.5,
    "scale": (1.0, 1.0),
    "jitter": 0.4,
    "epochs": 30,
    "batch_size": 4,
    "lr": 1e-3,
    "eval_batch_size": 1,
    "eval_every": 5,
}

PRESETS: Final[dict[str, Recipe]] = {
    "csg-cls": Recipe(
        "classification",
        "CSG on VisDA-17 (Chen et al., ICLR 2021): ResNet-101, 30 epochs",
        _CSG_CLS,
    ),
    "asg-cls": Recipe(
        "classification",
        "ASG on VisDA-17 (Chen et al., ICML 2020): as csg-cls, centre crops alone, the rate decays no more after 80 %",
        {**_CSG_CLS, "crop": "center", "augment_ops": 0, "augment_magnitude": 0, "poly_until": 0.8},
        regularizers="kl",
    ),
    "gcisg-cls": Recipe(
        "classification",
        "GCISG on VisDA-17 (Nam et al., ECCV 2022): ResNet-101, constant rate, batches of 64, 30 epochs",
        {**_CSG_CLS, **_GCISG_LOOP, "crop": "center", "batch_size": 64, "test_flip": False},
        regularizers="gcisg",
    ),
    "csg-seg": Recipe(
        "segmentation",
        "CSG on GTA5 (Chen et al., ICLR 2021): ResNet-50, DeepLab at stride 8, 100,000 steps",
        _CSG_SEG,
        terms={**_dense(8), "csg": {"patches": 8, "weight": 75.0}, "kl": {"weight": 75.0}},
    ),
    "asg-seg": Recipe(
        "segmentation",
        "ASG on GTA5 (Chen et al., ICML 2020): as csg-seg, the rate decays no more after 80 %",
        {**_CSG_SEG, "poly_until": 0.8},
        regularizers="kl",
        terms={**_dense(8), "csg": {"patches": 8, "weight": 75.0}, "kl": {"weight": 75.0}},
    ),
    "gcisg-seg": Recipe(
        "segmentation",
        "GCISG on GTA5 (Nam et al., ECCV 2022): ResNet-50, DeepLabV3, 40 epochs",
        {**{k: v for k, v in _CSG_SEG.items() if k != "max_steps"}, **_GCISG_LOOP, "epochs": 40, "batch_size": 8},
        regularizers="gcisg",
        terms=_dense(8),
    ),
    "csg-det": Recipe(
        "detection",
        "CSG on Sim10k as GCISG's paper trains it (Nam et al., ECCV 2022): Faster R-CNN, ResNet-101 with FPN",
        _SIM10K,
        terms=_dense(8),
    ),
    "gcisg-det": Recipe(
        "detection",
        "GCISG on Sim10k (Nam et al., ECCV 2022): Faster R-CNN, ResNet-101 with FPN",
        {**_SIM10K, **_GCISG_LOOP},
        regularizers="gcisg",
        terms=_dense(8),
    ),
}
"""The papers' recipes by name."""


def find(name: str) -> Recipe:
    """Return a preset.

    Raises:
        ConfigError: If there is none of this name; suggests the nearest.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
