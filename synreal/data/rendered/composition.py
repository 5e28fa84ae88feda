"""Objects laid over one another in small square images: what all composed scenes share.

An object's mask says which pixels it takes; where masks overlap, the object laid last is seen. A box spans what is
seen of a mask.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from synreal import stopping
from synreal.data.files.cache import Arrays
from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayMasks
from synreal.errors import DataError, unknown_name

IMAGE_SIZE: Final = 128
"""Side of a scene in pixels."""

LEAST_VISIBLE: Final = 0.85
"""Share of every object's mask that later ones leave uncovered."""

WHEELS: Final = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
"""The distributions of the packages that ship photographs."""

_TRIES = 20  # places drawn for an object before it is left out

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """An object of the size that it is laid in.

    Attributes:
        label: Its class, from 0.
        cover: The share of each pixel that it covers, (h, w) in 0..1.
        mask: The pixels that are its own, bool, (h, w); cropped to the two together.
    """

    label: int
    cover: Floats
    mask: NDArray[np.bool_]


AnyPiece = TypeVar("AnyPiece", bound=Piece)


@dataclass(frozen=True)
class Placed(Generic[AnyPiece]):
    """An object and the rows and columns of the scene that it takes."""

    piece: AnyPiece
    window: tuple[slice, slice]


@dataclass(frozen=True)
class Scene(Generic[AnyPiece]):
    """Pixels, uint8 (128, 128, 3), and which of the placed objects each shows, int8 (128, 128), -1 for none."""

    pixels: NDArray[np.uint8]
    placed: list[Placed[AnyPiece]]
    owner: NDArray[np.int8]


def labelled(
    name: str, split: str, label: str, arrays: Arrays, classes: Mapping[str, Sequence[str]]
) -> ArrayMasks | ArrayBoxes:
    """Give scenes labels of a kind.

    Args:
        name: Name of the set.
        split: Which part of it.
        label: ``"masks"`` or ``"boxes"``.
        arrays: As ``collect`` returns them.
        classes: Class names by kind of label; in masks the background comes first.

    Raises:
        ConfigError: If the kind of label is unknown.
    """
    if label not in classes:
        raise unknown_name("kind of label of scenes", label, classes)
    tensors = {field: torch.from_numpy(array) for field, array in arrays.items()}
    if label == "masks":
        return ArrayMasks(name, split, tensors["images"], tensors["masks"], classes[label])
    per_scene = tensors["counts"].tolist()
    parts = (tensors[field].split(per_scene) for field in ("boxes", "labels", "areas"))
    objects = [
        Boxes(boxes, labels, torch.zeros(len(labels), dtype=torch.bool), area)
        for boxes, labels, area in zip(*parts, strict=True)
    ]
    return ArrayBoxes(name, split, tensors["images"], objects, classes[label])


def collect(count: int, scenes: Iterable[Scene[AnyPiece]]) -> Arrays:
    """Label ``count`` scenes and join them.

    Returns:
        ``images`` uint8 (N, 3, 128, 128), ``masks`` uint8 (N, 128, 128); ``counts`` int64 (N,), the objects
        per scene, and of all scenes' objects in turn ``boxes`` float32 (M, 4), ``labels`` int64 (M,) and
        ``areas`` float32 (M,).
    """
    images = np.empty((count, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    masks = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    counts, boxes, labels, areas = [], [], [], []
    for image, mask, scene in zip(images, masks, scenes, strict=True):
        stopping.poll()
        image[:] = scene.pixels.transpose(2, 0, 1)
        counts.append(len(scene.placed))
        for number, item in enumerate(scene.placed):
            seen = scene.owner == number
            mask[seen] = item.piece.label + 1
            rows, columns = bounds(seen)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            labels.append(item.piece.label)
            areas.append(np.count_nonzero(seen))
    return {
        "images": images,
        "masks": masks,
        "counts": np.array(counts, np.int64),
        "boxes": np.array(boxes, np.float32),
        "labels": np.array(labels, np.int64),
        "areas": np.array(areas, np.float32),
    }


def arrange(pieces: Sequence[AnyPiece], rng: np.random.Generator) -> tuple[list[Placed[AnyPiece]], NDArray[np.int8]]:
    """Place objects inside a scene, later ones over earlier ones; the first always finds a place.

    Args:
        pieces: At least one, each smaller than the scene.
        rng: Where the places come from.

    Returns:
        Those that found a place, and which of them each pixel shows: int8 (128, 128), -1 for none.
    """
    owner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int8)
    placed: list[Placed[AnyPiece]] = []
    for piece in pieces:
        areas = np.array([np.count_nonzero(item.piece.mask) for item in placed])
        height, width = piece.mask.shape
        for _ in range(_TRIES):
            top, left = rng.integers((IMAGE_SIZE - height + 1, IMAGE_SIZE - width + 1)).tolist()
            where = (slice(top, top + height), slice(left, left + width))
            trial = owner.copy()
            trial[where][piece.mask] = len(placed)
            seen = np.bincount(trial[trial >= 0], minlength=len(placed))[: len(placed)]
            if np.all(seen >= LEAST_VISIBLE * areas):
                owner = trial
                placed.append(Placed(piece, where))
                break
    return placed, owner


def lay(canvas: Floats, item: Placed[AnyPiece], colour: Floats) -> None:
    """Lay an object of one RGB colour, (3,), or one per pixel, (h, w, 3), over a scene, (128, 128, 3), all in 0..1."""
    beneath = canvas[item.window]
    beneath += item.piece.cover[..., None] * (colour - beneath)


def bounds(flags: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and the columns between the first and the last that hold a set pixel."""
    rows, columns = (np.flatnonzero(flags.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def read_photograph(package: str, file: str) -> Image.Image:
    """Read a photograph that a package ships, as RGB.

    Raises:
        DataError: If it is missing or damaged.
    """
    path = importlib.resources.files(package) / file
    try:
        with path.open("rb") as stream:
            return Image.open(stream).convert("RGB")
    except OSError as error:
        wheel = WHEELS[package]
        raise DataError(f"Cannot read the photograph {path}: {error}. Reinstall {wheel}, which ships it.") from error


def crop_square(photograph: Image.Image, rng: np.random.Generator) -> Floats:
    """Cut a random square out of a photograph, shrunk to the size of a scene: (128, 128, 3) in 0..1."""
    side = int(np.exp(rng.uniform(np.log(IMAGE_SIZE), np.log(min(photograph.size)))))
    left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
    box = (left, top, left + side, top + side)
    return np.asarray(photograph.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, box)) / 255.0
