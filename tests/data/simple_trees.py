"""Tiny folders of somebody's own data: image folders, lists and YOLO's text files, with classes one can learn."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.data.own_trees import CLASSES, scene


def picture(label: int, classes: int, size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Paint a disc in the colour of its class on noise: uint8, (size, size, 3)."""
    colour = np.array(colorsys.hsv_to_rgb(label / classes, 0.8, 0.9)) * 255
    image = random.integers(60, 200, (size, size, 3)).astype(np.float64)
    rows, columns = np.mgrid[:size, :size] - random.uniform(size * 0.35, size * 0.65, (2, 1, 1))
    inside = np.hypot(rows, columns) < size * random.uniform(0.2, 0.35)
    image[inside] = colour + random.normal(0, 8, (int(inside.sum()), 3))
    return image.clip(0, 255).astype(np.uint8)


def imagefolder_tree(root: Path, classes: int = 3, per_class: int = 8, size: int = 32, seed: int = 0) -> Path:
    """Write ``CLASS/NNN.png`` for as many classes, named after parts and numbers; returns the root."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(class_names(classes)):
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            Image.fromarray(picture(label, classes, size, random)).save(root / name / f"{index:03}.png")
    return root


def pacs_tree(root: Path, domains: Sequence[str] = ("cartoon", "photo"), **more: int) -> Path:
    """Write an ``imagefolder_tree`` for each domain; returns the root."""
    for seed, domain in enumerate(domains):
        imagefolder_tree(root / domain, seed=seed, **more)
    return root


def list_tree(root: Path, classes: int = 3, per_class: int = 8, size: int = 32, seed: int = 0) -> Path:
    """Write ``images/NNN.png`` and ``labels.txt``, whose lines are path and class name; returns the root."""
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    lines = []
    for index in range(classes * per_class):
        label = index % classes
        Image.fromarray(picture(label, classes, size, random)).save(root / "images" / f"{index:03}.png")
        lines.append(f"images/{index:03}.png {class_names(classes)[label]}")
    (root / "labels.txt").write_text("\n".join(lines) + "\n")
    return root


def class_names(classes: int) -> tuple[str, ...]:
    """Return the names of so many classes, sorted."""
    return tuple(sorted([*CLASSES, *(f"washer-{number}" for number in range(3, classes))][:classes]))


def yolo_tree(root: Path, number: int = 12, size: tuple[int, int] = (96, 64), seed: int = 0) -> Path:
    """Write images/ and labels/, three quarters in train and the others in val, and ``data.yaml``; returns the root.

    The images are those of ``own_trees.scene``; ``size`` is width and height.
    """
    width, height = size
    for index in range(number):
        part = "val" if index % 4 == 3 else "train"
        made = scene(index, size, seed)
        lines = []
        for label, x0, y0, x1, y1 in made.objects:
            shares = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height
            lines.append(" ".join([str(label), *(f"{share:.6f}" for share in shares)]))
        for folder in ("images", "labels"):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(made.image).save(root / "images" / part / f"{index:04}.png")
        (root / "labels" / part / f"{index:04}.txt").write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {label}: {name}" for label, name in enumerate(CLASSES))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return root
