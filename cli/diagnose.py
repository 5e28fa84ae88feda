"""``synreal diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import plugins
from .options import FILES, ConfigFile, Sets, with_settings
from .output import say

if TYPE_CHECKING:
    from synreal.diagnosis import Diagnosis

_HERE = "Diagnosis"


def _lengths() -> str:
    """Return the tasks' own numbers of steps."""
    from synreal.tasks import TASKS

    return ", ".join(f"{spec.short} {spec.trial.steps}" for spec in TASKS.registered().values())


@with_settings
def diagnose(
    *,
    given: dict[str, Any],
    photos: Annotated[
        list[str] | None,
        typer.Option(
            "--photos",
            metavar="IMAGES",
            help="Real images without labels: a file, a folder or a pattern. May be given several times.",
            rich_help_panel=_HERE,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Training steps of each run. (default: {_lengths()})",
            rich_help_panel=_HERE,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Runs at a time. (default: two on a CPU)", rich_help_panel=_HERE),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of each run. (default: OMP_NUM_THREADS, or the processors divided by --jobs)",
            rich_help_panel=_HERE,
        ),
    ] = None,
    plugin: plugins.PluginFiles = None,
    config: ConfigFile = None,
    settings: Sets = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.", rich_help_panel=FILES)] = False,
) -> None:
    """See in a few minutes whether a network's knowledge of the real world is worth keeping, and by what.

    Trains the head on the frozen backbone, everything, the head first, and each --regularizer (default: csg and
    feature_l2) for a few steps, and tests each on held-out source and on real images. The folder (--output, default
    runs/diagnosis) gets a page, diagnosis.html; the same command goes on where one was stopped.
    """
    plugins.load(plugin)
    from synreal.config import apply_settings, make_config, read_yaml, with_values
    from synreal.diagnosis import diagnose as run
    from synreal.diagnosis.tries import METHODS

    values = with_values({} if config is None else read_yaml(config), given)
    if photos and "data.targets" not in given and not (values.get("targets") or values.get("data", {}).get("targets")):
        values = with_values(values, {"data.targets": "none"})
    made = make_config(apply_settings(values, settings or []))
    output = made.output.folder or Path("runs/diagnosis")
    found = run(
        made,
        output,
        photos=photos or (),
        regularizers=given.get("regularizers", METHODS),
        steps=steps,
        jobs=jobs,
        threads=threads,
        plugins=plugin or (),
    )
    if as_json:
        import json

        say(json.dumps(found.as_plain(), indent=2))
    else:
        _print(found)


def _print(found: Diagnosis) -> None:
    from rich.table import Table
    from rich.text import Text

    from synreal.diagnosis.page import HEADLINES
    from synreal.records.numbers import value_text
    from synreal.terminal import Console, printable

    console = Console()
    sets = list(dict.fromkeys(name for one in found.outcomes for name in (*one.scores, *one.estimates)))
    title = f"{found.network} on {found.source}, {found.steps} steps each, {found.measure} %"
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("trained")
    names = {"source": "held out", "styles": "in other styles"}
    for name in sets:
        table.add_column(Text(printable(names.get(name, name))), justify="right")
    for one in found.outcomes:
        values = [
            value_text(one.scores.get(name), "%")
            if name in one.scores
            else f"~{value_text(one.estimates[name].accuracy, '%')}"
            if name in one.estimates
            else ""
            for name in sets
        ]
        table.add_row(Text(printable(one.name)), *values)
        if one.half_way:
            halves = [value_text(one.half_way[name], "%") if name in one.half_way else "" for name in sets]
            table.add_row(Text(printable(f"{one.name}, half-way")), *halves)
    console.print(table)
    console.print(Text(f"{HEADLINES[found.verdict.advice]}.", style="bold"))
    for reason in found.verdict.reasons:
        console.print(Text(printable(reason)))
    if found.data:
        console.print(Text("The data", style="bold"))
        for line in found.data:
            console.print(Text(printable(f"  {line}")), soft_wrap=True)
    console.print(Text("Run next", style="bold"))
    for command in found.commands:
        console.print(Text(printable(f"  {command}")), soft_wrap=True)
    console.print(Text(printable(f"Report: {found.folder / 'diagnosis.html'}")), soft_wrap=True)
