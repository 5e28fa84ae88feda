"""What was found before, in JSON files of the cache."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from synreal.data.files.cache import cache_folder, write_whole
from synreal.data.sets import ImageSet
from synreal.errors import ConfigError
from synreal.reading import read_bytes

VERSION: Final = 4
"""Raised when a scan looks for more, or says it differently: what was kept of older ones is not read."""

Model = TypeVar("Model", bound=BaseModel)


class Kept(BaseModel):
    """Something that is kept: strict and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Store:
    """What was found before, in JSON files.

    Args:
        folder: Where the cache lies; default ``cache_folder()``.
        fresh: Whether nothing is read from it.
    """

    def __init__(self, folder: str | Path | None, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh

    def keep(self, key: str, model: type[Model], make: Callable[[], Model]) -> Model:
        """Read what is kept under a key, or make and keep it."""
        name = hashlib.sha256(f"{VERSION} {key}".encode()).hexdigest()
        try:
            folder = cache_folder(self.folder)
        except ConfigError:
            return make()
        path = folder / "checks" / f"{name[:32]}.json"
        if not self.fresh:
            try:
                return model.model_validate_json(read_bytes(path))
            except (OSError, ValidationError):  # not there, or damaged
                pass
        made = make()
        try:
            write_whole(path, made.model_dump_json().encode())
        except OSError as error:
            warnings.warn(
                f"Cannot keep what was read in {path} ({error}): the next check reads everything again. "
                "Set SYNREAL_CACHE to a folder that can be written.",
                stacklevel=2,
            )
        return made


def state_of(images: ImageSet[Any]) -> str:
    """Return a SHA-256 over what a scan of a set depends on: labels, and names, sizes and times of change of files."""
    digest = hashlib.sha256(f"{VERSION} {type(images).__name__} {images.fingerprint} {images.max_pixels}".encode())
    for index in range(len(images)):
        for file in (images.path(index), images.label_path(index)):
            if file is None:
                continue
            try:
                found = file.stat()
                digest.update(f"{file}\0{found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                digest.update(f"{file}\0-\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
