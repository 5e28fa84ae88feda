"""Batches from data-loading processes, whose errors reach the main process as they are."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import re
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from synreal.engine.signals import ignore_signals
from synreal.errors import DataError, SynrealError, TrainingError

_MOST_NAMED = 16  # images of a batch that are named


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
    told = _Told(data, workers)
    shared: dict[str, Any] = {
        "num_workers": workers,
        "worker_init_fn": told.begin,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": partial(_collated, collate),
    }
    if workers:
        _READ_BY_WORKERS.add(told)
    if batch_sampler is not None:
        return DataLoader(told, batch_sampler=batch_sampler, **shared)
    return DataLoader(told, batch_size=batch_size, sampler=sampler, **shared)


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Give the batches, and raise the first error that came instead of an image."""
    for batch in loader:
        if isinstance(batch, SynrealError):
            raise batch
        yield batch


def length(data: Any) -> int:
    """Return how many items there are; torch's ``Dataset`` does not declare that it knows."""
    return len(data)


def named(data: Any, positions: Sequence[Any]) -> str:
    """Name the images of items, by their files where they lie in some.

    Args:
        data: The items.
        positions: What they are read by: an index, or ``(epoch, index)``.
    """
    shown = [_named(data, position) for position in positions[:_MOST_NAMED]]
    more = len(positions) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _named(data: Any, position: Any) -> str:
    index = position[1] if isinstance(position, tuple) else position
    images = getattr(data, "images", data)
    path = images.path(index) if hasattr(images, "path") else None
    if path is not None:
        return str(path)
    return f"image {index} of {getattr(images, 'name', 'the data')} ({getattr(images, 'split', 'all')})"


class _Told(Dataset[Any]):
    """Hands over an error of synreal's instead of raising it: a worker process would bury it in a traceback.

    Args:
        data: Items.
        workers: Data-loading processes.

    Attributes:
        reading: Of each worker its process and the position of the item that it began to read last, in memory that the
            main process can read when the worker is gone; None without workers.
    """

    def __init__(self, data: Dataset[Any], workers: int) -> None:
        self.data = data
        self.reading: Tensor | None = None
        if workers:
            self.reading = torch.full((workers, 3), -1, dtype=torch.int64).share_memory_()

    def begin(self, worker: int) -> None:
        """Begin in a data-loading process: tell its number, and leave signals to the main process."""
        assert self.reading is not None
        self.reading[worker, 0] = os.getpid()
        ignore_signals(worker)

    def __len__(self) -> int:
        return length(self.data)

    def __getitem__(self, index: Any) -> Any:
        worker = get_worker_info()
        if worker is not None and self.reading is not None:
            position = index if isinstance(index, tuple) else (-1, index)
            self.reading[worker.id] = torch.tensor([os.getpid(), *position])
        try:
            return self.data[index]
        except SynrealError as error:
            return error
        except (MemoryError, RecursionError) as error:
            return DataError(
                f"{_named(self.data, index)} cannot be read: {' '.join([type(error).__name__, str(error)]).strip()}. "
                "Use fewer workers (data.workers) or a smaller batch_size if memory is short; leave the image out, or "
                "lower the data set's max_pixels, if it is huge; synreal data check reads all images once."
            )
        except Exception as error:
            if sys.version_info >= (3, 11):
                error.add_note(f"while reading {_named(self.data, index)}")
            raise


_READ_BY_WORKERS: Final[weakref.WeakSet[_Told]] = weakref.WeakSet()


def _end_processes() -> None:
    """End the data-loading processes that are left when this one ends.

    ``multiprocessing`` would ask them by SIGTERM, which they ignore, and wait for ever. Where an error of somebody
    else's code ends the run, its traceback keeps their loader, which ends them otherwise.
    """
    pids = {pid for told in _READ_BY_WORKERS if told.reading is not None for pid in told.reading[:, 0].tolist()}
    left = [process for process in multiprocessing.active_children() if process.pid in pids]
    if left and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would report that they are gone
    for process in left:
        process.kill()


atexit.register(_end_processes)  # before that of multiprocessing, which was imported before


@contextmanager
def dead_workers_named() -> Iterator[None]:
    """Say which images a data-loading process was reading, where torch says that it is gone; it may do so at any time.

    Raises:
        TrainingError: If a worker was killed.
    """
    try:
        yield
    except RuntimeError as error:
        text = f"{error} {error.__cause__ or ''}"  # the cause may name the signal
        found = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", text)
        if isinstance(error, SynrealError) or found is None:
            raise
        pids = {int(pid) for pid in found[1].split(",")}
        raise TrainingError(_obituary(pids, text)) from None


def _obituary(pids: set[int], text: str) -> str:
    last = [
        _named(told.data, (epoch, index))
        for told in _READ_BY_WORKERS
        if told.reading is not None
        for pid, epoch, index in told.reading.tolist()
        if pid in pids and index >= 0
    ]
    seen = f"The last image that it began to read: {', '.join(last)}." if last else "It had not begun to read an image."
    reason = re.search(r"is killed by signal: ([^.]*)", text)
    signal = f" (signal: {reason[1].strip()})" if reason else ""
    return (
        f"A data-loading process (pid {', '.join(map(str, sorted(pids)))}) ended unexpectedly{signal}. {seen} Most "
        "often memory ran out: use fewer workers (data.workers=0 reads in the main process, whose error then says "
        "more), a smaller batch_size, or more shared memory (/dev/shm). A decoder may also crash on that image: "
        "synreal data check reads all of them once."
    )


def _collated(collate: Callable[[Sequence[Any]], Any], items: Sequence[Any]) -> Any:
    return next((item for item in items if isinstance(item, SynrealError)), None) or collate(items)
