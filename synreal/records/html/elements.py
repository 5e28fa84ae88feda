"""HTML from Python. Every text is escaped unless it was made here, so that no name of a record becomes markup."""

from __future__ import annotations

import html
from typing import Final

from synreal.records.numbers import Unit, value_text

_VOID: Final = frozenset({"meta", "input", "br", "img"})


class Markup(str):
    """HTML that was made by ``h``, or is part of synreal."""

    __slots__ = ()


def h(tag: str, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element.

    Args:
        tag: Its name.
        children: What stands in it; texts are escaped, None is left out.
        attributes: By name; ``class_`` and the like without the last underscore, other underscores as hyphens. True is
            an attribute without a value; False and None leave one out.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{html.escape(_text(value))}"')
    opened = f"<{' '.join(words)}>"
    return Markup(opened if tag in _VOID else f"{opened}{joined(*children)}</{tag}>")


def joined(*children: str | None) -> Markup:
    """Return pieces one after the other; texts are escaped, None is left out."""
    return Markup(
        "".join(child if isinstance(child, Markup) else html.escape(child) for child in children if child is not None)
    )


def _text(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def number(value: float | None, unit: Unit, *, signed: bool = False, digits: int | None = None) -> str:
    """Write a number as print does, with a minus; nothing where it is not known. See ``value_text``."""
    return "" if value is None else value_text(value, unit, signed=signed, digits=digits).replace("-", "−")


def scrolling(table: Markup, label: str) -> Markup:
    """Put a table where it can be scrolled sideways, by keys too."""
    return h("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)
