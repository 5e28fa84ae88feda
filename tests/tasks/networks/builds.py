"""Small networks that the tests of networks share."""

import torch
from torch import nn

from synreal.tasks.networks import create_detector, create_segmenter

LITE = "tf_efficientnet_lite0"
TINY = "test_efficientnet"
SWIN = "swin_tiny_patch4_window7_224"


def segmenter(architecture, backbone=TINY, **settings):
    torch.manual_seed(0)
    return create_segmenter(architecture, backbone, **{"num_classes": 3, "weights": "none", **settings})[0]


def detector(architecture, backbone=TINY, **settings):
    torch.manual_seed(0)
    settings = {"num_classes": 3, "weights": "none", "image_size": 64, **settings}
    return create_detector(architecture, backbone, **settings)[0]


def built(recipe):
    """Run a recipe where nothing of synreal is known."""
    assert "synreal" not in recipe["build"]
    names = {}
    exec(recipe["build"], names)
    return names["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def trained(model):
    """Give BatchNorm statistics as of trained weights, so that eval mode has something to show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def first(model, path):
    return next(name for name, _ in model.get_submodule(path).named_parameters())
