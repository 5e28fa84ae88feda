"""How far each cell is, read from its run folder and from the grid's records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from synreal import locking
from synreal.bench.cells import Cell
from synreal.bench.ledger import Ledger
from synreal.bench.sameness import differences
from synreal.config import RunConfig
from synreal.engine import run_folder
from synreal.errors import ConfigError
from synreal.records import RunRecord, read_record

State: TypeAlias = Literal["done", "recorded", "elsewhere", "started", "open", "running", "failed", "stopped"]
"""``done``: its folder holds a result; ``recorded``: the file of records does; ``elsewhere``: another process is making
the run; ``started``: it will be resumed; ``open``: nothing is there. The others are of this moment."""


class Standing(NamedTuple):
    """How far a cell is.

    Attributes:
        state: In a word.
        record: Its result, if there is one.
        threads: With how many threads it was started; None if it was not.
    """

    state: State
    record: RunRecord | None = None
    threads: int | None = None


def standing(cell: Cell, ledger: Ledger | None) -> Standing:
    """Look how far a cell is.

    Args:
        cell: The cell.
        ledger: The records that make a run unnecessary; None for none.

    Raises:
        ConfigError: If its folder holds something else: another configuration, what is no run, a damaged file.
    """
    folder = cell.folder
    if (folder / run_folder.RESULT_FILE).is_file():
        record = read_record(folder)
        _check_same(folder, record.config, cell.config)
        return Standing("done", record)
    recorded = None if ledger is None else ledger.get(cell.config)
    if recorded is not None:
        return Standing("recorded", recorded)
    if locking.holder(folder / run_folder.LOCK_FILE) is not None:
        return Standing("elsewhere")
    if (folder / run_folder.RUN_FILE).is_file():
        facts = run_folder.read(folder, "go on with")
        _check_same(folder, facts.config, cell.config)
        return Standing("started", threads=facts.environment.threads)
    if folder.exists() and not (folder.is_dir() and run_folder.is_blank(folder)):
        raise ConfigError(
            f"{folder} is not empty and holds no {run_folder.RUN_FILE}: it is not a run. Move it away, or give "
            "another output."
        )
    return Standing("open")


def _check_same(folder: Path, stored: Mapping[str, Any], wanted: RunConfig) -> None:
    if different := differences(stored, wanted):
        raise ConfigError(
            f"{folder} holds a run with another configuration: "
            + "; ".join(different)
            + ". Give another output, or remove the folder to run it anew."
        )
