"""``synreal leaderboard``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synreal.terminal import printable

from .output import say

if TYPE_CHECKING:
    from synreal.records.leaderboard import Board


class Format(str, Enum):
    """What a leaderboard can be written as."""

    md = "md"
    csv = "csv"
    json = "json"
    html = "html"


def leaderboard(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER_OR_FILE...",
            help="Run folders, folders of them, or files of records.",
            show_default=False,
        ),
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="What is written. (default: by the ending of --output, else md)"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, in place of printing.", show_default=False)
    ] = None,
    baseline: Annotated[str, typer.Option(help="The method that others are compared with.")] = "none",
    figure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Draw the board into --output, a PNG or SVG: gain, weights or a plugin's.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare finished runs: which method is better where, by how much, and how sure that is."""
    from synreal.records import leaderboard as boards

    if figure is not None:
        _draw(figure, paths, form, output, baseline)
        return
    board = boards.build(boards.find(paths), baseline=baseline)
    writers = {
        Format.md: boards.as_markdown,
        Format.csv: boards.as_csv,
        Format.json: boards.as_json,
        Format.html: boards.as_html,
    }
    text = printable(writers[_format(form, output)](board), lines=True)  # a file of it will be shown, too
    if output is None:
        say(text, nl=False)
        return
    _write(output, text)
    say(f"{output}: {_contents(board)}")


def _draw(figure: str, paths: list[Path], form: Format | None, output: Path | None, baseline: str) -> None:
    from synreal.errors import ConfigError
    from synreal.figures import chart_of, drawing_path
    from synreal.records import leaderboard as boards

    if form is not None:
        raise ConfigError(f"--figure draws, --format {form.value} writes: give one of the two.")
    if output is None:
        raise ConfigError(f"--figure {figure} needs --output FILE.png or FILE.svg.")
    chart = chart_of(figure, "board")
    drawing_path(output)
    board = boards.build(boards.find(paths), baseline=baseline)
    chart.draw(board, output)
    say(f"{output}: {figure} of {_contents(board)}")


def _format(form: Format | None, output: Path | None) -> Format:
    if form is not None:
        return form
    if output is None:
        return Format.md
    ending = output.suffix.removeprefix(".").lower()
    if ending not in {one.value for one in Format}:
        from synreal.errors import ConfigError

        raise ConfigError(
            f"--output {output}: its ending does not say what to write. End it in "
            f"{', '.join(f'.{one.value}' for one in Format)}, or give --format."
        )
    return Format(ending)


def _write(path: Path, text: str) -> None:
    from synreal import atomic
    from synreal.errors import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None


def _contents(board: Board) -> str:
    pairs = len({section.pair for section in board.sections})
    protocols = len(board.sections)
    return (
        f"{len(board.rows)} rows of {pairs} {'pair' if pairs == 1 else 'pairs'} under {protocols} "
        f"{'protocol' if protocols == 1 else 'protocols'}."
    )
