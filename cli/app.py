"""The ``synreal`` command: one module for each subcommand, loaded when it is called."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any

import typer

from synreal.terminal import word_warnings

from . import bench, data, diagnose, evaluate, export, inspect, leaderboard, listing, predict, run
from .output import say

app = typer.Typer(
    name="synreal",
    help="Train on synthetic images, keep the network's knowledge of the real world, test zero-shot on real ones.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("diagnose")(diagnose.diagnose)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("bench", cls=bench.BenchCommand)(bench.bench)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("list")(listing.show)
app.add_typer(inspect.app, name="inspect")
app.add_typer(data.app, name="data")


def _version(value: bool) -> None:
    if value:
        import synreal

        say(f"synreal {synreal.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Train on synthetic images, keep the network's knowledge of the real world, test zero-shot on real ones."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 failed run, 2 wrong usage or configuration, 129 SIGHUP, 130 Ctrl-C, 138 SIGUSR1, 143 SIGTERM.

    Args:
        arguments: Instead of the process's own.
    """
    from synreal.heap import keep_freed_memory
    from synreal.streams import unfailing

    keep_freed_memory()
    word_warnings()
    with unfailing("stderr"):
        sys.exit(_exit_code(lambda: app(arguments, standalone_mode=True)))


def _exit_code(call: Callable[[], Any]) -> int:
    from synreal.errors import SynrealError

    try:
        call()
    except SynrealError as error:
        _complain(error)
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _complain(f"The path {str(error.filename)[:80]!r}... is longer than the name of a file can be.")
        return 2
    except KeyboardInterrupt:
        say("Interrupted.", err=True)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _complain(error: object) -> None:
    from rich.text import Text

    from synreal.terminal import Console

    text = Text("Error: ", style="bold red").append(Text(str(error), style="not bold default"))
    Console(stderr=True).print(text, soft_wrap=True)  # a path or a command in it must stay whole to be copied
