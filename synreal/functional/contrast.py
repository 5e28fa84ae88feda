"""Losses against a queue of embeddings that never build an N x K matrix.

With ``lse(s) = logsumexp_k(s.q_k)`` and ``A(s) = sum_k softmax_k(s.q_k) q_k``, the gradient of the first is the second.
One pass over the queue in pieces, with a running maximum, gives both in O(N d) memory.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.errors import ConfigError

Reduction = Literal["mean", "sum", "none"]

_PIECE_ELEMENTS = 1 << 19  # scores held at once: 2 MiB in float32, which stays in a core's cache
_PIECE_ELEMENTS_ELSEWHERE = 1 << 21  # fewer and larger pieces where each operation has to be launched
_MOST_PARTS = 16


# An operator of its own, so that a compiled model holds it as one node: its loop is not unrolled, and the number of
# rows that are filled may change from call to call.
@torch.library.custom_op(
    "synreal::attend", mutates_args=(), schema="(Tensor scaled, Tensor bank, Tensor? count) -> (Tensor, Tensor)"
)
def _attend(scaled: Tensor, bank: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return ``lse`` (M,) and ``A`` (M, d) of rows (M, d) over the first ``count`` rows of a bank (K, d)."""
    if count is None or count.device.type == "cpu":
        keys = bank if count is None else bank[: int(count)]
        if bank.device.type == "cpu" and bank.dtype == scaled.dtype and scaled.numel() and len(keys) and _flash_works():
            return _flash(scaled, keys)
        return _in_pieces(scaled, keys)
    # Slicing would make the host wait for the device.
    return _in_pieces(scaled, bank, count)


def _in_pieces(scaled: Tensor, bank: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attend piece by piece with a running maximum, in public operations alone."""
    rows, dim = scaled.shape
    elements = _PIECE_ELEMENTS if scaled.device.type == "cpu" else _PIECE_ELEMENTS_ELSEWHERE
    piece = max(1, min(elements // max(1, rows), bank.shape[0]))
    # Finite, so that a piece without keys is not a difference of infinities.
    highest = scaled.new_full((rows, 1), torch.finfo(scaled.dtype).min)
    total = scaled.new_zeros((rows, 1))
    attended = scaled.new_zeros((rows, dim))
    memory = scaled.new_empty(rows * piece)
    for start in range(0, bank.shape[0], piece):
        keys = bank[start : start + piece].to(scaled.dtype)
        scores = memory[: rows * keys.shape[0]].view(rows, keys.shape[0])
        if count is None:
            torch.mm(scaled, keys.T, out=scores)
        else:
            empty = torch.arange(start, start + keys.shape[0], device=bank.device) >= count
            keys = keys.masked_fill(empty.unsqueeze(1), 0)
            torch.mm(scaled, keys.T, out=scores)
            scores.masked_fill_(empty, -torch.inf)
        new_highest = torch.maximum(highest, scores.amax(1, keepdim=True))
        shrink = (highest - new_highest).exp_()
        weights = scores.sub_(new_highest).exp_()
        total.mul_(shrink).add_(weights.sum(1, keepdim=True))
        attended.mul_(shrink).addmm_(weights, keys)
        highest = new_highest
    # The highest score adds 1 to the total: below 1 there are no keys.
    attended /= total.clamp(min=1)
    return (highest + total.log_()).squeeze(1), attended


def _flash(scaled: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Attend with torch's own kernel on the CPU: faster than pieces, but not a public operation.

    The kernel gives each core a block of rows. Keys in parts, as if each were a head, keep all cores busy when there
    are fewer blocks than cores, and leave a smaller rounding error.
    """
    rows, dim = scaled.shape
    # Each part leaves a result of its own: no more of them than fit where the scores of a piece would.
    most = max(1, min(_MOST_PARTS, _PIECE_ELEMENTS // scaled.numel()))
    parts = math.gcd(keys.shape[0], 1 << (most.bit_length() - 1))
    bank = keys.contiguous().view(1, parts, -1, dim)
    attended, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        scaled.contiguous().expand(1, parts, rows, dim), bank, bank, 0.0, False, scale=1.0
    )
    # The memory order of what it returns is its own business.
    attended, lse = attended.reshape(parts, rows, dim), lse.reshape(parts, rows)
    whole = lse.logsumexp(0)
    shares = (lse - whole).exp_().unsqueeze(2)
    return whole, attended.mul_(shares).sum(0)


@functools.cache
def _flash_works() -> bool:
    """Whether this torch has the kernel and it does what it is used for; checked once on a small example."""
    scaled = torch.linspace(-3, 3, 35).sin().view(5, 7) * 20
    keys = torch.linspace(0, 9, 84).cos().view(12, 7)
    try:
        got, expected = _flash(scaled, keys), _in_pieces(scaled, keys)
        return all(torch.allclose(g, e, rtol=1e-5, atol=1e-5) for g, e in zip(got, expected, strict=True))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


@_attend.register_fake
def _(scaled: Tensor, bank: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
    return scaled.new_empty(scaled.shape[0]), scaled.new_empty(scaled.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])


def _gradient(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, None]:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise NotImplementedError("The queue losses have no second derivative: call backward without create_graph.")
    (attended,) = ctx.saved_tensors
    return grad.unsqueeze(1) * attended, None, None


_attend.register_autograd(_gradient, setup_context=_keep)


def _over_queue(scaled: Tensor, queue: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
    lse, attended = _attend(scaled, queue.detach(), count)
    return lse, attended.detach()


def queue_logsumexp(embeddings: Tensor, queue: Tensor, temperature: float, *, count: Tensor | None = None) -> Tensor:
    """Compute ``logsumexp_k(z.q_k / t)`` for each row without storing the N x K scores.

    Args:
        embeddings: (N, d), float32 or float64; half precision is computed in float32.
        queue: (K, d); receives no gradient. An empty queue gives minus infinity.
        temperature: Above 0.
        count: How many of the first rows of ``queue`` are keys, 0-d int64; all of them when None. With a
            ``FeatureQueue``, ``queue=queue.bank, count=queue.count`` keeps a compiled model in one graph.

    Returns:
        (N,); float32 (float64 for float64 inputs).

    Raises:
        NotImplementedError: In a backward pass with ``create_graph=True``.
    """
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    with torch.autocast(embeddings.device.type, enabled=False):
        return _over_queue(embeddings.to(wide) / temperature, queue, count)[0]


def info_nce(
    anchor: Tensor,
    positive: Tensor,
    queue: Tensor,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    *,
    count: Tensor | None = None,
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
        count: How many of the first rows of ``queue`` are keys, 0-d int64; all of them when None. With a
            ``FeatureQueue``, ``queue=queue.bank, count=queue.count`` keeps a compiled model in one graph.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 inputs).

    Raises:
        ConfigError: If shapes do not fit, the temperature is not above 0 or the reduction is unknown.
        NotImplementedError: In a backward pass with ``create_graph=True``.
    """
    _check(anchor, positive, queue, ("anchor", "positive"), temperature=temperature)
    wide = torch.promote_types(anchor.dtype, torch.float32)
    with torch.autocast(anchor.device.type, enabled=False):
        similarity = (anchor.to(wide) * positive.to(wide)).sum(1) / temperature
        losses = F.softplus(queue_logsumexp(anchor, queue, temperature, count=count) - similarity)
    return reduce(losses, reduction)


def causal_invariance(
    online: Tensor,
    target: Tensor,
    queue: Tensor,
    temperature: float = 0.12,
    target_temperature: float = 0.04,
    reduction: Reduction = "mean",
    *,
    count: Tensor | None = None,
) -> Tensor:
    """Causal invariance, one direction (GCISG: Nam et al., ECCV 2022, eq. 1 and 2).

    ``-sum_k p_tb(z_bar)[k] log p_t(z)[k]`` with ``p_t(z)[k] = softmax_k(z.q_k / t)``, computed as
    ``lse_t(z) - z.A_tb(z_bar) / t``.

    Args:
        online: ``z``, (N, d), L2-normalised by the caller.
        target: ``z_bar``, (N, d), L2-normalised by the caller; receives no gradient.
        queue: ``q``, (K, d), L2-normalised, without gradient. With K = 0 there is nothing to compare with, and
            the loss is 0.
        temperature: ``t``, above 0.
        target_temperature: ``tb``, above 0.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        count: How many of the first rows of ``queue`` are keys, 0-d int64; all of them when None. With a
            ``FeatureQueue``, ``queue=queue.bank, count=queue.count`` keeps a compiled model in one graph.

    Returns:
        Scalar, or (N,) for ``"none"``; float32 (float64 for float64 inputs).

    Raises:
        ConfigError: If shapes do not fit, a temperature is not above 0 or the reduction is unknown.
        NotImplementedError: In a backward pass with ``create_graph=True``.
    """
    _check(
        online, target, queue, ("online", "target"), temperature=temperature, target_temperature=target_temperature
    )  # fmt: skip
    wide = torch.promote_types(online.dtype, torch.float32)
    with torch.autocast(online.device.type, enabled=False):
        scaled = online.to(wide) / temperature
        # Both sides in one pass over the queue.
        both = torch.cat([scaled, target.detach().to(wide) / target_temperature])
        lse, attended = _over_queue(both, queue, count)
        rows = online.shape[0]
        losses = lse[:rows] - (scaled * attended[rows:]).sum(1)
        # An empty queue has no distribution: its logsumexp is minus infinity.
        losses = torch.where(lse[:rows].isneginf(), scaled.sum(1) * 0, losses)
    return reduce(losses, reduction)


def _check(first: Tensor, second: Tensor, queue: Tensor, names: tuple[str, str], **temperatures: float) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ConfigError(
            f"{names[0]} and {names[1]} must both be (N, d), got {tuple(first.shape)}, {tuple(second.shape)}."
        )
    if queue.ndim != 2 or queue.shape[1] != first.shape[1]:
        raise ConfigError(f"queue must be (K, {first.shape[1]}), got {tuple(queue.shape)}.")
    for name, value in temperatures.items():
        if not value > 0:
            raise ConfigError(f"{name} must be above 0, got {value}.")


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce per-row losses: ``"mean"``, ``"sum"`` or ``"none"``."""
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ConfigError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
