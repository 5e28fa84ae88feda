"""The files of Tux Paint's stamps, and the cut-outs made of them. Imports no torch before pictures are read.

Which stamps are drawings, and which photographs, no side file of theirs tells. SVG files and what lies in folders named
``cartoon`` are drawings; so are some PNG files elsewhere, which were found by looking at all of them (``DRAWN``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synreal import stopping
from synreal.data.files.cache import Arrays, cache_folder, cached, fingerprint
from synreal.data.files.paths import is_litter
from synreal.data.rendered.stamp_classes import CLASSES
from synreal.errors import ConfigError, DataError
from synreal.parsing import from_home
from synreal.reading import read_bytes

VERSION: Final = 1
"""Raised whenever the same files would give other cut-outs."""

SIDE: Final = 192
"""Longest side of a cut-out in pixels; smaller pictures keep their size."""

DRAWN: Final = (
    "animals/mammals/echidna.png",  # a silhouette
    "animals/mammals/hedgehog.png",
    "food/pizza.png",
    "household/arttools/highlighter.png",
    "town/flags/*.png",
    "town/monuments/inukshuk-outline.png",
    "town/roadsigns/arrow.png",
    "town/roadsigns/crossroads.png",
    "town/roadsigns/hospital.png",
    "town/roadsigns/roundabout.png",
    "town/roadsigns/stop.png",
    "town/roadsigns/stoplight_*.png",
    "town/roadsigns/t-junction.png",
    "town/roadsigns/yield.png",
    "vehicles/7spoke256.png",
    "vehicles/ship/chineseJunk.png",  # a watercolour
)
"""PNG files outside ``cartoon`` that are drawings, in tuxpaint-stamps 2022.06.04."""

UNUSABLE: Final = (
    "household/dishes/glass.png",  # all of it can be seen through
    "vehicles/emergency/sedan_police*.png",  # a livery to be put on vehicles/auto/sedan.png
)
"""Files that show no object with an outline."""

PLACES: Final = (
    "/usr/share/tuxpaint/stamps",
    "/usr/local/share/tuxpaint/stamps",
    "/opt/homebrew/share/tuxpaint/stamps",
    "/opt/local/share/tuxpaint/stamps",
    "~/.local/share/flatpak/app/org.tuxpaint.Tuxpaint/current/active/files/share/tuxpaint/stamps",
    "/var/lib/flatpak/app/org.tuxpaint.Tuxpaint/current/active/files/share/tuxpaint/stamps",
    "/Applications/TuxPaint.app/Contents/Resources/share/tuxpaint/stamps",
    "~/Library/Application Support/TuxPaint/stamps",
    "/Library/Application Support/TuxPaint/stamps",
)
"""Where installed stamps are looked for, in this order."""

FEWEST: Final = 2
"""Different drawings, and photographs, that every class must have."""

_BELOW = (".", "stamps", "tuxpaint/stamps", "share/tuxpaint/stamps", "usr/share/tuxpaint/stamps")
_OPAQUE = 128  # least alpha of a pixel that belongs to the object's mask
_FAINT = 8  # alpha below which a pixel does not count as part of the picture
_LEAST = 16  # pixels of the smallest mask
_MOST_PIXELS = 20_000_000

GET: Final = (
    "Install them (apt install tuxpaint-stamps-default), or unpack them somewhere and run "
    "'synreal data prepare stamps --from FOLDER'."
)


class Stamp(NamedTuple):
    """A file.

    Attributes:
        file: Its path below the folder of stamps, with ``/``.
        label: Its class, an index into ``CLASSES``.
        drawn: Whether it is a drawing; else it is a photograph.
    """

    file: str
    label: int
    drawn: bool

    @property
    def family(self) -> str:
        """What variants of one picture share: its name up to a number, whatever folder it lies in."""
        return re.sub(r"(?<=[a-z])[-_ ]*\d.*$", "", PurePosixPath(self.file).stem.lower())


@dataclass(frozen=True)
class Cutouts:
    """Pictures of single objects, cropped.

    Attributes:
        key: Name of their file in the cache, without its ending.
        stamps: Where they come from.
        pictures: uint8, (h, w, 4) each: RGB and alpha; longest side at most ``SIDE``.
        fingerprint: SHA-256 over everything.
        skipped: Files that could not be used, with the reason.
        left_out: Files not used, because another shows the same picture, or because they show no object.
    """

    key: str
    stamps: tuple[Stamp, ...]
    pictures: tuple[NDArray[np.uint8], ...]
    fingerprint: str
    skipped: Mapping[str, str]
    left_out: tuple[str, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Count cut-outs: by class, then ``"drawn"`` and ``"photographed"``."""
        found = Counter((stamp.label, stamp.drawn) for stamp in self.stamps)
        return {
            name: {"drawn": found[label, True], "photographed": found[label, False]}
            for label, name in enumerate(CLASSES)
        }


def find_folder(root: Path | None) -> Path | None:
    """Find the folder that holds the stamps' classes.

    Args:
        root: Where the user says they are: that folder, or one from which a package was unpacked; None looks where
            packages install them.

    Returns:
        The folder; None if ``root`` is and nothing is installed.

    Raises:
        DataError: If ``root`` holds no stamps.
    """
    candidates = [from_home(place) for place in PLACES] if root is None else [root / below for below in _BELOW]
    for folder in candidates:
        if all((folder / name).is_dir() for name in CLASSES):
            return folder
    if root is None:
        return None
    if not root.is_dir():
        raise DataError(
            f"stamps: {root} {'is a file' if root.exists() else 'does not exist'}, expected a folder. {GET}"
        )
    here = ", ".join(sorted(entry.name for entry in os.scandir(root) if not is_litter(entry.name))[:12])
    raise DataError(
        f"stamps: {root} holds {here or 'nothing'}, expected Tux Paint's folders {', '.join(CLASSES)}. {GET}"
    )


def list_stamps(folder: Path) -> tuple[list[Stamp], list[str]]:
    """List the stamps of a folder.

    A picture in two formats, and one beside its mirror image, is listed once: the SVG, and the one not mirrored.

    Args:
        folder: As ``find_folder`` returns it.

    Returns:
        The stamps, drawings first, in the order of their names; and the files left out.
    """
    stamps: list[Stamp] = []
    out: list[str] = []
    for label, name in enumerate(CLASSES):
        files = _pictures(folder, name)
        known = {(path.parent, path.stem) for path in files}
        vectors = {(path.parent, path.stem) for path in files if path.suffix.lower() == ".svg"}
        for path in files:
            drawn = path.suffix.lower() == ".svg" or "cartoon" in path.parts[:-1] or _among(path, DRAWN)
            plain = re.sub(r"_(mirror|flip)(_flip)?$", "", path.stem)
            twin = path.suffix.lower() == ".png" and (path.parent, path.stem) in vectors
            mirrored = plain != path.stem and (path.parent, plain) in known
            if twin or mirrored or _among(path, UNUSABLE):
                out.append(str(path))
            else:
                stamps.append(Stamp(str(path), label, drawn))
    return sorted(stamps, key=lambda stamp: (not stamp.drawn, stamp.label, stamp.file)), out


def _pictures(folder: Path, name: str) -> list[PurePosixPath]:
    found = []
    for parent, folders, files in os.walk(folder / name):
        folders[:] = [each for each in folders if not is_litter(each)]
        base = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        found += [base / file for file in files if not is_litter(file) and file.lower().endswith((".svg", ".png"))]
    return sorted(found)


def _among(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(str(path), pattern) for pattern in patterns)


def load_cutouts(
    root: Path | None,
    *,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Cutouts:
    """Load the cut-outs of all stamps, making them if the cache does not hold them.

    Args:
        root: See ``find_folder``. Without it, and without an installed package, those cached last are taken.
        cache: Cache folder; default ``synreal.data.files.cache.cache_folder()``.
        progress: Called with the number of files that are done, and of all, while they are read.

    Raises:
        DataError: If there are no stamps, too few of a class are left, or the renderer of SVG files is missing.
    """
    folder = find_folder(root)
    if folder is None:
        key = _newest(f"stamps-v{VERSION}-{SIDE}px-*", cache)
        if key is None:
            raise DataError(f"The stamps are not installed: none of {', '.join(PLACES)} holds them. {GET}")
        return _unpacked(key, cached(key, _gone, cache))
    stamps, left_out = list_stamps(folder)
    start = f"stamps-v{VERSION}-{SIDE}px-{_digest(folder, stamps)[:16]}"
    try:
        key = f"{start}-resvg_py{version('resvg_py')}-pillow{version('pillow')}"
    except PackageNotFoundError:
        # What was rendered before needs no renderer.
        found = _newest(f"{start}-*", cache)
        if found is None:
            raise DataError(
                "Data set 'stamps' renders SVG files with resvg_py, which is not installed: "
                "pip install 'synreal[stamps]'."
            ) from None
        key = found
    return _unpacked(key, cached(key, lambda: _cut_out_all(folder, stamps, left_out, progress), cache))


def _digest(folder: Path, stamps: Sequence[Stamp]) -> str:
    digest = hashlib.sha256()
    for stamp in stamps:
        try:
            content = read_bytes(folder / stamp.file)
        except OSError as error:
            raise DataError(f"Cannot read {folder / stamp.file}: {error.strerror}. {GET}") from None
        digest.update(f"{stamp} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _newest(pattern: str, cache: str | Path | None) -> str | None:
    """Return the key of the youngest cache file that fits."""
    try:
        folder = cache_folder(cache)
    except ConfigError:
        return None
    files = sorted(folder.glob(f"{pattern}.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return files[-1].name.removesuffix(".safetensors") if files else None


def keep(cutouts: Cutouts, *, cache: str | Path | None = None) -> Path:
    """Make cut-outs those that are taken where no stamps are installed.

    Args:
        cutouts: As ``load_cutouts`` returns them.
        cache: The same cache folder.

    Returns:
        Their file.

    Raises:
        DataError: If the cache does not hold them, as it cannot be written.
    """
    path = cache_folder(cache) / f"{cutouts.key}.safetensors"
    now = time.time_ns()  # finer than the clock that file systems go by
    try:
        os.utime(path, ns=(now, now))
    except OSError as error:
        raise DataError(
            f"The stamps were not cached: {path}: {error.strerror}. Set SYNREAL_CACHE to a folder that can be written."
        ) from None
    return path


def _gone() -> Arrays:
    raise DataError(f"The cached stamps are damaged, and the stamps themselves are not installed. {GET}")


def _cut_out_all(
    folder: Path, stamps: Sequence[Stamp], left_out: Sequence[str], progress: Callable[[int, int], None]
) -> Arrays:
    """Make the cut-outs; what the arrays are, ``_unpacked`` says."""
    kept: list[Stamp] = []
    pictures: list[NDArray[np.uint8]] = []
    skipped: dict[str, str] = {}
    again, seen = list(left_out), set[bytes]()
    for number, stamp in enumerate(stamps, 1):
        stopping.poll()
        try:
            picture = cut_out(folder / stamp.file)
        except DataError as error:
            skipped[stamp.file] = str(error)
        else:
            content = hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).digest()
            if content in seen:  # drawings come first: what is on both sides is one
                again.append(stamp.file)
            else:
                seen.add(content)
                kept.append(stamp)
                pictures.append(picture)
        progress(number, len(stamps))
    for label, name in enumerate(CLASSES):
        for drawn, what in ((True, "drawn"), (False, "photographed")):
            number = len({stamp.family for stamp in kept if (stamp.label, stamp.drawn) == (label, drawn)})
            if number < FEWEST:
                raise DataError(
                    f"stamps: {folder / name} has {number} different {what} stamps that can be used, expected {FEWEST} "
                    f"at least{_first(skipped)}. {GET}"
                )
    notes = {"stamps": kept, "skipped": skipped, "left_out": sorted(again)}
    return {
        "pixels": np.concatenate([picture.reshape(-1) for picture in pictures]),
        "sizes": np.array([picture.shape[:2] for picture in pictures], np.int64),
        "notes": np.frombuffer(json.dumps(notes).encode(), np.uint8),
    }


def _first(skipped: Mapping[str, str]) -> str:
    return "".join(f" ({len(skipped)} were skipped, e.g. {reason})" for reason in list(skipped.values())[:1])


def _unpacked(key: str, arrays: Arrays) -> Cutouts:
    """Read ``pixels``, uint8 of all pictures in turn, ``sizes``, int64 (N, 2), and ``notes``, JSON in UTF-8."""
    notes: dict[str, Any] = json.loads(arrays["notes"].tobytes())
    ends = np.cumsum(arrays["sizes"].prod(1) * 4)[:-1]
    pictures = zip(np.split(arrays["pixels"], ends), arrays["sizes"].tolist(), strict=True)
    return Cutouts(
        key=key,
        stamps=tuple(Stamp(*row) for row in notes["stamps"]),
        pictures=tuple(pixels.reshape(height, width, 4) for pixels, (height, width) in pictures),
        fingerprint=fingerprint(arrays),
        skipped=notes["skipped"],
        left_out=tuple(notes["left_out"]),
    )


def cut_out(path: Path) -> NDArray[np.uint8]:
    """Read one stamp, and crop it to what can be seen.

    Args:
        path: An SVG or PNG file.

    Returns:
        RGB and alpha, uint8 (h, w, 4), longest side at most ``SIDE``.

    Raises:
        DataError: If it cannot be read, or hardly anything of it can be seen.
    """
    picture = _rendered(path) if path.suffix.lower() == ".svg" else _read(path)
    box = picture.getchannel("A").point([0] * _FAINT + [255] * (256 - _FAINT)).getbbox()
    if box is not None:
        picture = picture.crop(box)
        # Pillow weights colours by alpha here: what is transparent leaves no fringe.
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=None)
    pixels = np.array(picture)
    if box is None or np.count_nonzero(pixels[..., 3] >= _OPAQUE) < _LEAST:
        raise DataError(f"{path} is all but transparent")
    return pixels


def _read(path: Path) -> Image.Image:
    from synreal.data.files.decoding import opened

    with opened(path, _MOST_PIXELS) as image:
        return image.convert("RGBA")


def _rendered(path: Path) -> Image.Image:
    """Render an SVG file, twice as large as a cut-out: cropping takes some of it."""
    import resvg_py

    try:
        # Without dots per inch, sizes in points come out as nothing; fonts differ from machine to machine.
        png = resvg_py.svg_to_bytes(svg_path=str(path), width=2 * SIDE, height=2 * SIDE, dpi=96, skip_system_fonts=True)
        return Image.open(io.BytesIO(bytes(png)), formats=["PNG"]).convert("RGBA")
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be rendered: {error}") from None
