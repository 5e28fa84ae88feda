"""Segmenters and detectors around a timm backbone, as segmentation-models-pytorch and torchvision build them.

A segmenter is a model of segmentation-models-pytorch, its encoder a timm model or one of that library's own. A
detector is a torchvision detector on a feature pyramid over a timm model. Encoders carry pretrained weights as
``synreal.weights`` finds them; everything around them is fresh.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from synreal.errors import ConfigError, WeightsError, unknown_name
from synreal.tasks import architectures
from synreal.weights import WeightsOrigin, check, check_count, check_file, load_encoder, load_smp_encoder, normalization

_SMP = "smp/"
"""What the names of smp's own encoders begin with, for timm has some of the same name."""

_STRIDES = {"deeplabv3": (8, 16), "deeplabv3plus": (16, 8), "pan": (16, 32), "pspnet": (8, 16, 32)}
"""Strides of the encoder's last map that an architecture can be told, its own first."""

_PYRAMID_STRIDES = {"fasterrcnn": (4, 8, 16, 32), "retinanet": (8, 16, 32), "fcos": (8, 16, 32)}
"""Strides of the backbone's maps that a detector's pyramid starts from, as in torchvision."""

_PYRAMID_CHANNELS = 256
_RATIOS = (0.5, 1.0, 2.0)
_LEVELS = 5
_NEVER = -20.0  # a logit that no gradient moves: the focal loss of its sigmoid is flat


def create_segmenter(
    architecture: str,
    backbone: str,
    *,
    num_classes: int,
    weights: str = "auto",
    output_stride: int | None = None,
) -> tuple[nn.Module, WeightsOrigin]:
    """Create a model of segmentation-models-pytorch with a pretrained encoder and a fresh decoder.

    What is fresh draws from torch's global generator: seed it before the call.

    Args:
        architecture: One of ``synreal.tasks.architectures("segmentation")``, e.g. ``"deeplabv3plus"``.
        backbone: A timm model that gives maps (``"dpt"`` also takes plain vision transformers), or ``"smp/NAME"``, an
            encoder of the library's own, e.g. ``"smp/mit_b0"``.
        num_classes: Classes of a pixel.
        weights: Of the encoder; as for ``synreal.weights.create_backbone``. For an encoder of smp's own ``"auto"``
            (those of smp's hub, ImageNet's if it has them), the name of others there, ``"none"`` or a file.
        output_stride: Stride of the encoder's last map, for architectures that know it (DeepLab 8 or 16; PAN 16 or 32;
            PSPNet 8, 16 or 32); None: the architecture's own.

    Returns:
        The model, in train mode on the CPU, which turns images (N, 3, H, W) into logits (N, num_classes, H, W), and the
        origin of the encoder's weights. H and W are multiples of 32; for ``"pan"`` at least 8 cells of the encoder's
        last map, 128 pixels.

    Raises:
        ConfigError: A name is unknown, or architecture, backbone and stride do not go together.
        WeightsError: The weights cannot be had, cannot be read safely, or do not fit the encoder.

    Example:
        >>> model, origin = create_segmenter("deeplabv3plus", "tf_efficientnet_lite0", num_classes=11)
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 11, 64, 64])
    """
    _check_encoder(backbone, weights)
    model = _segmenter(_segmenter_arguments(architecture, backbone, num_classes, output_stride))
    if not backbone.startswith(_SMP):
        return model, load_encoder(model.get_submodule("encoder.model"), backbone, weights=weights)
    hub = smp.encoders.encoders[backbone.removeprefix(_SMP)]["pretrained_settings"]
    chosen = hub.get(weights, next(iter(hub.values())))  # ImageNet's stand first
    weights = "auto" if weights in hub else weights
    encoder = model.get_submodule("encoder")
    return model, load_smp_encoder(encoder, chosen["repo_id"], revision=chosen["revision"], weights=weights)


def check_segmenter(
    architecture: str, backbone: str, *, weights: str = "auto", output_stride: int | None = None
) -> None:
    """Check what ``create_segmenter`` would be given, without a network or asking a server.

    Args:
        architecture: As for ``create_segmenter``.
        backbone: As for ``create_segmenter``.
        weights: As for ``create_segmenter``.
        output_stride: As for ``create_segmenter``.

    Raises:
        ConfigError: A name is unknown, or architecture, backbone and stride do not go together.
        WeightsError: The weights cannot be had in any circumstances.
    """
    _check_encoder(backbone, weights)
    _without_memory(partial(_segmenter, _segmenter_arguments(architecture, backbone, 1, output_stride)))


def _check_encoder(backbone: str, weights: str) -> None:
    """Check the names of an encoder and of its weights."""
    if not backbone.startswith(_SMP):
        check(backbone, weights)
        return
    # timm has what smp calls timm-NAME.
    known = {name: own for name, own in smp.encoders.encoders.items() if not name.startswith("timm-")}
    name = backbone.removeprefix(_SMP)
    if name not in known:
        raise unknown_name("encoder of smp", name, known)
    hub = known[name]["pretrained_settings"]
    if weights in ("timm", "packaged"):
        raise WeightsError(
            f"{backbone!r} is an encoder of smp's own, for which {weights} has no weights. Choose auto, "
            f"{', '.join(hub)}, none or the path of a state dict."
        )
    if weights not in ("auto", "none", *hub):
        check_file(weights)


def segmenter_recipe(
    architecture: str, backbone: str, *, num_classes: int, output_stride: int | None = None
) -> dict[str, str]:
    """Return how to build the same model without synreal.

    Args:
        architecture: As for ``create_segmenter``.
        backbone: As for ``create_segmenter``.
        num_classes: As for ``create_segmenter``.
        output_stride: As for ``create_segmenter``.

    Returns:
        ``"build"``: Python that leaves the model in ``model``.
    """
    arguments = _segmenter_arguments(architecture, backbone, num_classes, output_stride)
    return {"build": f"import segmentation_models_pytorch as smp\n\nmodel = smp.create_model({_written(arguments)})\n"}


def encoder_stride(architecture: str, output_stride: int | None = None) -> int:
    """Return the stride of the last map of a segmenter's encoder, below 32 where the encoder is dilated.

    Args:
        architecture: As for ``create_segmenter``.
        output_stride: As for ``create_segmenter``.

    Returns:
        Pixels per cell. A classifier that is to give maps of the same size, such as a frozen teacher, needs
        ``create_backbone(..., output_stride=...)`` of it.

    Raises:
        ConfigError: The architecture is unknown or cannot be told this stride.
    """
    known = architectures("segmentation")
    if architecture not in known:
        raise unknown_name("architecture", architecture, known)
    strides = _STRIDES.get(architecture, ())
    if output_stride is not None and output_stride not in strides:
        raise ConfigError(
            f"output_stride is {output_stride!r}, but {architecture} "
            + (f"knows {', '.join(map(str, strides))}." if strides else "does not dilate its encoder: leave it empty.")
        )
    return output_stride or (*strides, 32)[0]


def _segmenter_arguments(
    architecture: str, backbone: str, num_classes: int, output_stride: int | None
) -> dict[str, Any]:
    """Return what ``smp.create_model`` is given."""
    check_count(num_classes, least=1)
    stride = encoder_stride(architecture, output_stride)
    arguments: dict[str, Any] = {
        "arch": architecture,
        "encoder_name": backbone.removeprefix(_SMP) if backbone.startswith(_SMP) else f"tu-{backbone}",
        "encoder_weights": None,
        "classes": num_classes,
    }
    if architecture == "pspnet":
        # Zhao et al. (2017) pool a last map of stride 8; smp by itself would cut the encoder off there.
        arguments |= {"encoder_depth": 5, "output_stride": stride, "upsampling": stride}
    elif architecture in _STRIDES:
        arguments["encoder_output_stride"] = stride
    if backbone.startswith(_SMP):
        return arguments
    if architecture == "dpt":
        tokens = getattr(_without_memory(partial(timm.create_model, backbone)), "num_prefix_tokens", 0)
        arguments |= {"decoder_readout": "cat" if tokens else "ignore", "num_classes": 0}  # no classifier in it
    return arguments | _any_size(backbone)


def _segmenter(arguments: Mapping[str, Any]) -> nn.Module:
    """Let smp build a model."""
    try:
        model: nn.Module = smp.create_model(**arguments)
    except Exception as error:  # smp and timm raise whatever the network raises
        dilated = arguments["arch"] in _STRIDES
        raise ConfigError(
            f"segmentation-models-pytorch cannot build {arguments['arch']} around "
            f"{arguments['encoder_name'].removeprefix('tu-')!r}: {type(error).__name__}: {str(error).rstrip('.!')}. "
            + ("It dilates the encoder, which not every one can be: try fpn or upernet, or " if dilated else "Try ")
            + "another backbone with maps of strides 4 to 32."
        ) from error
    return model


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
        self.channels_last = _is_channels_last(body)
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
        WeightsError: The weights cannot be had, cannot be read safely, or do not fit the backbone.

    Example:
        >>> model, origin = create_detector("fasterrcnn", "tf_efficientnet_lite0", num_classes=10, image_size=128)
        >>> sorted(model.eval()([torch.zeros(3, 96, 128)])[0])
        ['boxes', 'labels', 'scores']
    """
    check_detector(architecture, backbone, weights=weights)
    check_count(num_classes, least=1)
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise ConfigError(f"image_size is {image_size!r}; expected a whole number of pixels >= 1.")
    body = timm.create_model(backbone, **_body_arguments(backbone, _PYRAMID_STRIDES[architecture]))
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
        WeightsError: The weights cannot be had in any circumstances.
    """
    if architecture not in _PYRAMID_STRIDES:
        raise unknown_name("architecture", architecture, _PYRAMID_STRIDES)
    check(backbone, weights)
    _body_arguments(backbone, _PYRAMID_STRIDES[architecture])


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
    body = _body_arguments(backbone, _PYRAMID_STRIDES[architecture])
    settings = _detector_settings(image_size, _maps(backbone).statistics)
    name = {"fasterrcnn": "FasterRCNN", "retinanet": "RetinaNet", "fcos": "FCOS"}[architecture]
    extra = "LastLevelMaxPool()" if architecture == "fasterrcnn" else "LastLevelP6P7(256, 256)"
    anchors = {
        "fasterrcnn": f"rpn_anchor_generator=AnchorGenerator({anchor_sizes(image_size)}, ({_RATIOS},) * {_LEVELS}), ",
        "retinanet": f"anchor_generator=AnchorGenerator({anchor_sizes(image_size, 3)}, ({_RATIOS},) * {_LEVELS}), ",
        "fcos": "",
    }[architecture]
    return {
        "build": _RECIPE.format(
            name=name,
            extra=extra,
            extra_class=extra.partition("(")[0],
            body=_written({"model_name": backbone} | body),
            order="(0, 3, 1, 2)" if _maps(backbone).channels_last else "(0, 1, 2, 3)",
            classes=num_classes + 1,
            anchors=anchors,
            settings=_written(settings | (proposals(image_size) if architecture == "fasterrcnn" else {})),
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
    out_channels = 256

    def __init__(self):
        super().__init__()
        self.body = timm.create_model({body})
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), 256, {extra})

    def forward(self, images):
        maps = [one.permute{order} for one in self.body(images)]
        return self.fpn(OrderedDict((str(level), one) for level, one in enumerate(maps)))


model = {name}(Backbone(), {classes}, {anchors}{settings})
"""


def _detector_settings(image_size: int, statistics: tuple[Sequence[float], Sequence[float]]) -> dict[str, Any]:
    """Return how a torchvision detector resizes and normalises images."""
    mean, std = statistics
    return {"min_size": image_size, "max_size": 2 * image_size, "image_mean": list(mean), "image_std": list(std)}


def _written(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())


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


@dataclass(frozen=True)
class _Maps:
    """What a timm model says of itself when it returns features.

    Attributes:
        strides: Of its maps, in order of depth.
        channels_last: Whether maps are (N, H, W, C).
        statistics: Mean and standard deviation of the images it was pretrained on.
    """

    strides: tuple[int, ...]
    channels_last: bool
    statistics: tuple[tuple[float, ...], tuple[float, ...]]


@cache
def _maps(backbone: str) -> _Maps:
    """Ask a timm model about its maps."""
    try:
        body = _without_memory(partial(timm.create_model, backbone, features_only=True))
    except Exception as error:  # timm raises whatever the network raises
        raise ConfigError(
            f"timm's {backbone!r} gives no maps: {type(error).__name__}: {error}. Choose a backbone that "
            "timm.create_model(name, features_only=True) can build."
        ) from error
    info: Any = body.feature_info
    strides = tuple(int(one["reduction"]) for one in getattr(info, "info", info))
    return _Maps(strides, _is_channels_last(body), normalization(body))


def _body_arguments(backbone: str, strides: tuple[int, ...]) -> dict[str, Any]:
    """Return what ``timm.create_model`` is given so that it returns the deepest map of each stride."""
    have = _maps(backbone).strides
    missing = [stride for stride in strides if stride not in have]
    if missing:
        raise ConfigError(
            f"A feature pyramid needs maps of strides {', '.join(map(str, strides))}, but {backbone!r} has "
            f"{', '.join(map(str, dict.fromkeys(have)))}. Choose a backbone with stages, such as a ResNet, an "
            "EfficientNet, a ConvNeXt or a Swin."
        )
    deepest = {stride: index for index, stride in enumerate(have)}
    indices = tuple(deepest[stride] for stride in strides)
    return {"features_only": True, "out_indices": indices} | _any_size(backbone)


@cache
def _any_size(backbone: str) -> dict[str, Any]:
    """Return what lets a transformer that is built for one size of images take others."""
    cfg = timm.models.get_pretrained_cfg(backbone)
    if cfg is not None and cfg.fixed_input_size:
        for option in ({"dynamic_img_size": True}, {"strict_img_size": False}):
            try:
                _without_memory(partial(timm.create_model, backbone, **option))
            except TypeError:  # not an argument of this network's
                continue
            return option
    return {}


def _without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without its memory where it can be built so, else with it: what it then raises is meant."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # networks raise whatever they like where they read a value that is not there
        with torch.random.fork_rng(devices=[]):
            return build()


def _is_channels_last(body: nn.Module) -> bool:
    return getattr(body, "output_fmt", None) == "NHWC"


def _forbid_background(classifier: nn.Conv2d, classes: int) -> None:
    """Keep one-stage detectors from calling a box background: torchvision has logits of class 0 in them, unused."""
    assert classifier.bias is not None
    with torch.no_grad():
        classifier.weight[::classes] = 0
        classifier.bias[::classes] = _NEVER
