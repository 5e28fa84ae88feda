"""A first-in, first-out bank of embeddings, held in buffers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.core.precision import KeptWide
from synreal.errors import ConfigError


class FeatureQueue(KeptWide):
    """The last ``size`` embeddings, as MoCo keeps them, without a rule that batch sizes divide ``size``.

    Bank, pointer and fill count are buffers, so a checkpoint holds all of them. The bank is kept in float32 or better.

    Args:
        size: K, how many rows are kept; at least 1.
        dim: d, length of a row.
    """

    bank: Tensor
    pointer: Tensor
    count: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ConfigError(f"A queue needs size and dim of at least 1, got size {size} and dim {dim}.")
        self.register_buffer("bank", torch.zeros(size, dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def keys(self) -> Tensor:
        """Return the rows pushed so far, (min(pushed, K), d), in no particular order; never placeholder rows.

        The number of rows is read on the host, which a compiled graph cannot do: there the losses take ``bank`` and
        ``count``.
        """
        return self.bank[: int(self.count)]

    def ordered(self) -> Tensor:
        """Return the rows pushed so far from oldest to newest, (min(pushed, K), d)."""
        size = self.bank.shape[0]
        count = int(self.count)
        index = (self.pointer - count + torch.arange(count, device=self.bank.device)) % size
        return self.bank[index]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Append rows, dropping the oldest; of more than K rows the last K stay.

        Args:
            rows: (B, d).
        """
        size, dim = self.bank.shape
        if rows.ndim != 2 or rows.shape[1] != dim:
            raise ConfigError(f"A queue of rows of length {dim} cannot take {tuple(rows.shape)}.")
        kept = rows[-size:].to(self.bank)
        start = self.pointer + (rows.shape[0] - kept.shape[0])
        self.bank[(start + torch.arange(kept.shape[0], device=self.bank.device)) % size] = kept
        self.pointer.copy_((self.pointer + rows.shape[0]) % size)
        self.count.copy_((self.count + rows.shape[0]).clamp(max=size))


def start_queue(size: int, dim: int, start: Literal["empty", "random"]) -> FeatureQueue:
    """Make a queue that is empty, or full of random unit vectors, the same on all processes."""
    queue = FeatureQueue(size, dim)
    if start == "random":
        rows = torch.randn(size, dim, generator=torch.Generator().manual_seed(0))
        queue.push(F.normalize(rows, dim=1))
    return queue
