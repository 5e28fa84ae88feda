"""Names of regularizers, and the ways to write one down."""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from synreal.core.terms import Regularizer
from synreal.errors import ConfigError, unknown_name
from synreal.parsing import problems, read_call

_SPECS: dict[str, type[Regularizer]] = {}

FILE_MODULE = "synreal_plugin_"  # how the module names of plugin files begin

SpecType = TypeVar("SpecType", bound=type[Regularizer])


def register(spec: SpecType) -> SpecType:
    """Class decorator: make a spec known by its ``name``.

    Raises:
        ConfigError: If it is no ``Regularizer``, does not say what it is, or another class has the name already.
    """
    _check(spec)
    other = _SPECS.get(spec.name)
    if other is not None and (other.__module__, other.__qualname__) != (spec.__module__, spec.__qualname__):
        raise ConfigError(f"Regularizer name {spec.name!r} is taken by {_place(other)}; {_place(spec)} needs another.")
    _SPECS[spec.name] = spec
    return spec


def registered() -> dict[str, type[Regularizer]]:
    """Return what is registered now, by name; loads no plugin."""
    return dict(_SPECS)


def forget(names: Iterable[str]) -> None:
    """Take names out of the registry."""
    for name in list(names):
        del _SPECS[name]


def available() -> list[str]:
    """Return the names of all regularizers, those of installed plugins too, sorted."""
    _load_installed()
    return sorted(_SPECS)


def get(name: str) -> type[Regularizer]:
    """Return the spec class of a name.

    Installed plugins are loaded when a name is asked for that synreal itself does not have.

    Raises:
        ConfigError: If there is none; suggests the nearest.
    """
    if name not in _SPECS:
        _load_installed()
    if name not in _SPECS:
        unknown = unknown_name("regularizer", name, _SPECS)
        raise ConfigError(
            f"{unknown} A regularizer of a plugin file is known once the file is loaded: pass --plugin FILE, or call "
            "synreal.regularizers.load_plugin(FILE)."
        )
    return _SPECS[name]


def build_spec(name: str, settings: Mapping[str, Any]) -> Regularizer:
    """Build a spec from its name and settings.

    Raises:
        ConfigError: If a key is unknown (the nearest is suggested) or a value does not fit.
    """
    spec = get(name)
    for key in settings:
        if key not in spec.model_fields:
            raise unknown_name(f"setting of {name}", str(key), spec.model_fields)
    try:
        return spec(**settings)
    except ValidationError as error:
        raise ConfigError(f"Regularizer {name}: {problems(error)}.") from None


def parse(text: str) -> Regularizer:
    """Read ``"csg"`` or ``"csg(stages=(3, 4), queue_size=4096)"``. Values are Python literals; nothing is executed.

    Raises:
        ConfigError: If the text is malformed or names something unknown.
    """
    name, settings = read_call(text, "csg(stages=(3, 4), weight=0.1)")
    return build_spec(name, settings)


def as_spec(value: Any) -> Regularizer:
    """Accept a spec, a text for ``parse``, or a mapping with ``name`` and settings (as YAML gives).

    Raises:
        ConfigError: If it is none of these.
    """
    if isinstance(value, Regularizer):
        return value
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return build_spec(value["name"], {key: item for key, item in value.items() if key != "name"})
    raise ConfigError(
        "A regularizer is a name, 'name(key=value)', a mapping with 'name', or a spec such as synreal.CSG(); "
        f"got {value!r}."
    )


def as_specs(values: Any) -> list[Regularizer]:
    """Accept one regularizer or several, in any form that ``as_spec`` takes."""
    if isinstance(values, (str, Regularizer, Mapping)) or not isinstance(values, Iterable):
        values = [values]
    return [as_spec(value) for value in values]


def unique_names(specs: Sequence[Regularizer]) -> list[str]:
    """Name terms after their regularizer; a second of one kind gets ``_2``, and so on."""
    seen: dict[str, int] = {}
    names = []
    for spec in specs:
        seen[spec.name] = seen.get(spec.name, 0) + 1
        names.append(spec.name if seen[spec.name] == 1 else f"{spec.name}_{seen[spec.name]}")
    return names


def _load_installed() -> None:
    from synreal.regularizers.plugins import load_installed  # it stands on this module

    load_installed()


def _check(spec: Any) -> None:
    if not isinstance(spec, type) or not issubclass(spec, Regularizer):
        raise ConfigError(
            f"@register stands above a subclass of Regularizer, got {getattr(spec, '__qualname__', spec)!r}."
        )
    lacking = [key for key in ("name", "summary", "source") if not isinstance(getattr(spec, key, None), str)]
    if lacking:
        raise ConfigError(f"{_place(spec)} lacks {', '.join(lacking)}: each is a text set in the body of the class.")
    # The name is written as name(key=value) in a shell, is part of a folder's name, and names a module of the network.
    fits = spec.name.isascii() and spec.name.isidentifier() and not keyword.iskeyword(spec.name)
    if not fits or hasattr(nn.ModuleDict, spec.name):
        raise ConfigError(
            f"{_place(spec)} has the name {spec.name!r}: expected letters, digits and underscores, e.g. my_method, and "
            "no word that Python or torch.nn.ModuleDict uses."
        )


def _place(spec: type[Regularizer]) -> str:
    """Say where a class is written; for a plugin file its path, as its module's name is made up."""
    if spec.__module__.startswith(FILE_MODULE):
        return f"{spec.__qualname__} in {getattr(sys.modules.get(spec.__module__), '__file__', spec.__module__)}"
    return f"{spec.__module__}.{spec.__qualname__}"
