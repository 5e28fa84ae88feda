"""Compare the queue losses with the plain formula that builds the N x K matrix, in one run.

    python benchmarks/queue_loss.py

Time is the ratio of forward and backward of both sides, measured in turns; memory is the growth of the peak in a
process of its own for each side. Writes ``benchmarks/results/queue_loss.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from synreal.functional import causal_invariance, info_nce

RESULTS = Path(__file__).parent / "results"
BAR_RATIO, BAR_MIB = 3.0, 16.0
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain_info_nce(anchor: Tensor, positive: Tensor, queue: Tensor) -> Tensor:
    """The formula as it is usually written: all scores in one matrix, the positive in front."""
    scores = torch.cat([(anchor * positive).sum(1, keepdim=True), torch.einsum("nd,kd->nk", anchor, queue)], dim=1)
    return F.cross_entropy(scores / 0.07, torch.zeros(len(anchor), dtype=torch.int64, device=anchor.device))


def plain_causal_invariance(online: Tensor, target: Tensor, queue: Tensor) -> Tensor:
    """The formula as it is usually written: two matrices of scores and their softmax."""
    expected = F.softmax(torch.einsum("nd,kd->nk", target, queue) / 0.04, dim=1)
    return -(expected * F.log_softmax(torch.einsum("nd,kd->nk", online, queue) / 0.12, dim=1)).sum(1).mean()


SIDES: dict[str, dict[str, Loss]] = {
    "info_nce": {"plain": plain_info_nce, "synreal": info_nce},
    "causal_invariance": {"plain": plain_causal_invariance, "synreal": causal_invariance},
}


def tensors(rows: int, keys: int, dim: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return anchors that take gradient, positives near them, and a queue, all of length 1."""
    generator = torch.Generator().manual_seed(0)
    anchor, noise = torch.randn(2, rows, dim, generator=generator, dtype=torch.float64)
    queue = torch.randn(keys, dim, generator=generator, dtype=torch.float64)
    found = [F.normalize(value, dim=1).to(dtype) for value in (anchor, anchor + noise, queue)]
    found[0].requires_grad_()
    return found


def step(loss: Loss, values: list[Tensor]) -> Tensor:
    """Run forward and backward and return the gradient."""
    values[0].grad = None
    loss(*values).backward()
    assert values[0].grad is not None
    return values[0].grad


def times(sides: dict[str, Loss], values: list[Tensor], repeats: int) -> dict[str, list[float]]:
    """Measure both sides in turns, in seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, loss in sides.items():
            start = time.perf_counter()
            step(loss, values)
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def held_mib(what: str) -> float:
    """Return the memory that this process holds (``VmRSS``) or has held at most (``VmHWM``); Linux alone tells."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def grown(name: str, side: str, rows: int, keys: int, dim: int) -> float:
    """Return by how much one step lifts the peak above what is held before it, MiB; called in a fresh process."""
    values = tensors(rows, keys, dim)
    for _ in range(2):  # what a first call loads is none of the loss's
        step(SIDES[name][side], tensors(rows, 1, dim))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of loading torch
    before = held_mib("VmRSS")
    step(SIDES[name][side], values)
    return max(0.0, held_mib("VmHWM") - before)


def memory(name: str, side: str, rows: int, keys: int, dim: int) -> float:
    """Run ``grown`` in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name, side]
    sizes = ["--rows", str(rows), "--keys", str(keys), "--dim", str(dim)]
    return float(subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout)


def measure(name: str, rows: int, keys: int, dim: int, repeats: int) -> dict[str, object]:
    """Measure one loss."""
    values = tensors(rows, keys, dim)
    seconds = times(SIDES[name], values, repeats)
    ratios = sorted(plain / ours for plain, ours in zip(seconds["plain"], seconds["synreal"], strict=True))
    exact = step(SIDES[name]["plain"], tensors(rows, keys, dim, torch.float64))
    errors = {side: float((step(loss, values) - exact).abs().max()) for side, loss in SIDES[name].items()}
    return {
        "loss": name,
        "speed_median": statistics.median(ratios),
        "speed_least": ratios[0],
        "speed_greatest": ratios[-1],
        "plain_mib": memory(name, "plain", rows, keys, dim),
        "synreal_mib": memory(name, "synreal", rows, keys, dim),
        "plain_gradient_error": errors["plain"],
        "synreal_gradient_error": errors["synreal"],
    }


def render(result: dict[str, object], found: list[dict[str, object]]) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "# queue_loss",
        "",
        "| loss | speed, plain over synreal | least to greatest | plain, MiB | synreal, MiB | plain, gradient error "
        "| synreal, gradient error | 3 x and 16 MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        met = row["speed_median"] >= BAR_RATIO and row["synreal_mib"] <= BAR_MIB  # type: ignore[operator]
        lines.append(
            f"| `{row['loss']}` | {row['speed_median']:.2f} | {row['speed_least']:.2f} to {row['speed_greatest']:.2f} "
            f"| {row['plain_mib']:.1f} | {row['synreal_mib']:.1f} | {row['plain_gradient_error']:.1e} "
            f"| {row['synreal_gradient_error']:.1e} | {'met' if met else 'not met'} |"
        )
    lines += [
        "",
        "Forward and backward of {rows} rows against {keys} keys of length {dim}, float32, {threads} threads, torch "
        "{torch}. Speed is the ratio of times taken in turns, median of {repeats}; memory is the growth of the peak in "
        "a fresh process; the error is the greatest of the gradient against float64.".format(**result),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--keys", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--memory-of", nargs=2, metavar=("LOSS", "SIDE"), help="measure one side's memory alone")
    arguments = parser.parse_args()
    sizes = (arguments.rows, arguments.keys, arguments.dim)
    if arguments.memory_of:
        print(grown(*arguments.memory_of, *sizes))
        return
    found = [measure(name, *sizes, arguments.repeats) for name in SIDES]
    result = {
        **{key: getattr(arguments, key) for key in ("rows", "keys", "dim", "repeats")},
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "losses": found}, indent=1)
    (RESULTS / "queue_loss.json").write_text(text + "\n", encoding="utf-8")
    (RESULTS / "queue_loss.md").write_text(render(result, found), encoding="utf-8")
    print(render(result, found))


if __name__ == "__main__":
    main()
