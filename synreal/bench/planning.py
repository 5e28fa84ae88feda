"""What is to be done for a grid: its cells, and how far each of them is. Nothing is run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from synreal.bench.board import Row
from synreal.bench.cells import Cell, cells_of
from synreal.bench.grid import Grid
from synreal.bench.ledger import Ledger
from synreal.bench.state import standing
from synreal.errors import ConfigError
from synreal.records import RunRecord

WEIGHTS: Final = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Multiples of the default weight that a sweep runs where the grid has none of its own."""

SHIFTS: Final = ("blur", "noise", "recolour", "stylise")
"""Styles that held-out images of a sweep are tested in where a run has none of its own."""

_MOST_NAMES = 20


@dataclass(frozen=True)
class Plan:
    """A grid as it stands.

    Attributes:
        rows: The cells that were asked for, in their order.
        ledger: The records of the grid.
        reproduces: Whether what is recorded is run again.
    """

    rows: tuple[Row, ...]
    ledger: Ledger
    reproduces: bool = False

    @property
    def records(self) -> list[RunRecord]:
        """The results, in the order of the cells."""
        return [row.record for row in self.rows if row.record is not None]

    @property
    def failed(self) -> list[Row]:
        """The cells that failed."""
        return [row for row in self.rows if row.state == "failed"]

    @property
    def elsewhere(self) -> list[Row]:
        """The cells that another process is making, or was when it was looked last."""
        return [row for row in self.rows if row.state == "elsewhere"]

    @property
    def open(self) -> list[Row]:
        """The cells that are still to be run, those that were started among them."""
        return [row for row in self.rows if row.state in ("open", "started")]


def plan(
    grid: Grid, *, only: Sequence[str] = (), cell: str | None = None, sweep: bool = False, reproduce: bool = False
) -> Plan:
    """Resolve a grid, check all of it, and look how far each cell is.

    Args:
        grid: The grid.
        only: Texts; the cells whose name holds one of them are asked for. Empty for all.
        cell: The name of the one cell that is asked for.
        sweep: Run each regularizer with the multiples ``WEIGHTS`` of its weight where the grid has no other ones, and
            test held-out images in the styles ``SHIFTS`` too.
        reproduce: Take no record for done, and put run folders beside the grid's own output.

    Raises:
        ConfigError: If a setting is wrong, a folder holds another run, or no cell is left.
    """
    if sweep:
        grid = grid.model_copy(update={"weights": grid.weights or WEIGHTS})
    if reproduce:
        grid = grid.model_copy(update={"output": grid.output.with_name(f"{grid.output.name}-reproduced")})
    every = cells_of(grid, shifts=SHIFTS if sweep else ())
    ledger = Ledger(grid.records, every)
    cells = [one for one in every if cell is None or one.name == cell]
    cells = [one for one in cells if not only or any(text in one.name for text in only)]
    if not cells:
        names = [one.name for one in every]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        asked = cell or " or ".join(map(repr, only))
        raise ConfigError(f"The grid has no run {asked}. It has {', '.join(names[:_MOST_NAMES])}{more}.")
    return Plan(_rows(cells, None if reproduce else ledger), ledger, reproduce)


def plan_of(cells: Sequence[Cell]) -> Plan:
    """Look how far each of some cells is that are of no grid, and of no file of records.

    Raises:
        ConfigError: If a folder holds another run.
    """
    ledger = Ledger(None, cells)
    return Plan(_rows(cells, ledger), ledger)


def _rows(cells: Iterable[Cell], ledger: Ledger | None) -> tuple[Row, ...]:
    standings = [(cell, standing(cell, ledger)) for cell in cells]
    return tuple(Row(cell, found.state, found.record, threads=found.threads) for cell, found in standings)
