"""Images composed of stamps: drawings on drawn backgrounds (source), photographs on photographs (target).

The backgrounds follow the digits' scenes: procedural ones make the source free of anything recorded, and photographs
make the target an image as a camera gives one, not a cut-out on white, which a drawing on white resembles. They show
nothing of any class. Sizes and places follow one law in both domains, so what differs is the art and what lies behind
it. Drawings are mirrored by chance; photographs stay as they were taken, some hold writing.

Images of one stamp: in the source each class is as frequent as any other, and so is each drawing of a class. The target
has every photograph equally often, which are mostly animals: read the mean class accuracy. Scenes draw classes evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from synreal import stopping
from synreal.data.files.cache import Arrays, cached
from synreal.data.files.paths import hold_out
from synreal.data.rendered import numerals
from synreal.data.rendered.composition import (
    IMAGE_SIZE,
    WHEELS,
    Floats,
    Piece,
    Placed,
    Scene,
    arrange,
    collect,
    crop_square,
    labelled,
    lay,
    read_photograph,
)
from synreal.data.rendered.stamp_classes import CLASSES
from synreal.data.rendered.stamp_files import Cutouts
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError, unknown_name

NAMES: Final = {"classes": CLASSES, "masks": ("background", *CLASSES), "boxes": CLASSES}
COUNTS: Final = {"train": 2_000, "heldout": 500}
"""Images of one stamp each."""

VIEWS: Final = 4
"""Images of the target that each photographed stamp is shown in."""

SCENE_COUNTS: Final = {"train": 1_200, "heldout": 200, "test": 400}

GENERATOR_VERSION: Final = 1
"""Raised whenever the same cut-outs and seed would give other images."""

HELD_OUT: Final = 6
"""One in so many drawings of a class is held out; variants of one picture go together."""

SIDES: Final = (64.0, 108.0)
"""Least and greatest longer side of a stamp that is alone on its image, in pixels."""

SCENE_SIDES: Final = (40.0, 84.0)
"""The same in scenes, in both drawn log-uniformly."""

MARGIN: Final = 8
"""Pixels at the edge of an image that a lone stamp leaves free: a centre crop takes them away."""

STAMPS: Final = (2, 4)
"""Fewest and most stamps that a scene is begun with; one that finds no place is left out."""

PHOTOGRAPHS: Final = (
    ("skimage", "data/brick.png", None),
    ("skimage", "data/grass.png", None),
    ("skimage", "data/gravel.png", None),
    ("skimage", "data/moon.png", None),
    ("skimage", "data/hubble_deep_field.jpg", None),
    ("sklearn", "datasets/images/flower.jpg", None),
    ("sklearn", "datasets/images/china.jpg", (360, 60, 540, 290)),  # sky and lake beside the pagoda
)
"""Package, file and box of the photographs behind photographs; in each box there is nothing of any class."""

# Parts of the seed: a split's number never changes.
_STREAMS = {"alone": {"train": 6, "heldout": 7, "test": 8}, "scenes": {"train": 9, "heldout": 10, "test": 11}}
_TARGET_SEED = 0  # the target is one fixed set, as recorded data are


@dataclass(frozen=True)
class _Stamp(Piece):
    colours: Floats  # (h, w, 3), RGB in 0..1


def load_source(
    cutouts: Cutouts, split: str, *, label: str, seed: int = 0, cache: str | Path | None = None
) -> ArrayImages | ArrayMasks | ArrayBoxes:
    """Load drawn stamps on drawn backgrounds, composing them if the cache does not hold them.

    Args:
        cutouts: All stamps.
        split: ``"train"`` or ``"heldout"``; they share no drawing.
        label: ``"classes"`` (2,000 and 500 images), or ``"masks"`` or ``"boxes"`` (1,200 and 200
            scenes, the same ones).
        seed: Non-negative; another seed gives another set of the same drawings.
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with classes, masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the split or the kind of label is unknown or the seed negative.
    """
    if split not in COUNTS:
        raise unknown_name("stamps split", split, COUNTS)
    if seed < 0:
        raise ConfigError(f"Data set 'stamps' got seed {seed}, expected 0 or more.")
    counts = COUNTS if label == "classes" else SCENE_COUNTS
    return _load(cutouts, split, counts[split], label=label, seed=seed, cache=cache)


def load_target(
    cutouts: Cutouts, *, label: str, cache: str | Path | None = None
) -> ArrayImages | ArrayMasks | ArrayBoxes:
    """Load photographed stamps on photographs, composing them if the cache does not hold them.

    Args:
        cutouts: All stamps.
        label: ``"classes"`` (every stamp on ``VIEWS`` images), or ``"masks"`` or ``"boxes"`` (400
            scenes, the same ones).
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with classes, masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the kind of label is unknown.
        DataError: If a photograph of scikit-image or scikit-learn is missing.
    """
    photographed = sum(not stamp.drawn for stamp in cutouts.stamps)
    count = VIEWS * photographed if label == "classes" else SCENE_COUNTS["test"]
    return _load(cutouts, "test", count, label=label, seed=_TARGET_SEED, cache=cache)


def _load(
    cutouts: Cutouts, split: str, count: int, *, label: str, seed: int, cache: str | Path | None
) -> ArrayImages | ArrayMasks | ArrayBoxes:
    if label not in NAMES:
        raise unknown_name("kind of label of stamps", label, NAMES)
    alone = label == "classes"
    packages = ("pillow", "numpy", *(WHEELS.values() if split == "test" else ()))
    key = f"{'stamps' if alone else 'scenes-stamps'}-v{GENERATOR_VERSION}-seed{seed}-{split}-{count}x{IMAGE_SIZE}px"
    key += f"-{cutouts.fingerprint[:16]}" + "".join(f"-{package}{version(package)}" for package in packages)
    if not alone:
        scenes = cached(key, lambda: _compose_scenes(cutouts, split, count, seed), cache)
        return labelled("stamps", split, label, scenes, NAMES)
    arrays = cached(key, lambda: _compose(cutouts, split, count, seed), cache)
    images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    return ArrayImages("stamps", split, images, labels, CLASSES)


def chosen(cutouts: Cutouts, split: str) -> list[list[int]]:
    """Choose the stamps of a split.

    Args:
        cutouts: All stamps.
        split: ``"train"``, ``"heldout"`` or ``"test"``.

    Returns:
        For each class, indices of stamps, ascending.
    """
    rows: list[list[int]] = []
    for label in range(len(CLASSES)):
        own = [index for index, stamp in enumerate(cutouts.stamps) if stamp.label == label]
        if split == "test":
            rows.append([index for index in own if not cutouts.stamps[index].drawn])
            continue
        drawn = [index for index in own if cutouts.stamps[index].drawn]
        families = sorted({cutouts.stamps[index].family for index in drawn})
        out = hold_out(families, max(1, round(len(families) / HELD_OUT)))
        held = {family for family, is_out in zip(families, out, strict=True) if is_out}
        rows.append([index for index in drawn if (cutouts.stamps[index].family in held) == (split == "heldout")])
    return rows


def _compose(cutouts: Cutouts, split: str, count: int, seed: int) -> Arrays:
    """Compose images of one stamp each: ``images`` uint8 (N, 3, 128, 128), ``labels`` int64 (N,)."""
    backgrounds = _Backgrounds(split)
    rows = chosen(cutouts, split)
    flat = [index for row in rows for index in row]
    images = np.empty((count, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    labels = np.empty(count, np.int64)
    for number in range(count):
        stopping.poll()
        if split == "test":
            index = flat[number % len(flat)]
        else:
            row = rows[number % len(rows)]
            index = row[number // len(rows) % len(row)]
        rng = numerals.generator(seed, _STREAMS["alone"][split], number)
        canvas = backgrounds.draw(number, rng)
        piece = _stamp(cutouts, index, _draw_side(SIDES, rng), rng)
        top, left = (int(rng.integers(MARGIN, IMAGE_SIZE - MARGIN - length + 1)) for length in piece.mask.shape)
        window = (slice(top, top + piece.mask.shape[0]), slice(left, left + piece.mask.shape[1]))
        lay(canvas, Placed(piece, window), piece.colours)
        images[number] = backgrounds.develop(canvas, rng).transpose(2, 0, 1)
        labels[number] = piece.label
    return {"images": images, "labels": labels}


def _compose_scenes(cutouts: Cutouts, split: str, count: int, seed: int) -> Arrays:
    """Compose scenes; what the arrays are, ``collect`` says."""
    backgrounds = _Backgrounds(split)
    rows = chosen(cutouts, split)

    def scene(number: int) -> Scene[_Stamp]:
        rng = numerals.generator(seed, _STREAMS["scenes"][split], number)
        canvas = backgrounds.draw(number, rng)
        pieces = []
        for _ in range(int(rng.integers(STAMPS[0], STAMPS[1] + 1))):
            row = rows[rng.integers(len(rows))]
            pieces.append(_stamp(cutouts, row[rng.integers(len(row))], _draw_side(SCENE_SIDES, rng), rng))
        placed, owner = arrange(pieces, rng)
        for item in placed:
            lay(canvas, item, item.piece.colours)
        return Scene(backgrounds.develop(canvas, rng), placed, owner)

    return collect(count, map(scene, range(count)))


class _Backgrounds:
    """What lies behind the stamps of a split."""

    def __init__(self, split: str) -> None:
        self.photographs: list[Image.Image] = []
        if split == "test":
            for package, file, box in PHOTOGRAPHS:
                photograph = read_photograph(package, file)
                self.photographs.append(photograph if box is None else photograph.crop(box))

    def draw(self, number: int, rng: np.random.Generator) -> Floats:
        """Draw a background, (128, 128, 3) in 0..1."""
        if self.photographs:
            return crop_square(self.photographs[number % len(self.photographs)], rng)
        first, second = rng.random((2, 3))
        mixed: Floats = first + numerals.draw_mixture(IMAGE_SIZE, rng)[..., None] * (second - first)
        return mixed

    def develop(self, canvas: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Turn what was composed into bytes, uint8 (128, 128, 3)."""
        if self.photographs:
            pixels: NDArray[np.uint8] = np.rint(255 * canvas).astype(np.uint8)
            return pixels
        return numerals.develop(canvas, rng)


def _draw_side(sides: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(sides))))


def _stamp(cutouts: Cutouts, index: int, side: float, rng: np.random.Generator) -> _Stamp:
    """Bring a cut-out to a longer side in pixels; half of the drawings, by chance, are mirrored."""
    picture = Image.fromarray(cutouts.pictures[index])
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Pillow weights colours by alpha here.
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)) / 255.0
    if cutouts.stamps[index].drawn and rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    cover = pixels[..., 3]
    # A hair's breadth may cover half of no pixel.
    return _Stamp(cutouts.stamps[index].label, cover, cover >= min(0.5, cover.max()), pixels[..., :3])
