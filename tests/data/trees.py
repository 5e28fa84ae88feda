"""Tiny trees in the formats of VisDA-17, Sim10k, Pascal VOC and KITTI. A colour tells each class: they can be learnt.

Sizes are (height, width).
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synreal.data.kinds.visda17 import CLASSES

Box = tuple[str, int, int, int, int]
"""Name and corners x0, y0, x1, y1, half-open, from 0."""

VEHICLES = ("car", "motorbike", "person")


def colour(index: int, count: int) -> NDArray[np.uint8]:
    return np.array([round(255 * value) for value in colorsys.hsv_to_rgb(index / count, 0.8, 0.9)], np.uint8)


def noise(rng: np.random.Generator, size: tuple[int, int], low: int = 90, high: int = 140) -> NDArray[np.uint8]:
    return np.repeat(rng.integers(low, high, (*size, 1), dtype=np.uint8), 3, axis=2)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def visda17_tree(
    root: Path,
    per_class: int = 3,
    *,
    size: tuple[int, int] = (40, 64),
    parts: Sequence[str] = ("train", "validation"),
    lists: bool = True,
    end: str = "\n",
) -> Path:
    """Renderings are a patch on grey, photographs the same patch on coarser noise; ``test`` lies in trunk folders."""
    for number, part in enumerate(parts):
        rng = np.random.default_rng(number)
        lines = []
        for label, name in enumerate(CLASSES):
            for index in range(per_class):
                pixels = noise(rng, size, *((90, 140) if part == "train" else (30, 220)))
                top, left = rng.integers(0, size[0] // 3), rng.integers(0, size[1] // 3)
                pixels[top : top + size[0] // 2, left : left + size[1] // 2] = colour(label, len(CLASSES))
                below = f"trunk{index % 20 + 1:02d}" if part == "test" else name
                stem = f"src_1_{label:08d}__{index}_236_150" if part == "train" else f"{label:02d}{index:04d}"
                file = f"{below}/{stem}.{'png' if part == 'train' else 'jpg'}"
                save(root / part / file, pixels)
                lines.append(f"{file} {label}")
        if lists:
            write(root / part / "image_list.txt", end.join(lines))
    return root


def objects_of(rng: np.random.Generator, size: tuple[int, int], names: Sequence[str]) -> list[Box]:
    """Draw a box for each name, each in a column of its own."""
    boxes = []
    width = size[1] // len(names) if names else 0
    for column, name in enumerate(names):
        x0 = column * width + int(rng.integers(0, width // 4))
        y0 = int(rng.integers(0, size[0] // 3))
        boxes.append((name, x0, y0, x0 + int(rng.integers(width // 2, width * 3 // 4)), y0 + size[0] // 2))
    return boxes


def drawn(rng: np.random.Generator, size: tuple[int, int], boxes: Sequence[Box], names: Sequence[str]) -> NDArray:
    pixels = noise(rng, size)
    for name, x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = colour(names.index(name), len(names))
    return pixels


def voc_xml(
    boxes: Sequence[tuple[str, object, object, object, object]],
    size: tuple[int, int] | None,
    *,
    filename: str = "elsewhere.png",
    extra: str = "<difficult>0</difficult>",
    one_based: bool = True,
) -> str:
    """Write corners as VOC does, counted from 1, the last included, unless told otherwise or no number."""
    shift = int(one_based)
    said = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox>"
        f"<xmin>{x0 + shift}</xmin><ymin>{y0 + shift}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
        for name, x0, y0, x1, y1 in boxes
    )
    return f"<annotation>\n<filename>{filename}</filename>\n{said}\n{objects}</annotation>\n"


def sim10k_tree(root: Path, number: int = 6, *, size: tuple[int, int] = (64, 96), below: str = "VOC2012") -> Path:
    """Every image but the last has a car; every third also a motorbike and a person, the last a person alone."""
    rng = np.random.default_rng(0)
    folder = root / below
    stems = [f"{3_384_000 + 17 * index:07d}" for index in range(number)]
    for index, stem in enumerate(stems):
        names = ("person",) if index == number - 1 else VEHICLES if index % 3 == 0 else ("car",)
        boxes = objects_of(rng, size, names)
        save(folder / "JPEGImages" / f"{stem}.jpg", drawn(rng, size, boxes, VEHICLES))
        write(folder / "Annotations" / f"{stem}.xml", voc_xml(boxes, size))
    write(folder / "ImageSets/Main/trainval10k.txt", "\n".join(stems) + "\n")
    write(folder / "ImageSets/Main/trainval200k.txt", "\n".join([*stems[:2], "9999998", "9999999"]) + "\n")
    return root


def voc_tree(
    root: Path,
    number: int = 6,
    *,
    size: tuple[int, int] = (64, 96),
    names: Sequence[str] = ("cup", "fork", "plate"),
    lists: Mapping[str, Sequence[int]] | None = None,
) -> Path:
    """One to three objects an image; ``lists`` gives the indices of the images of each list."""
    rng = np.random.default_rng(1)
    for index in range(number):
        boxes = objects_of(rng, size, [names[(index + extra) % len(names)] for extra in range(1 + index % 3)])
        save(root / "JPEGImages" / f"{index:06d}.jpg", drawn(rng, size, boxes, names))
        write(root / "Annotations" / f"{index:06d}.xml", voc_xml(boxes, size))
    for name, chosen in (lists or {}).items():
        write(root / "ImageSets/Main" / f"{name}.txt", "".join(f"{index:06d}\n" for index in chosen))
    return root


def kitti_line(name: str, x0: float, y0: float, x1: float, y1: float, fields: int = 15) -> str:
    return " ".join(
        [name, "0.00", "0", "-1.57", *(f"{value:.2f}" for value in (x0, y0, x1, y1)), *["0.0"] * (fields - 8)]
    )


def kitti_tree(
    root: Path,
    number: int = 6,
    *,
    size: tuple[int, int] = (64, 96),
    names: Sequence[str] = ("Car", "Cyclist", "Pedestrian"),
    images: str = "training/image_2",
    labels: str = "training/label_2",
) -> Path:
    """One to three objects an image; Replicator's: images="Camera/rgb", labels="Camera/object_detection"."""
    rng = np.random.default_rng(2)
    for index in range(number):
        boxes = objects_of(rng, size, [names[(index + extra) % len(names)] for extra in range(1 + index % 3)])
        save(root / images / f"{index}.png", drawn(rng, size, boxes, names))
        write(root / labels / f"{index}.txt", "".join(kitti_line(*box) + "\n" for box in boxes))
    return root
