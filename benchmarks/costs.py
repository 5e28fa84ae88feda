"""What the runs of the papers would cost: operations, counted and not measured, into ``results/costs.*``.

python benchmarks/costs.py

One forward pass of each network is counted by torch's own counter. A pass with gradient counts three times, for the
backward pass takes twice a forward's. Optimizers, augmentation, queues and projection heads are left out.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from synreal.bench import Grid, cells_of, read_grid
from synreal.config import RunConfig
from synreal.core.passes import STUDENT
from synreal.regularizers.baselines import Oracle

HERE = Path(__file__).parent
RESULTS = HERE / "results"
RATE: Final = 10.0
"""TFLOP a second that hours are written for: an assumption, to be scaled to what a GPU does."""
TRAINED: Final = {"visda17": 152_397 - 500, "gta5": 12_403, "sim10k": 10_000 - 500}
TESTED: Final = {"visda17": 55_388, "gta5": 500, "sim10k": 500}
SHAPES: Final = {"classification": (224, 224), "segmentation": (512, 512), "detection": (600, 1092)}
"""Height and width of a training image in the network; a frame of Sim10k has 1052 x 1914 pixels before."""
AREAS: Final = {"classification": 1.0, "segmentation": 1024 * 2048 / 512**2, "detection": 600 * 1200 / (600 * 1092)}
"""Pixels of a tested image over those of a training image."""
BACKWARD: Final = 3  # a pass with gradient, in forward passes
LOOKING: Final = 3  # passes of a look at the end: the network, the pretrained one, and changed images
BOXES: Final = 512
"""Proposals of an image that a detector's head is trained on."""
BODIES: Final = {"classification": "", "segmentation": "encoder", "detection": "backbone.body"}


def grids() -> list[Path]:
    """Return the files of the papers' runs."""
    return sorted(path for path in (HERE / "papers").glob("*.yaml") if path.stem != "numbers")


def counted(config: RunConfig) -> dict[str, float]:
    """Count one forward pass of one training image through a run's network, whole and backbone alone, in GFLOP."""
    classes = config.data.source.class_names(config.task.label)
    setup = config.updated(weights="none").setup
    task = config.task.runtime()(config.task, setup, None, {}, classes)
    network: Any = task.build_student().network.eval().to("meta")  # shapes are enough
    with torch.device("meta"):
        image = torch.empty(1, 3, *SHAPES[config.task.name])
        with torch.no_grad(), FlopCounterMode(display=False) as all_of_it:
            if config.task.name == "detection":  # where boxes are depends on values; this many are trained on
                maps = list(network.backbone(image).values())
                network.rpn.head(maps)
                network.roi_heads.box_predictor(network.roi_heads.box_head(torch.empty(BOXES, maps[0].shape[1], 7, 7)))
            else:
                network(image)
        with torch.no_grad(), FlopCounterMode(display=False) as backbone:
            body = BODIES[config.task.name]
            network.get_submodule(body)(image)
    return {"whole": all_of_it.get_total_flops() / 1e9, "backbone": backbone.get_total_flops() / 1e9}


def network_of(config: RunConfig) -> str:
    """Name what is counted once."""
    return f"{config.task.name}, {config.student.backbone}"


def steps_of(config: RunConfig) -> int:
    """Return the steps of a run; a pass over the source leaves out its ragged end."""
    steps = config.training.epochs * (TRAINED[config.data.source.kind] // config.training.batch_size)
    return min(steps, config.training.max_steps or steps)


def passes_of(config: RunConfig) -> tuple[int, int]:
    """Return the passes that the regularizers add to the task's own: with gradient, and without."""
    extra = frozenset().union(*(spec.passes for spec in config.terms)) - {STUDENT}
    return sum(one.grad for one in extra), sum(not one.grad for one in extra)


def flops_of(config: RunConfig, gflop: dict[str, float]) -> float:
    """Return the floating-point operations of a run, in GFLOP."""
    whole, backbone = gflop["whole"], gflop["backbone"]
    grad, other = passes_of(config)
    image = BACKWARD * whole + (BACKWARD * grad + other) * backbone
    if any(isinstance(spec, Oracle) for spec in config.terms):
        image = backbone + BACKWARD * (whole - backbone)
    every = config.testing.eval_every or config.training.epochs
    tests = math.ceil(config.training.epochs / every) * (2 if getattr(config.task, "test_flip", False) else 1)
    looks = LOOKING if config.testing.look else 0
    tested = TESTED[config.data.source.kind] * AREAS[config.task.name] * whole
    return steps_of(config) * config.training.batch_size * image + (tests + looks) * tested


def cost_of(grid: Grid, name: str, networks: dict[str, dict[str, float]], loading: dict[str, float]) -> dict[str, Any]:
    """Return what the runs of a grid cost.

    Args:
        grid: The grid.
        name: What it is called.
        networks: What ``counted`` gives, by ``network_of``.
        loading: Images a second that were read and augmented, by task.
    """
    configs = [cell.config for cell in cells_of(grid)]
    hours = [flops_of(config, networks[network_of(config)]) / RATE / 1e3 / 3600 for config in configs]
    first = configs[0]
    return {
        "grid": name,
        "runs": len(configs),
        "steps": steps_of(first),
        "batch": first.training.batch_size,
        "hours": sum(hours),
        "longest": max(hours),
        "loading": steps_of(first) * first.training.batch_size / loading[first.task.name] / 3600,
    }


def loading_rates() -> dict[str, float]:
    """Return images a second that ``benchmarks/data.py`` measured, by task."""
    measured = json.loads((RESULTS / "data.json").read_text("utf-8"))
    return {case["task"]: case["synreal_images_per_second"] for case in measured["cases"]}


def render(result: dict[str, Any]) -> str:
    """Write the costs as Markdown."""
    lines = [
        "# costs",
        "",
        f"| file | runs | steps x batch | all runs, hours at {RATE:g} TFLOP/s | the longest | loading, hours a run |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["grids"]:
        lines.append(
            f"| `{row['grid']}` | {row['runs']} | {row['steps']:,} x {row['batch']} | {row['hours']:.0f} "
            f"| {row['longest']:.0f} | {row['loading']:.1f} |"
        )
    each = "; ".join(f"{name}: {one['whole']:.1f}" for name, one in sorted(result["networks"].items()))
    lines += ["", f"GFLOP of one forward pass of a training image, {each}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    networks: dict[str, dict[str, float]] = {}
    for path in grids():
        for cell in cells_of(read_grid(path)):
            name = network_of(cell.config)
            if name not in networks:
                networks[name] = counted(cell.config)
    rows = [cost_of(read_grid(path), f"{path.parent.name}/{path.name}", networks, loading_rates()) for path in grids()]
    result = {"rate": RATE, "networks": networks, "grids": rows}
    (RESULTS / "costs.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "costs.md").write_text(render(result), encoding="utf-8")
    print(render(result))


if __name__ == "__main__":
    main()
