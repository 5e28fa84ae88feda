"""Whether runs that were made again have the numbers that are recorded, to the bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from synreal.bench.board import Row
from synreal.bench.ledger import Ledger
from synreal.records import RunRecord, leaves

_NUMBERS: Final = ("source_heldout", "shifted", "targets", "source_selected", "target_selected", "averaged")


def deviations(rows: Iterable[Row], ledger: Ledger) -> dict[str, list[str]]:
    """Compare results with the records.

    Args:
        rows: The rows; those without a result are passed over.
        ledger: The records.

    Returns:
        By name of the cell, what differs, in words; nothing where all numbers are equal. A cell that is not recorded is
        left out.
    """
    found = {}
    for row in rows:
        recorded = ledger.get(row.cell.config)
        if row.record is not None and recorded is not None:
            found[row.cell.name] = _differences(recorded, row.record)
    return found


def _differences(recorded: RunRecord, again: RunRecord) -> list[str]:
    then, now = _numbers(recorded), _numbers(again)
    words = [
        f"{key} was {then.get(key)!r}, now {now.get(key)!r}" for key in then | now if then.get(key) != now.get(key)
    ]
    if words:
        here, there = recorded.protocol.versions | _machine(recorded), again.protocol.versions | _machine(again)
        words += [f"{key} was {here.get(key)}, now {there.get(key)}" for key in here if here[key] != there.get(key)]
    return words


def _numbers(record: RunRecord) -> dict[str, Any]:
    return leaves({name: record.model_dump(mode="json", include={name})[name] for name in _NUMBERS})


def _machine(record: RunRecord) -> dict[str, str]:
    return {"threads": str(record.cost.threads), "device": record.cost.device}
