"""What people write down: ``name(key=value, ...)`` and YAML. Imports no torch; nothing is executed."""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from synreal.errors import ConfigError
from synreal.reading import name_problem, read_text

WHOLE: Final = "# Written by synreal; whole if the last line is '...'"
"""First line of YAML whose end can be told."""

_MOST_BYTES = 1 << 20
_MOST_CHARACTERS = 80  # of a file's name
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def read_call(text: str, example: str) -> tuple[str, dict[str, Any]]:
    """Read ``"name"`` or ``"name(key=value, ...)"``; values are Python literals, bare words are strings.

    Args:
        text: What was written.
        example: A well-formed one, for messages.

    Returns:
        The name and its settings.

    Raises:
        ConfigError: If the text is malformed.
    """
    name, bracket, _ = text.strip().partition("(")
    if not bracket:
        return name.strip(), {}
    expected = f"Expected name(key=value, ...), e.g. {example}, got {shortened(text)!r}."
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ConfigError(expected)
        settings: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in settings:
                raise ConfigError(expected)
            settings[keyword.arg] = _literal(keyword.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, ConfigError):
            raise
        quotes = "a text of more than a word, such as a path, needs quotes"
        raise ConfigError(f"{expected} ({quotes if isinstance(error, SyntaxError) else error})") from None
    return name.strip(), settings


def from_home(path: str | Path) -> Path:
    """Return a path with what stands for a folder at its start replaced: ``~``, ``~somebody``, ``$SYNREAL_DATA``.

    Raises:
        ConfigError: If there is no such home folder, or no such variable in the environment, or no file can have this
            path.
    """
    named = _VARIABLE.match(str(path))
    if named:
        name = named[1] or named[2]
        if not os.environ.get(name):
            raise ConfigError(
                f"The path {str(path)!r} begins with ${name}, which is not set: export {name} as the folder that it "
                "stands for."
            )
        path = os.environ[name] + str(path)[named.end() :]
    if (problem := name_problem(str(path))) is not None:
        raise ConfigError(f"The path {shortened(str(path))!r} {problem}.")
    if any("\udc80" <= character <= "\udcff" for character in str(path)):
        raise ConfigError(f"The path {str(path)!r} is not UTF-8, so that no record can hold it: rename it.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"The path {str(path)!r} begins with a home folder that cannot be found.") from None


def shortened(text: str, most: int = 80) -> str:
    """Return the beginning of a text, for messages."""
    return text if len(text) <= most else f"{text[:most]}..."


def file_stem(text: str) -> str:
    """Make a name of specs one that every file system and shell takes, e.g. ``"csg-weight=0.3"``.

    A hash keeps apart what would be equal then.
    """
    plain = re.sub(r"[)']", "", text).replace("(", "-").replace(", ", ",").replace(" ", "--")
    safe = re.sub(r"[^A-Za-z0-9._+=,-]+", "_", plain)
    if safe == plain and len(safe) <= _MOST_CHARACTERS:
        return safe
    return f"{safe[:_MOST_CHARACTERS]}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def problems(error: ValidationError) -> str:
    """Say what pydantic found wrong with settings, in one line."""
    return "; ".join(
        f"{_where(e['loc'])}: {e['msg'].removeprefix('Value error, ').rstrip('.')}, got {e['input']!r}"
        for e in error.errors()
    )


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if not str(part).startswith("function-"))


def _literal(node: ast.expr) -> Any:
    # A bare word is a string: pooling=gap reads better in a shell than pooling='gap'.
    if isinstance(node, ast.Name) and node.id not in ("true", "false", "null"):
        return node.id
    if isinstance(node, ast.Name):
        return {"true": True, "false": False, "null": None}[node.id]
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; no object is ever constructed from a tag.

    Args:
        path: The file.
        what: What it is, e.g. ``"configuration"``; for messages.

    Raises:
        ConfigError: If the file is missing, empty, too large, no YAML, or no mapping.
    """
    try:
        raw = read_text(path)
        if len(raw) > _MOST_BYTES:
            raise ConfigError(f"{path} is {len(raw)} bytes long; a {what} has at most {_MOST_BYTES}.")
        if raw.startswith(WHOLE.encode()) and not raw.rstrip().endswith(b"\n..."):
            raise ConfigError(
                f"{path} was cut short: it was written to end in a line '...', which it lacks. Copy or write it again."
            )
        values = parse_yaml(raw.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"Cannot read the {what} {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not values and (values is None or isinstance(values, dict)):
        raise ConfigError(f"{path} is empty, expected a {what} in 'key: value' lines. It may have been cut short.")
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold 'key: value' lines, got {type(values).__name__}.")
    return values


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for billions of values. No key stands twice in a mapping."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed, write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):  # others are refused by PyYAML itself
                if key in found:
                    raise ConstructorError(None, None, f"the key {key!r} stands there twice", key_node.start_mark)
                found.add(key)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> Any:
    """Read YAML; every fault of the text is a ``yaml.YAMLError``."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        # PyYAML lets these through: 2024-13-45 is a ValueError, "!!bool x" a KeyError, deep nesting a RecursionError.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
