"""Compare the queue losses with the plain formula that builds the N x K matrix, in one run.

    python benchmarks/queue_loss.py

Time is the ratio of forward and backward of both sides, measured in turns; memory is the growth of the peak in a
process of its own for each side. "With heads" is what a term of two stages does beside the backbone in a step: heads,
loss, backward, and the push to the queues. Writes ``benchmarks/results/queue_loss.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synreal.core.heads import ProjectionHead
from synreal.core.queues import FeatureQueue
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


class TwoStages(nn.Module):
    """What a term does beside the backbone on the last two stages of a ResNet-50."""

    def __init__(self, loss: Loss, queue: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        keys, dim = queue.shape
        self.loss = loss
        self.heads = nn.ModuleList(ProjectionHead(channels, dim) for channels in (1024, 2048))
        self.target_heads = copy.deepcopy(self.heads)
        self.queues = nn.ModuleList(FeatureQueue(keys, dim) for _ in self.heads)
        for stage in self.queues:
            stage.push(queue)

    def step(self, rows: int) -> None:
        """Run forward, backward and the push."""
        self.zero_grad()
        total, targets = torch.zeros(()), []
        for head, target_head, queue in zip(self.heads, self.target_heads, self.queues, strict=True):
            width = head.layers[0].in_features
            first, second = torch.randn(2, rows, width)
            with torch.no_grad():
                targets.append(target_head(second))
            total = total + self.loss(head(first.requires_grad_()), targets[-1], queue.keys())
        total.backward()
        for queue, target in zip(self.queues, targets, strict=True):
            queue.push(target)


def ratios(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Measure both sides in turns: the time of the plain one over that of the other."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    found = sorted(plain / ours for plain, ours in zip(seconds["plain"], seconds["synreal"], strict=True))
    return {"median": statistics.median(found), "least": found[0], "greatest": found[-1]}


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


def measure(name: str, rows: int, keys: int, dim: int, repeats: int) -> dict[str, Any]:
    """Measure one loss."""
    values = tensors(rows, keys, dim)
    sides = SIDES[name]
    alone = ratios({side: functools.partial(step, loss, values) for side, loss in sides.items()}, repeats)
    exact = step(sides["plain"], tensors(rows, keys, dim, torch.float64))
    errors = {side: float((step(loss, values) - exact).abs().max()) for side, loss in sides.items()}
    del exact
    stages = {side: TwoStages(loss, values[2]) for side, loss in sides.items()}
    whole = ratios({side: functools.partial(stage.step, rows) for side, stage in stages.items()}, repeats)
    return {
        "loss": name,
        **{f"speed_{key}": value for key, value in alone.items()},
        **{f"speed_with_heads_{key}": value for key, value in whole.items()},
        "plain_mib": memory(name, "plain", rows, keys, dim),
        "synreal_mib": memory(name, "synreal", rows, keys, dim),
        "plain_gradient_error": errors["plain"],
        "synreal_gradient_error": errors["synreal"],
    }


def render(result: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "# queue_loss",
        "",
        "| loss | speed, plain over synreal | least to greatest | the same with heads, two stages | plain, MiB "
        f"| synreal, MiB | plain, gradient error | synreal, gradient error | {BAR_RATIO:g} x and {BAR_MIB:g} MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        met = row["speed_median"] >= BAR_RATIO and row["synreal_mib"] <= BAR_MIB
        lines.append(
            f"| `{row['loss']}` | {row['speed_median']:.2f} | {row['speed_least']:.2f} to {row['speed_greatest']:.2f} "
            f"| {row['speed_with_heads_median']:.2f} | {row['plain_mib']:.1f} | {row['synreal_mib']:.1f} "
            f"| {row['plain_gradient_error']:.1e} | {row['synreal_gradient_error']:.1e} "
            f"| {'met' if met else 'not met'} |"
        )
    lines += [
        "",
        "Forward and backward of {rows} rows against {keys} keys of length {dim}, float32, {threads} threads, torch "
        "{torch}. Speed is the ratio of times taken in turns, median of {repeats}; with heads, a step of two stages "
        "(1024 and 2048 channels) with heads, targets and the push to the queues; memory is the growth of the peak in "
        "a fresh process; the error is the greatest of the gradient against float64.".format(**result),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--keys", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--losses", nargs="+", choices=SIDES, default=list(SIDES), help="all when left out")
    parser.add_argument("--memory-of", nargs=2, metavar=("LOSS", "SIDE"), help="measure one side's memory alone")
    arguments = parser.parse_args()
    sizes = (arguments.rows, arguments.keys, arguments.dim)
    if arguments.memory_of:
        print(grown(*arguments.memory_of, *sizes))
        return
    found = [measure(name, *sizes, arguments.repeats) for name in arguments.losses]
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
