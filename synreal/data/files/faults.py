"""What is wrong with an image file, in a few words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from synreal.data.files.decoding import opened
from synreal.errors import DataError


def file_fault(path: Path, max_pixels: int, read: Callable[[Path, int], object]) -> str | None:
    """Name, in a few words, what keeps an image file from being read.

    Args:
        path: The file.
        max_pixels: Larger ones are refused.
        read: How it is read: ``read_image``, ``read_ids`` or ``read_colours``.

    Returns:
        None if nothing does.
    """
    try:
        read(path, max_pixels)
        return None
    except DataError as error:
        cause = error.__context__
    except Exception:  # a decoder that fails in a way of its own
        return "unreadable"
    try:
        if path.stat().st_size == 0:
            return "empty file"
    except FileNotFoundError:
        return "missing file"
    except OSError:
        return "unreadable"
    if isinstance(cause, UnidentifiedImageError):
        return "not an image"
    if isinstance(cause, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "too large"
    if cause is not None:  # what the system or the decoder said
        return "unreadable" if isinstance(cause, (PermissionError, IsADirectoryError)) else "truncated"
    try:
        with opened(path, sys.maxsize, decode=False) as image:
            return "too large" if image.width * image.height > max_pixels else "wrong mode"
    except DataError:
        return "not an image"
