"""Numbers that papers report, to stand beside one's own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from synreal.parsing import parse_yaml
from synreal.records.leaderboard.rows import Row
from synreal.records.record import RunRecord


class Table(BaseModel):
    """What one paper reports under one protocol.

    Attributes:
        paper: Which one, and where in it.
        protocol: How it trained and tested, in words.
        alone: What it reports for training on the source alone, in percent.
        values: The headline by method, in percent.
    """

    model_config = ConfigDict(extra="forbid")

    paper: str
    protocol: str
    alone: float
    values: dict[str, float]


class Published(BaseModel):
    """What papers report on one pair.

    Attributes:
        source: Kind of the synthetic data.
        target: Kind of the real data.
        task: Name of the task.
        measure: What tables call the headline; more of it is better.
        tables: What each paper reports.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    target: str
    task: str
    measure: str
    tables: list[Table]


@functools.cache
def all_published() -> list[Published]:
    """Read the file of published numbers that comes with synreal."""
    text = resources.files(__package__).joinpath("papers.yaml").read_text(encoding="utf-8")
    return [Published.model_validate(value) for value in parse_yaml(text)]


def published(pair: str, record: RunRecord, target: str) -> list[Row]:
    """Return what papers report on a pair as rows, in the order of the papers.

    Args:
        pair: How the pair is called here.
        record: Any run of it.
        target: Name of its real data set.
    """
    data = record.config.get("data", {})
    place = list(record.targets).index(target)
    targets = data.get("targets", ())
    kinds = (kind_of(data.get("source")), kind_of(targets[place]) if place < len(targets) else "")
    return [
        Row(
            pair=pair,
            task=one.task,
            protocol=f"paper: {table.protocol}",
            consists_of=table.protocol,
            method=method,
            kind="paper",
            measure=one.measure,
            unit="%",
            higher_is_better=True,
            mean=value / 100,
            difference=None if value == table.alone else (value - table.alone) / 100,
            source=table.paper,
        )
        for one in all_published()
        if (one.source, one.target, one.task) == (*kinds, record.protocol.task)
        for table in one.tables
        for method, value in table.values.items()
    ]


def kind_of(written: Any) -> str:
    """Return the kind of a data set as a configuration writes it: ``"gta5:FOLDER"``, ``"gta5(...)"`` or a mapping."""
    if isinstance(written, Mapping):
        return str(written.get("format", ""))
    return str(written).partition("(")[0].partition(":")[0].strip()
