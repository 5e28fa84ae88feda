"""The run folder: created before anything heavy starts, never overwritten by accident.

``run.json`` says what the run is; whoever goes on with a run or tests it again reads that. Nothing of it is guessed:
a file that is not whole is refused.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from synreal import atomic, locking
from synreal.config import RunConfig, make_config, read_yaml
from synreal.engine import hashes, identity
from synreal.engine.environment import Environment
from synreal.errors import ConfigError
from synreal.locking import Lock
from synreal.parsing import file_stem, problems
from synreal.reading import read_bytes, read_json
from synreal.records import write_json

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
STUDENT_FILE = "model.safetensors"
AVERAGE_FILES = "average-*.safetensors"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
LOCK_FILE = "run.lock"
FORMAT: Final = 1


class RunFacts(BaseModel):
    """The ``run.json`` of a run folder: what the run is and started from.

    Attributes:
        format: Version of this format.
        config: The whole resolved configuration, as ``RunConfig.model_dump(mode="json")`` gives it.
        classes: Names of the classes, in the order of the student's outputs.
        data: Fingerprint of each part of the data.
        files: With ``data.strict``, the SHA-256 of each list in ``hashes/``, by the name of the part.
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
    files: dict[str, str] = {}
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
        raise ConfigError(
            f"{path} has format {value['format']!r}, this version reads {FORMAT}. Use the synreal that wrote it, or "
            "start a new run."
        )
    try:
        return RunFacts.model_validate(value)
    except ValidationError as error:
        raise ConfigError(f"{path} does not describe a run of synreal: {problems(error)}. {advice}") from None


def check_copy(folder: Path, facts: RunFacts) -> None:
    """Check the ``config.yaml`` of a run that is gone on with: whoever changed it must not believe that it counts.

    Args:
        folder: The run folder.
        facts: Its ``run.json``.

    Raises:
        ConfigError: If it is not whole, or says something else; it may be missing.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        return
    try:
        found = make_config(read_yaml(path)).model_dump(mode="json")
    except ConfigError as error:
        raise ConfigError(
            f"Cannot resume {folder}: {error} It is a copy of what {RUN_FILE} holds: remove it, and it is written anew."
        ) from None
    different = identity.differences(make_config(facts.config).model_dump(mode="json"), found)
    if different:
        headings = ("key", RUN_FILE, CONFIG_FILE)
        raise ConfigError(
            f"Cannot resume {folder}: {path} is not what {RUN_FILE} holds, which a run goes on from:\n"
            f"{identity.table(different, headings)}\nRemove {CONFIG_FILE}, and it is written anew; to train with other "
            "settings, start a new run with --config."
        )


def record(folder: Path, facts: RunFacts, config: RunConfig, files: Mapping[str, bytes]) -> None:
    """Write ``run.json``, and a copy of the configuration for people and ``--config``, unless they say so already.

    Args:
        folder: The run folder.
        facts: What the run is.
        config: Its configuration now: settings that are free may have changed since ``facts`` were written.
        files: Lists of hashes of the data's files; empty where none were made.

    Raises:
        OSError: If they cannot be written.
    """
    hashed = {**facts.files, **hashes.digests(files)}
    wanted = facts.model_copy(update={"config": config.model_dump(mode="json"), "files": hashed})
    hashes.write(folder, files)
    if facts != wanted or not (folder / RUN_FILE).exists():
        write_json(folder / RUN_FILE, wanted.model_dump(mode="json"))
    text = config.to_yaml()
    path = folder / CONFIG_FILE
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic.write_text(path, text)


def average_file(label: str) -> str:
    """Return the name of the file that holds an average of weights."""
    return AVERAGE_FILES.replace("*", file_stem(label))


def default_output(config: RunConfig) -> Path:
    """Name a new folder under ``runs/`` after task, regularizers, seed and time."""
    methods = "+".join(spec.name for spec in config.regularizers)
    stem = f"{config.task.name}-{methods}-seed{config.training.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


@contextmanager
def claim(path: Path, *, resume: bool, overwrite: bool) -> Iterator[Lock]:
    """Hold a run folder, so that one process alone writes there; make it if need be.

    Args:
        path: Where.
        resume: A run that is there is gone on with.
        overwrite: A run that is there already is accepted; it goes when ``clear`` is called.

    Yields:
        The lock. If the run ends without having written anything, the folder is removed.

    Raises:
        ConfigError: If another process holds it; if it cannot be written; if it holds something and neither of the two
            was asked for, or holds what is not a run.
    """
    lock = Lock(path / LOCK_FILE, f"The run folder {path}")
    try:
        _acquire(lock, path, resume=resume, overwrite=overwrite)
        yield lock
    finally:
        lock.release()
        if not resume:
            with contextlib.suppress(OSError, ValueError):
                path.rmdir()


def _acquire(lock: Lock, path: Path, *, resume: bool, overwrite: bool) -> None:
    try:
        if not resume:
            _check_free(path, overwrite=overwrite, held=False)
            path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if not resume:
            _check_free(path, overwrite=overwrite, held=True)  # again: another run may have come and gone meanwhile
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(
            f"Cannot write the run folder {path}: {error.strerror or error}. Give another --output."
        ) from None
    except ValueError as error:  # a path with a null character
        raise ConfigError(f"Cannot write the run folder {path}: {error}. Give another --output.") from None


def _check_free(path: Path, *, overwrite: bool, held: bool) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(f"The output {path} is a file; a run needs a folder.")
    if is_blank(path):
        return
    holder = None if held else locking.holder(path / LOCK_FILE)
    if holder is not None:
        raise ConfigError(f"The run folder {path} is in use by {holder}. Give another --output.")
    if not overwrite:
        raise ConfigError(
            f"The run folder {path} exists and is not empty. Give another --output, --overwrite it, or go on "
            f"with --resume {shlex.quote(str(path))}."
        )
    if not (path / RUN_FILE).is_file():
        raise ConfigError(
            f"{path} is not empty and holds no {RUN_FILE}: it is not a run, and is not removed. Give another --output."
        )
    read(path, "overwrite")  # other programs may write a run.json too


def is_blank(path: Path) -> bool:
    """Return whether a folder holds nothing but what a run leaves that dies before it has said what it is."""
    return all(
        entry.name == LOCK_FILE or (atomic.is_aside(entry) and entry.stem == RUN_FILE) for entry in path.iterdir()
    )


def clear(path: Path) -> None:
    """Remove what an earlier run left in the folder, once it is sure that the new one can start.

    Its ``run.json`` goes last: until then the folder is a run that can be overwritten, whatever happens.
    """
    entries = [entry for entry in path.iterdir() if entry.name != LOCK_FILE]
    for entry in sorted(entries, key=lambda entry: entry.name == RUN_FILE):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def truncate_metrics(path: Path, step: int, tested: Collection[int] = ()) -> None:
    """Drop rows past a step and tests that a resumed run makes again, so that it writes each row once.

    Args:
        path: The ``metrics.jsonl``.
        step: The step that the run goes on from.
        tested: Steps whose test it does not make again.

    Raises:
        ConfigError: If it cannot be read, or rows up to that step are damaged, or missing.
        OSError: If it cannot be written.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    rows = [_row(line) for line in lines]
    known = [number for number, row in enumerate(rows) if row is not None and row["step"] <= step]
    # Behind them may be a row that was being written when the run died, or the machine.
    until = known[-1] if known else (len(lines) - 1 if step else 0)
    broken = next((number for number in range(until) if rows[number] is None), None)
    if broken is not None:
        raise ConfigError(f"{path} is damaged: line {broken + 1} is no row of a run, {_FORMER_ROWS}")
    kept, found = [], set()
    for number in known:
        row = rows[number] or {}
        test = any(key.startswith("eval/") for key in row)
        if test and row["step"] not in tested:
            continue
        found |= {row["step"]} if test else set()
        kept.append(lines[number] + b"\n")
    if missing := sorted(set(tested) - found):
        raise ConfigError(f"{path} lacks the test of step {missing[0]}, which was made: {_FORMER_ROWS}")
    if lines:
        atomic.write(path, b"".join(kept))


_FORMER_ROWS: Final = (
    "and a resumed run does not write its former rows again. Put the file back as it was, or start a new run."
)


def _row(line: bytes) -> dict[str, Any] | None:
    """Read a row of metrics; None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and type(row.get("step")) is int
    return row if whole else None
