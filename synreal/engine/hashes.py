"""SHA-256 of all files of the data, kept in a run folder: who asks for ``data.strict`` compares everything."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from synreal import atomic
from synreal.data.files.fingerprints import hash_list
from synreal.data.files.paths import some
from synreal.errors import CheckpointError
from synreal.reading import read_bytes
from synreal.tasks.base import Task

FOLDER: Final = "hashes"


def lists(task: Task[Any], parts: Collection[str] | None = None) -> dict[str, bytes]:
    """Hash the files of a task's data.

    Args:
        task: The task.
        parts: Names of the sets of images; default all.

    Returns:
        By set, one line a file, as ``sha256sum --check`` takes them; sets that lie in no files are absent.

    Raises:
        DataError: If a file cannot be read.
        Interrupted: If the process was asked to stop.
    """
    chosen = {name: images for name, images in task.parts.items() if parts is None or name in parts}
    found = {name: hash_list(images) for name, images in chosen.items()}
    return {name: lines for name, lines in found.items() if lines is not None}


def digests(found: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each list, as ``run.json`` holds them."""
    return {name: hashlib.sha256(lines).hexdigest() for name, lines in found.items()}


def write(folder: Path, found: Mapping[str, bytes]) -> None:
    """Write lists into a run folder.

    Raises:
        OSError: If they cannot be written.
    """
    if found:
        (folder / FOLDER).mkdir(exist_ok=True)
    for name, lines in found.items():
        atomic.write(_file(folder, name), lines)


def check(folder: Path, then: Mapping[str, str], found: Mapping[str, bytes]) -> None:
    """Check that files are those that a run was started with.

    Args:
        folder: The run folder.
        then: The ``files`` of its ``run.json``.
        found: What the files hold now.

    Raises:
        CheckpointError: If they are not; names those that changed.
    """
    if changed := changes(folder, then, found):
        raise CheckpointError(
            f"Files of the data changed since the run was started. {'. '.join(changed)}. Put them back as they were, "
            "or start a new run."
        )


def changes(folder: Path, then: Mapping[str, str], found: Mapping[str, bytes]) -> list[str]:
    """Name the files that changed, by set; sets that were not hashed both then and now are left out."""
    now = digests(found)
    return [
        f"{name}: {_named(folder, name, then[name], found[name])}"
        for name in found
        if name in then and then[name] != now[name]
    ]


def _named(folder: Path, name: str, digest: str, lines: bytes) -> str:
    file = _file(folder, name)
    try:
        before = read_bytes(file)
    except OSError:
        before = b""
    if hashlib.sha256(before).hexdigest() != digest:
        return f"which ones is not known, for {file} is not as it was written"
    old, new = _parsed(before), _parsed(lines)
    kinds = {
        "changed": [name for name in old if name in new and old[name] != new[name]],
        "gone": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
    }
    return "; ".join(f"{len(names):,} {kind}, {some(names)}" for kind, names in kinds.items() if names)


def _parsed(lines: bytes) -> dict[str, bytes]:
    """Return hashes by name of file, as both are written."""
    rows = (line.partition(b"  ") for line in lines.splitlines())
    return {name.decode("utf-8", "replace"): digest for digest, _, name in rows}


def _file(folder: Path, name: str) -> Path:
    return folder / FOLDER / f"{name}.sha256"
