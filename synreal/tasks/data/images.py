"""Image and label files: what is read from them, and what is refused.

An image becomes RGB, 8 bits a channel, upright. A label file keeps its numbers: nothing is converted, no palette is
applied. Sizes and formats are looked at before anything is decoded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base
from torch import Tensor

from synreal.errors import DataError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "MPO")
"""Formats that are read, by Pillow's names; every other is refused before its decoder runs."""

MAX_PIXELS: Final = 100_000_000
"""Largest image that is decoded; a file of a few kilobytes can claim to be gigabytes."""

_WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height


class Orientation(NamedTuple):
    """How a file stores an image.

    Attributes:
        exif: Its EXIF orientation, 1 (upright) to 8.
        stored: Height and width as stored, before it is turned upright.
    """

    exif: int
    stored: tuple[int, int]

    def turns(self, size: tuple[int, int]) -> bool:
        """Tell whether labels of this height and width belong to the image as stored, so that they turn with it.

        Labels of an image that was made upright before it was labelled have its upright size. Where both sizes are
        one, labels are taken to be as stored.
        """
        return self.exif != 1 and size == self.stored


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read an image as RGB; see ``read_upright``."""
    return read_upright(path, max_pixels)[0]


def read_upright(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Tensor, Orientation]:
    """Read an image as RGB.

    Grey is repeated, palettes and CMYK are converted, transparency is dropped, 16 bits are scaled to 8 (``v >> 8``),
    EXIF orientation is applied, of an animation the first frame is taken.

    Args:
        path: The file.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        The image, uint8 (3, H, W), and how it was stored.

    Raises:
        DataError: If the file is missing, empty, no image, of a format not in ``FORMATS``, too large, truncated, or of
            32-bit or floating-point values, which have no defined range.
    """
    with opened(path, max_pixels) as image:
        stored = Orientation(orientation(image), (image.height, image.width))
        pixels = np.array(_rgb(upright(image), path))
    return torch.from_numpy(pixels).permute(2, 0, 1), stored


def turned(labels: NDArray[Any], exif: int) -> NDArray[Any]:
    """Turn labels, (H, W), as EXIF orientation ``exif`` turns the image."""
    if exif in (5, 6, 7, 8):
        labels = labels.T
    # What remains are mirrors: of rows and columns of the transposed or plain labels.
    rows, columns = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        exif
    ]
    return np.ascontiguousarray(labels[::rows, ::columns])


def read_ids(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.integer]:
    """Read a label file whose pixels are numbers: indices of a palette, or grey values of 1, 8 or 16 bits.

    Args:
        path: The file.
        max_pixels: Larger ones are refused before they are decoded.

    Returns:
        (H, W), uint8 or, of 16-bit and 32-bit files, int32.

    Raises:
        DataError: As ``read_image``; and if the pixels are colours.
    """
    with opened(path, max_pixels) as image:
        if image.mode in ("P", "L", "1"):
            return np.array(image, dtype=np.uint8)
        if image.mode in _WIDE or image.mode == "I":
            return np.array(image).astype(np.int32)
        raise DataError(
            f"{path} is a colour image (mode {image.mode}), expected one number a pixel: a palette or grey PNG of "
            "class ids. If its colours stand for classes, give them in a label map."
        )


def read_colours(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a label file whose pixels are colours, transparency dropped.

    Returns:
        (H, W, 3), uint8.

    Raises:
        DataError: As ``read_image``; and if the pixels are numbers.
    """
    with opened(path, max_pixels) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise DataError(f"{path} has one number a pixel (mode {image.mode}), expected the colours of a label map.")
        return np.array(image.convert("RGB"))


def size_of(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return height and width of an upright image; reads its header alone."""
    with opened(path, max_pixels, decode=False) as image:
        width, height = image.size
        return (width, height) if orientation(image) in _TRANSPOSED else (height, width)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8."""
    found = image.getexif().get(Base.Orientation, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    return image if orientation(image) == 1 else ImageOps.exif_transpose(image)


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS, *, decode: bool = True) -> Iterator[Image.Image]:
    """Open an image file, checked; every fault that shows within the block names the file.

    Args:
        path: The file.
        max_pixels: Larger ones are refused.
        decode: Whether to decode before the block.

    Raises:
        DataError: As ``read_image``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is our own
            file = Image.open(path, formats=FORMATS)
        with file:
            width, height = file.size
            if width * height > max_pixels:
                raise DataError(f"{path} has {width} x {height} pixels, more than the {max_pixels:,} that are read.")
            if decode:
                file.load()
            yield file
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is no image: {_instead(path)}. Readable are {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path} claims more pixels than the {max_pixels:,} that are read.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {error}. It may be truncated; fetch or render it again.") from None


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode in _WIDE or (image.mode == "I" and image.format == "PNG"):
        # Pillow's own conversion clips to 255 instead of scaling.
        wide = np.array(image).astype(np.int32)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{path} has values of mode {image.mode}, whose range nobody knows; save it with 8 bits.")
    if image.mode in ("P", "PA", "LA", "La"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _instead(path: Path) -> str:
    """Say what a file that is no image looks like."""
    try:
        start = path.open("rb").read(64)
    except OSError as error:
        return str(error.strerror)
    if not start:
        return "it is empty"
    if start.lstrip()[:1] == b"<":
        return "it looks like a web page or XML"
    return f"it begins with {start[:8]!r}"
