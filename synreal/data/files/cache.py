"""Arrays that are slow to make, kept on disk and checked each time they are read."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from synreal.errors import ConfigError
from synreal.parsing import from_home
from synreal.reading import check_file

Arrays = dict[str, NDArray[Any]]


def cache_folder(given: str | Path | None = None) -> Path:
    """Return the folder that holds what synreal can make again.

    Args:
        given: Taken instead, if it is not None.

    Returns:
        ``$SYNREAL_CACHE``, else ``$XDG_CACHE_HOME/synreal``, else ``~/.cache/synreal``. It need not exist.

    Raises:
        ConfigError: If neither variable is set and there is no home folder.
    """
    try:
        if given is not None:
            return from_home(given)
        if own := os.environ.get("SYNREAL_CACHE"):
            return from_home(own)
        # The XDG specification asks to ignore relative paths.
        if (shared := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
            return shared / "synreal"
        return Path.home() / ".cache" / "synreal"
    except RuntimeError as error:
        raise ConfigError(f"No cache folder: {error} Set SYNREAL_CACHE to a folder that can be written.") from error


def fingerprint(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 over the names, dtypes, shapes and bytes of arrays, whatever their order.

    Args:
        arrays: Arrays by name, any dtype and shape.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(key: str, make: Callable[[], Arrays], folder: str | Path | None = None) -> Arrays:
    """Read arrays from the cache, or make them and put them there.

    A file that is damaged, or holds something else than its name says, is made anew with a warning.
    A folder that cannot be used costs a warning and the time to make the arrays again, never the run.

    Args:
        key: File name without its ending. Everything the content depends on must be part of it.
        make: Makes the arrays (contiguous, dtypes that safetensors knows).
        folder: Where the file lies; default ``cache_folder()``.

    Returns:
        The arrays by name, as ``make`` gives them.

    Raises:
        ConfigError: If ``key`` cannot be a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", key):
        raise ConfigError(f"Cache key {key!r} is not a portable file name: use up to 200 of A-Z a-z 0-9 . _ + -")
    try:
        path = cache_folder(folder) / f"{key}.safetensors"
    except ConfigError as error:
        _warn(f"Going on without a cache: {error}")
        return make()
    arrays = _read(path, key)
    if arrays is None:
        arrays = make()
        _write(path, key, arrays)
    return arrays


def _read(path: Path, key: str) -> Arrays | None:
    try:
        check_file(path)
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        _warn(f"Cache file {path} cannot be read ({error}); making its content again.")
        return None
    if metadata.get("key") != key or metadata.get("sha256") != fingerprint(arrays):
        _warn(f"Cache file {path} does not hold what was written to it; making its content again.")
        return None
    return arrays


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the file, then rename: a reader sees the whole file or none.

    Raises:
        OSError: If the file or its folder cannot be written; nothing is left behind.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_bytes(data)  # a plain open: the umask decides who may read it
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _write(path: Path, key: str, arrays: Arrays) -> None:
    try:
        write_whole(path, save(arrays, metadata={"key": key, "sha256": fingerprint(arrays)}))
    except OSError as error:
        _warn(
            f"Cannot write the cache file {path} ({error}); going on without it. "
            "Set SYNREAL_CACHE to a folder that can be written."
        )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
