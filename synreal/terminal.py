"""What people are shown: nothing of a name, a path or a message acts on the terminal it is printed to."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from typing import IO, Any, cast

import rich.console
from rich.segment import Segment
from rich.text import Text

from synreal.streams import Unfailing


def printable(text: str, *, lines: bool = False) -> str:
    """Write out what a terminal would take for a command, or show in the wrong order: names of files hold anything.

    Args:
        text: Any text.
        lines: Whether it may have several lines.
    """
    if (text.replace("\n", "") if lines else text).isprintable():
        return text
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


class Console(rich.console.Console):
    """rich's console that prints names as they are: colours are its own, whatever a text holds is written out.

    Nothing in a text is markup, an emoji or highlighted.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text; tables are laid out with what will be shown."""
        return super().render_str(printable(text, lines=True), **options)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render anything; what is no command of rich itself is made printable."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def lasting_console(*, show: bool) -> Console:
    """Make a console for stderr that drops what can no longer be written there.

    Args:
        show: Whether anything is printed at all.
    """
    return Console(file=cast("IO[str]", Unfailing(sys.stderr)), quiet=not show)


def word_warnings() -> None:
    """Have warnings of synreal's printed as sentences, without file and line of the code, and all of them printable."""
    warnings.formatwarning = _worded


_python_format = warnings.formatwarning


def _worded(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    plain = issubclass(category, UserWarning)
    text = f"Warning: {message}\n" if plain else _python_format(message, category, *place, **more)
    return printable(text, lines=True)
