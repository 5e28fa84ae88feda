"""Measure time and memory of hyperspherical energy and linear CKA over the features of a large test set.

    python benchmarks/insight.py

Each is computed in a process of its own, of random features: over all of them, and over a few beside the plain way,
which holds matrices of images x images. The peak is that of the whole process, the features and torch included. Writes
``benchmarks/results/insight.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synreal.functional import cka_numbers, cka_of_sums, cka_sums, hyperspherical_energy, linear_cka, pilot_mean

RESULTS = Path(__file__).parent / "results"
BAR_MIB = 2048
BATCH = 250
Way = Callable[[Sequence[Tensor]], list[float]]


def plain_energy(sides: Sequence[Tensor]) -> list[float]:
    """The equation as it is written, s = 0, 1 and 2: all distances in one matrix."""
    rows = torch.nn.functional.normalize(sides[0].double())
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    distances = distances[~torch.eye(len(rows), dtype=torch.bool)]
    return [float(-distances.log().mean()), float((1 / distances).mean()), float((1 / distances.square()).mean())]


def plain_cka(sides: Sequence[Tensor]) -> list[float]:
    """The equation as it is written: products of images, centred on both sides."""
    n = len(sides[0])
    center = torch.eye(n, dtype=torch.float64) - 1 / n
    k, l = (center @ (side.double() @ side.double().T) @ center for side in sides)  # noqa: E741
    return [float((k * l).sum() / (k.norm() * l.norm()))]


def streamed_cka(sides: Sequence[Tensor]) -> list[float]:
    """What a run does: sums over batches."""
    x, y = sides
    pilots = pilot_mean(x[:BATCH]), pilot_mean(y[:BATCH])
    total = torch.zeros(cka_numbers(x.shape[1], y.shape[1]), dtype=torch.float64)
    for some, others in zip(x.split(BATCH), y.split(BATCH), strict=True):
        total += cka_sums(some, others, *pilots)
    return [float(cka_of_sums(total, x.shape[1], y.shape[1]))]


WAYS: dict[str, dict[str, Way]] = {
    "hyperspherical energy, s = 0, 1, 2": {
        "synreal": lambda sides: hyperspherical_energy(sides[0]).values.tolist(),
        "plain": plain_energy,
    },
    "linear CKA": {
        "synreal": lambda sides: [float(linear_cka(*sides))],
        "synreal, in batches": streamed_cka,
        "plain": plain_cka,
    },
}


def features(measure: str, rows: int, dim: int) -> list[Tensor]:
    """Return what a measure is taken of, float32, nothing below 0, as pooled features are."""
    generator = torch.Generator().manual_seed(0)
    first = torch.empty(rows, dim).normal_(generator=generator).relu_()
    if measure != "linear CKA":
        return [first]
    return [first, torch.empty(rows, dim).normal_(generator=generator).add_(first).relu_()]


def peak_mib() -> float:
    """Return the most memory that this process has held so far, as Linux counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(measure: str, way: str, rows: int, dim: int) -> dict[str, Any]:
    """Compute a measure once; called in a fresh process."""
    WAYS[measure][way](features(measure, 64, 16))  # what a first call loads is none of the measure's
    sides = features(measure, rows, dim)
    before = peak_mib()
    start = time.perf_counter()
    values = WAYS[measure][way](sides)
    return {
        "measure": measure,
        "way": way,
        "rows": rows,
        "seconds": time.perf_counter() - start,
        "peak_mib": peak_mib(),
        "grown_mib": peak_mib() - before,
        "values": values,
    }


def in_a_process(measure: str, way: str, rows: int, dim: int, threads: int) -> dict[str, Any]:
    """Run ``measured`` in a fresh process."""
    command = [sys.executable, __file__, "--one", measure, way]
    sizes = ["--rows", str(rows), "--dim", str(dim), "--threads", str(threads)]
    done = subprocess.run([*command, *sizes], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def render(result: dict[str, Any]) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "# insight",
        "",
        f"| measure | images | way | seconds | peak of the process, MiB | of which beside the features, MiB "
        f"| {BAR_MIB / 1024:g} GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["measured"]:
        met = "met" if row["peak_mib"] < BAR_MIB else "not met"
        judged = met if row["rows"] == result["rows"] else ""
        lines.append(
            f"| {row['measure']} | {row['rows']:,} | {row['way']} | {row['seconds']:.1f} | {row['peak_mib']:,.0f} "
            f"| {row['grown_mib']:,.0f} | {judged} |"
        )
    lines += [
        "",
        "Random features of length {dim:,}, float32, {threads} thread(s), torch {torch}; {processors} processors, on "
        "which other work was running. The ways differ by at most {difference:.0e} of a value.".format(
            difference=difference(result["measured"]), **result
        ),
    ]
    return "\n".join(lines) + "\n"


def difference(rows: Sequence[dict[str, Any]]) -> float:
    """Return the greatest relative difference between two ways of one measure over as many images, rounded up."""
    greatest = 0.0
    for row in rows:
        for other in rows:
            if (row["measure"], row["rows"]) == (other["measure"], other["rows"]):
                pairs = zip(row["values"], other["values"], strict=True)
                greatest = max([greatest, *(abs(a - b) / abs(b) for a, b in pairs)])
    return 10.0 ** math.ceil(math.log10(greatest)) if greatest else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--few", type=int, default=4_000, help="how many rows the plain way gets")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("MEASURE", "WAY"), help="measure one way alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.one:
        print(json.dumps(measured(*arguments.one, arguments.rows, arguments.dim)))
        return
    found = [
        in_a_process(measure, way, rows, arguments.dim, arguments.threads)
        for measure, ways in WAYS.items()
        for rows in (arguments.rows, arguments.few)
        for way in ways
        if way != "plain" or rows == arguments.few
    ]
    result = {
        **{key: getattr(arguments, key) for key in ("rows", "few", "dim", "threads")},
        "torch": torch.__version__,
        "processors": os.cpu_count(),
        "measured": found,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "insight.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "insight.md").write_text(render(result), encoding="utf-8")
    print(render(result))


if __name__ == "__main__":
    main()
