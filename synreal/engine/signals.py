"""Ctrl-C, SIGTERM and their like: a request that the run polls, never a half-written file."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from synreal import stopping
from synreal.distributed import all_reduce_sum, world_size

_HEARD = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")  # schedulers send the last one before the time is up
_EXIT = {number: 128 + number for name in _HEARD if (number := getattr(signal, name, None)) is not None}
STOPPED = frozenset(_EXIT.values())
"""Exit codes of a run that was stopped by a signal."""


class StopRequest(stopping.Request):
    """Whether the run was asked to stop, and with which exit code: 128 and the signal's number."""

    def agreed(self, device: torch.device) -> bool:
        """Return whether any process was asked to stop; all processes get the same answer, and must ask as often."""
        if world_size() == 1:
            return self.exit_code > 0
        asked = torch.tensor([float(self.exit_code)], device=device)
        total = float(all_reduce_sum(asked))
        if total and not self.exit_code:
            self.exit_code = _EXIT[signal.SIGTERM]
        return total > 0


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 into a request; a second one has its ordinary effect.

    What is ignored stays so, as ``nohup`` wants it. Outside the main thread, where Python allows no handlers, signals
    keep their ordinary effect.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        with stopping.heeding(request):
            yield request
        return
    before = {number: signal.getsignal(number) for number in _EXIT}
    before = {number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)}

    def ask(number: int, frame: FrameType | None) -> None:
        request.exit_code = _EXIT[signal.Signals(number)]
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        with stopping.heeding(request):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals(_: int) -> None:
    """Make a data-loading worker ignore signals: the main process finishes its step and ends the workers."""
    for number in _EXIT:
        signal.signal(number, signal.SIG_IGN)
