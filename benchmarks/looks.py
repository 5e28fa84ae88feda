"""Look into the networks of a grid's recorded runs, and keep what was found as one file beside their records.

    python -m benchmarks.looks cartoon --runs runs/cartoon --imagenet imagenet-sample-images --only seed0

All measures are taken, those of weights and of ImageNet included. That the network is the record's shows in its score,
which has to come again to the bit: give as many threads as the run had. What the file holds already is not taken again.
Writes ``benchmarks/results/looks-cartoon.json`` and ``.md``; without runs that are left to look at, the tables alone.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from scipy.stats import spearmanr

from benchmarks.tables import RESULTS
from synreal.bench import plan, read_grid
from synreal.bench.board import Row
from synreal.engine import look
from synreal.errors import CheckpointError
from synreal.records import Look, Unit, mean_and_spread, with_unit, write_json

MEASURES = ("energy_0", "energy_1", "energy_2", "cka", "match_rate", "acc_in", "ece", "drift")
FEWEST = 4  # points that a rank correlation is told of


class LookedRun(BaseModel):
    """What looking into the network of a recorded run found.

    Attributes:
        pair: Name of the pair's file.
        method: The regularizers, as tables have them.
        seed: Of training.
        target: Name of the real data set.
        score: The headline on it, of the record.
        look: What was found.
    """

    model_config = ConfigDict(extra="forbid")

    pair: str
    method: str
    seed: int
    target: str
    score: float
    look: Look


def looks_path(name: str) -> Path:
    """The file of what was found in the runs of a grid."""
    return RESULTS / f"looks-{name}.json"


def read_looks(name: str) -> list[LookedRun]:
    """Read what was found in the runs of a grid; nothing if nobody looked yet."""
    path = looks_path(name)
    return [LookedRun.model_validate(value) for value in json.loads(path.read_text("utf-8"))] if path.is_file() else []


def looked_at(row: Row, imagenet: Path | None) -> LookedRun:
    """Look into the network of a recorded run.

    Raises:
        CheckpointError: If the network has another score than the record's.
    """
    assert row.record is not None
    cell, (target, score) = row.cell, next(iter(row.record.targets.items()))
    wanted = [name for name in MEASURES if name != "acc_in" or imagenet is not None]
    found = look(cell.folder, [*wanted, score.headline_name], imagenet=imagenet, show_progress=False)
    measured = found.find(score.headline_name, target)
    if measured is None or measured.value is None or not math.isclose(measured.value, score.headline, abs_tol=1e-12):
        raise CheckpointError(
            f"{cell.folder} holds a network with a {score.headline_name} of {measured and measured.value}; {cell.name} "
            f"is recorded with {score.headline}. It is of another run, or was tested with other threads."
        )
    return LookedRun(
        pair=cell.pair, method=cell.method, seed=cell.seed, target=target, score=score.headline, look=found
    )


def values_of(runs: Sequence[LookedRun], measure: str, stage: str | None = None) -> list[float]:
    """The values of a measure, or of one of its stages, in some runs; NaN where it was not taken."""
    found = [run.look.find(measure, run.target) for run in runs]
    values = [one and (one.value if stage is None else one.stages.get(stage)) for one in found]
    return [math.nan if value is None else value for value in values]


def by_method(found: Sequence[LookedRun]) -> dict[str, list[LookedRun]]:
    """Group runs by their methods, in the order in which these come."""
    grouped: dict[str, list[LookedRun]] = {}
    for run in found:
        grouped.setdefault(run.method, []).append(run)
    return grouped


def render(found: Sequence[LookedRun]) -> str:
    """Write what was found as Markdown: the measures by method, and how they go with the score."""
    lines = ["# Looks"]
    for pair in dict.fromkeys(run.pair for run in found):
        runs = [run for run in found if run.pair == pair]
        lines += ["", f"## {pair}: measures", "", *_measures(runs), "", f"## {pair}: ranks", "", *_ranks(runs)]
    return "\n".join(lines) + "\n"


def _columns(run: LookedRun) -> list[tuple[str, str, str | None, Unit]]:
    """Heading, measure, stage and unit of each column."""
    columns: list[tuple[str, str, str | None, Unit]] = []
    for measure in MEASURES:
        one = run.look.find(measure, run.target)
        if one is None:
            continue
        heading = with_unit(one.heading, one.unit)
        if measure == "cka":
            columns += [(f"{heading} {stage}", measure, stage, one.unit) for stage in one.stages]
        else:
            columns.append((heading, measure, None, one.unit))
    return columns


def _measures(runs: Sequence[LookedRun]) -> list[str]:
    columns = _columns(runs[0])
    score = runs[0].look.find(_headline(runs[0]), runs[0].target)
    lines = [
        f"| method | seeds | {with_unit(score.heading, score.unit) if score else 'score'} "
        f"| {' | '.join(heading for heading, *_ in columns)} |",
        "|---|---|---|" + "---|" * len(columns),
    ]
    for method, group in by_method(runs).items():
        cells = [_cell([run.score for run in group], "%" if score is None else score.unit)]
        cells += [_cell(values_of(group, measure, stage), unit) for _, measure, stage, unit in columns]
        lines.append(f"| `{method}` | {len(group)} | {' | '.join(cells)} |")
    return lines


def _headline(run: LookedRun) -> str:
    """The measure whose value is the score: it was asked for by its name, beside the others."""
    return next(name for name in run.look.sets[run.target].measures if name not in MEASURES)


def _cell(values: Sequence[float], unit: Unit) -> str:
    mean, spread = mean_and_spread(values)
    if math.isnan(mean):
        return ""
    scale, digits = (100, 1) if unit == "%" else (1, 3)
    digits += unit == "%" and scale * abs(mean) < 1
    return f"{scale * mean:.{digits}f}" + ("" if spread is None else f" ± {scale * spread:.{digits}f}")


def _ranks(runs: Sequence[LookedRun]) -> list[str]:
    """Spearman's rank correlation of each measure with the score: over runs, over methods, and over what was tuned."""
    groups = by_method(runs)
    tuned = [run for run in runs if run.method != "oracle"]
    lines = [
        f"| measure | {len(runs)} runs | {len(tuned)} runs without `oracle` | means of {len(groups)} methods |",
        "|---|---|---|---|",
    ]
    for heading, measure, stage, _ in _columns(runs[0]):
        means = [
            (statistics.fmean(values_of(group, measure, stage)), statistics.fmean(run.score for run in group))
            for group in groups.values()
        ]
        cells = [
            _correlation(list(zip(values_of(some, measure, stage), (run.score for run in some), strict=True)))
            for some in (runs, tuned)
        ]
        lines.append(f"| {heading.removesuffix(' %')} | {' | '.join([*cells, _correlation(means)])} |")
    return lines


def _correlation(points: Sequence[tuple[float, float]]) -> str:
    """Spearman's coefficient; blank for fewer than four points, or values all alike."""
    points = [point for point in points if not any(map(math.isnan, point))]
    if len(points) < FEWEST or any(len(set(values)) == 1 for values in zip(*points, strict=True)):
        return ""
    return f"{spearmanr(*zip(*points, strict=True)).statistic:+.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", help="name of a file of benchmarks/, without its ending")
    parser.add_argument("--runs", type=Path, help="where the grid made its runs (default: what its file says)")
    parser.add_argument("--imagenet", type=Path, help="images of ImageNet's classes, for acc_in")
    parser.add_argument("--only", action="append", default=[], help="only runs whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    grid = read_grid(RESULTS.parent / f"{given.grid}.yaml")
    if given.runs is not None:
        grid = grid.model_copy(update={"output": given.runs.absolute()})
    rows = [row for row in plan(grid).rows if row.record is not None]
    found = {(one.pair, one.method, one.seed): one for one in read_looks(given.grid)}
    for row in rows:
        key = row.cell.pair, row.cell.method, row.cell.seed
        if key not in found and (not given.only or any(text in row.cell.name for text in given.only)):
            found[key] = looked_at(row, given.imagenet)
            order = [(one.cell.pair, one.cell.method, one.cell.seed) for one in rows]
            kept = sorted(found.values(), key=lambda one: order.index((one.pair, one.method, one.seed)))
            write_json(looks_path(given.grid), [one.model_dump(mode="json") for one in kept])
            print(f"{row.cell.name}: {found[key].score:.4f}", flush=True)
    if kept := read_looks(given.grid):
        looks_path(given.grid).with_suffix(".md").write_text(render(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
