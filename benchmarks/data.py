"""Compare the default training pipeline with a plain torchvision loader at equal work, in one run.

    python benchmarks/data.py

Both sides decode the same files, draw two views of each image with the same operations, and hand over batches from
two worker processes; what is measured is images per second, from asking for an epoch to its last batch, in turns. The
files are written first, in sizes and formats of the benchmarks: 384 x 216 PNG as VisDA-17, 1914 x 1052 PNG with
palette masks as GTA5, 1914 x 1052 JPEG with boxes as Sim10k. "With copies" is the pipeline again with ``cache_size``,
which reads smaller copies: less work, so that it is no part of the comparison. Writes ``benchmarks/results/data.json``
and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from synreal.config import RunConfig
from synreal.data.files.copies import Resized
from synreal.data.files.file_sets import BoxFiles, LabelFiles, MaskFiles
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.labels.boxes import Boxes

RESULTS = Path(__file__).parent / "results"
BAR = 1.0
WORKERS = 2
CLASSES = tuple("abcdefghijklmnopqrs")
# As CSG trains them (Chen et al., ICLR 2021).
SCALE = (0.75, 1.25)
SETTINGS: dict[str, dict[str, Any]] = {
    "classification": {"image_size": 224, "views": ("randaugment(ops=1, magnitude=6)", "crop")},
    "segmentation": {"image_size": 512, "views": (f"geometry(flip=0.5, scale={SCALE})", "jitter")},
    "detection": {"image_size": 600, "views": (f"geometry(flip=0.5, scale={SCALE})", "jitter")},
}


class Case(NamedTuple):
    """What is measured.

    Attributes:
        name: Of the benchmark whose files it imitates.
        task: Long name of the task.
        size: Height and width of its images.
        suffix: Format of its images.
        copies: Short side of the smaller copies; None where images are small already.
        files: How many are written.
        images: How many are read in each round.
        batch: How many are in a batch.
    """

    name: str
    task: str
    size: tuple[int, int]
    suffix: str
    copies: int | None
    files: int
    images: int
    batch: int


CASES = {
    "classification": Case("VisDA-17", "classification", (216, 384), "png", None, 64, 256, 32),
    "segmentation": Case("GTA5", "segmentation", (1052, 1914), "png", 526, 12, 24, 6),
    "detection": Case("Sim10k", "detection", (1052, 1914), "jpg", 600, 12, 12, 6),
}


def write_files(case: Case, root: Path) -> None:
    """Write photographs of a case's size, with some grain so that they compress no better than renderings do."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    height, width = case.size
    (root / "masks").mkdir(parents=True)
    for number in range(case.files):
        generator = np.random.default_rng(number)
        photograph = photographs[number % len(photographs)]
        left, top = generator.uniform(0, 0.3, 2) * photograph.size
        part = photograph.resize((width, height), box=(left, top, *(0.7 * side for side in photograph.size)))
        grain = generator.normal(0, 2, (height, width, 3))
        pixels = np.clip(np.asarray(part) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03}.{case.suffix}")
        if case.task == "segmentation":
            rough = generator.integers(0, len(CLASSES), (13, 24)).astype(np.uint8)
            mask = Image.fromarray(rough).resize((width, height), Image.Resampling.NEAREST)
            mask.putpalette(bytes(range(256)) * 3)
            mask.save(root / "masks" / f"{number:03}.png")


def boxes_of(case: Case) -> list[Tensor]:
    """Return six boxes for each image of a case."""
    height, width = case.size
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(case.files, 6, 2, generator=generator) * 0.7
    sides = 0.05 + torch.rand(case.files, 6, 2, generator=generator) * 0.2
    scale = torch.tensor([width, height] * 2)
    return list(torch.cat([corners, corners + sides], 2) * scale)


def synreal_images(case: Case, root: Path) -> Any:
    """Return a case's files as synreal reads them."""
    names = [f"{number:03}.{case.suffix}" for number in range(case.files)]
    shared = (case.name, "train", root, names)
    if case.task == "classification":
        return LabelFiles(*shared, [number % len(CLASSES) for number in range(case.files)], CLASSES)
    if case.task == "segmentation":
        label_map = LabelMap({number: number for number in range(len(CLASSES))})
        return MaskFiles(*shared, MaskPaths(root, [f"masks/{n[:3]}.png" for n in names], label_map), CLASSES)
    objects = [
        Boxes(box, torch.zeros(6, dtype=torch.int64), torch.zeros(6, dtype=torch.bool), torch.ones(6))
        for box in boxes_of(case)
    ]
    return BoxFiles(*shared, objects, [case.size] * case.files, CLASSES)


class Batches(Sampler[list[Any]]):
    """The indices of a round, in batches.

    Args:
        case: What is measured.
        epochs: Whether positions are ``(epoch, index)``, as synreal's are, or indices alone.
    """

    def __init__(self, case: Case, *, epochs: bool) -> None:
        self.case = case
        self.epochs = epochs
        self.epoch = 0

    def __iter__(self) -> Iterator[list[Any]]:
        self.epoch += 1
        order = np.random.default_rng(self.epoch).permutation(self.case.images).tolist()
        # Fewer files than images: a second reading of one is another epoch, with other views.
        rows = [(self.epoch * 1000 + row // self.case.files, row % self.case.files) for row in order]
        for start in range(0, len(rows), self.case.batch):
            chosen = rows[start : start + self.case.batch]
            yield chosen if self.epochs else [index for _, index in chosen]


def synreal_loader(case: Case, images: Any) -> DataLoader[Any]:
    """Return the loader of a run with two views."""
    config = RunConfig(task=case.task, **SETTINGS[case.task])
    task = config.task.runtime()(config.task, config.setup, images, {})
    return DataLoader(
        task.training_data(2),
        batch_sampler=Batches(case, epochs=True),
        num_workers=WORKERS,
        collate_fn=task.collate,
        persistent_workers=True,
    )


class PlainImages(Dataset[Any]):
    """A loader as the manual of torchvision's transforms v2 has it.

    Args:
        case: What is measured.
        root: The folder with its files.
    """

    def __init__(self, case: Case, root: Path) -> None:
        self.case = case
        self.root = root
        self.boxes = boxes_of(case)
        self.table: NDArray[np.uint8] = np.arange(256, dtype=np.uint8)
        size = SETTINGS[case.task]["image_size"]
        if case.task == "classification":
            resize = v2.Resize(size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
            self.own: Callable[..., Any] = v2.Compose([plain_rand_augment(), resize, v2.RandomCrop(size)])
            return
        crop = size if case.task == "segmentation" else case.size
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: 255, "others": 0}
        self.shared: Callable[..., Any] = v2.Compose(
            [
                v2.RandomHorizontalFlip(0.5),
                v2.ScaleJitter(case.size, scale_range=SCALE, antialias=True),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                *([v2.SanitizeBoundingBoxes(min_size=2)] if case.task == "detection" else []),
            ]
        )
        self.own = v2.ColorJitter(0.4, 0.4, 0.4, 0.4)

    def __len__(self) -> int:
        return self.case.files

    def __getitem__(self, index: int) -> Any:
        with Image.open(self.root / f"{index:03}.{self.case.suffix}") as file:
            image = tv_tensors.Image(F.pil_to_tensor(file.convert("RGB")))
        if self.case.task == "classification":
            return (self.own(image), self.own(image)), index % len(CLASSES)
        if self.case.task == "segmentation":
            with Image.open(self.root / "masks" / f"{index:03}.png") as file:
                mask = tv_tensors.Mask(torch.from_numpy(self.table[np.array(file)]))
            image, mask = self.shared(image, mask)
            return (image, self.own(image)), mask
        corners = tv_tensors.BoundingBoxes(self.boxes[index], format="XYXY", canvas_size=self.case.size)
        labels = torch.zeros(len(corners), dtype=torch.int64)
        found = self.shared({"image": image, "boxes": corners, "labels": labels})
        image = found.pop("image")
        return (image, self.own(image)), found


def plain_rand_augment() -> v2.Transform:
    """Return one of CSG's 14 operations at magnitude 6 of 30, of torchvision's own transforms."""
    slope = float(np.degrees(np.arctan(0.06)))
    shift = 20 / 384
    return v2.RandomChoice(
        [
            v2.Identity(),
            v2.RandomAutocontrast(0.2),
            v2.RandomEqualize(0.2),
            v2.RandomRotation(6),
            v2.RandomPosterize(7, p=1),
            v2.RandomSolarize(204.8, p=1),
            v2.ColorJitter(saturation=0.18),
            v2.ColorJitter(contrast=0.18),
            v2.ColorJitter(brightness=0.18),
            v2.RandomAdjustSharpness(1.18, p=1),
            v2.RandomAffine(0, shear=(-slope, slope, 0, 0)),
            v2.RandomAffine(0, shear=(0, 0, -slope, slope)),
            v2.RandomAffine(0, translate=(shift, 0)),
            v2.RandomAffine(0, translate=(0, shift)),
        ]
    )


def plain_collate(items: Sequence[Any]) -> Any:
    """Keep images of several sizes apart, as torchvision's detectors take them."""
    return tuple(zip(*items, strict=True))


def plain_loader(case: Case, root: Path) -> DataLoader[Any]:
    """Return the plain loader with two views."""
    return DataLoader(
        PlainImages(case, root),
        batch_sampler=Batches(case, epochs=False),
        num_workers=WORKERS,
        collate_fn=plain_collate if case.task == "detection" else default_collate,
        persistent_workers=True,
    )


def seconds(loader: DataLoader[Any]) -> float:
    """Return how long a round takes."""
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Measure all sides of a case in turns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_files(case, root)
        images = synreal_images(case, root)
        loaders = {"plain": plain_loader(case, root), "synreal": synreal_loader(case, images)}
        if case.copies is not None:
            loaders["copies"] = synreal_loader(case, Resized(images, case.copies, Path(folder) / "cache"))
        taken: dict[str, list[float]] = {side: [] for side in loaders}
        for number in range(rounds + 1):
            # Whoever comes first in a round is another one each time.
            order = list(loaders)[number % len(loaders) :] + list(loaders)[: number % len(loaders)]
            for side in order:
                took = seconds(loaders[side])
                if number:  # the first round starts the workers, and makes the copies
                    taken[side].append(took)
        bytes_each = sum(path.stat().st_size for path in root.glob("*.*")) // case.files
    ratios = sorted(plain / ours for plain, ours in zip(taken["plain"], taken["synreal"], strict=True))
    found: dict[str, Any] = {
        **case._asdict(),
        "bytes": bytes_each,
        **{f"{side}_images_per_second": case.images / statistics.median(times) for side, times in taken.items()},
        "speed_median": statistics.median(ratios),
        "speed_least": ratios[0],
        "speed_greatest": ratios[-1],
    }
    if case.copies is not None:
        pairs = zip(taken["synreal"], taken["copies"], strict=True)
        found["copies_speed_median"] = statistics.median(whole / small for whole, small in pairs)
    return found


def render(result: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """Write what was measured as Markdown."""
    lines = [
        "# data",
        "",
        "| task | files as | speed, synreal over plain | least to greatest | plain, images/s | synreal, images/s "
        f"| with copies, over without | at least {BAR:g} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        copies = f"{row['copies_speed_median']:.2f} ({row['copies']} px)" if row["copies"] else "-"
        lines.append(
            f"| {row['task']} | {row['name']}: {row['size'][1]} x {row['size'][0]} {row['suffix']}, "
            f"{row['bytes'] / 1000:.0f} kB | {row['speed_median']:.2f} "
            f"| {row['speed_least']:.2f} to {row['speed_greatest']:.2f} | {row['plain_images_per_second']:.0f} "
            f"| {row['synreal_images_per_second']:.0f} | {copies} "
            f"| {'met' if row['speed_median'] >= BAR else 'not met'} |"
        )
    lines += [
        "",
        "Two views of each image, {workers} worker processes on {processors} processors, one thread each, torch "
        "{torch}. Speed is the ratio of times of rounds taken in turns, median of {rounds}; images per second depend "
        "on the machine and on what else it does.".format(**result),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES), help="all when left out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [measure(CASES[task], arguments.rounds) for task in arguments.tasks]
    result = {
        "rounds": arguments.rounds,
        "workers": WORKERS,
        "processors": os.cpu_count(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**result, "cases": found}, indent=1)
    (RESULTS / "data.json").write_text(text + "\n", encoding="utf-8")
    (RESULTS / "data.md").write_text(render(result, found), encoding="utf-8")
    print(render(result, found))


if __name__ == "__main__":
    main()
