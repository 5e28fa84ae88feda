"""Losses against a queue of embeddings that never build an N x K matrix.

With ``lse_t(z) = logsumexp_k(z.q_k / t)`` and ``A_t(z) = sum_k softmax_k(z.q_k / t) q_k``, the gradient of the first is
``A_t(z) / t``. One pass over the queue in pieces, with a running maximum, gives both in O(N d) memory.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.errors import ConfigError

Reduction = Literal["mean", "sum", "none"]

_PIECE_ELEMENTS = 1 << 19  # scores held at once: 2 MiB in float32, which stays in a core's cache


class _QueueLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, queue: Tensor, temperature: float) -> Tensor:
        rows, dim = embeddings.shape
        piece = max(1, _PIECE_ELEMENTS // max(1, rows))
        highest = embeddings.new_full((rows, 1), -torch.inf)
        total = embeddings.new_zeros((rows, 1))
        attended = embeddings.new_zeros((rows, dim))
        scaled = embeddings / temperature
        for start in range(0, queue.shape[0], piece):
            keys = queue[start : start + piece]
            scores = scaled @ keys.T
            new_highest = torch.maximum(highest, scores.amax(1, keepdim=True))
            shrink = (highest - new_highest).exp_()
            weights = scores.sub_(new_highest).exp_()
            total = total * shrink + weights.sum(1, keepdim=True)
            attended = torch.addmm(attended * shrink, weights, keys)
            highest = new_highest
        if queue.shape[0]:
            attended /= total
        ctx.save_for_backward(attended)
        ctx.temperature = temperature
        return (highest + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise NotImplementedError("The queue losses have no second derivative: call backward without create_graph.")
        (attended,) = ctx.saved_tensors
        return grads[0].unsqueeze(1) * attended / ctx.temperature, None, None


def queue_logsumexp(embeddings: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Compute ``logsumexp_k(z.q_k / t)`` for each row without storing the N x K scores.

    Args:
        embeddings: (N, d), float32 or float64; half precision is computed in float32.
        queue: (K, d); receives no gradient. An empty queue gives minus infinity.
        temperature: Above 0.

    Returns:
        (N,).
    """
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        result: Tensor = _QueueLogSumExp.apply(embeddings.to(wide), queue.detach().to(wide), float(temperature))
    return result


def info_nce(
    anchor: Tensor, positive: Tensor, queue: Tensor, temperature: float = 0.07, reduction: Reduction = "mean"
) -> Tensor:
    """InfoNCE with negatives from a queue (CSG: Chen et al., ICLR 2021, eq. 3; MoCo v2).

    ``-log( exp(z.z+/t) / (exp(z.z+/t) + sum_k exp(z.q_k/t)) )``, computed as ``softplus(lse_t(z) - z.z+/t)``, which
    keeps tiny losses exact.

    Args:
        anchor: ``z``, (N, d), L2-normalised by the caller.
        positive: ``z+``, (N, d), L2-normalised by the caller.
        queue: ``q``, (K, d), L2-normalised negatives, without gradient. With K = 0 there is nothing to tell
            the positive from, and the loss is 0.
        temperature: ``t``, above 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 inputs).

    Raises:
        ConfigError: If shapes do not fit, the temperature is not above 0 or the reduction is unknown.
    """
    if anchor.ndim != 2 or anchor.shape != positive.shape:
        raise ConfigError(
            f"anchor and positive must both be (N, d), got {tuple(anchor.shape)}, {tuple(positive.shape)}."
        )
    if queue.ndim != 2 or queue.shape[1] != anchor.shape[1]:
        raise ConfigError(f"queue must be (K, {anchor.shape[1]}), got {tuple(queue.shape)}.")
    if not temperature > 0:
        raise ConfigError(f"temperature must be above 0, got {temperature}.")
    wide = torch.promote_types(anchor.dtype, torch.float32)
    with torch.autocast(anchor.device.type, enabled=False):
        similarity = (anchor.to(wide) * positive.to(wide)).sum(1) / temperature
        losses = F.softplus(queue_logsumexp(anchor, queue, temperature) - similarity)
    return reduce(losses, reduction)


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-row losses: ``"mean"``, ``"sum"`` or ``"none"``."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ConfigError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
