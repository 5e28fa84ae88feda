"""From what was written to whole sections: bare keys find theirs, and a recipe lies beneath. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from synreal import data
from synreal.config import recipes
from synreal.config.sections import SECTIONS
from synreal.errors import ConfigError, unknown_name
from synreal.specs import Spec, spec_registry
from synreal.tasks.base import TASKS, TaskSpec
from synreal.tasks.setup import Recipe

LISTS: Final = ("regularizers", "views", "phases")
"""Keys at the top that hold specs."""

TOP: Final = ("task", "preset", "reference", *LISTS, *SECTIONS)
"""The keys at the top of a configuration."""

DEFAULT_TASK: Final = "classification"


def resolve(given: Mapping[Any, Any], beneath: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Bring what was given into sections, and put a recipe beneath it; what was given stays.

    Args:
        given: Keys of a configuration at its top, sections as mappings, full keys such as ``"training.lr"``, and bare
            keys of fields that are unique.
        beneath: A whole configuration in place of the recipe.

    Returns:
        What ``RunConfig`` is made of.

    Raises:
        ConfigError: If a key is unknown (the nearest is suggested), not unique, or one that the task does not know.
    """
    preset = given.get("preset")
    recipe = recipes.find(preset) if isinstance(preset, str) else None
    below: Mapping[str, Any] = beneath or {}
    spec, own = TASKS.read(given.get("task", below.get("task", recipe.task if recipe else DEFAULT_TASK)))
    if recipe is not None and recipe.task != spec.name:
        raise ConfigError(f"Preset {preset!r} is a recipe for {recipe.task}, not for {spec.name}.")
    recipe = recipe or spec.recipe
    below = beneath or recipe.settings
    whole: dict[str, Any] = {"views": below.get("views", ()), "regularizers": recipe.regularizers}
    whole |= {key: below[key] for key in ("reference", "preset", *LISTS) if key in below}
    sections: dict[str, Any] = {name: dict(below.get(name, {})) for name in SECTIONS}
    settings = {key: value for key, value in below.get("task", {}).items() if key != "name"} | own
    bare: dict[str, Any] = {}
    for key, value in given.items():
        if key in SECTIONS:
            sections[key] = laid(key, sections[key], value)
        elif key in TOP:
            if key != "task":
                whole[key] = value
        else:
            bare[key] = value
    views = spec_registry("views").specs(whole["views"])
    for key, value in bare.items():
        place, dot, name = str(key).partition(".")
        if not dot or (place not in SECTIONS and place != "task"):
            place, name = home(str(key), spec, views), str(key)
        if place == "task":
            settings[name] = value
        elif place in SECTIONS:
            sections[place] = laid(place, sections[place], {name: value})
        else:
            views = [_changed("views", view, {name: value}) if view.name == place else view for view in views]
    for key in settings:
        if key not in spec.model_fields:
            raise _strange(str(key), spec, spec.model_fields)
    whole |= sections
    whole["views"] = tuple(views if recipe.patches is None else (view.dense() for view in views))
    whole["task"] = TASKS.build(spec.name, settings)
    whole["regularizers"] = (
        whole["regularizers"] if beneath and "regularizers" not in given else with_recipe(whole["regularizers"], recipe)
    )
    _with_targets(whole, spec.label)
    return whole


def home(key: str, task: type[TaskSpec], views: Iterable[Spec] = ()) -> str:
    """Return where a bare key belongs: a section, ``"task"``, or the name of a view.

    Args:
        key: Name of a field.
        task: The task, for its own settings.
        views: The views, for theirs.

    Raises:
        ConfigError: If no section has it (the nearest is suggested), or several have.
    """
    places = {name: tuple(section.model_fields) for name, section in SECTIONS.items()}
    places["task"] = tuple(task.model_fields)
    places |= {view.name: tuple(type(view).model_fields) for view in views}
    found = [name for name, fields in places.items() if key in fields]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{key} is not unique: write {' or '.join(f'{_prefix(name)}.{key}' for name in found)}.")
    if key in spec_registry("views").available():
        setting = next(iter(spec_registry("views").get(key).model_fields), "KEY")
        raise ConfigError(
            f"{key} is a view: write views.{key}.{setting} for a setting of it, or list the views of a run in views."
        )
    raise _strange(key, task, {*TOP, *(field for fields in places.values() for field in fields)})


def _strange(key: str, task: type[TaskSpec], known: Iterable[str]) -> ConfigError:
    """Build the error for a key that a task does not know, but others may."""
    others = [other.name for other in TASKS.classes().values() if key in other.model_fields]
    if others:
        return ConfigError(f"{key} is a setting of {' and '.join(others)}: {task.name} does not know it.")
    return unknown_name("setting", key, known)


def _prefix(place: str) -> str:
    return place if place in SECTIONS or place == "task" else f"views.{place}"


def laid(section: str, beneath: Any, given: Any) -> Any:
    """Lay given settings of a section over others.

    Args:
        section: Name of the section.
        beneath: Settings by field.
        given: A mapping, or the section's model; of ``output`` also the folder alone.

    Returns:
        All of them by field; what is not settings at all is left to the section's own check.

    Raises:
        ConfigError: If a setting is unknown; suggests the nearest.
    """
    if section == "output" and not isinstance(given, (Mapping, SECTIONS["output"])):
        given = {"folder": given}
    if isinstance(given, SECTIONS[section]):
        given = {key: getattr(given, key) for key in given.model_fields_set}
    if not isinstance(given, Mapping):
        return given
    _known(f"setting of {section}", given, SECTIONS[section].model_fields)
    return {**beneath, **given} if isinstance(beneath, Mapping) else dict(given)


def _known(what: str, given: Iterable[Any], fields: Iterable[str]) -> None:
    for key in given:
        if key not in fields:
            raise unknown_name(what, str(key), fields)


def _changed(plural: str, spec: Spec, settings: Mapping[str, Any]) -> Any:
    """Return a spec with other settings."""
    given = {key: getattr(spec, key) for key in spec.model_fields_set}
    return spec_registry(plural).build(spec.name, {**given, **settings})


def with_recipe(values: Any, recipe: Recipe) -> tuple[Any, ...]:
    """Read regularizers, in any form that one can be written in, with a recipe's settings where they set none."""
    specs = []
    for spec in spec_registry("regularizers").specs(values):
        known = {key: value for key, value in recipe.defaults.items() if key in type(spec).model_fields}
        spec = spec.with_defaults(**known, **recipe.terms.get(spec.name, {}))
        specs.append(spec if recipe.patches is None else spec.dense(recipe.patches))
    return tuple(specs)


def _with_targets(whole: dict[str, Any], label: str) -> None:
    """Fill in the targets that go with the source; what is wrong with either is told by the sections' own checks."""
    section = whole["data"]
    if not isinstance(section, Mapping) or section.get("targets") is not None:
        return
    given = section.get("source", SECTIONS["data"].model_fields["source"].default)
    if not isinstance(given, (str, data.DataSet, Mapping)):
        return
    source = data.find(given)
    data.check_domain(source, "source")
    data.check_labels(source, label)
    whole["data"] = {**section, "source": source, "targets": data.default_targets(source, label)}
