"""What a person sees while a run goes on: a bar on a terminal, a line now and then elsewhere.

It goes to stderr, and where that can no longer be written, nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import Self

from synreal.terminal import lasting_console

_SECONDS_BETWEEN_LINES = 15.0


class RunProgress:
    """Progress of one run.

    Args:
        show: Write anything at all.
    """

    def __init__(self, *, show: bool) -> None:
        self.console = lasting_console(show=show)
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}", markup=False),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (show and self.console.is_terminal),
        )
        self.task: TaskID | None = None
        self.name = ""
        self.total = 0
        self.first = 0
        self.started = self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def start(self, name: str, total: int, done: int) -> None:
        """Begin counting the steps of a phase.

        Args:
            name: What the phase is called.
            total: How many steps it has.
            done: How many of them are made.
        """
        self.name, self.total, self.first = name, total, done
        self.started = self.last_line = time.monotonic()
        self.task = self.bar.add_task(name, total=total, completed=done, losses="")

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Show a step of the phase that was made, and its losses."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if self.task is not None:
            self.bar.update(self.task, completed=step, losses=text)
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last_line > _SECONDS_BETWEEN_LINES or step == self.total):
            self.last_line = now
            left = (now - self.started) / max(1, step - self.first) * (self.total - step)
            words = "  ".join(filter(None, (f"{self.name}: {step}/{self.total}", text, f"left {left:.0f} s")))
            self.console.print(words)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text)
