"""Regularizers from outside: those of installed packages, found by entry point, and those of plugin files.

Loading a plugin runs its code. Nothing here reads a name from a configuration or a run folder: a file is run because
its path was given by hand, a package because it was installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from synreal.core.terms import Regularizer
from synreal.errors import ConfigError, SynrealError
from synreal.regularizers.registry import FILE_MODULE, forget, register, registered

GROUP = "synreal.regularizers"


class PluginWarning(UserWarning):
    """An installed plugin cannot be used; everything else can."""


@dataclass(frozen=True)
class Plugin:
    """Where regularizers come from that are no part of synreal.

    Attributes:
        names: The regularizers.
        path: The plugin file; None for an installed package.
        sha256: Of the plugin file as it was run.
        distribution: Name of the installed package.
        version: Its version.
        entry_point: ``name = module`` as the package declares it.
    """

    names: tuple[str, ...]
    path: Path | None = None
    sha256: str | None = None
    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None

    @property
    def origin(self) -> str:
        """The plugin in a word or two, for people."""
        return f"plugin {self.path.name}" if self.path else f"{self.distribution} {self.version or ''}".rstrip()

    def facts(self) -> dict[str, Any]:
        """Describe the plugin for a record; of a file the name alone, so that no path of a machine is published."""
        if self.path:
            return {"file": self.path.name, "sha256": self.sha256, "regularizers": list(self.names)}
        return {
            "distribution": self.distribution,
            "version": self.version,
            "entry_point": self.entry_point,
            "regularizers": list(self.names),
        }


_LOADED: dict[str, Plugin] = {}
_searched = False


def loaded(names: Iterable[str] | None = None) -> list[Plugin]:
    """Return the plugins loaded so far, in that order.

    Args:
        names: Only those that brought one of these regularizers.
    """
    wanted = None if names is None else set(names)
    return [plugin for plugin in _LOADED.values() if wanted is None or wanted & set(plugin.names)]


def load_plugin(path: str | Path) -> ModuleType:
    """Run a Python file that registers regularizers; from then on they are known by name like any other.

    A file that was loaded already is run again only if it has changed; what it registered before is then replaced.

    Args:
        path: The file. Its code is executed: load no file that you would not run.

    Returns:
        The module that the file is, with its functions and classes.

    Raises:
        ConfigError: If the file cannot be read or run, registers nothing, or registers a name that is taken.
    """
    load_installed()  # whichever comes first, a file never takes the name of an installed regularizer
    path = Path(path)
    source = _read(path)
    module = _module_name(path)
    sha256 = hashlib.sha256(source).hexdigest()
    earlier = _LOADED.get(module)
    if earlier is not None and earlier.sha256 == sha256:
        return sys.modules[module]
    own = {name: spec for name, spec in registered().items() if spec.__module__ == module}
    stale = sys.modules.get(module)
    forget(own)
    before = registered()
    try:
        _execute(module, path, source)
        names = tuple(sorted(registered().keys() - before.keys()))
        if not names:
            raise ConfigError(
                f"Plugin {path} registers no regularizer: put @register above its class (from synreal.regularizers "
                "import register)."
            )
    except BaseException:
        forget(name for name, spec in registered().items() if spec.__module__ == module)
        for spec in own.values():
            register(spec)
        _put_module(module, stale)
        raise
    _LOADED[module] = Plugin(names, path=path, sha256=sha256)
    return sys.modules[module]


def load_installed() -> None:
    """Load the plugins of installed packages, once; one that fails draws a warning and is left out."""
    global _searched
    if _searched:
        return
    _searched = True  # first of all: a plugin may ask for the list while it is being loaded
    problems = []
    try:
        found = sorted(entry_points(group=GROUP), key=lambda entry: (_distribution(entry)[0], entry.name, entry.value))
    except Exception as error:  # one package with a broken entry_points.txt spoils the list of all
        found = []
        problems.append(f"The plugins of installed packages cannot be listed: {_said(error)}.")
    for entry in found:
        before = registered()
        distribution, version = _distribution(entry)
        declared = f"{entry.name} = {entry.value}"
        try:
            names = _names_of(entry.load(), before)
        except (Exception, SystemExit) as error:
            forget(registered().keys() - before.keys())  # half a plugin is none
            problems.append(
                f"The plugin {declared} of {distribution} {version or ''}".rstrip()
                + f" cannot be used: {_said(error).rstrip('.')}. Everything else works; update or uninstall "
                f"{distribution}."
            )
            continue
        _LOADED[f"{distribution}: {declared}"] = Plugin(
            names, distribution=distribution, version=version, entry_point=declared
        )
    for problem in problems:
        warnings.warn(problem, PluginWarning, stacklevel=3)


def _names_of(value: Any, before: Mapping[str, type[Regularizer]]) -> tuple[str, ...]:
    """Return the names that an entry point stands for, a class's or a module's."""
    if isinstance(value, type) and issubclass(value, Regularizer):
        return (register(value).name,)
    if not isinstance(value, ModuleType):
        raise ConfigError(f"it is a {type(value).__name__}, expected a module or a Regularizer class")

    def belongs(name: str, spec: type[Regularizer]) -> bool:
        # The module may have been imported before, by hand: then it brought nothing new.
        inside = f"{spec.__module__}.".startswith(f"{value.__name__}.")
        shown = vars(value).get(spec.__name__) is spec and not spec.__module__.startswith("synreal.")
        return name not in before or inside or shown

    names = tuple(sorted(name for name, spec in registered().items() if belongs(name, spec)))
    if not names:
        raise ConfigError("the module registers no regularizer")
    return names


def _distribution(entry: EntryPoint) -> tuple[str, str | None]:
    """Return name and version; what is left of a package that was half removed has no METADATA to read them from."""
    try:
        found = entry.dist.metadata if entry.dist else None
    except Exception:  # what Python makes of it depends on its version
        found = None
    if found is None or "Name" not in found or "Version" not in found:
        return "an unknown package", None
    return str(found["Name"]), str(found["Version"])


def _read(path: Path) -> bytes:
    if path.suffix != ".py":
        raise ConfigError(
            f"The plugin {path} is no Python file, expected a path that ends in .py. A plugin that is installed as a "
            "package needs no --plugin: its regularizers are known by name."
        )
    try:
        return path.read_bytes()
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
        raise ConfigError(f"Plugin {where}: {_said(error).rstrip('.')}.") from error


def _put_module(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


def _line(error: BaseException, place: str) -> int | None:
    """Return the line of a file that an error comes from: where it is no Python, or the last one that ran."""
    if isinstance(error, SyntaxError) and error.filename == place:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    return lines[-1] if lines else None


def _said(error: BaseException) -> str:
    if isinstance(error, SynrealError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = text.strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
