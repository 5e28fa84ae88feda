"""``synreal bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import plugins
from .plugins import PluginFiles

if TYPE_CHECKING:
    from synreal.bench import BenchResult


def bench(
    file: Annotated[Path, typer.Argument(help="YAML file of the grid.", show_default=False)],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each run. (default: the processors divided by --jobs)")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="Only runs whose name holds this text, e.g. /csg/. May be given several times."
        ),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one run of this name; writes no file of records.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the runs, instead of the file's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and how far each is, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Run a grid: every regularizer on every pair of data with every seed.

    What is done is skipped, and what was stopped goes on. Exit codes: 0 all is done, 1 a run failed, 2 wrong usage or
    configuration, 130 Ctrl-C, 143 SIGTERM.
    """
    plugins.load(plugin)
    from synreal.bench import bench as run
    from synreal.bench import read_grid
    from synreal.bench.bench import plan

    grid = read_grid(file)
    if output is not None:
        grid = grid.model_copy(update={"output": output})
    chosen: dict[str, Any] = {"only": only or (), "cell": cell}
    if dry_run:
        result = plan(grid, **chosen)
    else:
        result = run(grid, jobs=jobs, threads=threads, plugins=plugin or (), **chosen)
    if as_json:
        import json

        typer.echo(json.dumps(_plain(result), indent=2))
    else:
        _print(result)
    if result.failed:
        raise typer.Exit(1)


def _plain(result: BenchResult) -> list[dict[str, Any]]:
    import math

    return [
        {
            "name": row.cell.name,
            "pair": row.cell.pair,
            "method": row.cell.method,
            "seed": row.cell.seed,
            "state": row.state,
            "folder": str(row.cell.folder),
            "headlines": {name: None if math.isnan(value) else value for name, value in row.headlines.items()},
            "problem": row.problem or None,
        }
        for row in result.rows
    ]


def _print(result: BenchResult) -> None:
    from synreal.bench.watch import number

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table()
    for heading in ("run", "state"):
        table.add_column(heading, overflow="fold")
    names = list(dict.fromkeys(name for row in result.rows for name in row.headlines))
    for name in names:
        table.add_column("held-out" if name == "source" else name, justify="right")
    for row in result.rows:
        found = row.headlines
        table.add_row(
            row.cell.name, row.state, *(number(row.cell, found[name]) if name in found else "" for name in names)
        )
    console.print(table)
    for row in result.failed:
        console.print(f"{row.cell.name} failed ({row.problem}). {row.cell.log} ends with:", soft_wrap=True)
        console.print(row.lines, soft_wrap=True)
    if result.ledger.path is not None:
        console.print(f"Records: {result.ledger.path}", soft_wrap=True)
