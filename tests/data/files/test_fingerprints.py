from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synreal import stopping
from synreal.data.files import fingerprints
from synreal.data.files.fingerprints import STRIPE, STRIPES, WHOLE, fingerprint_files
from synreal.errors import DataError, Interrupted
from tests.data.trees import write


def encoded(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def test_fingerprints_follow_names_sizes_order_and_labels(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "yy")):
        write(tmp_path / name, text)
    known = [
        fingerprint_files(tmp_path, ["a", "b"]),
        fingerprint_files(tmp_path, ["b", "a"]),
        fingerprint_files(tmp_path, ["a"]),
        fingerprint_files(tmp_path, ["a", "b"], [b"xy", b"z"]),
        fingerprint_files(tmp_path, ["a", "b"], [b"x", b"yz"]),
    ]
    write(tmp_path / "a", "xx")
    known.append(fingerprint_files(tmp_path, ["a", "b"]))
    assert len(set(known)) == len(known)
    assert fingerprint_files(tmp_path, ["a", "b"]) == known[-1]
    with pytest.raises(DataError, match=r"c: No such file"):
        fingerprint_files(tmp_path, ["a", "c"])


def test_a_fingerprint_does_not_depend_on_where_the_files_lie_or_when_they_were_written(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder / "a.png", "x")
    os.utime(tmp_path / "two/a.png", (1, 1))
    assert fingerprint_files(tmp_path / "one", ["a.png"]) == fingerprint_files(tmp_path / "two", ["a.png"])


def grain(value: int) -> np.ndarray:
    """Return an image of noise, which no format packs into what is read whole, with a square of some grey in it."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    pixels[90:120, 100:130] = value
    return pixels


@pytest.mark.parametrize(
    ("suffix", "kind", "how"),
    [
        ("bmp", "BMP", {}),
        ("ppm", "PPM", {}),
        ("tif", "TIFF", {}),
        ("png", "PNG", {"compress_level": 0}),
        ("png", "PNG", {"compress_level": 1}),
        ("jpg", "JPEG", {"quality": 95}),
    ],
)
def test_another_image_of_the_same_size_is_told(tmp_path: Path, suffix: str, kind: str, how: dict[str, object]) -> None:
    found: dict[int, set[bytes]] = {}
    for value in range(100):
        content = encoded(grain(value), kind, **how)
        found.setdefault(len(content), set()).add(content)
        if len(found[len(content)]) == 2:
            break
    one, other = found[len(content)]
    assert len(one) == len(other) > WHOLE
    path = tmp_path / f"image.{suffix}"
    path.write_bytes(one)
    before = fingerprint_files(tmp_path, [path.name])
    path.write_bytes(other)
    assert fingerprint_files(tmp_path, [path.name]) != before


def test_a_byte_that_changes_anywhere_in_a_small_image_or_in_any_text_is_told(tmp_path: Path) -> None:
    for name, size in (("mask.png", WHOLE), ("polygons.json", 3 * WHOLE)):
        content = bytearray(size)
        found = set()
        for place in (None, 0, size // 2 + 1, size // 3, size - 1):
            changed = content if place is None else content[:place] + b"\1" + content[place + 1 :]
            (tmp_path / name).write_bytes(changed)
            found.add(fingerprint_files(tmp_path, [name]))
        assert len(found) == 5


@pytest.mark.parametrize("size", [WHOLE + 1, 5 * WHOLE + 7, 2_000_003])
def test_stripes_of_a_large_image_reach_from_its_first_byte_to_its_last(tmp_path: Path, size: int) -> None:
    path = tmp_path / "large.bmp"
    content = bytes(size)
    path.write_bytes(content)
    before = fingerprint_files(tmp_path, ["large.bmp"])
    # A change as high as the gap between two stripes cannot lie between them.
    gap = (size - STRIPE) // (STRIPES - 1) - STRIPE + 2
    for place in (0, size - 1, *range(STRIPE, size - gap, size // 7)):
        width = 1 if place in (0, size - 1) else gap
        path.write_bytes(content[:place] + b"\1" * width + content[place + width :])
        assert fingerprint_files(tmp_path, ["large.bmp"]) != before, place


def test_files_are_read_once_in_a_process_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / name, name)
    read: list[str] = []
    sample: Callable[[str, str], bytes] = fingerprints._sample
    monkeypatch.setattr(fingerprints, "_sample", lambda start, name: read.append(name) or sample(start, name))
    monkeypatch.setattr(fingerprints, "_SETTLED", -(10**18))
    first = fingerprint_files(tmp_path, ["a.png", "b.png"], [b"1"])
    assert fingerprint_files(tmp_path, ["a.png", "b.png"], [b"2"]) != first
    assert read == ["a.png", "b.png"]
    write(tmp_path / "again.png", "a.pnG")
    os.utime(tmp_path / "again.png", ns=(0, (tmp_path / "a.png").stat().st_mtime_ns))
    os.replace(tmp_path / "again.png", tmp_path / "a.png")
    assert fingerprint_files(tmp_path, ["a.png", "b.png"], [b"1"]) != first
    assert read == ["a.png", "b.png"] * 2


def test_what_was_written_a_moment_ago_is_read_again(tmp_path: Path) -> None:
    """Two changes within one tick of the clock of a file system have one time."""
    path = tmp_path / "a.png"
    found = set()
    for number in range(20):
        path.write_bytes(bytes([number]))
        os.utime(path, (1, 1))
        found.add(fingerprint_files(tmp_path, ["a.png"]))
    assert len(found) == 20
    assert not [key for key in fingerprints._KNOWN.values() if key in found]


def test_a_pipe_is_not_opened_and_counts_as_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    before = fingerprint_files(tmp_path, ["a.png"])
    os.unlink(tmp_path / "a.png")
    write(tmp_path / "a.png", "")
    assert fingerprint_files(tmp_path, ["a.png"]) != before


def test_a_stop_is_heeded(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "x")
    request = stopping.Request()
    request.exit_code = 143
    with stopping.heeding(request), pytest.raises(Interrupted):
        fingerprint_files(tmp_path, ["a.png"])


def test_names_that_are_no_utf_8_do_not_stop_anything(misnamed: str, tmp_path: Path) -> None:
    assert len(fingerprint_files(tmp_path, [misnamed])) == 64
