"""Making the runs of a grid: so many workers at a time, each a process, until all is done or a stop is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from synreal import locking
from synreal.bench.board import Board, Row
from synreal.bench.cells import Cell
from synreal.bench.grid import Grid
from synreal.bench.planning import Plan, plan
from synreal.bench.processes import Worker, threads_each
from synreal.bench.state import standing
from synreal.bench.watch import Lengths, Watch, duration, number, results
from synreal.engine.run_folder import LOCK_FILE, RESULT_FILE
from synreal.engine.signals import STOPPED, StopRequest, listening
from synreal.errors import DataError, Interrupted, TrainingError
from synreal.records import read_record

_BETWEEN_LOOKS = 0.2  # seconds
_BETWEEN_TABLES = 0.5


def bench(
    grid: Grid,
    *,
    jobs: int = 1,
    threads: int | None = None,
    plugins: Sequence[Path] = (),
    only: Sequence[str] = (),
    cell: str | None = None,
    sweep: bool = False,
    reproduce: bool = False,
    show: bool = True,
) -> Plan:
    """Make the runs of a grid that are not made yet, several at a time, each in a process of its own.

    A run that fails costs none of the others. Several calls may work on one grid, also on several machines that share
    its folder: a run that another one is making is left to it.

    Args:
        grid: The grid.
        jobs: How many run at a time, at least 1.
        threads: Threads of each; None divides the processors among them.
        plugins: Plugin files that the runs load; this process has loaded them too.
        only: As in ``plan``.
        cell: As in ``plan``; the file of records is not written then, so that several can run next to each other.
        sweep: As in ``plan``.
        reproduce: As in ``plan``; the file of records is not written.
        show: Write progress to stderr.

    Returns:
        The plan, with what became of each cell.

    Raises:
        ConfigError: If a setting is wrong or a folder holds another run; before anything runs.
        DataError: If data of a run to be made are missing.
        Interrupted: If it was asked to stop; the runs have saved what they had.
    """
    planned = plan(grid, only=only, cell=cell, sweep=sweep, reproduce=reproduce)
    carry_out(planned, jobs=jobs, threads=threads, plugins=plugins, writes=cell is None and not reproduce, show=show)
    return planned


def carry_out(
    planned: Plan,
    *,
    jobs: int = 1,
    threads: int | None = None,
    plugins: Sequence[Path] = (),
    writes: bool = True,
    show: bool = True,
) -> None:
    """Make the runs of a plan that are not made yet; errors as of ``bench``.

    Args:
        planned: The plan; it gets what became of each cell.
        jobs: As of ``bench``.
        threads: As of ``bench``.
        plugins: As of ``bench``.
        writes: Whether the file of records is written.
        show: As of ``bench``.
    """
    _check_data([row.cell for row in planned.rows if row.record is None])
    each = threads_each(jobs, threads)
    title = f"{jobs} at a time, {each} thread{'s' if each > 1 else ''} each"
    with listening() as request, Board(planned.rows, show=show, title=title) as board:
        runner = _Runner(planned, board, request, each, plugins, writes=writes)
        runner.write()
        runner.run(jobs)
    if request.exit_code:
        done = len(planned.records)
        raise Interrupted(
            f"Stopped: {done} of {len(planned.rows)} runs are done, what ran is saved. Go on with the same command.",
            request.exit_code,
        )


def _check_data(cells: Sequence[Cell]) -> None:
    seen = set()
    for cell in cells:
        for entry in (cell.config.data.source, *cell.config.data.targets):
            if entry.text() not in seen:
                seen.add(entry.text())
                try:
                    entry.check()
                except DataError as error:
                    raise DataError(f"In the cell {cell.name}: {error}") from None


class _Runner:
    """Keeps so many workers busy until every row is done, failed or stopped."""

    def __init__(
        self,
        planned: Plan,
        board: Board,
        request: StopRequest,
        threads: int,
        plugins: Sequence[Path],
        *,
        writes: bool,
    ) -> None:
        self.planned = planned
        self.board = board
        self.request = request
        self.threads = threads
        self.plugins = plugins
        self.writes = writes
        self.lengths = Lengths()
        self.workers: dict[int, Worker] = {}
        self.began: dict[int, float] = {}
        self.spent: list[float] = []
        for row in planned.rows:
            if row.record is not None:
                self.lengths.learn(row.cell, row.record.protocol.steps)

    def write(self) -> None:
        """Write the file of records."""
        if self.writes:
            self.planned.ledger.add(self.planned.records)

    def run(self, jobs: int) -> None:
        """Run what is not done, then what another command had taken and has left."""
        while next(self._waiting(), None) is not None and not self.request.exit_code:
            self._run(jobs)
            for row in self.planned.elsewhere:
                self._look_again(row)

    def _run(self, jobs: int) -> None:
        waiting = self._waiting()
        drawn, stopping = 0.0, False
        try:
            while True:
                while len(self.workers) < jobs and not self.request.exit_code:
                    number = next(waiting, None)
                    if number is None:
                        break
                    self._start(number)
                if not self.workers:
                    break
                if self.request.exit_code and not stopping:
                    stopping = True
                    self.board.say("Stopping: each run saves what it has.")
                    for worker in self.workers.values():
                        worker.stop()
                time.sleep(_BETWEEN_LOOKS)
                for number in list(self.workers):
                    self._look(number)
                if time.monotonic() - drawn > _BETWEEN_TABLES:
                    drawn = time.monotonic()
                    self.board.refresh(self._left(jobs))
        finally:
            for worker in self.workers.values():
                worker.kill()

    def _look_again(self, row: Row) -> None:
        """Look how far a cell is, if others may be at it; take up a result that they have made."""
        found = standing(row.cell, None if self.planned.reproduces else self.planned.ledger)
        if found.state not in ("done", "recorded", "elsewhere"):
            row.state, row.threads = found.state, found.threads
            return
        if row.state != found.state:
            words = {"elsewhere": "is being run by another process", "done": "was done by another process"}
            row.state, row.record, row.problem = found.state, found.record, ""
            self.board.event(row, words.get(found.state, "is recorded"))
            if found.record is not None:
                self.write()

    def _waiting(self) -> Iterator[int]:
        return (number for number, row in enumerate(self.planned.rows) if row.state in ("started", "open"))

    def _start(self, number: int) -> None:
        row = self.planned.rows[number]
        self._look_again(row)  # another command may have taken it since this one was planned
        if row.state not in ("started", "open"):
            return
        try:
            self.workers[number] = Worker(row.cell, self.threads, self.plugins)
        except OSError as error:
            raise TrainingError(f"Cannot start {row.cell.name}: {error}.") from None
        self.board.event(row, "started" if row.state == "open" else "goes on")
        if row.threads not in (None, self.threads):
            self.board.say(
                f"{row.cell.name} was started with {row.threads} threads and goes on with {self.threads}: it ends as "
                "good, but not with the same bits."
            )
        self.began[number] = time.monotonic()
        row.state, row.watch = "running", Watch(row.cell, self.lengths)

    def _look(self, number: int) -> None:
        row, worker = self.planned.rows[number], self.workers[number]
        code = worker.exit_code  # before the rows, so that none are missed
        assert row.watch is not None
        if row.watch.look() and code is None:
            self.board.event(row, f"step {row.watch.step}, {_written(row.cell, row.watch.headlines)}")
        if code is None:
            return
        worker.close()
        del self.workers[number]
        if code == 0 and (row.cell.folder / RESULT_FILE).is_file():
            row.record, row.state = read_record(row.cell.folder), "done"
            self.lengths.learn(row.cell, row.record.protocol.steps)
            self.spent.append(time.monotonic() - self.began[number])
            self.write()
            self.board.event(row, f"done in {duration(self.spent[-1])}, {_written(row.cell, results(row.record))}")
        elif self.request.exit_code and (code in STOPPED or 128 - code in STOPPED):
            row.state = "stopped"
            self.board.event(row, f"stopped at step {row.watch.step}")
        elif code == 2 and locking.holder(row.cell.folder / LOCK_FILE) is not None:
            row.state = "elsewhere"  # both started it in the same moment
            self.board.event(row, "is being run by another process")
        else:
            row.state, row.problem, row.lines = "failed", worker.how_it_ended(), worker.last_lines()
            self.board.event(row, f"failed ({row.problem}); see {row.cell.log}")

    def _left(self, jobs: int) -> float | None:
        """Return the seconds until all is done: what runs, and as many as wait, like those that were run."""
        running = [row.watch.seconds_left for row in self.planned.rows if row.state == "running" and row.watch]
        waiting = sum(1 for _ in self._waiting())
        known = [seconds for seconds in running if seconds is not None]
        if len(known) < len(running) or (waiting and not self.spent):
            return None
        mean = sum(self.spent) / len(self.spent) if self.spent else 0.0
        return max([(sum(known) + mean * waiting) / jobs, *known])


def _written(cell: Cell, headlines: dict[str, float]) -> str:
    names = {"source": "held-out"}
    return ", ".join(f"{names.get(name, name)} {number(cell, value)}" for name, value in headlines.items())
