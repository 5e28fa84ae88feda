"""Plugin files: Python files of the user's that register things of any kind. Imports no torch.

A file is run because its path was given by hand; nothing here reads one from a configuration or a run folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from synreal.errors import ConfigError
from synreal.reading import read_bytes
from synreal.registry import (
    FILE_MODULE,
    LOADED,
    REGISTRIES,
    ROOMS,
    Plugin,
    by_kind,
    everything,
    foreign,
    forget_all,
    said,
)


def load_plugin(path: str | Path) -> ModuleType:
    """Run a Python file that registers things; from then on they are known by name like any other.

    A file that was loaded already is run again only if it has changed; what it registered before is then replaced.

    Args:
        path: The file. Its code is executed: load no file that you would not run.

    Returns:
        The module that the file is, with its functions and classes.

    Raises:
        ConfigError: If the file cannot be read or run, registers nothing, or registers a name that is taken.
    """
    path = Path(path)
    source = _read(path)
    module = _module_name(path)
    sha256 = hashlib.sha256(source).hexdigest()
    earlier = LOADED.get(module)
    if earlier is not None and earlier.sha256 == sha256:
        return sys.modules[module]
    own = {key: cls for key, cls in everything().items() if cls.__module__ == module}
    stale = sys.modules.get(module)
    forget_all(own)
    before = everything()
    try:
        _execute(module, path, source)
        now = everything()
        names = by_kind(foreign(now) - before.keys() - _installed())
        if not names:
            kinds = ", ".join(ROOMS)
            raise ConfigError(
                f"Plugin {path} registers nothing: put @register above its class, e.g. from synreal.regularizers "
                f"import register. There are registries of {kinds}."
            )
    except BaseException:
        forget_all(key for key, cls in everything().items() if cls.__module__ == module)
        for (plural, _), cls in own.items():
            REGISTRIES[plural].register(cls)
        _put_module(module, stale)
        raise
    LOADED[module] = Plugin(names, path=path, sha256=sha256)
    return sys.modules[module]


def _installed() -> set[tuple[str, str]]:
    """Return what installed packages brought: the first question for a kind loads them, also from within a file."""
    return {
        (plural, name)
        for plugin in LOADED.values()
        if plugin.path is None
        for plural, names in plugin.names.items()
        for name in names
    }


def _read(path: Path) -> bytes:
    if path.suffix != ".py":
        raise ConfigError(
            f"The plugin {path} is not a Python file, expected a path that ends in .py. A plugin that is installed as "
            "a package needs no --plugin: what it brings is known by name."
        )
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise ConfigError(f"Cannot read the plugin {path}: {getattr(error, 'strerror', None) or error}.") from None


def _module_name(path: Path) -> str:
    """Name the module of a file: the same in each process, and another for each file."""
    word = re.sub(r"\W", "_", path.stem)
    return f"{FILE_MODULE}{word}_{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]}"


def _execute(name: str, path: Path, source: bytes) -> None:
    """Run the bytes that were read, so that what is recorded is what ran, as a module that pickle finds again."""
    place = str(path.resolve())
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    _put_module(name, module)
    try:
        exec(compile(source, place, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        line = _line(error, place)
        where = f"{path}, line {line}" if line else str(path)
        raise ConfigError(f"Plugin {where}: {said(error).rstrip('.')}.") from error


def _put_module(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


def _line(error: BaseException, place: str) -> int | None:
    """Return the line of a file that an error comes from: where it is not Python, or the last one that ran."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    return lines[-1] if lines else None
