"""Losses of tasks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_cross_entropy(
    logits: Tensor,
    masks: Tensor,
    *,
    class_weights: Tensor | None = None,
    hardest: float | None = None,
    ignore_index: int = 255,
) -> Tensor:
    """Mean cross-entropy over the pixels of a batch that have a class.

    Args:
        logits: (N, C, H, W).
        masks: Classes, integer (N, H, W).
        class_weights: (C,), a factor for each class; the mean is weighted by them too.
        hardest: Share in (0, 1] of the pixels with a class that contribute, those of greatest loss (online hard example
            mining); None takes all.
        ignore_index: Label of the pixels that are ignored.

    Returns:
        Scalar, float32; 0 with gradient 0 where no pixel has a class.
    """
    classes = masks.long()
    losses = F.cross_entropy(logits.float(), classes, weight=class_weights, ignore_index=ignore_index, reduction="none")
    counts = (classes != ignore_index).to(losses.dtype)
    if class_weights is not None:
        counts = counts * class_weights[classes.clamp(max=len(class_weights) - 1)]
    if hardest is not None:
        valid = classes.flatten() != ignore_index
        order = losses.detach().flatten().masked_fill(~valid, -1).argsort(descending=True)
        kept = torch.arange(len(order), device=order.device) < (hardest * valid.sum()).ceil()
        chosen = torch.zeros_like(kept).scatter_(0, order, kept).view_as(losses)
        losses, counts = losses * chosen, counts * chosen
    return losses.sum() / counts.sum().clamp_min(torch.finfo(torch.float32).tiny)
