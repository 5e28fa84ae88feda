"""What people see while a grid runs: a table on a terminal, a line for each event elsewhere. Writes to stderr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from synreal.bench.cells import Cell
from synreal.bench.state import State
from synreal.bench.watch import Watch, duration, number, results
from synreal.records import RunRecord
from synreal.terminal import lasting_console

_STYLES: Final = {
    "done": "green",
    "recorded": "green",
    "running": "bold cyan",
    "elsewhere": "yellow",
    "failed": "bold red",
    "open": "dim",
}
_FRAME = 8  # lines of a terminal that the table's frame, its title and the shell take


@dataclass
class Row:
    """A cell as it stands.

    Attributes:
        cell: The cell.
        state: How far it is.
        record: Its result, if there is one.
        watch: What is seen of it, if it runs or ran.
        problem: Why it failed, in words.
        lines: The last lines that it wrote before it failed.
        threads: With how many threads it was started; None if it was not.
    """

    cell: Cell
    state: State
    record: RunRecord | None = None
    watch: Watch | None = field(default=None, repr=False)
    problem: str = ""
    lines: str = ""
    threads: int | None = None

    @property
    def headlines(self) -> dict[str, float]:
        """The headline by set: of the result, or of the newest test."""
        if self.record is not None:
            return results(self.record)
        return self.watch.headlines if self.watch is not None else {}


class Board:
    """Shows the rows of a grid.

    Args:
        rows: The rows; whoever runs them changes them.
        show: Write anything at all.
        title: Of the table.
    """

    def __init__(self, rows: Sequence[Row], *, show: bool, title: str) -> None:
        self.rows = rows
        self.title = title
        self.left: float | None = None
        self.console = lasting_console(show=show)
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True)
            if show and self.console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Write a line, above the table if there is one."""
        self.console.print(text, soft_wrap=True)

    def event(self, row: Row, text: str) -> None:
        """Write a line on a cell where there is no table that shows it."""
        if self._live is None:
            count = sum(each.state in ("done", "recorded") for each in self.rows)
            self.say(f"[{count}/{len(self.rows)}] {row.cell.name}: {text}")

    def refresh(self, left: float | None) -> None:
        """Draw the table anew.

        Args:
            left: Seconds until all is done; None if that is not known.
        """
        self.left = left
        if self._live is not None:
            self._live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Make the table: all rows, or those that a terminal has room for, what runs and what failed first."""
        table = Table(title=self.title, title_justify="left", caption=self.summary(), caption_justify="left")
        for heading in ("run", "state", "step", "held-out", "targets", "left"):
            table.add_column(heading, justify="left" if heading in ("run", "state") else "right", overflow="fold")
        shown = self._shown()
        for row in self.rows:
            if id(row) in shown:
                table.add_row(*self._cells(row))
        return table

    def summary(self) -> str:
        """Say how many cells are in which state, and how long the rest takes."""
        states = [row.state for row in self.rows]
        done = states.count("done") + states.count("recorded")
        parts = [f"{done} of {len(states)} done"]
        parts += [
            f"{states.count(state)} {state}"
            for state in ("running", "elsewhere", "failed", "stopped")
            if state in states
        ]
        return ", ".join(parts) + (f"; about {duration(self.left)} left" if self.left else "")

    def _shown(self) -> set[int]:
        room = max(5, self.console.height - _FRAME)
        if self._live is None or len(self.rows) <= room:
            return {id(row) for row in self.rows}
        urgent = {"running": 0, "failed": 1, "stopped": 1}
        active = [number for number, row in enumerate(self.rows) if row.state == "running"] or [0]
        # Then what stands closest to what runs: it has just been done, or comes next.
        near = sorted(
            range(len(self.rows)),
            key=lambda n: (urgent.get(self.rows[n].state, 2), min(abs(n - other) for other in active)),
        )
        return {id(self.rows[n]) for n in near[:room]}

    def _cells(self, row: Row) -> list[Text]:
        watch, found = row.watch, row.headlines
        step = left = ""
        if row.record is not None:
            step = str(row.record.protocol.steps)
        elif watch is not None:
            step = str(watch.step) + (f"/{watch.total}" if watch.total else "")
            if row.state == "running" and watch.seconds_left is not None:
                left = duration(watch.seconds_left)
        heldout = number(row.cell, found["source"]) if "source" in found else ""
        targets = ", ".join(number(row.cell, value) for name, value in found.items() if name != "source")
        style = _STYLES.get(row.state, "")
        texts = [row.cell.name, row.state, step, heldout, targets, left]
        return [Text(text, style=style if index < 2 else "") for index, text in enumerate(texts)]
