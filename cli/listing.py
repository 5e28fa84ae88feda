"""``synreal list``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Annotated, Any

import typer

from . import plugins
from .output import say


class Kind(str, Enum):
    """What can be listed."""

    regularizers = "regularizers"
    transforms = "transforms"
    views = "views"
    measures = "measures"
    figures = "figures"
    phases = "phases"
    averages = "averages"
    labels = "labels"
    data = "data"
    tasks = "tasks"
    presets = "presets"
    settings = "settings"
    backbones = "backbones"


def show(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    contains: Annotated[str, typer.Option("--filter", help="Only names that contain this.")] = "",
    plugin: plugins.PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List what there is of a kind, plugins included, one line each."""
    import json

    plugins.load(plugin)
    rows = [row for row in _rows(kind) if contains in row["name"]]
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        say(f"{row['name']:<{width}}  {_line(row)}".rstrip())


def _line(row: dict[str, Any]) -> str:
    """Put what is known of a thing beside its summary."""
    before = "/".join(row.get("domains", ())) or row.get("task", "")
    forms = {"paper": "({})", "plugin": "[{}]", "default": "(default: {})"}
    behind = [form.format(row[key]) for key, form in forms.items() if row.get(key)]
    return "  ".join(filter(None, [before, " ".join([row["summary"], *behind])]))


def _rows(kind: Kind) -> list[dict[str, Any]]:
    own: dict[Kind, Callable[[], Iterable[dict[str, Any]]]] = {
        Kind.presets: _presets,
        Kind.settings: _settings,
        Kind.backbones: _backbones,
    }
    return list(own[kind]()) if kind in own else _registered(kind.value)


def _registered(plural: str) -> list[dict[str, Any]]:
    from synreal.registry import loaded, registry_of, vars_of

    registry = registry_of(plural)
    classes = registry.classes()
    brought = {name: plugin.origin for plugin in loaded() for name in plugin.names.get(plural, ())}
    rows = []
    for name, cls in classes.items():
        row: dict[str, Any] = {"name": name, "summary": cls.summary}
        told = {key: vars_of(cls, key) for key in ("short", "paper", "domains", "label_kinds", "label")}
        row |= {key: value for key, value in told.items() if value is not None}
        rows.append(row | ({"plugin": brought[name]} if name in brought else {}))
    return rows


def _presets() -> Iterable[dict[str, Any]]:
    from synreal.config.recipes import PRESETS

    return ({"name": name, "summary": recipe.summary, "task": recipe.task} for name, recipe in PRESETS.items())


def _settings() -> Iterable[dict[str, Any]]:
    from .options import metavar, settings

    for one in settings():
        row = {"name": one.path, "summary": one.description, "option": f"--{one.option}", "value": metavar(one)}
        yield row | {"default": one.default}


def _backbones() -> Iterable[dict[str, Any]]:
    from synreal.weights import backbones

    return ({"name": name, "summary": text} for name, text in backbones().items())
