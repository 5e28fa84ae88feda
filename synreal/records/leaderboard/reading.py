"""Records where runs and benchmarks leave them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from synreal.errors import ConfigError
from synreal.reading import read_json
from synreal.records.record import SCHEMA_VERSION, RunRecord, record_problem

_RESULT: Final = "result.json"


class Found(NamedTuple):
    """A record and where it was found, in words."""

    record: RunRecord
    place: str


def find(paths: Iterable[str | Path]) -> list[Found]:
    """Read the records of files and folders.

    Args:
        paths: A file holds one record, or a list of them. In a folder these are each ``result.json``, however deep, and
            the ``.json`` files directly in it that hold lists of records.

    Returns:
        All records, in order of the paths, of names within a folder and of places within a file.

    Raises:
        ConfigError: If a path does not exist or holds no record, or a record cannot be read.
    """
    found: list[Found] = []
    for path in map(Path, paths):
        records = list(_in_folder(path) if path.is_dir() else _in_file(path))
        if not records:
            raise ConfigError(
                f"{path} holds no record: expected run folders, which have a {_RESULT} once their run has finished, "
                "or a file of records."
            )
        found += records
    return found


def _in_folder(folder: Path) -> Iterator[Found]:
    for path in sorted(folder.rglob(_RESULT)):
        yield from _in_file(path)
    for path in sorted(folder.glob("*.json")):
        if path.name != _RESULT and _is_list_of_records(values := _parsed(path)):
            yield from _read(path, values)


def _in_file(path: Path) -> Iterator[Found]:
    yield from _read(path, _parsed(path))


def _parsed(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist: expected a run folder, a folder of them or a file of records."
        ) from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}.") from None


def _is_list_of_records(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and isinstance(values[0], dict) and "schema_version" in values[0]


def _read(path: Path, values: Any) -> Iterator[Found]:
    several = isinstance(values, list)
    for number, value in enumerate(values if several else [values], 1):
        place = f"{path}, record {number}" if several else str(path)
        try:
            yield Found(RunRecord.model_validate(value), place)
        except ValidationError as error:
            raise ConfigError(
                f"{place} is not a result of schema version {SCHEMA_VERSION}, the only one that is read: "
                f"{record_problem(value, error)}. Leave it out, or run it again."
            ) from None
