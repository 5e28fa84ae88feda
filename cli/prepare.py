"""``synreal data prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import say

if TYPE_CHECKING:
    from synreal.data.rendered.stamp_files import Cutouts

_SHOWN = 5  # files of a kind that are written out


def prepare(
    dataset: Annotated[str, typer.Argument(help="Data set to prepare: stamps.", show_default=False)],
    folder: Annotated[
        Path | None,
        typer.Option("--from", help="Where it lies, if it is not installed.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Render and cache a data set once, so that its own files are not needed any more."""
    import json

    from synreal.data.rendered import stamp_files
    from synreal.errors import unknown_name

    if dataset != "stamps":
        raise unknown_name("data set to prepare", dataset, ["stamps"])
    cutouts = _cut_out(folder)
    path = stamp_files.keep(cutouts)
    if not as_json:
        say(_text(cutouts, path))
        return
    facts = {
        "dataset": dataset,
        "file": str(path),
        "classes": cutouts.counts(),
        "skipped": cutouts.skipped,
        "left_out": cutouts.left_out,
        "fingerprint": cutouts.fingerprint,
    }
    say(json.dumps(facts, indent=2))


def _cut_out(folder: Path | None) -> Cutouts:
    """Load or make the cut-outs, with a bar on stderr while they are made."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from synreal.data.rendered import stamp_files
    from synreal.terminal import Console

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("stamps", total=None)
        return stamp_files.load_cutouts(
            folder, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _text(cutouts: Cutouts, path: Path) -> str:
    counts = cutouts.counts()
    width = max(map(len, counts))
    lines = [
        f"{name:<{width}}  {each['drawn']:>4} drawn  {each['photographed']:>4} photographed"
        for name, each in counts.items()
    ]
    totals = [sum(each[side] for each in counts.values()) for side in ("drawn", "photographed")]
    lines.append(f"{'all':<{width}}  {totals[0]:>4} drawn  {totals[1]:>4} photographed")
    if cutouts.left_out:
        lines.append(
            f"{len(cutouts.left_out)} files left out: other formats or mirror images of these, or without an object."
        )
    if cutouts.skipped:
        lines.append(f"{len(cutouts.skipped)} files could not be used:")
        lines += [f"  {reason}" for reason in list(cutouts.skipped.values())[:_SHOWN]]
    lines.append(f"Cached as {path}.")
    return "\n".join(lines)
