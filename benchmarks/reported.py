"""What papers report beside our own numbers, as the tables of ``docs/reproduce.md``.

The numbers of the papers are in ``benchmarks/papers/numbers.yaml`` and in the leaderboard's ``papers.yaml``, ours in
``benchmarks/results``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import Self

from synreal.bench import Grid, read_grid
from synreal.records import RunRecord
from synreal.records.leaderboard.papers import all_published
from synreal.records.leaderboard.rows import Row, compared
from synreal.records.leaderboard.texts import difference_text, mean_text
from synreal.records.protocols import differing, identity

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DEFAULTS = "cartoon"  # the grid that runs everything at its defaults, on the pair of the scaled ablations


class Measures(BaseModel):
    """What a paper measures of networks beside the headline, by method and column."""

    model_config = ConfigDict(extra="forbid")

    pair: str
    paper: str
    columns: dict[str, str]
    values: dict[str, dict[str, float]]

    @model_validator(mode="after")
    def _columns_are_there(self) -> Self:
        if strange := {key for values in self.values.values() for key in values} - set(self.columns):
            raise ValueError(f"{self.pair} has no column {', '.join(sorted(strange))}")
        return self


class Setting(BaseModel):
    """A row of an ablation: what the paper reports, in percent, and which of our runs are of it."""

    model_config = ConfigDict(extra="forbid")

    setting: str
    paper: float | None = None
    ours: str
    magnitude: float = 6
    base: bool = False

    @property
    def run(self) -> tuple[str, float]:
        """Label of our runs, and RandAugment's magnitude in them."""
        return self.ours, self.magnitude


class Ablation(BaseModel):
    """One setting that is varied, in a paper (``grid``, in ``papers``) and here (``scaled``, in ``ablations``)."""

    model_config = ConfigDict(extra="forbid")

    name: str
    what: str
    paper: str | None = None
    grid: str | None = None
    scaled: str | None = None
    rows: list[Setting]

    @model_validator(mode="after")
    def _one_base(self) -> Self:
        if sum(row.base for row in self.rows) != 1:
            raise ValueError(f"{self.name}: one row is the base, to which the others are compared")
        return self

    @property
    def base(self) -> Setting:
        """The row that others are compared with."""
        return next(row for row in self.rows if row.base)

    @property
    def file(self) -> str:
        """The grid of our runs beside ``DEFAULTS``, or that itself."""
        return f"ablations/{self.scaled}" if self.scaled else DEFAULTS

    @property
    def ours(self) -> Grid:
        """That grid."""
        return read_grid(HERE / f"{self.file}.yaml")


class Numbers(BaseModel):
    """All of ``papers/numbers.yaml``."""

    model_config = ConfigDict(extra="forbid")

    measures: list[Measures]
    ablations: list[Ablation]


@functools.cache
def numbers() -> Numbers:
    """Read what the papers report."""
    return Numbers.model_validate(yaml.safe_load((HERE / "papers" / "numbers.yaml").read_text("utf-8")))


# --- ablations ---


def runs_of(ablation: Ablation) -> dict[tuple[str, float], dict[int, RunRecord]]:
    """Return our runs of an ablation by label and magnitude, then by seed: the seeds of its grid alone."""
    grid = ablation.ours
    files = [RESULTS / f"{DEFAULTS}.json", *([grid.records] if grid.records and ablation.scaled else [])]
    found: dict[tuple[str, float], dict[int, RunRecord]] = {}
    for path in files:
        for value in json.loads(path.read_text("utf-8")) if path.is_file() else ():
            record = RunRecord.model_validate(value)
            if record.protocol.seed in grid.seeds:
                found.setdefault((record.label, _magnitude(record)), {})[record.protocol.seed] = record
    return {row.run: found[row.run] for row in ablation.rows if row.run in found}


def _magnitude(record: RunRecord) -> float:
    views = record.config.get("views", ())
    return next((float(view["magnitude"]) for view in views if view["name"] == "randaugment"), 0.0)


def check_comparable(runs: dict[tuple[str, float], dict[int, RunRecord]]) -> None:
    """Refuse runs that differ in more than what an ablation varies.

    Raises:
        ValueError: Names what they differ in.
    """
    records = [record for seeds in runs.values() for record in seeds.values()]
    facts = [{key: value for key, value in identity(one, one.targets).items() if key != "views"} for one in records]
    for other in facts[1:]:
        if different := differing(facts[0], other):
            raise ValueError(f"runs of an ablation differ in {', '.join(different)}")


def ablation_table(name: str) -> str:
    """Table of an ablation: each setting with our mean over seeds, its difference to the base, and the paper's."""
    ablation = next(one for one in numbers().ablations if one.name == name)
    runs = runs_of(ablation)
    check_comparable(runs)
    planned = len(ablation.ours.seeds)
    papers = [setting.paper for setting in ablation.rows if setting.paper is not None]
    heads = [ablation.what, "seeds", "mean-class %", f"difference to {ablation.base.setting}"]
    lines = [f"| {' | '.join([*heads, *['paper, VisDA-17, %'] * bool(papers)])} |"]
    lines.append("|---" * (len(heads) + bool(papers)) + "|")
    for setting in ablation.rows:
        cells = ["", "", ""]
        if setting.run in runs:
            row = _row(setting, runs, ablation)
            of = f" of {planned}" if len(row.seeds) < planned else ""
            cells = [f"{len(row.seeds)}{of}", mean_text(row), difference_text(row)]
        if papers:
            cells.append(_reported(setting, ablation.base, _decimals(papers)))
        lines.append(f"| {setting.setting} | {' | '.join(cells)} |")
    waiting = ablation.scaled and not (ablation.ours.records or Path()).is_file()
    said = [f"No run of `benchmarks/{ablation.file}.yaml` has ended yet."] if waiting else []
    return "\n\n".join([*said, "\n".join(lines)])


def _row(setting: Setting, runs: dict[tuple[str, float], dict[int, RunRecord]], ablation: Ablation) -> Row:
    def headlines(run: tuple[str, float]) -> dict[int, float]:
        return {seed: next(iter(one.targets.values())).headline for seed, one in runs.get(run, {}).items()}

    base = None if setting.base else headlines(ablation.base.run)
    return Row(
        pair="", task="", protocol="", consists_of="", method=setting.ours, kind="run", measure="", unit="%",
        higher_is_better=True, **compared(headlines(setting.run), base, higher_is_better=True),
    )  # fmt: skip


def _reported(setting: Setting, base: Setting, decimals: int) -> str:
    if setting.paper is None:
        return ""
    difference = "" if setting.base or base.paper is None else f" ({setting.paper - base.paper:+.{decimals}f})"
    return f"{setting.paper:.{decimals}f}{difference}"


def _decimals(values: Iterable[float]) -> int:
    """Return how many decimals the most exact of some numbers is reported with."""
    return max(len(repr(value).partition(".")[2]) for value in values)


# --- comparisons ---


def comparison_table(source: str) -> str:
    """Table of what papers report on a pair, by the kind of its synthetic data, from the leaderboard's numbers."""
    published = next(one for one in all_published() if one.source == source)
    lines = [f"| paper | protocol | source only, {published.measure} % | with the method |", "|---|---|---|---|"]
    for table in published.tables:
        values = [
            f"{method} {value:.4g} ({value - table.alone:+.{_decimals([value, table.alone])}f})"
            for method, value in table.values.items()
            if method != "none"
        ]
        lines.append(f"| {table.paper} | {table.protocol} | {table.alone:.4g} | {', '.join(values)} |")
    return "\n".join(lines)


def measures_table(pair: str) -> str:
    """Table of what papers measure of networks beside the headline."""
    found = next(one for one in numbers().measures if one.pair == pair)
    lines = [f"| paper | {' | '.join(found.columns.values())} |", "|---" * (len(found.columns) + 1) + "|"]
    for method, values in found.values.items():
        cells = [_exact(key, values[key]) if key in values else "" for key in found.columns]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _exact(key: str, value: float) -> str:
    return f"{value:.4f}" if key.startswith("energy") else f"{value:.2f}" if key == "cka" else f"{value:.1f}"
