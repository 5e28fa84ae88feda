"""``--plugin``, which several commands have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

# An option alone, never a setting: a configuration from elsewhere must not be able to name code to run.
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Python file that registers things of your own; its code is run. May be given several times.",
    ),
]


def load(files: Iterable[Path] | None) -> None:
    """Load plugin files, in the order given."""
    if files:
        from synreal.plugins import load_plugin

        for file in files:
            load_plugin(file)
