"""The ``synreal`` command: one module for each subcommand, loaded when it is called."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from . import bench, data, evaluate, inspect, leaderboard, listing, run

app = typer.Typer(
    name="synreal",
    help="Train on synthetic images, keep the network's knowledge of the real world, test zero-shot on real ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("evaluate")(evaluate.evaluate)
app.command("bench", cls=bench.BenchCommand)(bench.bench)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("list")(listing.show)
app.add_typer(inspect.app, name="inspect")
app.add_typer(data.app, name="data")


def _version(value: bool) -> None:
    if value:
        import synreal

        typer.echo(f"synreal {synreal.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Train on synthetic images, keep the network's knowledge of the real world, test zero-shot on real ones."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 failed run, 2 wrong usage or configuration, 130 Ctrl-C, 143 SIGTERM.

    Args:
        arguments: Instead of the process's own.
    """
    warnings.formatwarning = _worded
    sys.exit(_exit_code(lambda: app(arguments, standalone_mode=True)))


_python_format = warnings.formatwarning


def _worded(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
    """Leave file and line of the code out of what is said to people."""
    return (
        f"Warning: {message}\n"
        if issubclass(category, UserWarning)
        else _python_format(message, category, *place, **more)
    )


def _exit_code(call: Callable[[], Any]) -> int:
    from synreal.errors import SynrealError

    try:
        call()
    except SynrealError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _complain(error: Exception) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text("Error: ", style="bold red").append(Text(str(error), style="not bold default"))
    Console(stderr=True).print(text, soft_wrap=True)  # a path or a command in it must stay whole to be copied
