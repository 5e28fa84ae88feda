"""``synreal bench``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from . import plugins
from .output import say
from .plugins import PluginFiles

if TYPE_CHECKING:
    from synreal.bench import Plan


class Scheduler(str, Enum):
    """What a grid can be handed to."""

    slurm = "slurm"


class Rule(str, Enum):
    """How ``--select`` chooses a weight."""

    heldout = "heldout"
    shifted = "shifted"
    both = "both"


class BenchCommand(TyperCommand):
    """``--select`` alone stands for ``--select both``, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        rules = [rule.value for rule in Rule]
        for at, word in enumerate(args):
            if word == "--select" and args[at + 1 : at + 2] not in [[rule] for rule in rules]:
                args[at] = "--select=both"
        return super().parse_args(ctx, args)


def bench(
    file: Annotated[Path, typer.Argument(help="YAML file of the grid.", show_default=False)],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of each run. (default: OMP_NUM_THREADS, or the processors divided by --jobs)"
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Only runs whose name holds it, e.g. /csg/. May be given several times."),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(metavar="NAME", help="The one run of this name; the file of records stays as it is.")
    ] = None,
    select: Annotated[
        Rule | None,
        typer.Option(
            metavar="[heldout|shifted]",
            help="Run each regularizer at several weights, and choose one without the target: by held-out source, by "
            "held-out source in styles that were not trained on, or (nothing after it) by both.",
        ),
    ] = None,
    reproduce: Annotated[
        bool, typer.Option("--reproduce", help="Run what is recorded again and compare the numbers to the bit.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the runs.")] = None,
    emit: Annotated[Scheduler | None, typer.Option(help="Print a job array of what is to be run, and stop.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and how far each is, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Run a grid: every regularizer on every pair of data with every seed.

    What is done is skipped, what was stopped goes on, and what another command is running is left to it. Exit codes: 0
    all is done, 1 a run failed, was not reproduced or is still run by another command, 2 wrong usage or configuration,
    129 SIGHUP, 130 Ctrl-C, 138 SIGUSR1, 143 SIGTERM.
    """
    from synreal.errors import ConfigError

    if reproduce and select:
        raise ConfigError("--reproduce compares what is recorded, --select runs what is not: give one of them.")
    plugins.load(plugin)
    from synreal.bench import bench as run
    from synreal.bench import plan, read_grid

    grid = read_grid(file)
    if output is not None:
        grid = grid.model_copy(update={"output": output})
    wanted: dict[str, Any] = {"only": only or (), "cell": cell, "sweep": select is not None, "reproduce": reproduce}
    if emit is not None:
        from synreal.bench import slurm

        words = [str(file), *([] if output is None else ["--output", str(output)])]
        words += [word for path in plugin or () for word in ("--plugin", str(path))]
        words += ["--reproduce"] * reproduce + ["--select"] * (select is not None)
        say(slurm.script(plan(grid, **wanted), words, threads=threads or 1, output=grid.output), nl=False)
        return
    if dry_run:
        planned = plan(grid, **wanted)
    else:
        planned = run(grid, jobs=jobs, threads=threads, plugins=plugin or (), **wanted)
    _report(planned, [] if select is None or dry_run else _rules(select), as_json=as_json, dry_run=dry_run)


def _rules(select: Rule) -> list[str]:
    return [rule.value for rule in Rule if rule is not Rule.both and select in (rule, Rule.both)]


def _report(planned: Plan, rules: list[str], *, as_json: bool, dry_run: bool) -> None:
    """Print what became of a grid.

    Raises:
        typer.Exit: With 1 if a run failed or was not reproduced, or is not done but left to another command.
    """
    from .bench_report import as_plain, print_plan

    chosen = []
    if rules:
        from synreal.bench.selecting import selections

        chosen = selections(planned.rows, rules)
    deviating = {}
    if planned.reproduces:
        from synreal.bench.reproducing import deviations

        deviating = deviations(planned.rows, planned.ledger)
    if as_json:
        import json

        say(json.dumps(as_plain(planned, chosen, deviating), indent=2, allow_nan=False))
    else:
        print_plan(planned, chosen, deviating)
    if planned.failed or any(deviating.values()) or (not dry_run and planned.elsewhere):
        raise typer.Exit(1)
