"""Image and label files: what is read from them, and what is refused.

An image becomes RGB, 8 bits per channel, upright. A label file keeps its numbers: nothing is converted, no palette is
applied. Sizes and formats are looked at before anything is decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import jpeg_factory
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from torch import Tensor

from synreal.data.files.map_texts import Channel
from synreal.data.limits import MAX_PIXELS
from synreal.errors import ConfigError, DataError
from synreal.reading import LARGE_FILE, NotAFile, open_file

# Not Image.open: it would read any format that some plugin registers, and it warns of large images, which cannot be
# silenced in one thread alone.
_READERS: Final[dict[str, tuple[re.Pattern[bytes], Callable[[IO[bytes]], ImageFile.ImageFile]]]] = {
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    "JPEG": (re.compile(rb"\xff\xd8\xff"), jpeg_factory),  # of the images of an MPO the first
    "WebP": (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImageFile),
    "BMP": (re.compile(rb"BM"), BmpImageFile),
    "TIFF": (re.compile(rb"II[*+]\x00|MM\x00[*+]"), TiffImageFile),
    "PPM": (re.compile(rb"P[1-6][\s#]"), PpmImageFile),
}

FORMATS: Final = tuple(_READERS)
"""Formats that are read; every other is refused before any decoder runs."""

_OTHERS: Final = (  # what files that are not an image of these formats turn out to be
    (rb"\s*<", "it looks like a web page or XML, perhaps of a failed download"),
    (rb"version https://git-lfs", LARGE_FILE),
    (rb"8BPS", "it is a Photoshop document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "it is PostScript"),
    (rb"%PDF", "it is a PDF"),
    (rb"SIMPLE  =", "it is a FITS file"),
    (rb"\x00\x00\x01\x00", "it is an icon"),
    (rb"....ftyp(avif|avis)", "it is an AVIF image"),
    (rb"....ftyp(heic|heix|mif1|msf1)", "it is a HEIC image"),
    (rb"\x76\x2f\x31\x01", "it is an OpenEXR image"),
    (rb"#\?RADIANCE|#\?RGBE", "it is a Radiance HDR image"),
    (rb"\x93NUMPY", "it is a NumPy array"),
    (rb"PK\x03\x04", "it is a ZIP archive"),
)

# What decoders raise on damaged files.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
)

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
    EXIF orientation is applied, of an animation the first frame is taken. Metadata that a PNG has after its pixels
    are not looked at.

    Args:
        path: The file.
        max_pixels: Larger images are refused before they are decoded.

    Returns:
        The image, uint8 (3, H, W), and how it was stored.

    Raises:
        DataError: If the file is missing, empty, no image, of a format not in ``FORMATS``, too large, truncated, or of
            values that have no defined range: 32-bit, floating-point.
        ConfigError: If Pillow was told to make up what truncated images lack.
    """
    with opened(path, max_pixels, decode=False) as image:
        stored = _as_stored(image)
        image.load()
        pixels = _rgb(image, path)
        if image.format != "TIFF":  # which Pillow turns when it loads
            pixels = turned(pixels, stored.exif)
    return torch.from_numpy(pixels).permute(2, 0, 1), stored


def turned(labels: NDArray[Any], exif: int) -> NDArray[Any]:
    """Turn labels or pixels, (H, W) or (H, W, C), as EXIF orientation ``exif`` turns the image."""
    if exif in _TRANSPOSED:
        labels = labels.swapaxes(0, 1)
    rows = -1 if exif in (3, 4, 7, 8) else 1
    columns = -1 if exif in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(labels[::rows, ::columns])


def read_ids(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.integer[Any]]:
    """Read a label file whose pixels are numbers: indices of a palette, or grey values of 1, 8 or 16 bits.

    Args:
        path: The file.
        max_pixels: Larger ones are refused before they are decoded.

    Returns:
        (H, W), uint8 or, of 16-bit and 32-bit files, int32.

    Raises:
        DataError: As ``read_image``; and if the pixels are colours, compressed with loss, or grey values that a
            decoder scales to another range.
        ConfigError: As ``read_image``.
    """
    with opened(path, max_pixels, decode=False) as image:
        if image.mode not in ("P", "L", "1", "I", *_WIDE):
            raise DataError(
                f"{path} is a colour image (mode {image.mode}), expected one number per pixel: a palette or grey PNG "
                "of class ids. If its colours stand for classes, give them in a label map."
            )
        _check_lossless(image, path)
        _check_unscaled(image, path)
        image.load()
        if image.mode in ("P", "L", "1"):
            return np.array(image, dtype=np.uint8)
        return np.array(image).astype(np.int32)


def read_colours(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a label file whose pixels are colours, transparency dropped.

    Returns:
        (H, W, 3), uint8.

    Raises:
        DataError: As ``read_image``; and if the pixels are numbers or compressed with loss.
        ConfigError: As ``read_image``.
    """
    with opened(path, max_pixels, decode=False) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise DataError(
                f"{path} has one number per pixel (mode {image.mode}), expected the colours of a label map."
            )
        _check_lossless(image, path)
        image.load()
        return _rgb(image, path)


def size_of(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return height and width of an upright image; reads its header alone."""
    with opened(path, max_pixels, decode=False) as image:
        exif, (height, width) = _as_stored(image)
        return (width, height) if exif in _TRANSPOSED else (height, width)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image that is not decoded yet, 1 (upright) to 8."""
    # The base class's method: that of PNG files decodes everything in search of EXIF behind the pixels.
    found = Image.Image.getexif(image).get(Base.Orientation, 1)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def read_channel(path: Path, channel: Channel, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a label file that holds numbers in one channel of its colours.

    Returns:
        (H, W), uint8.

    Raises:
        DataError: As ``read_image``; and if the file has no such channel, more than 8 bits a channel, or is compressed
            with loss.
        ConfigError: As ``read_image``.
    """
    with opened(path, max_pixels, decode=False) as image:
        if image.mode not in ("RGB", "RGBA", "P"):
            raise DataError(
                f"{path} has one number per pixel (mode {image.mode}) and no {channel} channel. Leave channel out."
            )
        if channel == "alpha" and image.mode == "RGB":
            raise DataError(f"{path} has no alpha channel (mode RGB). Choose the channel that holds the numbers.")
        _check_lossless(image, path)
        if ";16" in str(image.tile[0].args):  # the decoder keeps the upper byte, which is 0 in every class
            raise DataError(f"{path} has 16 bits a channel, of which the lower are lost: save it with 8.")
        image.load()
        pixels: NDArray[np.uint8] = np.array(image if image.mode != "P" else image.convert("RGBA"))
        return np.ascontiguousarray(pixels[..., get_args(Channel).index(channel)])


@contextmanager
def opened(path: Path, max_pixels: int = MAX_PIXELS, *, decode: bool = True) -> Iterator[ImageFile.ImageFile]:
    """Open an image file, checked; every fault of the file that shows within the block names it.

    Args:
        path: The file.
        max_pixels: Larger ones are refused.
        decode: Whether to decode before the block.

    Raises:
        DataError: As ``read_image``.
        ConfigError: As ``read_image``.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ConfigError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: what truncated images lack would be made up in silence. Set it "
            "to False; on_bad_image: skip leaves such images out and counts them."
        )
    try:
        with open_file(path) as stream, _identified(stream) as file:
            width, height = file.size
            if width * height > max_pixels:
                raise DataError(
                    f"{path} has {width} x {height} pixels, more than the {max_pixels:,} that are read. If the file is "
                    "to be trusted, raise max_pixels."
                )
            if decode:
                file.load()
            yield file
    except (DataError, ConfigError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, expected an image.") from None
    except NotAFile as error:
        raise DataError(f"{path} is not read: {error.strerror}.") from None
    except PermissionError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image: {error}. Readable are {', '.join(FORMATS)}.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} is refused: {error}") from None
    except _FAULTS as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(
            f"{path} cannot be read: {reason}. It is damaged or truncated; fetch or render it again."
        ) from None


def _identified(stream: IO[bytes]) -> ImageFile.ImageFile:
    """Let the reader of a format look at the header of a file."""
    start = stream.read(32)
    stream.seek(0)
    for pattern, reader in _READERS.values():
        if pattern.match(start):
            return reader(stream)
    raise UnidentifiedImageError(_instead(start))


def _instead(start: bytes) -> str:
    """Say what a file that is not an image looks like."""
    if not start:
        return "it is empty"
    found = (what for pattern, what in _OTHERS if re.match(pattern, start, re.DOTALL))
    return next(found, f"it begins with {start[:8]!r}")


def _as_stored(image: ImageFile.ImageFile) -> Orientation:
    """Look up, before it is decoded, how an image is stored."""
    width, height = image.size
    if isinstance(image, TiffImageFile):  # its size is that of the upright image, its tags are not
        width, height = image.tag_v2[Base.ImageWidth], image.tag_v2[Base.ImageLength]
    return Orientation(orientation(image), (height, width))


def _rgb(image: ImageFile.ImageFile, path: Path) -> NDArray[np.uint8]:
    """Convert a decoded image: uint8 (H, W, 3)."""
    if image.mode == "RGB":
        return np.array(image)
    if image.mode in _WIDE or (image.mode == "I" and image.format == "PPM"):
        if isinstance(image, TiffImageFile):
            _check_plain_tiff(image, path)
        # Pillow's own conversion clips to 255 instead of scaling.
        grey = (np.array(image).astype(np.int32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path} holds 32-bit {'numbers' if image.mode == 'I' else 'floating-point numbers'}, whose range nobody "
            "knows; save it with 8 bits per channel."
        )
    # Pillow warns of a palette with transparency that is not converted to RGBA first.
    plain = image if image.mode not in ("P", "PA", "La", "RGBa") else image.convert("RGBA")
    return np.array(plain.convert("RGB"))


def _check_plain_tiff(image: TiffImageFile, path: Path) -> None:
    """Refuse wide grey values that Pillow neither scales nor inverts."""
    bits, inverted = (
        image.tag_v2.get(Base.BitsPerSample, (1,))[0],
        image.tag_v2.get(Base.PhotometricInterpretation) == 0,
    )
    if bits != 16 or inverted:
        raise DataError(
            f"{path} holds {bits} bits per pixel{', white being 0' if inverted else ''}, expected 8, or 16 with black "
            "being 0; save it as PNG."
        )


def _check_lossless(image: ImageFile.ImageFile, path: Path) -> None:
    if image.format in ("JPEG", "MPO"):
        raise DataError(
            f"{path} is a JPEG, whose compression changes numbers and colours; labels must be stored without loss, "
            "e.g. as PNG. Export them again."
        )


def _check_unscaled(image: ImageFile.ImageFile, path: Path) -> None:
    """Refuse grey values that a decoder brings to another range: class 3 of 4 bits would be read as 51."""
    codec, _, _, args = image.tile[0]
    first = args[0] if isinstance(args, tuple) and args else args
    scaled = isinstance(first, str) and re.match(r"L;[24I]", first) is not None
    if codec in ("ppm", "ppm_plain") and image.mode in ("L", "I"):
        scaled = isinstance(args, tuple) and args[1] not in (255, 65_535)
    if scaled:
        raise DataError(
            f"{path} is a grey image of 2 or 4 bits, inverted, or of another white than 255, so that its numbers are "
            "not those that were written. Save it as a palette PNG, or grey with 8 bits."
        )
