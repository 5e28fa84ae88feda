"""``synreal data check``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from synreal.terminal import Console, printable

from . import plugins
from .output import say
from .plugins import PluginFiles

if TYPE_CHECKING:
    from synreal.data import DataSet
    from synreal.data.inspection.report import Finding, PartReport, Progress, Report
    from synreal.data.labels import LabelKind

_SHOWN = 5  # findings of a kind that are written out
_MOST_CLASSES = 40
_STYLES = {"stops": "bold red", "skipped": "yellow", "resized": "yellow", "note": "cyan"}


class OnBadImage(str, Enum):
    """What a run does with files that cannot be used."""

    error = "error"
    skip = "skip"


class OnSizeMismatch(str, Enum):
    """What a run does with an image and a mask that differ in size."""

    error = "error"
    skip = "skip"
    resize = "resize"


class Domain(str, Enum):
    """What data serve as."""

    source = "source"
    target = "target"


def check(
    dataset: Annotated[str, typer.Argument(help="A name, KIND:FOLDER or a YAML file.", show_default=False)],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            help="Whose labels: cls, seg or det; or a kind of label by its name. (default: the only one)",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Real data that it will be tested on: also checked, and compared.")
    ] = None,
    domain: Annotated[
        Domain | None, typer.Option("--as", help="What it serves as. (default: with --target the source, else all)")
    ] = None,
    on_bad_image: Annotated[OnBadImage, typer.Option(help="What a run would do.")] = OnBadImage.error,
    on_size_mismatch: Annotated[OnSizeMismatch, typer.Option(help="What a run would do.")] = OnSizeMismatch.error,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads. (default: one per processor, 8 at most)")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Also hash all files, to compare two machines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Read everything again.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """Read everything once and report what is in a data set and what is wrong with it.

    Exit codes: 0 training can start, 1 training would fail, 2 wrong usage or configuration.
    """
    import json
    from dataclasses import asdict

    from synreal import data

    plugins.load(plugin)
    entry = data.find(dataset)
    label = _label(entry, task)
    from synreal.data.inspection.report import check as run

    with _progress() as progress:
        report = run(
            entry,
            label,
            target=target,
            domain=None if domain is None else domain.value,
            policy=data.Policy(on_bad_image.value, on_size_mismatch.value),
            workers=workers,
            progress=progress,
            fresh=no_cache,
            strict=strict,
        )
    if as_json:
        say(json.dumps(asdict(report), indent=2))
    else:
        show(report, Console())
    raise typer.Exit(int(report.fails))


def _label(entry: DataSet, given: str | None) -> str:
    from synreal.errors import ConfigError
    from synreal.tasks import TASKS

    if given is not None:
        return given if given in entry.label_kinds else TASKS.get(given).label
    if len(entry.label_kinds) > 1:
        raise ConfigError(f"{entry.label!r} has {' and '.join(entry.label_kinds)}: choose one with --task.")
    return entry.label_kinds[0]


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show on stderr, if that is a terminal, how far each part is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(printable(name), total=total)
            bar.update(tasks[name], completed=done)

        yield told


def show(report: Report, console: Console) -> None:
    """Print a report; what comes from data is plain text, never markup."""
    from synreal.data.labels import LABELS

    kind = LABELS.get(report.label)()
    for part in report.parts:
        _show_part(part, kind, console)
    if report.differences or report.findings:
        console.print(Text("Source and target" if report.target else "Between parts", style="bold"))
        for line in report.differences:
            _line(console, f"  The target {line}.")
        _show_findings(report.findings, console)
        console.print()
    everything = [*report.findings, *(finding for part in report.parts for finding in part.findings)]
    stopping = sum(finding.effect == "stops" for finding in everything)
    if report.fails:
        number = f"{stopping} findings stop" if stopping > 1 else "1 finding stops"
        console.print(Text(f"Training would fail: {number} it.", style="bold red"))
    else:
        left = sum(part.images - part.usable for part in report.parts)
        skipped = f" Images left out: {left:,}." if left else ""
        console.print(Text(f"Training can start.{skipped}", style="bold green"))


def _show_part(part: PartReport, kind: LabelKind[Any], console: Console) -> None:
    console.print(Text(printable(f"{part.data} ({part.part})"), style="bold"))
    if part.fingerprint is not None:
        left = f", {part.usable:,} of them usable" if part.usable < part.images else ""
        _line(console, f"  {part.images:,} images{left}")
        _line(console, f"  Fingerprint: {part.fingerprint}")
    if part.sha256 is not None:
        _line(console, f"  SHA-256 of all files: {part.sha256}")
    if part.sizes:
        least, median, greatest = (_size(part.sizes[key]) for key in ("least", "median", "greatest"))
        frequent = ", ".join(f"{_size(row)} ({row[2]:,})" for row in part.sizes["frequent"])
        all_one = f"  Sizes: {frequent}"
        _line(console, all_one if least == greatest else f"  Sizes: {least} to {greatest}, median {median}; {frequent}")
    for title, counts in (("Images", part.encodings), ("Labels", part.label_encodings)):
        if counts:
            _line(console, f"  {title}: {', '.join(f'{name} {number:,}' for name, number in counts.items())}")
    if part.turned:
        _line(console, f"  Turned upright by EXIF: {part.turned:,}")
    if kind.unlabelled is not None and part.unlabelled:
        _line(console, f"  {kind.unlabelled}: {part.unlabelled:,}")
    if part.classes:
        console.print(_class_table(part, kind))
    for what, number in part.dropped.items():
        _line(console, f"  Left out by the loader: {number:,} {what}")
    for warning in part.warnings:
        _line(console, f"  Warning: {warning}")
    _show_findings(part.findings, console)
    console.print()


def _class_table(part: PartReport, kind: LabelKind[Any]) -> Table:
    table = Table()
    table.add_column("class")
    table.add_column("images", justify="right")
    if part.unit != "images":
        table.add_column(part.unit, justify="right")
    table.add_column("share", justify="right")
    total = sum(row["labels"] for row in part.classes)
    shown = part.classes[:_MOST_CLASSES]
    for row in shown:
        counts = [f"{row['images']:,}", *([f"{row['labels']:,}"] if part.unit != "images" else [])]
        table.add_row(Text(printable(row["name"])), *counts, f"{row['labels'] / total:.1%}" if total else "-")
    if len(part.classes) > len(shown):
        table.add_row(f"and {len(part.classes) - len(shown)} more", *[""] * (len(table.columns) - 1))
    if part.ignored:
        table.add_row(Text(kind.ignored, style="dim"), "", f"{part.ignored:,}", "")
    return table


def _show_findings(findings: list[Finding], console: Console) -> None:
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        kinds[finding.effect, finding.kind].append(finding)
    for effect, kind in sorted(kinds, key=lambda key: (list(_STYLES).index(key[0]), key[1])):
        same = kinds[effect, kind]
        heading = {
            "stops": "stops training",
            "skipped": "would be skipped",
            "resized": "would be resized",
            "note": "note",
        }[effect]
        number = f" ({len(same):,})" if len(same) > 1 else ""
        console.print(Text(f"  {printable(kind)}{number}: {heading}", style=_STYLES[effect]))
        for finding in same[:_SHOWN]:
            _line(console, f"    {finding.message}")
        if len(same) > _SHOWN:
            _line(console, f"    and {len(same) - _SHOWN:,} more; --json lists all")


def _size(size: list[Any]) -> str:
    return f"{size[1]} x {size[0]}"


def _line(console: Console, text: str) -> None:
    """Print a line as it is; a path in it stays whole to be copied."""
    console.print(Text(printable(text)), soft_wrap=True)
