"""What a run's tests gave over its steps, read from its folder. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from synreal.errors import ConfigError
from synreal.reading import read_bytes, read_json
from synreal.records.numbers import Unit, as_number
from synreal.records.protocols import differing, settings
from synreal.records.record import RunRecord, read_record

_METRICS: Final = "metrics.jsonl"
_RUN: Final = "run.json"
_TEST: Final = "eval/"
SOURCE: Final = "source"
"""What the held-out part of the source is called among the sets of a run."""


@dataclass(frozen=True)
class SetHistory:
    """The headline on one set of images over the steps of a run.

    Attributes:
        measure: The measure's name.
        heading: What tables call it; None where the run has not finished, so that nothing says.
        unit: How it is written; None likewise.
        steps: Steps that had been made at each test, ascending.
        values: The headline at each; NaN where it was not defined.
    """

    measure: str
    heading: str | None
    unit: Unit | None
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """The tests of a run.

    Attributes:
        label: The regularizers, with what differs from their defaults if the run has finished.
        seed: Its seed.
        sets: What each test was of, ``"source"`` for its held-out part first.
        place: The run folder.
        facts: All that must be the same in runs that compare.
    """

    label: str
    seed: int
    sets: Mapping[str, SetHistory]
    place: str
    facts: Mapping[str, Any]


def find_histories(paths: Iterable[str | Path]) -> list[History]:
    """Read the histories of run folders, and of folders of them at any depth.

    Raises:
        ConfigError: If a path holds no run, a run has no test or cannot be read, two are of one method and seed, or
            some do not compare.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        found = [one.parent for one in sorted(path.rglob(_RUN))]
        if not found:
            raise ConfigError(f"{path} holds no run: expected a run folder, which has a {_RUN}, or a folder of them.")
        folders += [folder for folder in found if folder not in folders]
    histories = [read_history(folder) for folder in folders]
    check_histories(histories)
    return histories


def read_history(folder: str | Path) -> History:
    """Read what the tests of a run gave, finished or not.

    Raises:
        ConfigError: If it is no run folder, or there is no test in its history yet.
    """
    folder = Path(folder)
    run = _run(folder)
    finished = (folder / "result.json").is_file()
    record = read_record(folder) if finished else None
    try:
        config = run["config"]
        label = record.label if record else "+".join(str(one["name"]) for one in config["regularizers"])
        seed = int(config["training"]["seed"])
        facts = settings(config) | {f"fingerprint of {name}": digest for name, digest in run["data"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"{folder / _RUN} is not that of a run: it lacks a configuration or data.") from None
    sets = _tests(folder / _METRICS, record)
    if not sets:
        raise ConfigError(
            f"{folder / _METRICS} has no row of a test yet, and a curve needs one: runs test at the end of an epoch, "
            "or every testing.eval_every epochs. Wait for one, or leave the run out."
        )
    return History(label, seed, sets, str(folder), facts)


def check_histories(histories: Sequence[History]) -> None:
    """Refuse histories that cannot stand in one picture.

    Raises:
        ConfigError: If two are of one method and seed, or some do not compare.
    """
    there: dict[tuple[str, int], History] = {}
    for one in histories:
        other = there.setdefault((one.label, one.seed), one)
        if other is not one:
            raise ConfigError(
                f"{one.label}, seed {one.seed}, is there twice: {other.place} and {one.place}. Leave one out."
            )
        if different := differing(histories[0].facts, one.facts):
            raise ConfigError(
                f"{histories[0].place} and {one.place} do not compare: they differ in {', '.join(different)}. "
                "Draw them apart."
            )


def _run(folder: Path) -> Any:
    path = folder / _RUN
    try:
        return read_json(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: {folder} is not a run folder.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from None


def _tests(path: Path, record: RunRecord | None) -> dict[str, SetHistory]:
    """Return the headline of each set over the steps; the first measure of a set is its headline."""
    found: dict[str, dict[int, dict[str, float | None]]] = {}
    for row in _rows(path):
        for key, value in row.items():
            if key.startswith(_TEST):
                name, _, measure = key.removeprefix(_TEST).rpartition("/")
                found.setdefault(name, {}).setdefault(row["step"], {})[measure] = value
    scores = {} if record is None else {SOURCE: record.source_heldout, **record.targets}
    sets = {}
    for name in sorted(found, key=lambda name: name != SOURCE):
        measure = next(iter(next(iter(found[name].values()))))
        score = scores.get(name)
        sets[name] = SetHistory(
            measure=measure,
            heading=score.headings.get(measure) if score else None,
            unit=score.units.get(measure) if score else None,
            steps=tuple(sorted(found[name])),
            values=tuple(as_number(found[name][step].get(measure, math.nan)) for step in sorted(found[name])),
        )
    return sets


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a history; the last may be cut by a run that is writing it, or died."""
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            row = None
        if not _is_row(row):
            if number < len(lines):
                raise ConfigError(
                    f'{path} is damaged: line {number} is not a row of a run, {{"step": 10, ...}}. Put the file back '
                    "as it was, or leave the run out."
                )
        elif row:
            rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    numbers = (value for key, value in row.items() if key.startswith(_TEST))
    return not row or (
        type(row.get("step")) is int and all(value is None or type(value) in (int, float) for value in numbers)
    )
