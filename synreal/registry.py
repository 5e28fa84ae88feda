"""Things by name: one registry per kind of thing, and what installed packages add to it. Imports no torch.

A room is a package of synreal's own that holds one kind of thing, a file each, e.g. ``synreal.regularizers``. Packages
that others install add to it by an entry point of the group ``synreal.<kind>``; a file, by ``--plugin`` (see
``synreal.plugins``). Loading either runs its code, and nothing here reads a name of code from a configuration.
"""

from __future__ import annotations

import importlib
import keyword
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

from synreal.errors import ConfigError, SynrealError, unknown_name

T = TypeVar("T")
ClassType = TypeVar("ClassType", bound=type)

FILE_MODULE: Final = "synreal_plugin_"
"""How the module names of plugin files begin."""

ROOMS: Final = {
    "regularizers": "synreal.regularizers",
    "transforms": "synreal.transforms",
    "views": "synreal.views",
    "measures": "synreal.measures",
    "figures": "synreal.figures",
    "phases": "synreal.engine.phases",
    "averages": "synreal.averages",
    "labels": "synreal.data.labels",
    "data": "synreal.data.kinds",
    "tasks": "synreal.tasks",
}
"""The module that announces synreal's own things of a kind, by the kind's plural."""

REGISTRIES: Final[dict[str, Registry[Any]]] = {}
"""The registries that were made so far, by the kind's plural; ``registry_of`` imports the room of one that was not."""


class PluginWarning(UserWarning):
    """An installed plugin cannot be used; everything else can."""


class Registry(Generic[T]):
    """The classes of one kind, by name.

    Args:
        kind: The kind in the singular, e.g. ``"regularizer"``; for messages.
        plural: The key of its room in ``ROOMS``; entry points are of the group ``synreal.<plural>``.
        base: What each class derives from.
        key: The attribute that holds the name.
        texts: Attributes that each class must set to a text, beside its name.
        taken: Names that a class cannot have, for what becomes of them.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        base: type[Any],
        *,
        key: str = "name",
        texts: Collection[str] = ("summary",),
        taken: Collection[str] = (),
    ) -> None:
        self.kind = kind
        self.plural = plural
        self.base = base
        self.key = key
        self.texts = (key, *texts)
        self.taken = frozenset(taken)
        self.article = "An" if kind[0] in "aeiou" else "A"
        self._classes: dict[str, type[T]] = {}
        self._searched = False
        REGISTRIES[plural] = self

    def register(self, cls: ClassType) -> ClassType:
        """Class decorator: make a class known by its name, and by its short name if it has one.

        Raises:
            ConfigError: If it is not of this kind, does not say what it is, or another class has the name already.
        """
        self._check(cls)
        if cls.__module__.startswith(FILE_MODULE):
            self._load()  # whichever comes first, a file never takes the name of what is installed
        names = [getattr(cls, self.key), *filter(None, [vars(cls).get("short")])]
        for name in names:
            other = self._holder(name)
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ConfigError(
                    f"{self.kind.capitalize()} name {name!r} is taken by {place(other)}; {place(cls)} needs another."
                )
        self._classes[names[0]] = cls
        return cls

    def get(self, name: str) -> type[T]:
        """Return the class of a name, or of a short name.

        Installed plugins are loaded when a name is asked for that synreal itself does not have.

        Raises:
            ConfigError: If there is none; suggests the nearest.
        """
        self._room()
        found = self._holder(name)
        if found is None:
            self._load()
            found = self._holder(name)
        if found is None:
            shorts = [short for cls in self._classes.values() if (short := vars(cls).get("short"))]
            unknown = unknown_name(self.kind, name, [*shorts, *self._classes])
            raise ConfigError(
                f"{unknown} {self.article} {self.kind} of a plugin file is known once the file is loaded: pass "
                "--plugin FILE, or call synreal.plugins.load_plugin(FILE)."
            )
        return found

    def __contains__(self, name: str) -> bool:
        """Tell whether a name, or a short name, is known; see ``get``."""
        self._room()
        if self._holder(name) is None:
            self._load()
        return self._holder(name) is not None

    def available(self) -> list[str]:
        """Return all names, those of installed plugins too, sorted."""
        self._load()
        return sorted(self._classes)

    def classes(self) -> dict[str, type[T]]:
        """Return all classes by name, those of installed plugins too, sorted."""
        self._load()
        return dict(sorted(self._classes.items()))

    def registered(self) -> dict[str, type[T]]:
        """Return what is registered now, by name; loads nothing."""
        return dict(self._classes)

    def forget(self, names: Iterable[str]) -> None:
        """Take names out of the registry."""
        for name in list(names):
            del self._classes[name]

    def _holder(self, name: str) -> type[T] | None:
        by_short = (cls for cls in self._classes.values() if vars(cls).get("short") == name)
        return self._classes.get(name) or next(by_short, None)

    def _room(self) -> None:
        importlib.import_module(ROOMS[self.plural])

    def _load(self) -> None:
        """Load the room and the plugins of installed packages, once."""
        self._room()
        if not self._searched:
            self._searched = True  # first of all: a plugin may ask for the list while it is being loaded
            load_installed(self)

    def _check(self, cls: Any) -> None:
        if not isinstance(cls, type) or not issubclass(cls, self.base):
            raise ConfigError(
                f"@register must be put on a subclass of {self.base.__name__}, "
                f"got {getattr(cls, '__qualname__', cls)!r}."
            )
        lacking = [key for key in self.texts if not isinstance(vars_of(cls, key), str)]
        if lacking:
            raise ConfigError(f"{place(cls)} lacks {', '.join(lacking)}: each is a text set in the body of the class.")
        # The name is written as name(key=value) in a shell and is part of a file's name.
        name = getattr(cls, self.key)
        fits = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
        if not fits or name in self.taken:
            raise ConfigError(
                f"{place(cls)} has the name {name!r}: expected letters, digits and underscores, e.g. my_{self.plural}, "
                "and not a word that Python or PyTorch uses."
            )


def vars_of(cls: type, key: str) -> object:
    """Return an attribute of a class as it stands there; None if it is absent or a property."""
    found = getattr(cls, key, None)
    return None if isinstance(found, property) else found


def registry_of(plural: str) -> Registry[Any]:
    """Return the registry of a kind.

    Args:
        plural: A key of ``ROOMS``.

    Raises:
        ConfigError: If there is no such kind; suggests the nearest.
    """
    if plural not in ROOMS:
        raise unknown_name("kind of thing", plural, ROOMS)
    importlib.import_module(ROOMS[plural])
    return REGISTRIES[plural]


def place(cls: type) -> str:
    """Say where a class is written; for a plugin file its path, as its module's name is made up."""
    if cls.__module__.startswith(FILE_MODULE):
        return f"{cls.__qualname__} in {getattr(sys.modules.get(cls.__module__), '__file__', cls.__module__)}"
    return f"{cls.__module__}.{cls.__qualname__}"


@dataclass(frozen=True)
class Plugin:
    """Where things come from that are not part of synreal.

    Attributes:
        names: Their names, by the kind's plural.
        path: The plugin file; None for an installed package.
        sha256: Of the plugin file as it was run.
        distribution: Name of the installed package.
        version: Its version.
        entry_point: ``name = module`` as the package declares it.
    """

    names: Mapping[str, tuple[str, ...]]
    path: Path | None = None
    sha256: str | None = None
    distribution: str | None = None
    version: str | None = None
    entry_point: str | None = None

    @property
    def origin(self) -> str:
        """The plugin in a word or two, for people."""
        return f"plugin {self.path.name}" if self.path else f"{self.distribution} {self.version or ''}".rstrip()

    @property
    def identity(self) -> tuple[str, str | None]:
        """What tells the plugin from others: its file's name and SHA-256, or its package's name and version."""
        return (self.path.name, self.sha256) if self.path else (str(self.distribution), self.version)

    def facts(self) -> dict[str, Any]:
        """Describe the plugin for a record; of a file the name alone, so that no path of a machine is published."""
        names = {plural: list(names) for plural, names in self.names.items()}
        if self.path:
            return {"file": self.path.name, "sha256": self.sha256, **names}
        return {
            "distribution": self.distribution,
            "version": self.version,
            "entry_point": self.entry_point,
            **names,
        }


LOADED: Final[dict[str, Plugin]] = {}
"""The plugins that were loaded so far, in that order."""


def loaded(used: Mapping[str, Iterable[str]] | None = None) -> list[Plugin]:
    """Return the plugins loaded so far, in that order.

    Args:
        used: Only those that brought one of these names, by the kind's plural.
    """
    if used is None:
        return list(LOADED.values())
    wanted = {(plural, name) for plural, names in used.items() for name in names}
    return [
        plugin
        for plugin in LOADED.values()
        if any((plural, name) in wanted for plural, names in plugin.names.items() for name in names)
    ]


def everything() -> dict[tuple[str, str], type]:
    """Return all that is registered now, by the kind's plural and name; loads nothing."""
    return {
        (plural, name): cls for plural, registry in REGISTRIES.items() for name, cls in registry.registered().items()
    }


def forget_all(things: Iterable[tuple[str, str]]) -> None:
    """Take things, by the kind's plural and name, out of their registries."""
    for plural, name in list(things):
        REGISTRIES[plural].forget([name])


def by_kind(things: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Group pairs of the kind's plural and a name."""
    found: dict[str, tuple[str, ...]] = {}
    for plural, name in sorted(things):
        found[plural] = (*found.get(plural, ()), name)
    return found


def foreign(things: Mapping[tuple[str, str], type]) -> set[tuple[str, str]]:
    """Return those of some things that are not synreal's own."""
    return {key for key, cls in things.items() if not cls.__module__.startswith("synreal.")}


def load_installed(registry: Registry[Any]) -> None:
    """Load the plugins of installed packages for one kind; one that fails warns and is left out."""
    problems = []
    try:
        found = sorted(
            entry_points(group=f"synreal.{registry.plural}"),
            key=lambda entry: (_distribution(entry)[0], entry.name, entry.value),
        )
    except Exception as error:  # one package with a broken entry_points.txt spoils the list of all
        found = []
        problems.append(f"The plugins of installed packages cannot be listed: {said(error)}.")
    for entry in found:
        before = everything()
        distribution, version = _distribution(entry)
        declared = f"{entry.name} = {entry.value}"
        try:
            names = _names_of(entry.load(), registry, before)
        except (Exception, SystemExit) as error:
            forget_all(foreign(everything()) - before.keys())  # half a plugin is none
            problems.append(
                f"The plugin {declared} of {distribution} {version or ''}".rstrip()
                + f" cannot be used: {said(error).rstrip('.')}. Everything else works; update or uninstall "
                f"{distribution}."
            )
            continue
        LOADED[f"{distribution}: {registry.plural}: {declared}"] = Plugin(
            names, distribution=distribution, version=version, entry_point=declared
        )
    for problem in problems:
        warnings.warn(problem, PluginWarning, stacklevel=5)


def _names_of(
    value: Any, registry: Registry[Any], before: Mapping[tuple[str, str], type]
) -> dict[str, tuple[str, ...]]:
    """Return the names that an entry point stands for, a class's or a module's."""
    if isinstance(value, type) and issubclass(value, registry.base):
        return {registry.plural: (getattr(registry.register(value), registry.key),)}
    if not isinstance(value, ModuleType):
        raise ConfigError(f"it is a {type(value).__name__}, expected a module or a {registry.base.__name__} class")

    def belongs(key: tuple[str, str], cls: type) -> bool:
        # The module may have been imported before, by hand: then it brought nothing new.
        inside = f"{cls.__module__}.".startswith(f"{value.__name__}.")
        return key not in before or inside or vars(value).get(cls.__name__) is cls

    now = everything()
    names = by_kind(key for key in foreign(now) if belongs(key, now[key]))
    if registry.plural not in names:
        raise ConfigError(f"the module registers no {registry.kind}")
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


def said(error: BaseException) -> str:
    """Write an error as one line."""
    if isinstance(error, SynrealError):
        return str(error)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = text.strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
