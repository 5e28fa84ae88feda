"""What commands print; nothing of it acts on the terminal."""

from __future__ import annotations

import typer

from synreal.terminal import printable


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text, of one line or several, as ``typer.echo`` does."""
    typer.echo(printable(text, lines=True), err=err, nl=nl)
