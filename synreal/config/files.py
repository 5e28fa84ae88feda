"""Configurations as plain values: files, ``--set`` and what is wrong with them, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from synreal.config import recipes
from synreal.config.resolution import DEFAULT_TASK, LISTS, TOP, home, laid
from synreal.config.run_config import RunConfig
from synreal.config.sections import SECTIONS
from synreal.errors import ConfigError, unknown_name
from synreal.parsing import parse_yaml, read_mapping
from synreal.specs import Spec, spec_registry
from synreal.tasks.base import TASKS


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check plain values, as YAML or the command line give them.

    Raises:
        ConfigError: Names the key, what was expected and what was given; suggests the nearest key.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; no object is ever constructed from a tag.

    Raises:
        ConfigError: If the file is missing, too large, not YAML, not a mapping, empty, or the beginning of one that
            ``RunConfig.to_yaml`` wrote.
    """
    return read_mapping(Path(path), "configuration")


def apply_settings(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply ``key.path=value`` settings to plain values; values are read as YAML.

    Args:
        values: As from ``read_yaml``; not changed.
        settings: E.g. ``"lr=0.01"``, ``"training.lr=0.01"``, ``"task.ohem=0.5"``, ``"regularizers.0.weight=0.5"``,
            ``"regularizers.csg.weight=0.5"``, ``"views.jitter.strength=0.2"``.

    Raises:
        ConfigError: If a setting has no ``=``, or its path leads nowhere.
    """
    changed = dict(values)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set expects key=value, e.g. --set lr=0.01, got {setting!r}.")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {setting!r}: the value is not YAML.") from None
        _apply(changed, path, path.split("."), value)
    return changed


def with_values(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values by full key, e.g. ``{"training.lr": 0.01}``, over plain values.

    Raises:
        ConfigError: If a key leads nowhere.
    """
    changed = dict(values)
    for path, value in given.items():
        _apply(changed, path, path.split("."), value)
    return changed


def _apply(values: dict[str, Any], path: str, keys: list[str], value: Any) -> None:
    first, *rest = keys
    if first in LISTS and rest:
        values[first] = _with_setting(first, _in_effect(values, first), rest, value, path)
        return
    if rest and first != "task" and first not in SECTIONS:
        if first not in TOP:
            home(first, _task(values), _in_effect(values, "views"))
        raise ConfigError(f"--set {path}: {first} has no settings of its own.")
    if first in SECTIONS and rest and path.partition(".")[2] not in SECTIONS[first].model_fields:
        raise unknown_name(f"setting of {first}", path.partition(".")[2], SECTIONS[first].model_fields)
    if not rest and first not in TOP:
        home(first, _task(values), _in_effect(values, "views"))
    # The later of two settings holds, wherever they stand; all others stay.
    if not rest and first in SECTIONS:
        given = laid(first, {}, value)
        value = laid(first, laid(first, {}, values.get(first, {})), given)
        stale = {key for name in (given if isinstance(given, Mapping) else ()) for key in (name, f"{first}.{name}")}
    elif rest:
        stale = {path, keys[-1]}
    else:
        stale = {key for key in values if str(key).endswith(f".{first}")}
    for key in stale - set(TOP):
        values.pop(key, None)
    values[path] = value


def _recipe(values: Mapping[str, Any]) -> Any:
    preset = values.get("preset")
    return recipes.find(preset) if isinstance(preset, str) else None


def _task(values: Mapping[str, Any]) -> Any:
    recipe = _recipe(values)
    return TASKS.read(values.get("task", recipe.task if recipe else DEFAULT_TASK))[0]


def _in_effect(values: Mapping[str, Any], plural: str) -> list[Spec]:
    """Return the specs that a configuration of these values has, before a recipe fills in their settings."""
    recipe = _recipe(values) or _task(values).recipe
    own = {
        "regularizers": recipe.regularizers,
        "views": recipe.settings.get("views", ()),
        "phases": RunConfig.model_fields["phases"].default,
    }
    return spec_registry(plural).specs(values.get(plural, own[plural]))


def _with_setting(plural: str, specs: list[Spec], keys: list[str], value: Any, path: str) -> list[dict[str, Any]]:
    dumped = [spec.model_dump(mode="json", exclude_unset=True) for spec in specs]
    names = [spec.name for spec in specs]
    place = str(names.index(keys[0])) if names.count(keys[0]) == 1 else keys[0]
    if len(keys) != 2 or place not in map(str, range(len(specs))):
        raise ConfigError(
            f"--set {path}: expected {plural}.INDEX.KEY with an index below {len(specs)}, or {plural}.NAME.KEY with "
            f"one of {', '.join(names)}."
        )
    dumped[int(place)][keys[1]] = value
    return dumped


def _explain(problem: Any) -> str:
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, ConfigError):
        return str(inner)
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}, got {problem['input']!r}"
