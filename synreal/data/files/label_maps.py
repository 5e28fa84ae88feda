"""From the numbers or colours that a label file holds to classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from synreal.data.files.decoding import opened, read_channel, read_colours, read_ids
from synreal.data.files.faults import file_fault
from synreal.data.files.fingerprints import fingerprint_files
from synreal.data.files.map_texts import Channel
from synreal.data.files.paths import some
from synreal.data.labels.masks import IGNORE
from synreal.data.limits import MAX_PIXELS
from synreal.errors import DataError

_MOST_IDS = 65_536
_COLOURED = ("RGB", "RGBA", "CMYK", "YCbCr")


class LabelMap:
    """Which class each number or colour of a label file stands for.

    Args:
        ids: Class, or ``IGNORE``, by number.
        colours: Class, or ``IGNORE``, by (red, green, blue); None where label files hold numbers.
        hints: What to say of a number that is not in ``ids``, where that tells a known mistake.
        advice: What to do about any other number or colour that is not in the map.
        channel: The channel that holds the numbers, where label files are colour images.
        ignore_others: Whether numbers or colours that are not in the map are ``IGNORE``; else they are an error.
        colour_advice: What to do about a file of colours where numbers are expected, or the reverse; default what
            ``read_ids`` and ``read_colours`` say.

    Raises:
        DataError: If there is nothing in it, or a number, colour or class is out of range.
    """

    def __init__(
        self,
        ids: Mapping[int, int] | None = None,
        colours: Mapping[tuple[int, int, int], int] | None = None,
        hints: Mapping[int, str] | None = None,
        *,
        channel: Channel | None = None,
        ignore_others: bool = False,
        advice: str = "Add them to the map, as classes or as ignored.",
        colour_advice: str | None = None,
    ) -> None:
        if (ids is None) == (colours is None) or not (ids or colours):
            raise DataError("A label map gives either numbers or colours, one at least.")
        if channel is not None and colours:
            raise DataError(f"A label map of the {channel} channel gives numbers, not colours.")
        self.hints = dict(hints or {})
        self.ids = dict(ids or {})
        self.colours = dict(colours or {})
        self.channel = channel
        self.ignore_others = ignore_others
        self.advice = advice
        self.colour_advice = colour_advice
        if not all(0 <= key < _MOST_IDS for key in self.ids):
            raise DataError(f"A label map has numbers 0 to {_MOST_IDS - 1}, got {min(self.ids)} to {max(self.ids)}.")
        for colour in self.colours:
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise DataError(f"A label map has colours of red, green and blue from 0 to 255, got {colour}.")
        for key, value in (self.ids or self.colours).items():
            if not 0 <= value <= IGNORE:
                raise DataError(
                    f"A label map gives classes 0 to {IGNORE - 1} or {IGNORE} (ignored), got {key}: {value}."
                )
        # What the table holds for numbers that the map does not have: no class of the map, if one is left.
        used = {*self.ids.values(), *self.colours.values()}
        self._unknown = IGNORE if ignore_others else next((value for value in range(IGNORE) if value not in used), 0)
        self._table: NDArray[np.uint8] | None = None

    def read(self, path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Read a label file.

        Returns:
            Classes or ``IGNORE``, uint8 (H, W).

        Raises:
            DataError: If the file cannot be read, or holds a number or colour that the map does not have.
        """
        return self.classes(self.values(path, max_pixels), path)

    def values(self, path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.integer[Any]]:
        """Read what a label file holds, not yet looked up.

        Returns:
            Its numbers, (H, W); colours as ``red * 65536 + green * 256 + blue``.

        Raises:
            DataError: If the file cannot be read, or holds colours instead of numbers or the reverse.
        """
        if self.channel is not None:
            return read_channel(path, self.channel, max_pixels)
        if self.colour_advice is not None:
            self._check_mode(path, max_pixels, self.colour_advice)
        if self.colours:
            pixels = read_colours(path, max_pixels).astype(np.int32)
            packed: NDArray[np.int32] = _packed(np.moveaxis(pixels, -1, 0))
            return packed
        ids = read_ids(path, max_pixels)
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= _MOST_IDS:
            raise DataError(f"{path} holds numbers from {ids.min()} to {ids.max()}, expected 0 to {_MOST_IDS - 1}.")
        return ids

    def _check_mode(self, path: Path, max_pixels: int, advice: str) -> None:
        with opened(path, max_pixels, decode=False) as image:
            mode = image.mode
        if not self.colours and mode in _COLOURED:
            raise DataError(f"{path} is a colour image (mode {mode}), expected one number per pixel. {advice}")
        if self.colours and mode not in (*_COLOURED, "P"):
            raise DataError(f"{path} has one number per pixel (mode {mode}), expected colours. {advice}")

    def classes(self, found: NDArray[np.integer[Any]], path: Path) -> NDArray[np.uint8]:
        """Look up what ``values`` read.

        Args:
            found: Numbers of any shape.
            path: Where they are from, for messages.

        Returns:
            Classes or ``IGNORE``, uint8, of the same shape.

        Raises:
            DataError: If the map does not have one of them.
        """
        if self._table is None:  # colours take 16 MB: not before they are needed, and not in a pickle
            table = np.full(1 << 24 if self.colours else _MOST_IDS, self._unknown, np.uint8)
            for key, value in (self.colours or self.ids).items():
                table[_packed(key) if isinstance(key, tuple) else key] = value
            self._table = table  # only now: other threads may be reading
        classes: NDArray[np.uint8] = self._table[found]
        suspects = classes == self._unknown
        if not self.ignore_others and suspects.any():
            known = {_packed(key) for key in self.colours} if self.colours else self.ids
            unknown = [key for key in np.unique(found[suspects]).tolist() if key not in known]
            if unknown:
                self._refuse(unknown, path)
        return classes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _refuse(self, unknown: Sequence[int], path: Path) -> None:
        for number in unknown:
            if number in self.hints:
                raise DataError(f"{path}: {self.hints[number]}")
        names = [str(_unpacked(number)) if self.colours else str(number) for number in unknown]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        kind = "colours" if self.colours else "numbers"
        known = ", ".join(map(str, list(self.colours or sorted(self.ids))[:40]))
        raise DataError(
            f"{path} holds {kind} that its label map does not have: {', '.join(names[:8])}{more}. Known: {known}. "
            f"{self.advice}"
        )

    def describe(self) -> bytes:
        """Return what decides it, for a fingerprint."""
        more = f"{self.channel} {self.ignore_others}" if self.channel is not None or self.ignore_others else ""
        return (repr((sorted(self.ids.items()), sorted(self.colours.items()))) + more).encode()


class MaskPaths:
    """Masks that lie in files, one per image.

    Args:
        root: The folder.
        files: Label files, relative to it.
        label_map: What they hold.
        max_pixels: Larger ones are refused.
    """

    def __init__(self, root: Path, files: Sequence[str], label_map: LabelMap, max_pixels: int = MAX_PIXELS) -> None:
        self.root = root
        self.files = list(files)
        self.label_map = label_map
        self.max_pixels = max_pixels

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a mask: classes or ``IGNORE``, uint8 (H, W)."""
        return self.label_map.read(self.path(index), self.max_pixels)

    def place(self, index: int) -> str:
        """Return its file."""
        return str(self.path(index))

    def digest(self) -> list[bytes]:
        """Return a fingerprint of the files, and the map."""
        return [fingerprint_files(self.root, self.files).encode(), self.label_map.describe()]

    def path(self, index: int) -> Path:
        """Return its file."""
        return self.root / self.files[index]

    def mask_file(self, index: int) -> Path:
        """Return its file."""
        return self.path(index)

    def fault(self, index: int) -> str:
        """Name what keeps a mask from being read."""
        channel = self.label_map.channel
        if channel is not None:
            read: Callable[[Path, int], object] = lambda path, most: read_channel(path, channel, most)  # noqa: E731
        else:
            read = read_colours if self.label_map.colours else read_ids
        return file_fault(self.path(index), self.max_pixels, read) or "ids out of range"


def channel_advice(paths: Sequence[Path], ids: Collection[int], max_pixels: int = MAX_PIXELS) -> str | None:
    """Say which channel of colour masks holds numbers.

    Args:
        paths: Some of them.
        ids: The numbers of a label map.
        max_pixels: Larger ones are refused.

    Returns:
        None if the first is no colour image, or nothing speaks for one of its channels.

    Raises:
        DataError: If a file cannot be read.
    """
    held: dict[str, set[int]] = {}
    for path in paths:
        with opened(path, max_pixels) as image:
            if image.mode not in ("RGB", "RGBA"):
                return None
            pixels = np.array(image)
        for channel, values in zip(get_args(Channel), np.moveaxis(pixels, -1, 0), strict=False):
            held.setdefault(channel, set()).update(np.unique(values).tolist())
    varied = [channel for channel, values in held.items() if len(values) > 1]
    fitting = [channel for channel in varied if held[channel] <= set(ids)]
    if not fitting and len(varied) != 1:
        return None
    best = (fitting or varied)[0]
    what = "holds nothing but numbers of the map" if fitting else "alone varies"
    return f"Its {best} channel {what}, {some([str(value) for value in sorted(held[best])], 8)}: write channel: {best}."


def _packed(colour: Any) -> Any:
    """Make one number of red, green and blue."""
    return colour[0] * 65_536 + colour[1] * 256 + colour[2]


def _unpacked(number: int) -> tuple[int, int, int]:
    return number // 65_536, number // 256 % 256, number % 256
