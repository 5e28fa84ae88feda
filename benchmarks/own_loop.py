"""Compare loops of one's own with ``synreal run``, at the same rates, steps and images.

    python benchmarks/own_loop.py pacs --source PACS/cartoon --target PACS/photo
    python benchmarks/own_loop.py scenes

``pacs`` trains a classifier on a folder of class folders and tests it on another: in the README's loop, in that loop
with one thing after the other left out, in the examples for Accelerate, Lightning and Transformers on a third of the
steps, and by the command. ``scenes`` does the same on the embedded scenes, in segmentation and detection. A run takes
one thread; ``--jobs`` run at a time. Records go to ``benchmarks/results/own-loop.json``, tables to ``own-loop.md``;
what is recorded is not run again.

PACS is in the public repository MachineLearning2020/Homework3-PACS (folder ``PACS``); no image of it is kept here.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import synreal
from synreal.config import RunConfig
from synreal.engine import run
from synreal.tasks.base import Task
from synreal.tasks.networks import create_detector, create_segmenter
from synreal.views import PreparedViews, classification_transform
from synreal.weights import Student, create_backbone, normalization

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
EXAMPLES = ROOT / "examples"

BACKBONE = "tf_efficientnet_lite0"
EPOCHS = 3
SHORT = 65  # steps of the examples, one epoch
SIDE = 112
METHODS = ("none", "csg")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Loop(NamedTuple):
    """A loop of one's own around a classifier; the defaults are the README's.

    Attributes:
        norm: As ``attach`` takes it.
        zero: Whether the classifier starts at zero.
        scale: Rate of the backbone over the head's.
        constant: Whether rates stay, instead of warm-up and decay.
        momentum: Of SGD.
        weight_decay: Of SGD.
        clip: Norm at which gradients are clipped, or None.
        adamw: Whether AdamW at 0.001 for all parameters takes SGD's place.
        ops: RandAugment operations on each view.
        flip: Whether views are mirrored half of the time.
        imagenet: Whether images are normalised by ImageNet's statistics instead of the network's own.
    """

    norm: str = "frozen"
    zero: bool = True
    scale: float = 0.1
    constant: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float | None = None
    adamw: bool = False
    ops: int = 1
    flip: bool = False
    imagenet: bool = False


COMMAND, README = "`synreal run`", "README's loop"
BARE = "neither"
MAIN = {
    BARE: Loop(norm="train", zero=False),
    "statistics frozen alone": Loop(zero=False),
    "classifier at zero alone": Loop(norm="train"),
    README: Loop(),
}
"""The README's loop, and what is left of it without its two first lines."""

WITHOUT = {
    "one rate for backbone and head": Loop(scale=1.0),
    "a constant rate": Loop(constant=True),
    "no momentum": Loop(momentum=0.0),
    "no weight decay": Loop(weight_decay=0.0),
    "gradients clipped at 1": Loop(clip=1.0),
    "AdamW at 0.001 for everything": Loop(adamw=True),
    "no RandAugment": Loop(ops=0),
    "views mirrored half of the time": Loop(flip=True),
    "ImageNet's mean and deviation instead of the network's": Loop(imagenet=True),
}
"""The README's loop with one thing changed in training."""

LOOPS = {"Accelerate": "with_accelerate", "Lightning": "with_lightning", "Trainer": "with_transformers"}


class Cell(NamedTuple):
    """One run: a table, a loop of it, a method and a seed."""

    table: str
    loop: str
    method: str
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pacs", "scenes"])
    parser.add_argument("--source", type=Path, help="folder of class folders to train on, e.g. PACS/cartoon")
    parser.add_argument("--target", type=Path, help="folder of class folders to test on, e.g. PACS/photo")
    parser.add_argument("--tables", nargs="+", help="only these tables")
    parser.add_argument("--loops", nargs="+", help="only these rows of a table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    arguments = parser.parse_args()
    if arguments.what == "pacs" and not (arguments.source and arguments.target):
        parser.error("pacs needs --source and --target.")
    tables = PACS if arguments.what == "pacs" else SCENES
    records = stored()
    done = {key(record) for record in records}
    cells = [
        Cell(table, loop, method, seed)
        for table, loops in tables.items()
        if arguments.tables is None or table in arguments.tables
        for seed in arguments.seeds
        for loop in loops
        if arguments.loops is None or loop in arguments.loops
        for method in METHODS
    ]
    waiting = [cell for cell in cells if cell not in done]
    print(f"{len(cells)} runs, {len(cells) - len(waiting)} of them recorded.", flush=True)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), _one_thread) as pool:
        running = {pool.submit(measured, cell, arguments.source, arguments.target): cell for cell in waiting}
        for future in as_completed(running):
            if future.exception() is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                print(", ".join(map(str, running[future])), "failed.", flush=True)
            records.append(future.result())
            write(records)
            print(", ".join(map(str, running[future])), shown(records[-1]), flush=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    sys.path.insert(0, str(EXAMPLES))
    warnings.simplefilter("ignore")


def key(record: dict[str, Any]) -> Cell:
    return Cell(*(record[name] for name in Cell._fields))


def stored() -> list[dict[str, Any]]:
    """Read the committed records."""
    path = RESULTS / "own-loop.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return found


def measured(cell: Cell, source: Path | None, target: Path | None) -> dict[str, Any]:
    """Make one run and return its record."""
    since = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()):
        scores = RUNS[cell.table](cell, source, target)
    return {
        **cell._asdict(),
        "scores": scores,
        "seconds": round(time.monotonic() - since),
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "synreal")},
    }


# Classification


def config_of(cell: Cell, source: Path | None, target: Path | None) -> RunConfig:
    """The command's configuration, in which your own loop gets its data and its measures."""
    assert source is not None
    assert target is not None
    short = cell.table == "examples"
    return RunConfig(
        task="classification",
        regularizers=cell.method,
        source=f"imagefolder(root={str(source)!r}, name='{source.name}')",
        targets=(f"imagefolder(root={str(target)!r}, name='{target.name}')",),
        image_size=SIDE,
        epochs=1 if short else EPOCHS,
        max_steps=SHORT if short else None,
        eval_every=0,
        workers=0,
        device="cpu",
        seed=cell.seed,
    )


def by_command(config: RunConfig) -> dict[str, Any]:
    """Let ``synreal run`` do it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "run")
        record = run(config.updated(output=output), show_progress=False).record
    return {"source": record.source_heldout.measures, **{name: s.measures for name, s in record.targets.items()}}


class Kept(Dataset[tuple[Tensor, int]]):
    """A data set whose decoded images are kept: they are small."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.items: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index not in self.items:
            self.items[index] = self.images[index]
        return self.items[index]


class Views(Dataset[tuple[tuple[Tensor, ...], int]]):
    """What your own loop reads: ``(x0, x1), y``."""

    def __init__(self, images: Dataset[Any], views: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self.images = images
        self.views = views

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], int]:
        image, label = self.images[index]
        return self.views(image), label


def classified(cell: Cell, source: Path | None, target: Path | None) -> dict[str, Any]:
    """One run of a classifier."""
    config = config_of(cell, source, target)
    if cell.loop == COMMAND:
        return by_command(config)
    import pictures
    import plain

    task = config.task.load(config.setup)
    loop = {**MAIN, **WITHOUT}.get(cell.loop, Loop())
    torch.manual_seed(1000 + cell.seed)
    student, origin = create_backbone(BACKBONE, num_classes=len(task.classes))
    student.to(memory_format=torch.channels_last)
    transform: nn.Module = classification_transform(SIDE, train=True, num_ops=loop.ops)
    if loop.flip:
        transform = v2.Compose([transform, v2.RandomHorizontalFlip()])
    prepared = IMAGENET if loop.imagenet else normalization(student)
    images = Views(Kept(task.train), PreparedViews(transform, 2, prepared))
    loader = pictures.loader(images, config.training.batch_size)
    steps = SHORT if cell.table == "examples" else EPOCHS * len(loader)
    if cell.loop in LOOPS:
        example = __import__(LOOPS[cell.loop])
        example.train(student, images, steps, config.training.batch_size // example.ACCUMULATE, cell.method)
    elif cell.loop == README:
        plain.train(student, pictures.endless(loader), steps, cell.method)
    else:
        trained(student, pictures.endless(loader), steps, cell.method, loop)
    return scores(task, Student(student, origin, prepared), config.testing.eval_batch_size)


def trained(student: nn.Module, batches: Iterator[Any], steps: int, method: str, loop: Loop) -> None:
    """The loop of ``examples/plain.py`` with what varies."""
    if loop.zero:
        synreal.zero_head(student)
    model = synreal.attach(student, [method], norm=loop.norm)  # type: ignore[arg-type]
    groups = synreal.parameter_groups(model, lr=0.02, backbone_lr_scale=loop.scale)
    opt: torch.optim.Optimizer
    if loop.adamw:
        opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    else:
        opt = torch.optim.SGD(groups, momentum=loop.momentum, weight_decay=loop.weight_decay)
    schedule = None if loop.constant else synreal.warmup_poly_schedule(opt, steps)
    model.bind(opt)
    for (x0, x1), y in islice(batches, steps):
        out = model(x0, x1)
        (F.cross_entropy(out["output"], y) + out["penalty"]).backward()
        if loop.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), loop.clip)
        opt.step()
        if schedule is not None:
            schedule.step()
        opt.zero_grad()
    model.detach()


def scores(task: Task[Any], student: Student, size: int) -> dict[str, Any]:
    """Test a student on what the command tests on."""
    student.network.eval()
    found = {}
    for name in task.tests:
        collection = task.collection(name)
        batches = DataLoader(task.test_data(name), size, collate_fn=task.collate_test)
        with torch.no_grad():
            for images, targets in batches:
                collection.update(task.predict(student, images, torch.device("cpu")), targets)
        found[name] = collection.compute().measures
    return found


# Segmentation and detection


def on_scenes(cell: Cell, *_: Any) -> dict[str, Any]:
    """One run of a segmenter or detector on the embedded scenes."""
    config = RunConfig(task=cell.table, regularizers=cell.method, workers=0, device="cpu", seed=cell.seed)
    if cell.loop == COMMAND:
        return by_command(config)
    import own_detector
    import own_segmenter
    import pictures

    task = config.task.load(config.setup)
    steps = min(
        config.training.max_steps or sys.maxsize,
        config.training.epochs * (len(task.train) // config.training.batch_size),
    )
    torch.manual_seed(1000 + cell.seed)
    classes = len(task.classes)
    if cell.table == "segmentation":
        student, origin = create_segmenter(config.task.architecture, config.student.backbone, num_classes=classes)
        scenes: Dataset[Any] = own_segmenter.Scenes(student)
        example, collate = own_segmenter, None
        regularizer = cell.method if cell.method == "none" else f"{cell.method}(patches=8, queue_size=4096)"
    else:
        student, origin = create_detector(
            config.task.architecture, config.student.backbone, num_classes=classes, image_size=config.data.image_size
        )
        scenes, example, collate = own_detector.Scenes(), own_detector, own_detector.collate
        regularizer = cell.method if cell.method == "none" else f"{cell.method}(patches=4, queue_size=4096)"
    student.to(memory_format=torch.channels_last)
    if cell.loop == ZEROED:  # as zero_head would do if it did not refuse
        for parameter in student.get_submodule(LAST[cell.table]).parameters():
            nn.init.zeros_(parameter)
    loader = DataLoader(scenes, config.training.batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    example.train(student, pictures.endless(loader), steps, regularizer)
    return scores(task, Student(student, origin, normalization(student)), config.testing.eval_batch_size)


ZEROED = "the same, head at zero"
LAST = {"segmentation": "segmentation_head", "detection": "roi_heads.box_predictor"}
OWN = "own loop"

PACS = {"main": [*MAIN, COMMAND], "examples": [*LOOPS, COMMAND], "without": list(WITHOUT)}
SCENES = {"segmentation": [OWN, ZEROED, COMMAND], "detection": [OWN, ZEROED, COMMAND]}
RUNS: dict[str, Callable[..., dict[str, Any]]] = {
    **dict.fromkeys(PACS, classified),
    **dict.fromkeys(SCENES, on_scenes),
}


# Records and tables


def shown(record: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {100 * value:.1f}" for name, m in record["scores"].items() if (value := next(iter(m.values())))
    )


def write(records: Sequence[dict[str, Any]]) -> None:
    """Write records in the order of the tables, and the tables."""
    order = [(table, loop) for tables in (PACS, SCENES) for table, loops in tables.items() for loop in loops]
    body = sorted(records, key=lambda r: (order.index((r["table"], r["loop"])), METHODS.index(r["method"]), r["seed"]))
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "own-loop.json").write_text(json.dumps(body, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    parts = [part for name in (*PACS, *SCENES) if (text := table(body, name)) for part in (f"## {name}", text)]
    (RESULTS / "own-loop.md").write_text("\n\n".join(["# own-loop", *parts]) + "\n", encoding="utf-8")


def table(records: Sequence[dict[str, Any]], name: str) -> str:
    """Write a table: the headline of each set of images in percent, mean and deviation over seeds; "" without records.

    In "without" what stands in brackets is the mean difference to the README's loop at the same seeds.
    """
    loops = [loop for tables in (PACS, SCENES) for loop in tables.get(name, [])]
    of = {key(record): record for record in records}
    sets = list(dict.fromkeys(one for cell, record in of.items() if cell.table == name for one in record["scores"]))
    lines = []
    for loop in loops:
        cells = []
        for one in sets[::-1]:
            for method in METHODS:
                found = [cell for cell in of if cell[:3] == (name, loop, method)]
                values = [_headline(of[cell], one) for cell in found]
                text = f"{statistics.mean(values):.1f}" if values else ""
                if len(values) > 1:
                    text += f" ± {statistics.stdev(values):.1f}"
                if name == "without" and values:
                    usual = [_headline(of[Cell("main", README, method, cell.seed)], one) for cell in found]
                    text += f" ({statistics.mean(values) - statistics.mean(usual):+.1f})"
                cells.append(text)
        seeds = {cell.seed for cell in of if cell[:2] == (name, loop)}
        if seeds:
            lines.append(f"| {loop} | {len(seeds)} | {' | '.join(cells)} |")
    if not lines:
        return ""
    heading = [f"{one}, {method}" for one in sets[::-1] for method in METHODS]
    return "\n".join([f"| loop | seeds | {' | '.join(heading)} |", "|---|---|" + "---|" * len(heading), *lines])


def _headline(record: dict[str, Any], name: str) -> float:
    return 100 * float(next(iter(record["scores"][name].values())))


if __name__ == "__main__":
    main()
