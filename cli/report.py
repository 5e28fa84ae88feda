"""What a finished run prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from synreal.records import HEADINGS, SIZES, RunRecord, Score, as_number, headline_of, percent


def print_result(record: RunRecord, folder: Path | None, console: Console | None = None) -> None:
    """Print the headline table, recall by class, and where the run is (unless that is of no interest)."""
    console = console or Console(highlight=False, markup=False, emoji=False)
    scores = {"source": record.source_heldout, **record.targets}
    origin = record.weights["detail"] or record.weights["source"]
    title = f"{record.method}, {record.network} ({origin}), {record.protocol.steps} steps, seed {record.protocol.seed}"
    console.print(score_table(scores, chance=record.protocol.chance, title=title))
    console.print(class_table(scores))
    if record.weights["source"] == "none":
        console.print("Weights were random (weights: none): there was no knowledge of the real world to keep.")
    for name, best in record.target_selected.items():
        if best.step != record.protocol.steps:
            console.print(
                f"Not the result, for it peeks at the target: {name} would read "
                f"{percent([headline_of(best.measures)])} % at step {best.step}."
            )
    if folder is not None:
        console.print(f"Run folder: {folder}", soft_wrap=True)


def score_table(scores: Mapping[str, Score], *, title: str, chance: float | None = None) -> Table:
    """Make the table of measures, in percent: one row a set, the held-out source first."""
    table = Table(title=title, title_justify="left")
    table.add_column("tested on")
    shown = [name for name in scores["source"].measures if name not in SIZES]
    headings = [f"{HEADINGS[name]} %" for name in shown]
    for heading in ("images", *headings, *(["chance %"] if chance is not None else [])):
        table.add_column(heading, justify="right")
    for name, score in scores.items():
        kind = "synthetic, held out" if name == "source" else "real"
        values = [percent([as_number(score.measures[measure])]) for measure in shown]
        table.add_row(
            f"{score.data} ({kind})",
            str(score.images),
            *values,
            *([percent([chance])] if chance is not None else []),
        )
    return table


def class_table(scores: Mapping[str, Score]) -> Table:
    """Make the table by class: recall, IoU or AP, the latter by size too."""
    table = Table(title=f"{_BY_CLASS[next(iter(scores['source'].measures))]} by class, %", title_justify="left")
    table.add_column("class")
    for score in scores.values():
        table.add_column(score.data, justify="right")
    for name in scores["source"].per_class:
        values = [score.per_class[name] for score in scores.values()]
        table.add_row(name, *("none" if value is None else percent([value]) for value in values))
    table.add_section()
    for measure, area in _AREAS.items():
        if measure in scores["source"].measures:
            values = [score.measures[measure] for score in scores.values()]
            table.add_row(area, *("none" if value is None else percent([value]) for value in values))
    return table


# In pixels, by COCO's protocol.
_AREAS = dict(zip(SIZES, ("area < 32²", "32² to 96²", "area > 96²"), strict=True))
_BY_CLASS = {"mean_class_accuracy": "Recall", "mean_iou": "IoU", "ap": "AP"}
