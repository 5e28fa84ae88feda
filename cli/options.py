"""Options of the command line, made from the fields of the configuration: their names, kinds, help and panels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from synreal.tasks.base import TaskSpec

FILES: Final = "Files"
"""The panel of options that are files, and of what is written."""

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML with any settings.", rich_help_panel=FILES)
]
"""``--config`` of a command that takes all settings."""

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, e.g. warmup_steps=50, training.lr=0.01 or regularizers.csg.weight=0.2; overrides "
        "everything else.",
        rich_help_panel=FILES,
    ),
]
"""``--set`` of such a command."""

_SHORT: Final = {"task": "-t", "regularizers": "-r", "folder": "-o"}
_NAMES: Final = {"folder": "output", "start": "from"}
"""Options that are not named after their field; of what may be given several times, the name is in the singular."""


@dataclass(frozen=True)
class Setting:
    """A field of the configuration.

    Attributes:
        place: Section, ``"task"``, or empty for a key at the top.
        key: Name of the field.
        field: What pydantic knows of it.
        description: What it is.
        tasks: The tasks that know it; empty for all.
    """

    place: str
    key: str
    field: FieldInfo
    description: str
    tasks: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The full key, as ``--set`` takes it."""
        return f"{self.place}.{self.key}" if self.place else self.key

    @property
    def option(self) -> str:
        """The option's name without dashes in front."""
        name = _NAMES.get(self.key, self.key).replace("_", "-")
        return name.removesuffix("s") if self.several else name

    @property
    def several(self) -> bool:
        """Whether it is a list."""
        lists = [get_args(kind) for kind in _kinds(self.field.annotation) if get_origin(kind) is tuple]
        return any(float not in _kinds(item) for item, *_ in lists)

    @property
    def plain(self) -> bool:
        """Whether it is text, which is not read as YAML."""
        return self.several or not any(map(_is_number, _kinds(self.field.annotation)))

    @property
    def default(self) -> str:
        """The default in words, by task where recipes set it; empty where nothing is set."""
        if self.key == "task":
            from synreal.config.resolution import DEFAULT_TASK

            return DEFAULT_TASK
        found: dict[str, list[str]] = {}
        for spec in _tasks().values():
            if self.tasks and spec.name not in self.tasks:
                continue
            recipe = spec.recipe
            if self.key == "regularizers":
                value: Any = recipe.regularizers
            elif self.key == "views":
                value = recipe.settings["views"]
            else:
                fields = spec.model_fields if self.place == "task" else {self.key: self.field}
                beneath = recipe.settings.get(self.place, {})
                value = beneath.get(self.key, fields[self.key].get_default(call_default_factory=True))
            found.setdefault(_written(value), []).append(spec.short)
        if len(found) == 1:
            return next(iter(found))
        return "; ".join(f"{', '.join(tasks)} {value}" for value, tasks in found.items() if value)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is tuple:
        return (annotation,)
    return () if annotation is NoneType else (annotation,)


def _is_number(kind: Any) -> bool:
    """Whether values of a kind are numbers, switches, or lists of numbers."""
    if get_origin(kind) is Literal:
        return not all(isinstance(word, str) for word in get_args(kind))
    if get_origin(kind) is tuple:
        return float in _kinds(get_args(kind)[0])
    return kind in (int, float, bool)


def _written(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def settings() -> Iterator[Setting]:
    """Yield every setting of a run, section by section as in ``RunConfig``; those of tasks behind ``task``."""
    from synreal.config import RunConfig
    from synreal.config.sections import SECTIONS

    for key, field in RunConfig.model_fields.items():
        if key in SECTIONS:
            yield from (
                Setting(key, name, one, str(one.description)) for name, one in SECTIONS[key].model_fields.items()
            )
            continue
        yield Setting("", key, field, str(field.description))
        if key == "task":
            own: dict[str, list[tuple[str, FieldInfo]]] = {}
            for spec in _tasks().values():
                for name, inner in spec.model_fields.items():
                    own.setdefault(name, []).append((spec.name, inner))
            for name, found in own.items():
                texts = list(dict.fromkeys(str(inner.description) for _, inner in found))
                if len(texts) > 1 or len(found) < len(_tasks()):
                    texts = [f"{_knowing(found, text)}: {text}" for text in texts]
                yield Setting("task", name, found[0][1], " ".join(texts), tuple(task for task, _ in found))


def _knowing(found: list[tuple[str, FieldInfo]], text: str) -> str:
    """Name the tasks whose setting has a description."""
    return " and ".join(task for task, field in found if field.description == text).capitalize()


def _tasks() -> dict[str, type[TaskSpec]]:
    """Return the tasks that are known without a plugin; those of plugins have no options of their own."""
    import synreal.tasks  # noqa: F401
    from synreal.tasks.base import TASKS

    return dict(sorted(TASKS.registered().items()))


def metavar(setting: Setting) -> str:
    """Name what an option takes: the words, or the kind of its value."""
    kinds = _kinds(setting.field.annotation)
    for kind in kinds:
        if get_origin(kind) is Literal:
            return "|".join(str(word) for word in get_args(kind))
    names = {int: "INTEGER", float: "NUMBER", bool: "true|false", Path: "PATH"}
    return next((names[kind] for kind in kinds if kind in names), "TEXT")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator: give a command an option for every setting; they arrive in its argument ``given``, by full key.

    Texts arrive as they are, everything else read as YAML, lists as lists.
    """
    made = list(settings())

    def wrapped(**arguments: Any) -> None:
        given = {}
        for setting in made:
            value = arguments.pop(_argument(setting))
            if value is None or value == []:
                continue
            given[setting.path] = value if setting.plain else _read(setting, value)
        command(given=given, **arguments)

    parameters = [
        inspect.Parameter(_argument(one), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(one))
        for one in made
    ]
    own = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "given"]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapped.__signature__ = inspect.Signature([*parameters, *own])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in (*parameters, *own)}
    wrapped.__doc__ = command.__doc__
    wrapped.__name__ = command.__name__
    return wrapped


def _read(setting: Setting, text: str) -> Any:
    import yaml

    from synreal.errors import ConfigError
    from synreal.parsing import parse_yaml

    try:
        return parse_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--{setting.option} {text!r}: the value is not YAML.") from None


def _argument(setting: Setting) -> str:
    return f"setting_{setting.place}_{setting.key}"


def _annotation(setting: Setting) -> Any:
    names = [f"--{setting.option}", *filter(None, [_SHORT.get(setting.key)])]
    option = typer.Option(
        *names,
        help=setting.description + (f" (default: {setting.default})" if setting.default else ""),
        metavar=metavar(setting),
        rich_help_panel=setting.place.capitalize() or "Run",
        show_default=False,
    )
    return Annotated[list[str] | None if setting.several else str | None, option]
