"""How several things are told apart in one picture: by colour, marker and dashes at once, so that greys will do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from synreal.figures.page import DARK

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#882255", "#e69f00", "#56b4e9", "#cc79a7", "#7a7a1f")
"""Told apart with each kind of colour blindness: six of Okabe & Ito's, and two of Tol's kind that are darker."""

MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">")
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 1)))
_WIDTH, _BASELINE_WIDTH = 1.6, 2.4


@dataclass(frozen=True)
class Style:
    """How one thing looks among others.

    Attributes:
        colour: As matplotlib takes it.
        marker: Likewise.
        dash: Likewise, a line's style.
        width: Of its line, in points.
    """

    colour: str
    marker: str
    dash: Any = "-"
    width: float = _WIDTH


BASELINE: Final = Style(DARK, "o", "-", _BASELINE_WIDTH)
"""What others are compared with: dark and heavier."""


def style(index: int) -> Style:
    """Return the look of the thing of an index; of 440 in a row no two look the same."""
    return Style(
        COLOURS[index % len(COLOURS)],
        MARKERS[(index + 1) % len(MARKERS)],  # the first is the baseline's
        _DASHES[(index + 1) % len(_DASHES)],
    )


def styles_of(names: Iterable[str], baseline: str = "none") -> dict[str, Style]:
    """Return the look of each name, in their order; the baseline's is its own."""
    names = list(dict.fromkeys(names))
    others = [name for name in names if name != baseline]
    return {name: BASELINE if name == baseline else style(others.index(name)) for name in names}
