"""The run folder: created before anything heavy starts, never overwritten by accident.

``run.json`` says what the run is; whoever goes on with a run or tests it again reads that. Nothing of it is guessed:
a file that is not whole is refused.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from synreal import atomic
from synreal.config import RunConfig
from synreal.engine.environment import Environment
from synreal.errors import ConfigError
from synreal.parsing import problems
from synreal.reading import read_bytes, read_json
from synreal.records import write_json

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
STUDENT_FILE = "model.safetensors"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
FORMAT: Final = 1


class RunFacts(BaseModel):
    """The ``run.json`` of a run folder: what the run is and started from.

    Attributes:
        format: Version of this format.
        config: The whole resolved configuration, as ``RunConfig.model_dump(mode="json")`` gives it.
        classes: Names of the classes, in the order of the student's outputs.
        data: Fingerprint of each part of the data.
        weights: Where the pretrained weights came from.
        reference: Likewise of a teacher that is another network; None where there is none.
        versions: Of Python and of the packages that numbers depend on.
        plugins: What was loaded from outside of synreal.
        command: Name of the program that started the run.
        environment: The machine.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1]
    config: dict[str, Any]
    classes: list[str]
    data: dict[str, str]
    weights: dict[str, str | None]
    reference: dict[str, str | None] | None
    versions: dict[str, str]
    plugins: list[dict[str, Any]]
    command: str
    environment: Environment


def read(folder: Path, purpose: str) -> RunFacts:
    """Read the ``run.json`` of a run folder.

    Args:
        folder: The run folder.
        purpose: What it is wanted for, e.g. ``"resume"``; for messages.

    Raises:
        ConfigError: If the folder holds none, or it is not whole, or not one of this format.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise ConfigError(f"Cannot {purpose} {folder}: it holds no {RUN_FILE}, so it is not a run folder.")
    try:
        return _parsed(path)
    except ConfigError as error:
        raise ConfigError(f"Cannot {purpose} {folder}: {error}") from None


def _parsed(path: Path) -> RunFacts:
    advice = f"Expected what synreal writes there, in format {FORMAT}; put the file back, or start a new run."
    try:
        value = read_json(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is empty, damaged or not JSON ({error}). {advice}") from None
    if not isinstance(value, dict) or "format" not in value:
        raise ConfigError(f"{path} does not describe a run of synreal. {advice}")
    if value["format"] != FORMAT:
        raise ConfigError(f"{path} has format {value['format']!r}, this version reads {FORMAT}.")
    try:
        return RunFacts.model_validate(value)
    except ValidationError as error:
        raise ConfigError(f"{path} does not describe a run of synreal: {problems(error)}. {advice}") from None


def write(folder: Path, facts: RunFacts, config: RunConfig) -> None:
    """Write ``run.json``, and a copy of the configuration for people and ``--config``; what is there already stays.

    Raises:
        OSError: If they cannot be written.
    """
    if not (folder / RUN_FILE).exists():
        write_json(folder / RUN_FILE, facts.model_dump(mode="json"))
    if not (folder / CONFIG_FILE).exists():
        atomic.write_text(folder / CONFIG_FILE, config.to_yaml())


def default_output(config: RunConfig) -> Path:
    """Name a new folder under ``runs/`` after task, regularizers, seed and time."""
    methods = "+".join(spec.name for spec in config.regularizers)
    stem = f"{config.task.name}-{methods}-seed{config.training.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def create(path: Path, *, overwrite: bool) -> Path:
    """Make the run folder.

    Args:
        path: Where.
        overwrite: Accept a run that is there already; it goes when ``clear`` is called.

    Raises:
        ConfigError: If it cannot be written, or holds something and ``overwrite`` is off, or holds what is not a run.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not path.is_dir():
                raise ConfigError(f"The output {path} is a file; a run needs a folder.")
            if not overwrite:
                raise ConfigError(
                    f"The run folder {path} exists and is not empty. Give another --output, --overwrite it, or go on "
                    f"with --resume {path}."
                )
            if not (path / RUN_FILE).is_file():
                raise ConfigError(
                    f"{path} is not empty and holds no {RUN_FILE}: it is not a run, and is not removed. "
                    "Give another --output."
                )
            read(path, "overwrite")  # other programs may write a run.json too
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_text("")
        probe.unlink()
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(
            f"Cannot write the run folder {path}: {error.strerror or error}. Give another --output."
        ) from None
    except ValueError as error:  # a path with a null character
        raise ConfigError(f"Cannot write the run folder {path}: {error}. Give another --output.") from None
    return path


def clear(path: Path) -> None:
    """Remove what an earlier run left in the folder, once it is sure that the new one can start.

    Its ``run.json`` goes last: until then the folder is a run that can be overwritten, whatever happens.
    """
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == RUN_FILE):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def discard(path: Path) -> None:
    """Remove the folder of a run that could not start; an earlier run in it stays."""
    with contextlib.suppress(OSError):
        path.rmdir()


def truncate_metrics(path: Path, step: int, tested: Collection[int] = ()) -> None:
    """Drop rows past a step and tests that a resumed run makes again, so that it writes each row once.

    Args:
        path: The ``metrics.jsonl``.
        step: The step that the run goes on from.
        tested: Steps whose test it does not make again.

    Raises:
        ConfigError: If the file holds anything else than rows.
    """
    try:
        *lines, _ = read_bytes(path).split(b"\n")  # behind the last is the row that was being written when the run died
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    kept = []
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is None:
            raise ConfigError(
                f"{path}, line {number} is not a row that synreal wrote: it is damaged, or another program's. Put the "
                "file back, or move it away to go on without the rows so far."
            )
        again = any(key.startswith("eval/") for key in row) and row["step"] not in tested
        if row["step"] <= step and not again:
            kept.append(line)
    atomic.write(path, b"".join(line + b"\n" for line in kept))


def _row(line: bytes) -> dict[str, Any] | None:
    """Read a row of metrics; None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
