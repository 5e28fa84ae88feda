"""Networks of many kinds, and what a test says of them."""

import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

RESNET18 = {"0": (64, 2), "1": (64, 4), "2": (128, 8), "3": (256, 16), "4": (512, 32)}


def timm_model(name, **settings):
    return lambda: timm.create_model(name, num_classes=3, **settings)


def swin(embed_dim=24):
    sizes = {"depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "img_size": 64, "window_size": 2}
    return timm.create_model("swin_tiny_patch4_window7_224", embed_dim=embed_dim, **sizes)


def detector():
    return torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)


# name: (build, entry, layout, channels and stride by stage, paths that must be found)
NETWORKS = {
    "timm resnet18": (timm_model("resnet18"), "", "nchw", RESNET18, {"0": "act1", "4": "layer4"}),
    "timm mobilenet": (
        timm_model("mobilenetv3_small_050"),
        "",
        "nchw",
        {"0": (16, 2), "1": (8, 4), "2": (16, 8), "3": (24, 16), "4": (288, 32)},
        {"4": "blocks.5"},
    ),
    "test_resnet": (
        timm_model("test_resnet"),
        "",
        "nchw",
        {"0": (32, 2), "1": (32, 4), "2": (48, 8), "3": (192, 16), "4": (96, 32)},
        {"3": "layer3"},
    ),
    "test_efficientnet": (
        timm_model("test_efficientnet"),
        "",
        "nchw",
        {"0": (16, 2), "1": (24, 4), "2": (32, 8), "3": (48, 16), "4": (64, 32)},
        {"3": "blocks.3"},
    ),
    "test_convnext": (
        timm_model("test_convnext"),
        "",
        "nchw",
        {"1": (24, 4), "2": (32, 8), "3": (48, 16), "4": (64, 32)},
        {"1": "stages.0"},
    ),
    "test_mambaout": (
        timm_model("test_mambaout"),
        "",
        "nhwc",
        {"1": (16, 4), "2": (32, 8), "3": (48, 16), "4": (64, 32)},
        {"4": "stages.3"},
    ),
    "swin": (swin, "", "nhwc", {"1": (24, 4), "2": (48, 8), "3": (96, 16), "4": (192, 32)}, {"2": "layers.1"}),
    "test_vit": (
        timm_model("test_vit"),
        "",
        "tokens",
        {"1": (64, 16), "2": (64, 16), "3": (64, 16), "4": (64, 16)},
        {"4": "blocks.5"},
    ),
    "dilated timm resnet": (
        timm_model("test_resnet", output_stride=8),
        "",
        "nchw",
        {"0": (32, 2), "1": (32, 4), "2": (48, 8), "3": (192, 8), "4": (96, 8)},
        {"3": "layer3", "4": "layer4"},
    ),
    "torchvision resnet18": (
        lambda: torchvision.models.resnet18(weights=None),
        "",
        "nchw",
        RESNET18,
        {"0": "relu", "4": "layer4"},
    ),
    "torchvision efficientnet": (
        lambda: torchvision.models.efficientnet_b0(weights=None),
        "",
        "nchw",
        {"0": (16, 2), "1": (24, 4), "2": (40, 8), "3": (112, 16), "4": (1280, 32)},
        {"3": "features.5", "4": "features"},
    ),
    "torchvision densenet": (
        lambda: torchvision.models.densenet121(weights=None),
        "",
        "nchw",
        {"0": (64, 2), "1": (256, 4), "2": (512, 8), "3": (1024, 16), "4": (1024, 32)},
        {"1": "features.denseblock1"},
    ),
    "smp unet": (
        lambda: smp.Unet("resnet18", encoder_weights=None),
        "encoder",
        "nchw",
        RESNET18,
        {"4": "encoder.layer4"},
    ),
    "smp deeplab": (
        lambda: smp.DeepLabV3Plus("tu-tf_efficientnet_lite0", encoder_weights=None),
        "encoder",
        "nchw",
        {"0": (16, 2), "1": (24, 4), "2": (40, 8), "3": (112, 16), "4": (320, 16)},
        {"4": "encoder.model.blocks.6"},
    ),
    "torchvision detector": (
        detector,
        "backbone.body",
        "nchw",
        {"0": (16, 2), "1": (24, 4), "2": (40, 8), "3": (112, 16), "4": (960, 32)},
        {"3": "backbone.body.12"},
    ),
}


def snapshot(model):
    """Weights, statistics, modes and hooks of a network."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: module.training for name, module in model.named_modules()},
        {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
        torch.get_rng_state(),
    )


def same(before, after):
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    return torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after


class Numbered(nn.Module):
    """A network of named parts and a forward pass that a test gives."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, images):
        return self.run(self, images)


def halve(before, after, **settings):
    return nn.Conv2d(before, after, 3, **{"stride": 2, "padding": 1, **settings})
