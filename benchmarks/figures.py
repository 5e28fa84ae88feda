"""Draw the pictures of docs/figures.md that need no network.

python -m benchmarks.figures                              # of the committed records
python -m benchmarks.figures runs/cartoon/pacs-cartoon    # also of the histories of these runs, a folder a method
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import GRIDS, RESULTS, ROOT
from synreal.figures import chart_of
from synreal.records import find_histories
from synreal.records.leaderboard import build, find

PICTURES = ROOT / "docs" / "images"
SHOWN = ("none", "oracle", "kl", "csg", "gcisg")  # methods whose curves are drawn


def draw(runs: Path | None = None) -> list[Path]:
    """Draw what there are numbers for, and return the files."""
    board = build(find(path for name in GRIDS if (path := RESULTS / f"{name}.json").is_file()))
    drawn = [chart_of("gain", "board").draw(board, PICTURES / "gain.png")]
    if any(section.curves for section in board.sections):
        drawn.append(chart_of("weights", "board").draw(board, PICTURES / "weights.png"))
    if runs is not None:
        histories = find_histories(runs / name for name in SHOWN)
        drawn.append(chart_of("curves", "histories").draw(histories, PICTURES / "curves.png"))
    return drawn


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/figures.md.")
    parser.add_argument("runs", type=Path, nargs="?", help="a folder that holds a folder of runs for each method")
    for path in draw(parser.parse_args(arguments).runs):
        print(path.relative_to(PICTURES.parent))


if __name__ == "__main__":
    main()
