"""The file of a grid's records: which runs are in it, and how it is written so that it can be published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from synreal import atomic
from synreal.bench.cells import Cell
from synreal.bench.sameness import differences, identity, without_home
from synreal.config import RunConfig
from synreal.errors import ConfigError
from synreal.locking import Lock
from synreal.reading import read_json
from synreal.records import SCHEMA_VERSION, RunRecord, record_problem

_PATIENCE: Final = 30.0  # seconds that another command may take to write its records


class Ledger:
    """The records of a grid.

    Args:
        path: JSON file, a list of records; it need not exist. None holds nothing and writes nothing.
        cells: All cells of the grid: records are written in their order, those of other runs behind them.

    Raises:
        ConfigError: If the file is there and is not a list of records of this version.
    """

    def __init__(self, path: Path | None, cells: Iterable[Cell]) -> None:
        self.path = path
        self._order = [identity(cell.config.model_dump(mode="json")) for cell in cells]
        self._records = {} if path is None or not path.exists() else _read(path)

    def get(self, config: RunConfig) -> RunRecord | None:
        """Return the record of a run that serves for one of this configuration."""
        found = self._records.get(identity(config.model_dump(mode="json")))
        return None if found is None or differences(found.config, config) else found

    @property
    def others(self) -> int:
        """How many records are of runs that the grid does not have; they stay."""
        return len(self._records.keys() - set(self._order))

    def add(self, records: Iterable[RunRecord]) -> None:
        """Take records up, in place of those of equal configurations, and write the file.

        Raises:
            ConfigError: If the file cannot be written.
        """
        own = {identity(record.config): record for record in records}
        self._records |= own
        if self.path is None or not self._records:
            return
        if self.path.exists() and self._text() == self._stored():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = Lock(self.path.with_name(f"{self.path.name}.lock"), f"The file of records {self.path}")
            lock.acquire(_PATIENCE)
            try:
                if self.path.exists():  # another command may have added to it since it was read
                    self._records = {**self._records, **_read(self.path), **own}
                atomic.write_text(self.path, self._text())
            finally:
                lock.release()
        except OSError as error:
            raise ConfigError(f"Cannot write the records {self.path}: {error.strerror or error}.") from None

    def _stored(self) -> str | None:
        """Return what the file holds; None if it cannot be read."""
        assert self.path is not None
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _text(self) -> str:
        keys = [key for key in self._order if key in self._records]
        keys += [key for key in self._records if key not in self._order]
        return json.dumps([portable(self._records[key]) for key in keys], indent=1, allow_nan=False) + "\n"


def portable(record: RunRecord) -> dict[str, Any]:
    """Return a record without what is one machine's: no run folder, data below ``$SYNREAL_DATA`` named by it."""
    found: dict[str, Any] = without_home(record.model_dump(mode="json"))
    found["config"]["output"]["folder"] = None
    return found


def _read(path: Path) -> dict[str, RunRecord]:
    advice = f"Expected a list of records of schema version {SCHEMA_VERSION}; move the file away, or name another."
    try:
        rows = read_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The records {path} cannot be read: {reason}. {advice}") from None
    if not isinstance(rows, list):
        raise ConfigError(f"The records {path} are no list. {advice}")
    records = []
    for number, row in enumerate(rows, 1):
        try:
            records.append(RunRecord.model_validate(row))
        except ValidationError as error:
            raise ConfigError(
                f"The records {path} cannot be used: record {number}: {record_problem(row, error)}. {advice}"
            ) from None
    return {identity(record.config): record for record in records}
