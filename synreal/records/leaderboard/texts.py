"""A leaderboard as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Final

from synreal.records.leaderboard.board import Board, Curve, Point, Section, Shown
from synreal.records.leaderboard.rows import Row
from synreal.records.numbers import Unit, value_text, with_unit

CHANGED: Final = "†"
"""Marks seeds of which some run went on under other conditions than it began with."""

CHANGED_WORDS: Final = (
    "After a stop, a run went on with other processes, threads or versions, or on another device, than it began with: "
    "its last bits are not those of a run that never stopped."
)

RULE_NAMES: Final = {"heldout": "held-out source", "shifted": "shifted held-out source"}
"""What the rules look at, in words."""


def mean_text(row: Row) -> str:
    """Write mean and standard deviation over seeds; what a paper says, as it says it."""
    if row.kind == "paper" and row.mean is not None:
        return f"{100 * row.mean if row.unit == '%' else row.mean:.4g}"
    if row.mean is None or row.std is None:
        return value_text(row.mean, row.unit)
    return f"{value_text(row.mean, row.unit)} ± {value_text(row.std, row.unit)}"


def difference_text(row: Row) -> str:
    """Write the difference to the baseline and its interval; nothing where there is none."""
    if row.difference is None:
        return ""
    text = value_text(row.difference, row.unit, signed=True)
    if row.interval is None:
        return text
    low, high = (value_text(end, row.unit, signed=True) for end in row.interval)
    return f"{text} [{low}, {high}]"


def seeds_text(row: Row) -> str:
    """Write how many seeds there are, of how many where some are missing; marked where a run was not of one piece."""
    mark = CHANGED if row.changed else ""
    return f"{len(row.seeds)}{f' of {len(row.seeds) + len(row.missing)}' if row.missing else ''}{mark}"


def better_text(row: Row) -> str:
    """Write in how many of the paired seeds a row is better than the baseline."""
    return "" if row.better is None else f"{row.better} of {len(row.differences)}"


def ratio_text(ratio: float | None) -> str:
    """Write a cost relative to the baseline's."""
    return "" if ratio is None else f"{ratio:.2f}"


def kind_text(row: Row, chosen_by: Sequence[str] = ()) -> str:
    """Say what a row is of beside its method; nothing for a run at its last epoch."""
    rules = " and ".join(RULE_NAMES[rule] for rule in chosen_by)
    if rules:
        return f"{_times_default(row)}selected by {rules}"
    if row.kind == "best weight (peeks)":
        return f"{_times_default(row)}best on the target"
    plain = {"run": "", "weight": "", "paper": "", "averaged": f"averaged, {row.detail}"}
    return plain.get(row.kind, row.kind.removesuffix(" (peeks)"))


def chosen_text(point: Point) -> str:
    """Say by which rules a weight was chosen, and whether it is the best on the target; nothing for any other."""
    chosen = [f"by {RULE_NAMES[rule]}" for rule in point.chosen_by]
    return "; ".join([*chosen, *["best on the target (peeks)"] * point.best])


def _times_default(row: Row) -> str:
    return "default weight, " if row.factor == 1 else f"weight {row.factor or 0:g} x default, "


# --- Markdown ---


def as_markdown(board: Board) -> str:
    """Write a leaderboard as Markdown: for each pair and protocol its ranked rows, those that peek, and its curves."""
    parts = []
    for (pair, task), sections in board.pairs.items():
        parts.append(f"## {_plain(pair)}, {_plain(task)}")
        for section in sections:
            parts.append(protocol_line(section))
            parts.append(markdown_table(section.shown(), section))
            if section.peeking:
                parts.append("Chosen by the target's labels (peeks), not ranked:")
                parts.append(markdown_table([Shown(row, ()) for row in section.peeking], section))
            parts += [markdown_curve(curve) for curve in section.curves]
        if (pair, task) in board.papers:
            parts.append("Published numbers, not ranked; each difference is to source only in the same table:")
            parts.append(markdown_papers(board.papers[pair, task]))
    parts.append(_READING.format(baseline=_code(board.baseline)))
    if any(row.changed for row in board.rows):
        parts.append(f"{CHANGED} {CHANGED_WORDS}")
    return "\n\n".join(parts) + "\n"


_READING = (
    "Mean ± sample standard deviation over seeds; the difference is to {baseline} with the same seed, its mean, with a "
    "95 % bootstrap interval over seeds: of three seeds, the whole range of the three differences. Time and memory are "
    "relative to {baseline}."
)


def protocol_line(section: Section) -> str:
    """Say in a sentence what the rows of a section share, and how that differs from the pair's first protocol."""
    row = section.rows[0]
    differs = f" It differs from the first in: {_plain(', '.join(section.differs))}." if section.differs else ""
    digest = section.protocol.rpartition(", ")[2]
    return f"Protocol {_code(digest)}: {_plain(row.consists_of)}.{differs}"


def markdown_table(shown: Sequence[Shown], section: Section) -> str:
    """Write rows of a section as a compact table; columns of which nothing is known are left out."""
    rows = [one.row for one in shown]
    unit = rows[0].unit
    compared = f"difference to {_code(section.baseline)}" if section.baseline else ""
    columns = {
        "method": [_code(row.method) + _bracketed(kind_text(row, by)) for row, by in shown],
        "seeds": [seeds_text(row) for row in rows],
        with_unit(_plain(rows[0].measure), unit): [mean_text(row) for row in rows],
        compared: [difference_text(row) for row in rows],
        "better in": [better_text(row) for row in rows],
        with_unit("held-out", unit): [_known(row.heldout, unit) for row in rows],
        with_unit("shifted", unit): [_known(row.shifted, unit) for row in rows],
        "time x": [ratio_text(row.time) for row in rows],
        "memory x": [ratio_text(row.memory) for row in rows],
    }
    return _table({heading: cells for heading, cells in columns.items() if any(cells)})


def markdown_curve(curve: Curve) -> str:
    """Write how a method depends on its weight, and why no weight was chosen where none was."""
    rows = [point.row for point in curve.points]
    unit = rows[0].unit
    columns = {
        f"weight of {_code(curve.method)}, x default": [f"{point.factor:g}" for point in curve.points],
        "seeds": [seeds_text(row) for row in rows],
        with_unit("held-out", unit): [_known(row.heldout, unit) for row in rows],
        with_unit("shifted", unit): [_known(row.shifted, unit) for row in rows],
        with_unit(_plain(rows[0].measure), unit): [mean_text(row) for row in rows],
        "difference": [difference_text(row) for row in rows],
        "chosen": [chosen_text(point) for point in curve.points],
    }
    table = _table({heading: cells for heading, cells in columns.items() if any(cells)})
    return "\n\n".join([table, *map(_plain, curve.notes)])


def markdown_papers(rows: Sequence[Row]) -> str:
    """Write published numbers, marked as such."""
    return _table(
        {
            "method": [_plain(row.method) for row in rows],
            with_unit(_plain(rows[0].measure), rows[0].unit): [mean_text(row) for row in rows],
            "difference": [difference_text(row) for row in rows],
            "paper": [_plain(f"{row.source}: {row.consists_of}") for row in rows],
        }
    )


def _bracketed(text: str) -> str:
    return f" ({_plain(text)})" if text else ""


def _known(value: float | None, unit: Unit) -> str:
    return "" if value is None else value_text(value, unit)


def _table(columns: dict[str, list[str]]) -> str:
    lines: list[Iterable[str]] = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Escape all that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*\[\]<|~&]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Write text as code; a backtick, which would end it, becomes an apostrophe."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"


# --- JSON and CSV ---


def as_json(board: Board) -> str:
    """Write all rows as a JSON list; what is not known is null."""
    return json.dumps([row.model_dump(mode="json") for row in board.rows], indent=1, allow_nan=False) + "\n"


def as_csv(board: Board) -> str:
    """Write all rows as CSV: one line each, lists joined by spaces, the interval as two columns, unknowns empty."""
    file = io.StringIO()
    columns = [name for name in Row.model_fields if name not in ("interval", "differences")]
    columns[columns.index("difference") + 1 : columns.index("difference") + 1] = ["interval_low", "interval_high"]
    writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in board.rows:
        low, high = row.interval or (None, None)
        values = {**row.model_dump(), "interval_low": low, "interval_high": high}
        writer.writerow({key: _cell(value) for key, value in values.items()})
    return file.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join("" if one is None else str(one) for one in value)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"  # a spreadsheet would take it for a formula
    return value
