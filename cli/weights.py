"""``--average``, which several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

AverageName = Annotated[
    str | None,
    typer.Option(
        "--average",
        metavar="NAME",
        help='An average of weights of the run, e.g. "ema(decay=0.99)". (default: the last weights)',
    ),
]
