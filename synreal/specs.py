"""Specs: things that are written as ``name(key=value)``, once for Python, YAML, the command line and records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer
from typing_extensions import Self

from synreal.errors import ConfigError, unknown_name
from synreal.parsing import problems, read_call
from synreal.registry import Registry, registry_of


class Spec(BaseModel):
    """A thing with settings: a strict, frozen pydantic model whose fields are its settings.

    Attributes:
        name: What it is called, in the body of the class.
        summary: One line for listings, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: ClassVar[str]
    summary: ClassVar[str]

    def with_defaults(self, **settings: Any) -> Self:
        """Return the spec with other values for those of the settings that were not given.

        Args:
            **settings: Values by name of the field; they are checked like given ones.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**settings, **given})

    @model_serializer(mode="wrap")
    def _with_name(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


SpecT = TypeVar("SpecT", bound=Spec)


class SpecRegistry(Registry[SpecT]):
    """Specs of one kind by name, and the ways to write one down.

    Args:
        kind: The kind in the singular, e.g. ``"regularizer"``.
        plural: The key of its room.
        base: What each spec derives from.
        example: One as text, for messages.
        texts: Attributes that each class must set to a text, beside its name.
        taken: Names that a spec cannot have.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        base: type[Any],
        *,
        example: str,
        texts: Collection[str] = ("summary",),
        taken: Collection[str] = (),
    ) -> None:
        super().__init__(kind, plural, base, texts=texts, taken=taken)
        self.example = example

    def build(self, name: str, settings: Mapping[str, Any]) -> SpecT:
        """Build a spec from its name and settings.

        Raises:
            ConfigError: If a key is unknown (the nearest is suggested) or a value does not fit.
        """
        spec = self.get(name)
        for key in settings:
            if key not in spec.model_fields:
                raise unknown_name(f"setting of {name}", str(key), spec.model_fields)
        try:
            return spec(**settings)
        except ValidationError as error:
            raise ConfigError(f"{self.kind.capitalize()} {name}: {problems(error)}.") from None

    def read(self, value: Any) -> tuple[type[SpecT], dict[str, Any]]:
        """Take a spec apart, in any form that ``spec`` takes: its class, and the settings that were given.

        Raises:
            ConfigError: If it is none of these forms, or the name is unknown.
        """
        if isinstance(value, self.base):
            return type(value), {key: getattr(value, key) for key in value.model_fields_set}
        if isinstance(value, str):
            name, settings = read_call(value, self.example)
            return self.get(name), settings
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return self.get(value["name"]), {key: item for key, item in value.items() if key != "name"}
        raise ConfigError(
            f"{self.article} {self.kind} is a name, 'name(key=value)' such as {self.example}, a mapping with 'name', "
            f"or a spec; got {value!r}."
        )

    def spec(self, value: Any) -> SpecT:
        """Accept a spec, a text for ``parse``, or a mapping with ``name`` and settings (as YAML gives).

        Raises:
            ConfigError: If it is none of these.
        """
        if isinstance(value, self.base):
            found: SpecT = value
            return found
        spec, settings = self.read(value)
        return self.build(spec.name, settings)

    def specs(self, values: Any) -> list[SpecT]:
        """Accept one spec or several, in any form that ``spec`` takes."""
        if isinstance(values, (str, Spec, Mapping)) or not isinstance(values, Iterable):
            values = [values]
        return [self.spec(value) for value in values]


def spec_registry(plural: str) -> SpecRegistry[Any]:
    """Return the registry of a kind of spec, by the key of its room."""
    registry = registry_of(plural)
    assert isinstance(registry, SpecRegistry)
    return registry


def unique_names(specs: Sequence[Spec]) -> list[str]:
    """Name specs; a second of one name gets ``_2``, and so on."""
    seen: dict[str, int] = {}
    names = []
    for spec in specs:
        seen[spec.name] = seen.get(spec.name, 0) + 1
        names.append(spec.name if seen[spec.name] == 1 else f"{spec.name}_{seen[spec.name]}")
    return names
