"""Draw the pictures of docs/figures.md.

    python -m benchmarks.figures                              # charts of the committed records
    python -m benchmarks.figures runs/cartoon/pacs-cartoon    # also of the histories of these runs, a folder a method
    python -m benchmarks.figures --data --networks runs/oracle runs/none runs/csg --tested runs/csg runs/seg runs/det

``--networks`` draws what ``synreal inspect RUN --against OTHER --figure ...`` draws, of all of these runs beside each
other; ``--tested`` takes what the test of each run drew into its folder; ``--data`` draws the embedded data. Charts are
drawn where none of these is given, or a folder of runs is.

All images are of data that may be shown here: rendered numerals, and UCI's handwriting, which scikit-learn carries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks.tables import GRIDS, RESULTS, ROOT
from synreal import data
from synreal.config import make_config
from synreal.engine import look_closely, run_folder
from synreal.engine.inspecting import told_apart
from synreal.figures import FIGURES, Looked, Study, chart_of, figures_of, sheet_of, study_of
from synreal.records import find_histories
from synreal.records.leaderboard import build, find
from synreal.tasks import TASKS

PICTURES = ROOT / "docs" / "images"
SHOWN = ("none", "oracle", "kl", "csg", "gcisg")  # methods whose curves are drawn
REAL = "uci"  # whose images may be shown; MNIST's, and the photographs behind its scenes, come under terms of their own
FEW = 4  # images of each network, of the eight that a figure has: a page of documentation is read, not scrolled
SMALL = 100_000  # bytes of a picture, beyond which it gets few colours
COLOURS = 256


def draw_charts(runs: Path | None = None) -> list[Path]:
    """Draw what there are numbers for, and return the files."""
    board = build(find(path for name in GRIDS if (path := RESULTS / f"{name}.json").is_file()))
    drawn = [chart_of("gain", "board").draw(board, _place("gain"))]
    if any(section.curves for section in board.sections):
        drawn.append(chart_of("weights", "board").draw(board, _place("weights")))
    if runs is not None:
        histories = find_histories(runs / name for name in SHOWN)
        drawn.append(chart_of("curves", "histories").draw(histories, _place("curves")))
    return drawn


def draw_networks(runs: Sequence[Path]) -> list[Path]:
    """Draw every study of the networks of runs, beside each other, on real images."""
    found = [look_closely(run, (), targets=(REAL,), draws=True, keep=False) for run in runs]
    looks = [_fewer(one.looked[REAL]) for one in told_apart(found, runs)]
    label = make_config(run_folder.read(runs[0], "draw").config).task.label
    names = [name for name, kind in FIGURES.classes().items() if issubclass(kind, Study)]
    return [study_of(name, label).draw(looks, _place(name)) for name in names]


def _fewer(look: Looked) -> Looked:
    names = ("images", "targets", "predictions", "heat", "attention")
    return replace(look, **{name: getattr(look, name)[:FEW] for name in names})


def take_tested(runs: Sequence[Path]) -> list[Path]:
    """Take what the tests of runs drew: of real images where these may be shown, else of held-out synthetic ones."""
    taken: dict[str, Path] = {}
    for run in runs:
        task = make_config(run_folder.read(run, "draw").config).task
        for figure in figures_of(task.figures, task.label):
            files = (figure.path(run / "figures", name) for name in (REAL, "source"))
            file = next(file for file in files if file.is_file())
            taken.setdefault(figure.name, file)  # a figure of two tasks is that of the first
    for name, file in taken.items():
        _place(name).parent.mkdir(parents=True, exist_ok=True)
        _place(name).write_bytes(file.read_bytes())
    return [_place(name) for name in taken]


def draw_data() -> list[Path]:
    """Draw the embedded data as each task sees them, real images where these may be shown."""
    drawn = []
    for task in TASKS.classes().values():
        if task.sheet is None:
            continue
        rows = {"digits (source, synthetic)": data.load("digits", "train", task.label)}
        if task.label in data.find(REAL).label_kinds:
            rows[f"{REAL} (target, real)"] = data.load(REAL, "test", task.label)
        drawn.append(sheet_of(task.sheet, task.label).draw(rows, _place(task.sheet)))
    return drawn


def _place(name: str) -> Path:
    return PICTURES / f"{name}.png"


def shrink(path: Path) -> None:
    """Write a PNG again as small as it gets; one that is large all the same with few colours."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.save(path, "PNG", optimize=True)
    if path.stat().st_size > SMALL:
        # Colours that cover the whole range: most pixels are greys, but the bar of a scale is not.
        few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        few.save(path, "PNG", optimize=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/figures.md.")
    parser.add_argument("runs", type=Path, nargs="?", help="a folder that holds a folder of runs for each method")
    parser.add_argument("--networks", type=Path, nargs="+", default=[], metavar="RUN", help="look into these runs")
    parser.add_argument(
        "--tested", type=Path, nargs="+", default=[], metavar="RUN", help="take the pictures of their tests"
    )
    parser.add_argument("--data", action="store_true", help="draw the embedded data")
    given = parser.parse_args(arguments)
    drawn = []
    if given.runs or not (given.networks or given.tested or given.data):
        drawn += draw_charts(given.runs)
    if given.networks:
        drawn += draw_networks(given.networks)
    if given.tested:
        drawn += take_tested(given.tested)
    if given.data:
        drawn += draw_data()
    for path in drawn:
        shrink(path)
        print(path.relative_to(PICTURES.parent))


if __name__ == "__main__":
    main()
