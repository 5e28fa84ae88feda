"""The only file that talks to ``torch.distributed``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from synreal.errors import SynrealError, TrainingError

T = TypeVar("T")

_LOST: Final = re.compile(r"gloo|NCCL|Connection (closed|reset) by peer|Broken pipe")


@contextmanager
def lost_peers_told() -> Iterator[None]:
    """Say that another process ended where torch says that it no longer answers: the reason stands in that one's words.

    Raises:
        TrainingError: If one did.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, SynrealError) or world_size() == 1 or not _LOST.search(str(error)):
            raise
        first = str(error).splitlines()[0]
        raise TrainingError(
            f"Process {rank()} of {world_size()} cannot go on, for another one ended or no longer answers; what that "
            f"one said tells why ({first})."
        ) from None


def is_distributed() -> bool:
    """Return whether a process group is up."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Return this process's rank; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def leave() -> None:
    """Wait for the other processes and end the group, if there is one; called once, when nothing more is shared.

    A process that ends with its group up takes threads down that may still serve another one.
    """
    if is_distributed():
        dist.barrier()
        dist.destroy_process_group()


@torch.no_grad()
def all_gather_rows(rows: Tensor) -> Tensor:
    """Concatenate every rank's rows in rank order.

    Ranks may bring different numbers of rows: sizes are agreed first and rows padded, because a ragged
    gather reads uninitialised memory on one rank and aborts the other.

    Args:
        rows: (n_r, ...), where n_r may differ by rank and the rest may not.

    Returns:
        (sum of n_r, ...), the same on all ranks, without gradient.
    """
    if world_size() == 1:
        return rows.detach()
    size = torch.tensor([rows.shape[0]], device=rows.device)
    sizes = [torch.zeros_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    counts = [int(count) for count in sizes]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def broadcast(value: Tensor) -> None:
    """Overwrite a tensor with rank 0's, in place."""
    if world_size() > 1:
        dist.broadcast(value, 0)


def gather_values(value: T) -> list[T]:
    """Return what every rank brings, in rank order; small values that can be pickled, such as texts.

    Args:
        value: This rank's.
    """
    if world_size() == 1:
        return [value]
    found: list[T] = [value] * world_size()
    dist.all_gather_object(found, value)
    return found
