"""What timm says of a backbone that others are built around, and how it is built so that it gives maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import timm
from torch import nn

from synreal.errors import ConfigError
from synreal.weights import normalization
from synreal.weights.sizes import any_size, without_memory


@dataclass(frozen=True)
class Maps:
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
def maps_of(backbone: str) -> Maps:
    """Ask a timm model about its maps."""
    try:
        body = without_memory(partial(timm.create_model, backbone, features_only=True))
    except Exception as error:  # timm raises whatever the network raises
        raise ConfigError(
            f"timm's {backbone!r} gives no maps: {type(error).__name__}: {error}. Choose a backbone that "
            "timm.create_model(name, features_only=True) can build."
        ) from error
    info: Any = body.feature_info
    strides = tuple(int(one["reduction"]) for one in getattr(info, "info", info))
    return Maps(strides, is_channels_last(body), normalization(body))


def body_arguments(backbone: str, strides: tuple[int, ...]) -> dict[str, Any]:
    """Return what ``timm.create_model`` is given so that it returns the deepest map of each stride."""
    have = maps_of(backbone).strides
    missing = [stride for stride in strides if stride not in have]
    if missing:
        raise ConfigError(
            f"A feature pyramid needs maps of strides {', '.join(map(str, strides))}, but {backbone!r} has "
            f"{', '.join(map(str, dict.fromkeys(have)))}. Choose a backbone with stages, such as a ResNet, an "
            "EfficientNet, a ConvNeXt or a Swin."
        )
    deepest = {stride: index for index, stride in enumerate(have)}
    indices = tuple(deepest[stride] for stride in strides)
    return {"features_only": True, "out_indices": indices} | any_size(backbone)


def is_channels_last(body: nn.Module) -> bool:
    """Tell whether a timm network that returns features gives maps (N, H, W, C)."""
    return getattr(body, "output_fmt", None) == "NHWC"


def written(arguments: Mapping[str, Any]) -> str:
    """Write keyword arguments as Python does."""
    return ", ".join(f"{key}={value!r}" for key, value in arguments.items())
