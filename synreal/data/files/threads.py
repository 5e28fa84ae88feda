"""Work on many files in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from synreal import stopping

Piece = TypeVar("Piece")
Value = TypeVar("Value")


def in_threads(call: Callable[[Piece], Value], work: Sequence[Piece], workers: int | None = None) -> Iterator[Value]:
    """Call in threads, in order, a few calls ahead of what is taken: decoding and hashing let other threads run.

    Args:
        call: What is done with each piece; its first error ends it all.
        work: The pieces.
        workers: Threads; default one per processor, 8 at most.

    Yields:
        What the calls return, in the order of the pieces.

    Raises:
        Interrupted: If the process was asked to stop.
    """
    number = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(number) as pool:
        waiting: deque[Future[Value]] = deque()
        try:
            for piece in work:
                stopping.poll()
                waiting.append(pool.submit(call, piece))
                if len(waiting) > 2 * number:
                    yield waiting.popleft().result()
            while waiting:
                stopping.poll()
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
