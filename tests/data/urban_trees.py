"""Tiny copies of GTA5 and Cityscapes in their exact formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.io import savemat

CITIES = ("frankfurt", "lindau", "munster")
TRAIN_CITIES = ("aachen", "zurich")
RAW = {"road": 7, "building": 11, "sky": 23, "person": 24, "car": 26}
VOIDS = {"unlabeled": 0, "static": 4, "polegroup": 18, "license plate": 34}
COLOURS = {  # of Cityscapes' colour files, by raw id; GTA5's static is not black
    0: (0, 0, 0),
    4: (20, 20, 20),
    7: (128, 64, 128),
    11: (70, 70, 70),
    18: (153, 153, 153),
    23: (70, 130, 180),
    24: (220, 20, 60),
    26: (0, 0, 142),
    34: (0, 0, 142),
}
RAW_TO_TRAIN = {7: 0, 11: 2, 23: 10, 24: 11, 26: 13}
Shape = tuple[str, list[list[int]]]


def street(index: int, size: tuple[int, int]) -> list[Shape]:
    """Compose a street of polygons, later over earlier: sky, houses, road, cars that overlap, a group, people."""
    width, height = size
    rng = np.random.default_rng(index)
    horizon, kerb = int(height * rng.uniform(0.3, 0.4)), int(height * rng.uniform(0.55, 0.65))
    shapes = [
        ("sky", box(0, 0, width - 1, horizon)),
        ("building", box(0, horizon // 2, width // 2, kerb)),
        ("static", box(width // 2, horizon, width - 1, kerb)),
        ("road", box(0, kerb, width + 5, height + 5)),  # reaches past the border
    ]
    for _ in range(2):
        w, h = width // 4, height // 5
        x, y = int(rng.integers(0, width - w)), int(rng.integers(kerb - h // 2, height - h))
        shapes.append(("car", [[x, y + h], [x, y + h // 3], [x + w // 4, y], [x + w, y + h // 3], [x + w, y + h]]))
    shapes.append(("cargroup", box(width - width // 8, kerb - height // 8, width - 1, kerb)))
    x, w = int(rng.integers(0, width - width // 12)), width // 12
    shapes.append(("person", box(x, horizon, x + w, kerb + 2)))
    return shapes


def box(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def picture(ids: NDArray[Any], seed: int, brightness: int = 0) -> Image.Image:
    """Paint ids in colours with noise, so that a network can learn what they stand for."""
    table = np.full((256, 3), 128)
    for number, colour in COLOURS.items():
        table[number] = colour
    noise = np.random.default_rng(seed).integers(-20, 21, (*ids.shape, 3))
    return Image.fromarray((table[ids] + noise + brightness).clip(0, 255).astype(np.uint8))


def draw(shapes: Sequence[Shape], size: tuple[int, int], *, instances: bool = False) -> NDArray[np.int32]:
    """Draw raw ids, or numbers of instances."""
    image = Image.new("I", size, 0)
    counts: dict[str, int] = {}
    for name, corners in shapes:
        number = (RAW | VOIDS)[name if name in RAW | VOIDS else name.removesuffix("group")]
        if instances and name in ("car", "person"):
            number = number * 1000 + counts.setdefault(name, 0)
            counts[name] += 1
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners], fill=number)
    return np.array(image, dtype=np.int32)


def save_palette(ids: NDArray[Any], path: Path) -> None:
    """Save ids as GTA5's label files have them: indices of a palette."""
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette([value for number in range(256) for value in COLOURS.get(number, (number, 0, 255 - number))])
    image.save(path)


def gta5_tree(
    root: Path,
    number: int = 6,
    size: tuple[int, int] = (96, 64),
    *,
    first: int = 1,
    split: Mapping[str, Sequence[int]] | None = None,
    listed: str | None = None,
) -> Path:
    """Write GTA5.

    Args:
        root: Its folder, made if need be.
        number: Of frames.
        size: Width and height.
        first: Number of the first frame.
        split: What ``split.mat`` holds, e.g. ``{"trainIds": [1, 2], "valIds": [3]}``; no file without.
        listed: Name of a list file to be written with all frames; with it, ``frames=...`` warns of no missing frame.
    """
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for frame in range(first, first + number):
        ids = draw(street(frame, size), size)
        ids[:2, :3] = 18
        ids[-2:, -3:] = 34
        picture(ids, frame).save(root / f"images/{frame:05d}.png")
        save_palette(ids, root / f"labels/{frame:05d}.png")
    if split is not None:
        savemat(root / "split.mat", {key: np.array(ids, dtype=np.uint16)[:, None] for key, ids in split.items()})
    if listed is not None:
        frames = [f"{frame:05d}.png" for frame in range(first, first + number)]
        (root / listed).write_text("".join(f"images/{name} labels/{name}\n" for name in frames))
    return root


def cityscapes_tree(
    root: Path,
    number: int = 3,
    size: tuple[int, int] = (96, 64),
    *,
    split: str = "val",
    train_ids: bool = False,
) -> Path:
    """Write Cityscapes: images of one split with labelIds, instanceIds, color and polygons.

    Args:
        root: Its folder, made if need be.
        number: Of images, one a city in turn.
        size: Width and height.
        split: ``"val"`` or ``"train"``.
        train_ids: Whether to write labelTrainIds too, which are not in the download.
    """
    cities = CITIES if split == "val" else TRAIN_CITIES
    for index in range(number):
        city = cities[index % len(cities)]
        stem = f"{city}_{index:06d}_{(19, 5020)[city == 'frankfurt']:06d}"
        images, labels = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        shapes = street(1000 + index, size)
        ids = draw(shapes, size)
        picture(ids, 1000 + index, brightness=10).save(images / f"{stem}_leftImg8bit.png")
        Image.fromarray(ids.astype(np.uint8)).save(labels / f"{stem}_gtFine_labelIds.png")
        numbers = draw(shapes, size, instances=True)
        Image.fromarray(numbers.astype(np.uint16)).save(labels / f"{stem}_gtFine_instanceIds.png")
        picture(ids, 0).convert("RGBA").save(labels / f"{stem}_gtFine_color.png")
        if train_ids:
            Image.fromarray(to_train_ids(ids)).save(labels / f"{stem}_gtFine_labelTrainIds.png")
        (labels / f"{stem}_gtFine_polygons.json").write_text(json.dumps(polygons(shapes, size)))
    return root


def polygons(shapes: Sequence[Shape], size: tuple[int, int]) -> dict[str, Any]:
    """Describe a street as ``polygons.json`` does, with a deleted object and a license plate that are not drawn."""
    objects: list[dict[str, Any]] = [{"label": name, "polygon": corners} for name, corners in shapes]
    objects.insert(4, {"label": "car", "polygon": box(0, 0, 9, 9), "deleted": 1})
    objects.append({"label": "license plate", "polygon": box(1, 1, 5, 3)})
    objects.append({"label": "person", "polygon": box(20, 20, 40, 40), "deleted": 1})
    return {"imgWidth": size[0], "imgHeight": size[1], "objects": objects}


def to_train_ids(ids: NDArray[Any]) -> NDArray[np.uint8]:
    train = np.full(ids.shape, 255, dtype=np.uint8)
    for raw, number in RAW_TO_TRAIN.items():
        train[ids == raw] = number
    return train
