"""Label maps as people write them: which name each number or colour of a mask stands for. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from synreal.data.files.paths import read_lines
from synreal.errors import DataError
from synreal.parsing import read_mapping
from synreal.reading import read_json

Code = int | tuple[int, int, int]
"""What a pixel of a mask holds: a number, or red, green and blue."""

Channel = Literal["red", "green", "blue", "alpha"]
"""Which channel of a colour mask holds numbers."""

_DIGITS = re.compile(r"[0-9]{1,9}")
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_COLOUR = re.compile(r"[(\[]?\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\s*(?:[\s,]\s*\d{1,3}\s*)?[)\]]?")


def read_pairs(path: Path, *, numbers: bool = False) -> list[tuple[str, Code]]:
    """Read a label map file.

    Args:
        path: YAML or JSON as ``pairs_of`` reads it; else text with a name and a number or colour per line, separated by
            commas, semicolons, tabs, spaces or colons, in either order. Lines that start with ``#`` are comments, a
            first line without numbers is a header.
        numbers: Whether lists are numbers, whatever their length; see ``pairs_of``.

    Returns:
        Names, and what they stand for.

    Raises:
        DataError: If the file is damaged or a line gives no name or no number; names file and line.
    """
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        if path.suffix.lower() == ".json":
            try:
                values = read_json(path)
            except OSError as error:
                raise DataError(f"Cannot read {path}: {error.strerror}.") from None
            except ValueError as error:
                raise DataError(f"{path} is not JSON: {error}.") from None
        else:
            values = read_mapping(path, "label map")
        if not isinstance(values, dict):
            raise DataError(f"{path} must hold names with numbers or colours, got a {type(values).__name__}.")
        try:
            return pairs_of(values, numbers=numbers)
        except ValueError as error:
            raise DataError(f"{path}: {error}.") from None
    pairs: list[tuple[str, Code]] = []
    for place, (number, line) in enumerate(read_lines(path)):
        if line.startswith("#") and not _HEX.match(line):
            continue
        pair = _line(line)
        if pair is not None:
            pairs.append(pair)
        elif place or re.search(r"\d", line):
            raise DataError(f"{path}, line {number}: expected a name and a number or a colour, got {line!r}.")
    return pairs


def _line(line: str) -> tuple[str, Code] | None:
    """Read a line of a label map; None if it does not say one name and one code."""
    if ":" in line:  # CVAT's lines go on with parts and actions behind a second colon
        fields = [field.strip() for field in line.split(":")[:2]]
    elif re.search(r"[,;\t]", line):
        fields = re.split(r"\s*[,;\t]+\s*", line)
    else:
        fields = line.split()
        numbers = [field.isdigit() or _HEX.fullmatch(field) is not None for field in fields]
        first, last = (numbers.index(False), numbers[::-1].index(False)) if False in numbers else (0, 0)
        fields = [*fields[:first], " ".join(fields[first : len(fields) - last]), *fields[len(fields) - last :]]
    for name, rest in ((fields[0], fields[1:]), (fields[-1], fields[:-1])):
        code = _code(",".join(rest))
        if name and code is not None and _code(name) is None:
            return name, code
    return None


def pairs_of(values: Mapping[Any, Any], *, numbers: bool = False) -> list[tuple[str, Code]]:
    """Read a label map that is a mapping: ``{name: code}``, ``{code: name}`` or Replicator's ``{code: {kind: name}}``.

    A code is a number, ``[red, green, blue]``, ``"red, green, blue"`` with or without brackets and transparency, or
    ``"#rrggbb"``. A name may have a list of several: ``{name: [1, 11]}``, ``{name: ["#00008e", "#000046"]}``.

    Args:
        values: The mapping.
        numbers: Whether a list of three or four numbers is that many numbers; else it is so only in a map that has
            other numbers, and a colour in one that has none.

    Raises:
        ValueError: If it is anything else.
    """
    numbers = numbers or any(_is_of_numbers(key, value) for key, value in values.items())
    pairs: list[tuple[str, Code]] = []
    for key, value in values.items():
        name: Any = key
        codes: list[Code | None] = []
        if isinstance(value, Mapping):
            name, codes = value.get("class", next(iter(value.values()), None)), [_code(key)]
        elif isinstance(value, (list, tuple)):
            codes = _several(value, numbers)
        elif isinstance(value, int) and not isinstance(key, int):
            codes = [_code(value)]
        elif isinstance(value, str):
            codes = [_code(value) if not value.strip().isdigit() else None]
            if codes == [None]:
                name, codes = value, [_code(key)]
        if not codes or None in codes or not isinstance(name, str) or not name.strip():
            raise ValueError(
                "expected a name with a number or a colour, as in {car: 1} or {car: [0, 0, 142]}, or with several, as "
                f"in {{car: [1, 2]}} or {{car: ['#00008e', '#000046']}}, got {{{key!r}: {value!r}}}; quote names that "
                "YAML reads as something else"
            )
        if len(set(codes)) < len(codes):
            raise ValueError(f"{{{key!r}: {value!r}}} has a number or colour twice; here a list is several of them")
        name = "background" if name.strip().lower() == "background" else name.strip()
        pairs += [(name, code) for code in codes if code is not None]
    if not pairs:
        raise ValueError("expected at least one name")
    return pairs


def _is_of_numbers(key: Any, value: Any) -> bool:
    """Tell whether an entry can be of nothing but numbers: then so is the map."""
    if isinstance(value, (list, tuple)):
        return len(value) not in (3, 4) and all(isinstance(_code(each), int) for each in value)
    return isinstance(_code(value if isinstance(value, int) else key), int)


def _several(given: Sequence[Any], numbers: bool) -> list[Code | None]:
    """Read a list: one colour, or several numbers or colours."""
    plain = all(isinstance(each, int) for each in given)
    if plain and not numbers and len(given) in (3, 4):
        return [_code(",".join(map(str, given)))]
    return [_code(",".join(map(str, each)) if isinstance(each, (list, tuple)) else each) for each in given]


def _code(given: Any) -> Code | None:
    """Read a number or a colour; None if it is neither."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        return None
    if isinstance(given, int) or _DIGITS.fullmatch(given.strip()):
        number = int(given)
        return number if 0 <= number < 65_536 else None
    packed = _HEX.fullmatch(given.strip())
    if packed:
        value = int(packed[1], 16)
        return value >> 16, value >> 8 & 255, value & 255
    colour = _COLOUR.fullmatch(given.strip())
    if colour and all(int(part) <= 255 for part in colour.groups()):
        return int(colour[1]), int(colour[2]), int(colour[3])
    return None
