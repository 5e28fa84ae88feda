"""Named recipes of the papers; each task brings the one for the embedded data itself. Imports no torch.

A run takes one recipe: a preset or, without one, its task's own. What that leaves out has the default of its field,
which is CSG's where its paper says something. Published sizes and rates are from the papers and their code.
"""

from __future__ import annotations

from typing import Any, Final

from synreal.errors import unknown_name
from synreal.tasks.setup import Recipe

_CSG_CLS: dict[str, dict[str, Any]] = {
    "task": {"head_width": 512, "test_flip": True},
    "student": {"backbone": "resnet101"},
    "data": {"image_size": 224},
    "training": {"epochs": 30, "batch_size": 32, "lr": 1e-4},
    "testing": {"eval_batch_size": 100},
}
_CSG_SEG: dict[str, dict[str, Any]] = {
    "task": {"architecture": "deeplabv3", "output_stride": 8},
    "student": {"backbone": "resnet50"},
    "data": {"image_size": 512},
    "training": {"epochs": 50, "max_steps": 100_000, "batch_size": 6, "lr": 1e-3},
    "testing": {"eval_batch_size": 1, "eval_every": 5},
    "output": {"checkpoint_every": 2_000},
}
_SIM10K: dict[str, dict[str, Any]] = {
    "task": {"architecture": "fasterrcnn"},
    "student": {"backbone": "resnet101"},
    "data": {"image_size": 600},
    "training": {"epochs": 30, "batch_size": 4, "lr": 1e-3},
    "testing": {"eval_batch_size": 1, "eval_every": 5},
}
_GCISG_LOOP: dict[str, dict[str, Any]] = {
    "student": {"norm": "train"},
    "training": {"backbone_lr_scale": 1.0, "schedule": "constant", "lr": 1e-3},
}
_DENSE_WEIGHTS = {"csg": {"weight": 75.0}, "kl": {"weight": 75.0}}


def _with(*parts: dict[str, dict[str, Any]], **views: Any) -> dict[str, Any]:
    """Lay settings over one another, section by section."""
    whole: dict[str, Any] = {}
    for part in parts:
        for section, values in part.items():
            whole[section] = {**whole.get(section, {}), **values}
    return {**whole, **views}


PRESETS: Final[dict[str, Recipe]] = {
    "csg-cls": Recipe(
        "classification",
        "CSG on VisDA-17 (Chen et al., ICLR 2021): ResNet-101, 30 epochs",
        _with(_CSG_CLS, views=("randaugment(ops=1, magnitude=6)", "crop")),
    ),
    "asg-cls": Recipe(
        "classification",
        "ASG on VisDA-17 (Chen et al., ICML 2020): as csg-cls, centre crops alone, the rate stops decaying after 80 %",
        _with(_CSG_CLS, {"training": {"poly_until": 0.8}}, views=("crop(place=center)",)),
        regularizers="kl",
    ),
    "gcisg-cls": Recipe(
        "classification",
        "GCISG on VisDA-17 (Nam et al., ECCV 2022): ResNet-101, constant rate, batches of 64, 30 epochs",
        _with(
            _CSG_CLS,
            _GCISG_LOOP,
            {"task": {"test_flip": False}, "training": {"batch_size": 64}},
            views=("randaugment(ops=1, magnitude=6)", "crop(place=center)"),
        ),
        regularizers="gcisg",
    ),
    "csg-seg": Recipe(
        "segmentation",
        "CSG on GTA5 (Chen et al., ICLR 2021): ResNet-50, DeepLab at stride 8, 100,000 steps",
        _with(_CSG_SEG, views=("geometry(flip=0.5)", "jitter")),
        patches=8,
        terms=_DENSE_WEIGHTS,
    ),
    "asg-seg": Recipe(
        "segmentation",
        "ASG on GTA5 (Chen et al., ICML 2020): as csg-seg, the rate stops decaying after 80 %",
        _with(_CSG_SEG, {"training": {"poly_until": 0.8}}, views=("geometry(flip=0.5)", "jitter")),
        regularizers="kl",
        patches=8,
        terms=_DENSE_WEIGHTS,
    ),
    "gcisg-seg": Recipe(
        "segmentation",
        "GCISG on GTA5 (Nam et al., ECCV 2022): ResNet-50, DeepLabV3, 40 epochs",
        _with(
            _CSG_SEG,
            _GCISG_LOOP,
            {"training": {"epochs": 40, "max_steps": None, "batch_size": 8}},
            views=("geometry(flip=0.5)", "jitter"),
        ),
        regularizers="gcisg",
        patches=8,
    ),
    "csg-det": Recipe(
        "detection",
        "CSG on Sim10k as GCISG's paper trains it (Nam et al., ECCV 2022): Faster R-CNN, ResNet-101 with FPN",
        _with(_SIM10K, views=("geometry(flip=0.5, scale=(1.0, 1.0))", "jitter")),
        patches=8,
    ),
    "gcisg-det": Recipe(
        "detection",
        "GCISG on Sim10k (Nam et al., ECCV 2022): Faster R-CNN, ResNet-101 with FPN",
        _with(_SIM10K, _GCISG_LOOP, views=("geometry(flip=0.5, scale=(1.0, 1.0))", "jitter")),
        regularizers="gcisg",
        patches=8,
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
