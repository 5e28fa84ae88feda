"""Where objects are on a feature map, from masks, boxes or classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.errors import ConfigError


def object_cells(masks: Tensor, things: Sequence[int], size: tuple[int, int], majority: float = 0.75) -> Tensor:
    """Mark the positions of a map that show mostly one class of object (DAFormer: Hoyer et al., CVPR 2022).

    Args:
        masks: Classes of pixels, integer (N, H, W).
        things: The classes that are objects.
        size: Height and width of the map.
        majority: Share of a position's pixels that must be of one of these classes, in (0.5, 1]: no two can have it.

    Returns:
        bool, (N, h, w). A size of the masks that the map's does not divide is cut adaptively, as
        ``torch.nn.AdaptiveAvgPool2d`` does.

    Raises:
        ConfigError: If the masks are none, or the share is out of range.
    """
    if masks.ndim != 3 or masks.is_floating_point():
        raise ConfigError(f"masks holds classes of pixels, integer (N, H, W), got {masks.dtype} {tuple(masks.shape)}.")
    found = torch.zeros((len(masks), *size), dtype=torch.bool, device=masks.device)
    for thing in things:
        found = found | covered_cells(masks == thing, size, majority)
    return found


def covered_cells(masks: Tensor, size: tuple[int, int], majority: float = 0.75) -> Tensor:
    """Mark the positions of a map that a mask mostly covers.

    Args:
        masks: bool, (N, H, W).
        size: Height and width of the map.
        majority: Share of a position's pixels that must be covered, in (0.5, 1].

    Returns:
        bool, (N, h, w).

    Raises:
        ConfigError: If the share is out of range.
    """
    if not 0.5 < majority <= 1:
        raise ConfigError(f"majority must lie in (0.5, 1], got {majority}.")
    # A whole cell may come out as one rounding step less than 1.
    return F.adaptive_avg_pool2d(masks.float()[:, None], size)[:, 0] >= majority - 1e-6


def box_masks(boxes: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
    """Mark the pixels whose centre lies in a box.

    Args:
        boxes: x0, y0, x1, y1 in pixels of each image, (M, 4); M may be 0.
        size: Height and width of the images.

    Returns:
        bool, (N, H, W).
    """
    height, width = size
    found = []
    for corners in boxes:
        rows = torch.arange(height, device=corners.device) + 0.5
        columns = torch.arange(width, device=corners.device) + 0.5
        x0, y0, x1, y1 = (side[:, None] for side in corners.float().unbind(1))
        tall, wide = (y0 <= rows) & (rows < y1), (x0 <= columns) & (columns < x1)
        found.append(tall.float().mT @ wide.float() > 0)
    return torch.stack(found)
