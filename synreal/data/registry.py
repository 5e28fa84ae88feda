"""Data sets by name: what there is, what fits, and the ways to write one down. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synreal.data.datasets import DATA, PARTS, DataSet, Domain
from synreal.errors import ConfigError, unknown_name
from synreal.parsing import from_home, problems, read_call, read_mapping
from synreal.reading import name_problem


def available(domain: str | None = None, label: str | None = None) -> list[str]:
    """List the kinds of data sets.

    Args:
        domain: Only those that serve as ``"source"`` or ``"target"``.
        label: Only those that have labels of this kind.

    Returns:
        Their names, sorted.

    Raises:
        ConfigError: If no data set knows this domain or kind of label.
    """
    if domain is not None and domain not in PARTS:
        raise unknown_name("domain", domain, PARTS)
    if label is not None:
        check_label(label)
    return [
        name
        for name, kind in DATA.classes().items()
        if (domain is None or domain in kind.domains) and (label is None or label in kind.label_kinds)
    ]


def get(name: str) -> type[DataSet]:
    """Return the class of a kind.

    Raises:
        ConfigError: If there is none of this name; suggests the nearest.
    """
    return DATA.get(name)


def find(value: str | DataSet | Mapping[str, Any]) -> DataSet:
    """Read how a data set is written down.

    Args:
        value: ``"digits"``; ``"gta5:/data/gta5"``; ``"gta5(root='/data/gta5', frames='all')"``; a YAML file that
            describes one, ``"parts.yaml"``; what such a file holds, ``{"format": "gta5", "root": "/data/gta5"}``; or a
            data set, which is returned.

    Raises:
        ConfigError: If a name or setting is unknown (the nearest is suggested), or a value does not fit.
    """
    if isinstance(value, DataSet):
        return value
    if isinstance(value, Mapping):
        settings = {key: setting for key, setting in value.items() if key != "format"}
        return _build(_format(value, "A data set"), settings, repr(dict(value)))
    text = value.strip()
    if text.lower().endswith((".yaml", ".yml")) and "(" not in text and text.partition(":")[0] not in DATA:
        return _described(from_home(text).absolute())
    if text and name_problem(text) is None and from_home(text).exists() and text not in DATA:
        raise ConfigError(
            f"{text!r} is a path: write the kind of data before it, e.g. imagefolder:{text}. "
            f"Kinds: {', '.join(name for name, kind in DATA.classes().items() if 'root' in kind.model_fields)}."
        )
    name, colon, root = text.partition(":")
    if colon and "(" not in name:
        return _build(name.strip(), {"root": root.strip()}, text)
    return _build(*read_call(text, "gta5(root='/data/gta5')"), text)


def _build(name: str, settings: Mapping[str, Any], text: str, kind: str = "setting") -> DataSet:
    found = get(name)
    if "root" in settings and "root" not in found.model_fields:
        raise ConfigError(f"Data set {name!r} does not take a folder, got {text!r}. Write {name!r} alone.")
    for key in settings:
        if key not in found.model_fields:
            raise unknown_name(f"{kind} of data set {name}", str(key), found.model_fields)
    field = found.model_fields.get("root")
    if field is not None and (field.is_required() or "root" in settings) and not settings.get("root"):
        raise ConfigError(f"Data set {name!r} needs its folder: write {name}:/path/to/it. It needs {found.needs}.")
    try:
        return found(**settings)
    except ValidationError as error:
        raise ConfigError(f"Data set {name}: {problems(error)}.") from None


def _described(path: Path) -> DataSet:
    """Read the YAML file that describes a data set; its ``root`` is relative to the file."""
    values = read_mapping(path, "data set description")
    name = _format(values, str(path))
    settings = {key: value for key, value in values.items() if key != "format"}
    try:
        fields = get(name).model_fields
        if "root" in settings or ("root" in fields and fields["root"].is_required()):
            settings["root"] = path.parent / from_home(str(settings.get("root", ".")))
        if "name" in fields:
            settings.setdefault("name", re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-._") or None)
        return _build(name, settings, str(path), kind="key")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _format(values: Mapping[str, Any], where: str) -> str:
    """Return the kind of data that a description names."""
    if not isinstance(values.get("format"), str):
        raise ConfigError(
            f"{where} must describe a data set with 'format: NAME' and 'root: FOLDER', where NAME is one of "
            f"{', '.join(available())}; got {dict(values)!r}."
        )
    return str(values["format"])


def check_label(label: str) -> None:
    """Raise ``ConfigError`` unless some data set has labels of a kind, by its name."""
    known = {name for kind in DATA.classes().values() for name in kind.label_kinds}
    if label not in known:
        raise unknown_name("kind of label", label, known)


def check_labels(entry: DataSet, label: str) -> None:
    """Raise ``ConfigError`` unless a data set has labels of a kind."""
    if label in entry.label_kinds:
        return
    check_label(label)
    domain = entry.domains[0]
    others = ", ".join(available(domain, label)) or "none"
    raise ConfigError(
        f"Data set {entry.label!r} has no {label}, only {' and '.join(entry.label_kinds)}. "
        f"A {domain} with {label}: {others}."
    )


def check_domain(entry: DataSet, domain: Domain) -> None:
    """Raise ``ConfigError`` unless a data set serves as this domain."""
    if domain in entry.domains:
        return
    if domain == "source":
        raise ConfigError(
            f"{entry.label!r} is real data: it is tested on, never trained on. Sources: {_names('source')}."
        )
    raise ConfigError(f"{entry.label!r} is synthetic: it is not a target. Targets: {_names('target')}.")


def _names(domain: Domain) -> str:
    return ", ".join(available(domain))


def default_targets(source: str | DataSet, label: str = "classes") -> tuple[str, ...]:
    """Return the targets that share a source's classes in labels of a kind, the main one first.

    Args:
        source: A source, as ``find`` reads it.
        label: Name of the kind of label; targets without it are left out.

    Raises:
        ConfigError: If there is no such data set, it is not a source, it has no labels of this kind, or no target
            goes with it by itself.
    """
    entry = find(source)
    check_domain(entry, "source")
    check_labels(entry, label)
    targets = tuple(name for name in entry.default_targets(label) if label in find(name).label_kinds)
    if not targets:
        raise ConfigError(
            f"No target goes with source {entry.label!r} by default: name the real data to test on, or none "
            "(--target none) to test on held-out source alone."
        )
    return targets
