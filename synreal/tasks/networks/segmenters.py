"""Segmenters as segmentation-models-pytorch builds them, with a pretrained encoder and a fresh decoder.

The encoder is a timm model or one of the library's own; its weights are found as ``synreal.weights`` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from synreal.errors import ConfigError, WeightsError, unknown_name
from synreal.tasks.architectures import SEGMENTERS
from synreal.tasks.networks.bodies import written
from synreal.weights import WeightsOrigin, check, check_count, check_file, load_encoder, load_smp_encoder
from synreal.weights.sizes import any_size, without_memory

_SMP = "smp/"
"""What the names of smp's own encoders begin with, for timm has some of the same name."""

_STRIDES = {"deeplabv3": (8, 16), "deeplabv3plus": (16, 8), "pan": (16, 32), "pspnet": (8, 16, 32)}
"""Strides of the encoder's last map that an architecture can be told, its own first."""


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
        architecture: One of ``synreal.tasks.architectures.SEGMENTERS``, e.g. ``"deeplabv3plus"``.
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
        WeightsError: The weights are not available, cannot be read safely, or do not fit the encoder.

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
        WeightsError: The weights are not available in any circumstances.
    """
    _check_encoder(backbone, weights)
    without_memory(partial(_segmenter, _segmenter_arguments(architecture, backbone, 1, output_stride)))


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
    return {"build": f"import segmentation_models_pytorch as smp\n\nmodel = smp.create_model({written(arguments)})\n"}


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
    known = SEGMENTERS
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
        tokens = getattr(without_memory(partial(timm.create_model, backbone)), "num_prefix_tokens", 0)
        arguments |= {"decoder_readout": "cat" if tokens else "ignore", "num_classes": 0}  # no classifier in it
    return arguments | any_size(backbone)


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
