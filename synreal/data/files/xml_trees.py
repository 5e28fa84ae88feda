"""XML as annotation tools write it: no entities, any encoding. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from synreal.errors import DataError

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


def parse_xml(raw: bytes, path: Path) -> Element:
    """Parse a file of XML that holds no entities, in any encoding that Python knows.

    Args:
        raw: Its bytes.
        path: The file, for messages.

    Raises:
        DataError: If it is not XML, not in the encoding that it declares, or declares entities.
    """
    raw = _utf8(raw, path)
    builder = TreeBuilder()
    parser = expat.ParserCreate(None if raw.startswith(_UTF16) else "utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(name: str, *_: object) -> None:
        raise DataError(f"{path} declares the entity {name!r}, which no annotation needs. It is not read.")

    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except DataError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path} is not XML: {error}. It may be truncated; export it again.") from None
    return builder.close()


def _utf8(raw: bytes, path: Path) -> bytes:
    """Bring XML to UTF-8, whatever its first line says it is in: the parser knows few encodings; UTF-16 stays."""
    if raw.startswith(_UTF16):
        return raw
    declared = re.match(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']", raw)
    name = "utf-8" if declared is None else declared[1].decode("ascii", "replace")
    said = "declares no encoding" if declared is None else f"says it is in {name}"
    try:
        return raw.decode(name).encode("utf-8")
    except LookupError:
        raise DataError(f"{path} {said}, an encoding that is not known. Save it as UTF-8.") from None
    except UnicodeError as error:
        byte = f": byte {raw[error.start]:#04x} at {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise DataError(
            f"{path} {said} and is not in {name}{byte}. Save it as UTF-8, or let its first line name the encoding that "
            "it is in."
        ) from None
