"""Ctrl-C and SIGTERM: a request that the run polls, never a half-written file."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from synreal.distributed import all_reduce_sum

_EXIT = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Whether the run was asked to stop, and with which exit code."""

    def __init__(self) -> None:
        self.exit_code = 0

    def agreed(self, device: torch.device) -> bool:
        """Return whether any process was asked to stop; all processes get the same answer."""
        asked = torch.tensor([float(self.exit_code)], device=device)
        total = float(all_reduce_sum(asked))
        if total and not self.exit_code:
            self.exit_code = _EXIT[signal.SIGTERM]
        return total > 0


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one has its ordinary effect.

    Outside the main thread, where Python allows no handlers, signals keep their ordinary effect.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _EXIT}

    def ask(number: int, frame: FrameType | None) -> None:
        request.exit_code = _EXIT[signal.Signals(number)]
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in _EXIT:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals(_: int) -> None:
    """Make a data-loading worker ignore signals: the main process finishes its step and ends the workers."""
    for number in _EXIT:
        signal.signal(number, signal.SIG_IGN)
