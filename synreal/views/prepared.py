"""Normalised views of images for your own loop, as ``synreal run --task cls`` makes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from synreal.errors import ConfigError, DataError
from synreal.views.base import described
from synreal.views.crop import Place, classification_transform
from synreal.views.pipeline import MultiView
from synreal.weights import normalization


class PreparedViews:
    """Turn an image into normalised views, as ``synreal run --task cls`` does; made by :func:`training_views`.

    Args:
        transform: Maps a uint8 image (3, H, W) to uint8 (3, S, S).
        views: How many views, each a draw of its own.
        statistics: Mean and standard deviation per channel, as for :func:`to_float`.
    """

    def __init__(self, transform: nn.Module, views: int, statistics: tuple[Sequence[float], Sequence[float]]) -> None:
        self.transform = MultiView(transform, views)
        self.statistics = statistics

    def __call__(self, image: Any) -> tuple[Tensor, ...]:
        """Return the views of an image.

        Args:
            image: A PIL image of any mode, or a uint8 tensor (3, H, W).

        Returns:
            float32 (3, S, S) each.
        """
        pixels = image if isinstance(image, Tensor) else F.pil_to_tensor(image.convert("RGB"))
        return tuple(to_float(view, *self.statistics) for view in self.transform(pixels))

    def __repr__(self) -> str:
        return f"PreparedViews({self.transform!r}, {self.statistics})"


class PreparedImage:
    """Turn an image into the one normalised view that a classifier is tested on; made by :func:`evaluation_view`.

    Args:
        transform: As for :class:`PreparedViews`.
        statistics: As for :class:`PreparedViews`.
    """

    def __init__(self, transform: nn.Module, statistics: tuple[Sequence[float], Sequence[float]]) -> None:
        self.views = PreparedViews(transform, 1, statistics)

    def __call__(self, image: Any) -> Tensor:
        """Return the view of an image, float32 (3, S, S).

        Args:
            image: A PIL image of any mode, or a uint8 tensor (3, H, W).
        """
        (view,) = self.views(image)
        return view

    def __repr__(self) -> str:
        return f"PreparedImage({self.views!r})"


def training_views(
    network: nn.Module,
    size: int,
    *,
    views: int = 2,
    num_ops: int = 1,
    magnitude: float = 6,
    crop: Place = "random",
) -> PreparedViews:
    """Build what turns an image into the views that a classifier trains on, as ``synreal run`` makes them.

    RandAugment, short side resized to ``size``, random crop, normalised as the network was pretrained; each view is an
    independent draw from torch's generator.

    Args:
        network: The student; images are normalised as it was pretrained, see ``synreal.weights.normalization``.
        size: Side of a view in pixels, >= 1.
        views: How many, >= 1; methods that compare views need 2.
        num_ops: As for :func:`classification_transform`.
        magnitude: As for :func:`classification_transform`.
        crop: As for :func:`classification_transform`.

    Returns:
        A callable, picklable for workers: PIL image or uint8 tensor (3, H, W) -> tuple of float32 (3, size, size). It
        serves as ``transform=`` of torchvision's ``ImageFolder``.

    Raises:
        ConfigError: An argument is out of its range.

    Example:
        >>> import timm
        >>> views = training_views(timm.create_model("resnet18"), 64)
        >>> x0, x1 = views(torch.zeros(3, 96, 128, dtype=torch.uint8))
        >>> x1.shape
        torch.Size([3, 64, 64])
    """
    transform = classification_transform(size, train=True, num_ops=num_ops, magnitude=magnitude, crop=crop)
    return PreparedViews(transform, views, normalization(network))


def evaluation_view(network: nn.Module, size: int) -> PreparedImage:
    """Build what turns an image into the view that a classifier is tested on: short side resized, centre crop.

    Args:
        network: As for :func:`training_views`.
        size: As for :func:`training_views`.

    Returns:
        A callable, picklable for workers: PIL image or uint8 tensor (3, H, W) -> float32 (3, size, size).

    Raises:
        ConfigError: ``size`` is out of its range.
    """
    return PreparedImage(classification_transform(size, train=False), normalization(network))


def to_float(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise uint8 images: ``(batch / 255 - mean) / std`` per channel, on the batch's device.

    Args:
        batch: uint8 (..., 3, H, W).
        mean: Three channel means for images in [0, 1].
        std: Three channel standard deviations, > 0.

    Returns:
        float32, of the batch's shape.

    Raises:
        ConfigError: ``mean`` or ``std`` are not three finite numbers, or a ``std`` is not positive.
        DataError: The batch is not uint8 with three channels.
    """
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise ConfigError(
            f"Normalisation has mean {tuple(mean)} and std {tuple(std)}; expected three finite numbers each, "
            "std above 0. synreal.weights.normalization(model) gives the network's own."
        )
    if batch.dtype != torch.uint8 or batch.ndim < 3 or batch.shape[-3] != 3:
        raise DataError(
            f"to_float got {described(batch)}; expected uint8 images (..., 3, H, W). Normalise once, as the last step."
        )
    shift = torch.tensor(mean, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=batch.device).view(3, 1, 1)
    return batch.to(torch.float32).div_(255).sub_(shift).div_(scale)
