"""Colours as numbers: CIE Lab, and the mean and spread of channels."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

# Linear sRGB to XYZ (IEC 61966-2-1); the white point is what it makes of (1, 1, 1), so that greys have a = b = 0.
_XYZ: Final = torch.tensor(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=torch.float64
)
_TO_WHITE: Final = _XYZ / _XYZ.sum(1, keepdim=True)
_FROM_WHITE: Final = torch.linalg.inv(_TO_WHITE)
_EDGE: Final = 6 / 29  # where the cube root becomes a line
_LEAST_SPREAD: Final = 1e-3


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB to CIE Lab under daylight (D65).

    Args:
        images: float, (..., 3, H, W), in [0, 1].

    Returns:
        L in [0, 100], a and b in about [-128, 127]; of the same shape and dtype.
    """
    linear = torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)
    xyz = torch.einsum("oc,...chw->...ohw", _TO_WHITE.to(images), linear)
    root = torch.where(xyz > _EDGE**3, xyz.clamp_min(_EDGE**3) ** (1 / 3), xyz / (3 * _EDGE**2) + 4 / 29)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def lab_to_rgb(images: Tensor) -> Tensor:
    """Convert CIE Lab to sRGB; the inverse of ``rgb_to_lab``.

    Args:
        images: float, (..., 3, H, W).

    Returns:
        sRGB, of the same shape and dtype; in [0, 1] for colours that a screen can show, else beyond.
    """
    light, a, b = images.unbind(-3)
    y = (light + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], -3)
    xyz = torch.where(root > _EDGE, root**3, 3 * _EDGE**2 * (root - 4 / 29))
    linear = torch.einsum("oc,...chw->...ohw", _FROM_WHITE.to(images), xyz)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def spread_and_mean(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standard deviation, over all pixels and not one less, and the mean of each channel: (..., C, 1, 1)."""
    std, mean = torch.std_mean(images, (-2, -1), correction=0, keepdim=True)
    return std, mean


def match_moments(images: Tensor, std: Tensor, mean: Tensor, share: float | Tensor = 1.0) -> Tensor:
    """Give the channels of images another mean and standard deviation.

    ``(x - mean(x)) std / std(x) + mean``, blended with x: in Lab the colour transfer of Reinhard et al. (IEEE CG&A
    2001), in RGB adaptive instance normalization on pixels (Huang and Belongie, ICCV 2017, eq. 8). A channel that
    spreads by less than 0.001 is not stretched: its mean alone moves.

    Args:
        images: float, (..., C, H, W).
        std: What channels are to have, (..., C, 1, 1).
        mean: Likewise.
        share: How much of it is blended in, in [0, 1]; 0 changes nothing.

    Returns:
        The images, of the same shape and dtype, not clipped.
    """
    own_std, own_mean = spread_and_mean(images)
    scale = torch.where(own_std < _LEAST_SPREAD, torch.ones_like(own_std), std / own_std.clamp_min(_LEAST_SPREAD))
    return images.lerp((images - own_mean) * scale + mean, torch.as_tensor(share, dtype=images.dtype))
