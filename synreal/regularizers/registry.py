"""Names of regularizers, and the ways to write one down."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from synreal.errors import ConfigError, unknown_name
from synreal.regularizers.base import Regularizer

_SPECS: dict[str, type[Regularizer]] = {}

SpecType = TypeVar("SpecType", bound=type[Regularizer])


def register(spec: SpecType) -> SpecType:
    """Class decorator: make a spec known by its ``name``.

    Raises:
        ConfigError: If another class has the name already; names both modules.
    """
    other = _SPECS.get(spec.name)
    if other is not None and (other.__module__, other.__qualname__) != (spec.__module__, spec.__qualname__):
        raise ConfigError(
            f"Regularizer name {spec.name!r} is taken by {other.__module__}.{other.__qualname__}; "
            f"{spec.__module__}.{spec.__qualname__} needs another."
        )
    _SPECS[spec.name] = spec
    return spec


def available() -> list[str]:
    """Return the names of all regularizers, sorted."""
    return sorted(_SPECS)


def get(name: str) -> type[Regularizer]:
    """Return the spec class of a name.

    Raises:
        ConfigError: If there is none; suggests the nearest.
    """
    if name not in _SPECS:
        raise unknown_name("regularizer", name, _SPECS)
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
        problems = "; ".join(
            f"{_where(e['loc'])}: {e['msg'].removeprefix('Value error, ')}, got {e['input']!r}" for e in error.errors()
        )
        raise ConfigError(f"Regularizer {name}: {problems}.") from None


def parse(text: str) -> Regularizer:
    """Read ``"csg"`` or ``"csg(stages=(3, 4), queue_size=4096)"``. Values are Python literals; nothing is executed.

    Raises:
        ConfigError: If the text is malformed or names something unknown.
    """
    name, bracket, _ = text.strip().partition("(")
    if not bracket:
        return build_spec(name.strip(), {})
    get(name.strip())
    expected = f"Expected name(key=value, ...), e.g. csg(stages=(3, 4), weight=0.1), got {text!r}."
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ConfigError(expected)
        settings = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in settings:
                raise ConfigError(expected)
            settings[keyword.arg] = _literal(keyword.value)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{expected} ({error})") from None
    return build_spec(name.strip(), settings)


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


def _literal(node: ast.expr) -> Any:
    # A bare word is a string: pooling=gap reads better in a shell than pooling='gap'.
    if isinstance(node, ast.Name) and node.id not in ("true", "false", "null"):
        return node.id
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}[node.id]
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if not str(part).startswith("function-"))
