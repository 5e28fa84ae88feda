"""Batches from data-loading processes, whose errors reach the main process as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from synreal.engine.signals import ignore_signals
from synreal.errors import SynrealError


def make_loader(
    data: Dataset[Any],
    workers: int,
    collate: Callable[[Sequence[Any]], Any],
    *,
    batch_size: int = 1,
    batch_sampler: Sampler[Any] | None = None,
    sampler: Any = None,
) -> DataLoader[Any]:
    """Return a loader, to be read through ``batches``.

    Args:
        data: Items.
        workers: Data-loading processes; 0 reads in this one.
        collate: Makes a batch of items.
        batch_size: Items per batch, where ``batch_sampler`` is not given.
        batch_sampler: Which items each batch consists of.
        sampler: Which items there are, in order; by default all.
    """
    shared: dict[str, Any] = {
        "num_workers": workers,
        "worker_init_fn": ignore_signals,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": partial(_collated, collate),
    }
    if batch_sampler is not None:
        return DataLoader(_Told(data), batch_sampler=batch_sampler, **shared)
    return DataLoader(_Told(data), batch_size=batch_size, sampler=sampler, **shared)


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Give the batches, and raise the first error that came instead of an image."""
    for batch in loader:
        if isinstance(batch, SynrealError):
            raise batch
        yield batch


def length(data: Any) -> int:
    """Return how many items there are; torch's ``Dataset`` does not declare that it knows."""
    return len(data)


class _Told(Dataset[Any]):
    """Hands over an error of synreal's instead of raising it: a worker process would bury it in a traceback."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return length(self.data)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.data[index]
        except SynrealError as error:
            return error


def _collated(collate: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
    return next((item for item in items if isinstance(item, SynrealError)), None) or collate(items)
