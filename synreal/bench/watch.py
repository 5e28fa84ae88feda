"""What can be seen of a run from outside: the rows that it writes to its ``metrics.jsonl``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from synreal.bench.cells import Cell
from synreal.engine import run_folder
from synreal.measures import MEASURES
from synreal.reading import open_file
from synreal.records import RunRecord, as_number, with_unit, written


class Lengths:
    """How many steps runs have: known of those that are over, and of those that are like them."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], int] = {}

    def learn(self, cell: Cell, steps: int) -> None:
        """Take note of the steps of a run."""
        self._known[self._kind(cell)] = steps

    def of(self, cell: Cell) -> int | None:
        """Return how many steps a run has; None if that is not known yet."""
        return self._known.get(self._kind(cell), cell.config.training.max_steps)

    @staticmethod
    def _kind(cell: Cell) -> tuple[Any, ...]:
        training = cell.config.training
        size = training.batch_size * training.accumulate
        return cell.pair, training.epochs, training.max_steps, size, cell.config.data.source.text()


class Watch:
    """Follows one run.

    Args:
        cell: The run.
        lengths: What is known of the lengths of runs; tests at the end of an epoch add to it.

    Attributes:
        step: Steps made.
        tested: The step of the newest test; None before the first.
        headlines: The headline of the newest test by set, held-out source first.
    """

    def __init__(self, cell: Cell, lengths: Lengths) -> None:
        self.cell = cell
        self.lengths = lengths
        self.step = 0
        self.tested: int | None = None
        self.headlines: dict[str, float] = {}
        self._read = 0
        self._pace: tuple[float, int] | None = None
        self._latest = (0.0, 0)

    def look(self) -> bool:
        """Read what has been written since the last time.

        Returns:
            Whether there is a new test.
        """
        path = self.cell.folder / run_folder.METRICS_FILE
        try:
            with open_file(path) as file:
                if file.seek(0, 2) < self._read:
                    self._read = 0  # a resumed run drops rows that it writes again
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return False
        self._read += len(whole) + len(newline)
        before = self.tested
        for line in whole.splitlines():
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
                continue  # read while it was being replaced
        if whole:
            now = time.monotonic(), self.step
            self._latest, self._pace = now, self._pace or now
        return self.tested != before

    def _take(self, row: Mapping[str, Any]) -> None:
        if type(row["step"]) is not int:
            raise TypeError("a step is a whole number")
        self.step = row["step"]
        tests = [key for key in row if key.startswith("eval/")]
        if not tests:
            return
        self.tested, self.headlines = self.step, {}
        for key in tests:
            self.headlines.setdefault(key.split("/")[1], as_number(row[key]))
        config, epoch = self.cell.config, row["epoch"]
        if len(config.phases) == 1 and epoch:  # a test is made at the end of an epoch, or of the run
            most = config.training.max_steps
            total = self.step // epoch * config.training.epochs
            if self.step % epoch == 0 and (most is None or total <= most):
                self.lengths.learn(self.cell, total)

    @property
    def total(self) -> int | None:
        """Steps that the run has in all; None if that is not known yet."""
        found = self.lengths.of(self.cell)
        return None if found is None or found < self.step else found

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the steps to come take at the pace seen so far; None if that is not known yet."""
        if self._pace is None or self.total is None or self._latest[1] <= self._pace[1]:
            return None
        (since, first), (now, step) = self._pace, self._latest
        return max(0.0, (now - since) / (step - first) * (self.total - step) - (time.monotonic() - now))


def results(record: RunRecord) -> dict[str, float]:
    """Return the headline of a record by set, held-out source first."""
    return {"source": record.source_heldout.headline, **{n: score.headline for n, score in record.targets.items()}}


def number(cell: Cell, value: float) -> str:
    """Write a headline of a cell as people read it."""
    unit = MEASURES.get(cell.config.task.measures[0]).unit
    return with_unit(written([value], unit), unit)


def duration(seconds: float) -> str:
    """Write a duration in the two units that matter: ``"1 h 20 min"``, ``"3 min 5 s"``, ``"12 s"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
