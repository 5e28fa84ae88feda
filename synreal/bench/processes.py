"""Worker processes: their environment, what becomes of them, and how they are stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from synreal import atomic
from synreal.bench.cells import Cell

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_LAST_LINES = 5


def threads_each(jobs: int, threads: int | None) -> int:
    """Return how many threads each of several runs gets.

    Args:
        jobs: How many run at a time.
        threads: How many were asked for; None takes ``OMP_NUM_THREADS`` or, where that is not set, divides the
            processors that this process may use.
    """
    given = os.environ.get(THREAD_VARIABLES[0], "")
    if threads is not None or given.isdecimal():
        return max(1, int(given) if threads is None else threads)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count // jobs)


def environment(threads: int, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a worker.

    Args:
        threads: What each library may use.
        own: The environment of this process.
    """
    return {**own, **{name: str(threads) for name in THREAD_VARIABLES}}


class Worker:
    """A process that makes the run of a cell; what it writes goes to a file beside the run folder.

    Args:
        cell: The cell.
        threads: Threads of the process.
        plugins: Files that it loads.

    Raises:
        OSError: If files beside the run folder cannot be written.
    """

    def __init__(self, cell: Cell, threads: int, plugins: Sequence[Path]) -> None:
        self.cell = cell
        cell.order.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(cell.order, cell.config.to_yaml())
        words = [
            sys.executable,
            "-m",
            "synreal.bench.worker",
            str(cell.order),
            *(str(path.absolute()) for path in plugins),
        ]
        with cell.log.open("ab") as log:
            self.began = log.tell()
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,  # it ends with this process, and the worker then
                stdout=log,
                stderr=log,
                env=environment(threads),
                start_new_session=True,  # a terminal's Ctrl-C is passed on once, by this process
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Ask it to save and stop; asked again, it ends at once."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and whatever it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Let go of it."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def last_lines(self) -> str:
        """Return the end of what it wrote."""
        with contextlib.suppress(OSError), self.cell.log.open("rb") as log:
            log.seek(self.began)
            lines = [line for line in log.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
            return "\n".join(lines[-_LAST_LINES:])
        return ""

    def how_it_ended(self) -> str:
        """Say in words how it failed."""
        code = self.exit_code or 0
        if code >= 0:
            return f"exit code {code}"
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
