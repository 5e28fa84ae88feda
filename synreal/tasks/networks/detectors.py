"""Detectors as torchvision builds them, on a feature pyramid over a pretrained timm model; the rest is fresh."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from synreal.errors import ConfigError, unknown_name
from synreal.tasks.networks.bodies import body_arguments, is_channels_last, maps_of, written
from synreal.weights import WeightsOrigin, check, check_count, load_encoder, normalization

_PYRAMID_STRIDES = {"fasterrcnn": (4, 8, 16, 32), "retinanet": (8, 16, 32), "fcos": (8, 16, 32)}
"""Strides of the backbone's maps that a detector's pyramid starts from, as in torchvision."""

_PYRAMID_CHANNELS = 256
_RATIOS = (0.5, 1.0, 2.0)
_LEVELS = 5
_NEVER = -20.0  # a logit that no gradient moves: the focal loss of its sigmoid is flat


class TimmFPN(nn.Module):
    """A timm backbone with a feature pyramid; torchvision's detectors take it as their ``backbone``.

    Where torchvision has the same backbone (ResNets), names of tensors are torchvision's own.

    Args:
        body: ``timm.create_model(name, features_only=True, out_indices=...)``.
        extra: What makes the levels beyond the backbone's.

    Attributes:
        body: The backbone, (N, 3, H, W) -> list of maps.
        fpn: The pyramid.
        out_channels: Channels of each of its maps, 256.
    """

    def __init__(self, body: nn.Module, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body = body
        self.channels_last = is_channels_last(body)
        info: Any = body.feature_info
        self.fpn = FeaturePyramidNetwork(info.channels(), _PYRAMID_CHANNELS, extra)
        self.out_channels = _PYRAMID_CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (N, 256, H', W') by level, finest first; levels beyond the backbone's have torchvision's names.

        Args:
            images: Normalised, (N, 3, H, W).
        """
        maps = self.body(images)
        if self.channels_last:
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        pyramid: dict[str, Tensor] = self.fpn(OrderedDict((str(level), one) for level, one in enumerate(maps)))
        return pyramid


def create_detector(
    architecture: str,
    backbone: str,
    *,
    num_classes: int,
    weights: str = "auto",
    image_size: int,
) -> tuple[nn.Module, WeightsOrigin]:
    """Create a torchvision detector with a pretrained timm backbone and a fresh pyramid and head.

    All three architectures count classes alike: labels of objects are 1 to ``num_classes``, 0 is the background and is
    never predicted. What is fresh draws from torch's global generator: seed it before the call.

    Args:
        architecture: ``"fasterrcnn"``, ``"retinanet"`` or ``"fcos"``.
        backbone: A timm model that gives maps of strides 4 (Faster R-CNN alone), 8, 16 and 32.
        num_classes: Classes of objects, without the background.
        weights: Of the backbone; as for ``synreal.weights.create_backbone``.
        image_size: Short side to which the detector resizes images, in pixels; the long side becomes twice that at
            most. Anchors go with it; see ``anchor_sizes``.

    Returns:
        The detector, in train mode on the CPU, and the origin of the backbone's weights. It takes images in [0, 1] and
        normalises them as the backbone was pretrained.

    Raises:
        ConfigError: A name or number is wrong, or the backbone lacks a map.
        WeightsError: The weights are not available, cannot be read safely, or do not fit the backbone.

    Example:
        >>> model, origin = create_detector("fasterrcnn", "tf_efficientnet_lite0", num_classes=10, image_size=128)
        >>> sorted(model.eval()([torch.zeros(3, 96, 128)])[0])
        ['boxes', 'labels', 'scores']
    """
    check_detector(architecture, backbone, weights=weights)
    check_count(num_classes, least=1)
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise ConfigError(f"image_size is {image_size!r}; expected a whole number of pixels >= 1.")
    body = timm.create_model(backbone, **body_arguments(backbone, _PYRAMID_STRIDES[architecture]))
    origin = load_encoder(body, backbone, weights=weights)
    extra = LastLevelMaxPool() if architecture == "fasterrcnn" else LastLevelP6P7(_PYRAMID_CHANNELS, _PYRAMID_CHANNELS)
    network = TimmFPN(body, extra)
    settings = _detector_settings(image_size, normalization(body))
    classes = num_classes + 1
    if architecture == "fasterrcnn":
        anchors = AnchorGenerator(anchor_sizes(image_size), (_RATIOS,) * _LEVELS)
        return FasterRCNN(network, classes, rpn_anchor_generator=anchors, **settings, **proposals(image_size)), origin
    model: RetinaNet | FCOS
    if architecture == "retinanet":
        anchors = AnchorGenerator(anchor_sizes(image_size, 3), (_RATIOS,) * _LEVELS)
        model = RetinaNet(network, classes, anchor_generator=anchors, **settings)
    else:
        model = FCOS(network, classes, **settings)  # it has no anchors; its generator says the strides
    _forbid_background(model.head.classification_head.cls_logits, classes)
    return model, origin


def check_detector(architecture: str, backbone: str, *, weights: str = "auto") -> None:
    """Check what ``create_detector`` would be given, without a network or asking a server.

    Args:
        architecture: As for ``create_detector``.
        backbone: As for ``create_detector``.
        weights: As for ``create_detector``.

    Raises:
        ConfigError: A name is unknown, or the backbone lacks a map.
        WeightsError: The weights are not available in any circumstances.
    """
    if architecture not in _PYRAMID_STRIDES:
        raise unknown_name("architecture", architecture, _PYRAMID_STRIDES)
    check(backbone, weights)
    body_arguments(backbone, _PYRAMID_STRIDES[architecture])


def detector_recipe(architecture: str, backbone: str, *, num_classes: int, image_size: int) -> dict[str, str]:
    """Return how to build the same detector without synreal.

    Args:
        architecture: As for ``create_detector``.
        backbone: As for ``create_detector``.
        num_classes: As for ``create_detector``.
        image_size: As for ``create_detector``.

    Returns:
        ``"build"``: Python that leaves the detector in ``model``.
    """
    body = body_arguments(backbone, _PYRAMID_STRIDES[architecture])
    settings = _detector_settings(image_size, maps_of(backbone).statistics)
    name = {"fasterrcnn": "FasterRCNN", "retinanet": "RetinaNet", "fcos": "FCOS"}[architecture]
    wide = _PYRAMID_CHANNELS
    extra = "LastLevelMaxPool()" if architecture == "fasterrcnn" else f"LastLevelP6P7({wide}, {wide})"
    anchors = {
        "fasterrcnn": f"rpn_anchor_generator=AnchorGenerator({anchor_sizes(image_size)}, ({_RATIOS},) * {_LEVELS}), ",
        "retinanet": f"anchor_generator=AnchorGenerator({anchor_sizes(image_size, 3)}, ({_RATIOS},) * {_LEVELS}), ",
        "fcos": "",
    }[architecture]
    return {
        "build": _RECIPE.format(
            name=name,
            channels=wide,
            extra=extra,
            extra_class=extra.partition("(")[0],
            body=written({"model_name": backbone} | body),
            order="(0, 3, 1, 2)" if maps_of(backbone).channels_last else "(0, 1, 2, 3)",
            classes=num_classes + 1,
            anchors=anchors,
            settings=written(settings | (proposals(image_size) if architecture == "fasterrcnn" else {})),
        )
    }


_RECIPE = """\
from collections import OrderedDict

import timm
from torch import nn
from torchvision.models.detection import {name}
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import {extra_class}


class Backbone(nn.Module):
    out_channels = {channels}

    def __init__(self):
        super().__init__()
        self.body = timm.create_model({body})
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), {channels}, {extra})

    def forward(self, images):
        maps = [one.permute{order} for one in self.body(images)]
        return self.fpn(OrderedDict((str(level), one) for level, one in enumerate(maps)))


model = {name}(Backbone(), {classes}, {anchors}{settings})
"""


def _detector_settings(image_size: int, statistics: tuple[Sequence[float], Sequence[float]]) -> dict[str, Any]:
    """Return how a torchvision detector resizes and normalises images."""
    mean, std = statistics
    return {"min_size": image_size, "max_size": 2 * image_size, "image_mean": list(mean), "image_std": list(std)}


def anchor_sizes(image_size: int, octaves: int = 1) -> tuple[tuple[int, ...], ...]:
    """Return the anchors' sides by level, in pixels.

    At 800 pixels they are the published ones: 32, 64, 128, 256 and 512 (Lin et al., 2017). At another size they are in
    proportion, but the least is no less than 16 pixels, four cells of the finest map: closer to the stride, anchors lie
    too far apart. (Measured on scenes of numerals, 128 pixels: 16 to 256 meets 99 % of the objects with an IoU above
    0.5; 5 to 82, raised to 8, meets 34 %.)

    Args:
        image_size: Short side of the image, in pixels.
        octaves: Sides on each level, which part the octave to the next level into equal ratios; RetinaNet has three.

    Returns:
        For each of the five levels, finest first, ``octaves`` whole numbers.
    """
    least = max(32 * image_size / 800, 16.0)
    return tuple(
        tuple(math.floor(least * 2 ** (level + part / octaves) + 1e-6) for part in range(octaves))
        for level in range(_LEVELS)
    )


def proposals(image_size: int) -> dict[str, int]:
    """Return how many places Faster R-CNN looks at, in proportion to the image's area.

    At 800 pixels the numbers are torchvision's, which on an image of 128 pixels would take most of a step's time for
    boxes that overlap nearly all of each other. None falls below what an image with dozens of objects needs.

    Args:
        image_size: Short side of the image, in pixels.

    Returns:
        Arguments of ``torchvision.models.detection.FasterRCNN``.
    """
    share = min(1.0, (image_size / 800) ** 2)
    published = {  # by torchvision, and the least
        "rpn_pre_nms_top_n_train": (2000, 400),
        "rpn_pre_nms_top_n_test": (1000, 200),
        "rpn_post_nms_top_n_train": (2000, 200),
        "rpn_post_nms_top_n_test": (1000, 100),
        "rpn_batch_size_per_image": (256, 64),
        "box_batch_size_per_image": (512, 32),
    }
    return {name: max(least, round(number * share)) for name, (number, least) in published.items()}


def _forbid_background(classifier: nn.Conv2d, classes: int) -> None:
    """Keep one-stage detectors from calling a box background: torchvision has logits of class 0 in them, unused."""
    assert classifier.bias is not None
    with torch.no_grad():
        classifier.weight[::classes] = 0
        classifier.bias[::classes] = _NEVER
