from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from synreal.data.files.decoding import (
    FORMATS,
    MAX_PIXELS,
    Orientation,
    opened,
    orientation,
    read_channel,
    read_colours,
    read_ids,
    read_image,
    read_upright,
    size_of,
    turned,
)
from synreal.errors import ConfigError, DataError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (7, 11, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (7, 11), dtype=np.uint8)
WIDE = RANDOM.integers(0, 65_536, (7, 11), dtype=np.uint16)
ORIENTATION = 0x0112

# Where row and column of the stored image of height h and width w are seen, by EXIF orientation.
SEEN = {
    1: lambda r, c, h, w: (r, c),
    2: lambda r, c, h, w: (r, w - 1 - c),
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),
    4: lambda r, c, h, w: (h - 1 - r, c),
    5: lambda r, c, h, w: (c, r),
    6: lambda r, c, h, w: (c, h - 1 - r),
    7: lambda r, c, h, w: (w - 1 - c, h - 1 - r),
    8: lambda r, c, h, w: (w - 1 - c, r),
}


def seen(pixels: np.ndarray, exif: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    shape = (width, height) if exif > 4 else (height, width)
    image = np.zeros((*shape, *pixels.shape[2:]), pixels.dtype)
    for row in range(height):
        for column in range(width):
            image[SEEN[exif](row, column, height, width)] = pixels[row, column]
    return image


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes = b"", before: bytes = b"") -> bytes:
    """A PNG of raw bytes of rows, without filters; colour 0 is grey, 2 RGB, 3 palette, 4 grey with alpha."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height)) if rows else b""
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def rgb(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.ndim == 3
    assert len(image) == 3
    return image.permute(1, 2, 0).numpy()


@pytest.fixture
def file(tmp_path: Path):
    def write(content: bytes, name: str = "image.png") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


# What is read


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_formats_without_loss_keep_every_pixel_whatever_the_file_is_called(file, kind: str) -> None:
    path = file(saved(Image.fromarray(RGB), kind), "image.jpg")
    assert np.array_equal(rgb(path), RGB)
    assert size_of(path) == (7, 11)
    assert read_upright(path)[1] == Orientation(1, (7, 11))


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("WEBP", {}), ("JPEG", {}), ("GIF", {})])
def test_other_formats_are_what_pillow_makes_of_them(file, kind: str, options: dict[str, object]) -> None:
    content = saved(Image.fromarray(RGB), kind, **options)
    assert np.array_equal(rgb(file(content)), np.array(Image.open(io.BytesIO(content)).convert("RGB")))


def test_grey_is_repeated_and_one_bit_is_black_or_white(file) -> None:
    assert np.array_equal(rgb(file(saved(Image.fromarray(GREY), "PNG"))), np.repeat(GREY[..., None], 3, 2))
    bits = GREY > 127
    assert np.array_equal(rgb(file(saved(Image.fromarray(bits), "PNG"))), np.repeat(bits[..., None] * 255, 3, 2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_are_scaled_not_clipped(file, kind: str) -> None:
    expected = np.repeat((WIDE // 256).astype(np.uint8)[..., None], 3, 2)
    assert np.array_equal(rgb(file(saved(Image.fromarray(WIDE), kind))), expected)


def test_big_endian_sixteen_bit_tiff_is_scaled_too(file) -> None:
    path = file(saved(Image.fromarray(WIDE.astype(">u2")), "TIFF"))
    assert np.array_equal(rgb(path)[..., 0], WIDE // 256)


def test_sixteen_bits_of_colour_are_scaled_not_clipped(file) -> None:
    wide = RANDOM.integers(0, 65_536, (7, 11, 3), dtype=np.uint16)
    path = file(png(11, 7, 16, 2, wide.astype(">u2").tobytes()))
    assert np.array_equal(rgb(path), wide // 256)
    alpha = np.stack([WIDE, WIDE[::-1]], 2)
    path = file(png(11, 7, 16, 4, alpha.astype(">u2").tobytes()))
    assert np.array_equal(rgb(path), np.repeat((WIDE // 256)[..., None], 3, 2))


def test_transparency_is_dropped_and_colours_stay(file) -> None:
    alpha = RANDOM.integers(0, 256, (7, 11, 1), dtype=np.uint8)
    alpha[0] = 0
    assert np.array_equal(rgb(file(saved(Image.fromarray(np.dstack([RGB, alpha])), "PNG"))), RGB)
    grey = Image.fromarray(np.dstack([GREY, alpha]), "LA")
    assert np.array_equal(rgb(file(saved(grey, "PNG"))), np.repeat(GREY[..., None], 3, 2))
    assert np.array_equal(rgb(file(saved(Image.fromarray(RGB), "PNG", transparency=tuple(map(int, RGB[0, 0]))))), RGB)


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_palettes_become_colours(file, transparency: object) -> None:
    colours = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    indices = GREY % 3
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as Pillow does of a palette with several transparent colours
        assert np.array_equal(rgb(file(saved(image, "PNG", **options))), colours[indices])


def test_cmyk_is_converted_as_printers_mean_it(file) -> None:
    ink = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255], [128, 0, 0, 0]], np.uint8)
    paper = np.repeat(np.repeat(ink[None], 16, 1), 16, 0)  # whole blocks: nothing for the compression to smear
    content = saved(Image.fromarray(paper, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in content  # which means that the file holds 255 - ink
    found = rgb(file(content, "image.jpg"))[8, 8::16].astype(int)
    assert np.abs(found - [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0], [127, 255, 255]]).max() <= 3
    found = rgb(file(saved(Image.fromarray(paper, "CMYK"), "TIFF")))[8, 8::16].astype(int)
    assert np.abs(found - [[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0], [127, 255, 255]]).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_read(file, kind: str) -> None:
    frames = [Image.new("RGB", (11, 7), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = file(saved(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 3) == 3  # not every Pillow reads its own MPO as more than a JPEG
    assert np.abs(rgb(path).astype(int) - [255, 0, 0]).max() <= 2


# EXIF


@pytest.mark.parametrize("exif", SEEN)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_images_are_turned_upright(file, kind: str, exif: int) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = exif
    content = saved(Image.fromarray(RGB), kind, exif=tags, **({"lossless": True} if kind == "WEBP" else {}))
    path = file(content)
    image, stored = read_upright(path)
    found = image.permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))))
    if kind != "JPEG":
        assert np.array_equal(found, seen(RGB, exif))
    assert stored == Orientation(exif, (7, 11))
    assert size_of(path) == found.shape[:2] == ((11, 7) if exif > 4 else (7, 11))
    with opened(path, decode=False) as header:
        assert orientation(header) == exif


@pytest.mark.parametrize("exif", SEEN)
@pytest.mark.parametrize("labels", [GREY, RGB], ids=["2-D", "3-D"])
def test_labels_turn_as_images_do(exif: int, labels: np.ndarray) -> None:
    found = turned(labels, exif)
    assert np.array_equal(found, seen(labels, exif))
    assert found.flags.c_contiguous
    tags = Image.Exif()
    tags[ORIENTATION] = exif
    content = saved(Image.fromarray(labels), "PNG", exif=tags)
    assert np.array_equal(found, np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))))


@pytest.mark.parametrize("value", [0, 9])
def test_an_orientation_that_does_not_exist_is_none(file, value: int) -> None:
    tags = Image.Exif()
    tags[ORIENTATION] = value
    path = file(saved(Image.fromarray(RGB), "PNG", exif=tags))
    assert np.array_equal(rgb(path), RGB)


def test_size_and_orientation_of_a_png_are_read_without_decoding_it(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert size_of(file(saved(Image.fromarray(RGB), "PNG"))) == (7, 11)


def test_labels_of_the_stored_size_turn_with_the_image() -> None:
    assert Orientation(6, (7, 11)).turns((7, 11))
    assert not Orientation(6, (7, 11)).turns((11, 7))
    assert not Orientation(1, (7, 11)).turns((7, 11))
    assert Orientation(3, (7, 7)).turns((7, 7))


# What is refused


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused_by_name(file, kind: str, share: float) -> None:
    large = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    content = saved(large, kind)
    path = file(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"image\.png cannot be read: .*\. It is damaged or truncated"):
        read_image(path)


def test_a_truncated_image_is_opened_for_its_header_alone(file) -> None:
    large = Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path = file(saved(large, "PNG")[:5_000])
    assert size_of(path) == (64, 64)
    with pytest.raises(DataError, match="truncated"), opened(path):
        pytest.fail("was to be decoded before")


@pytest.mark.parametrize("reader", [read_image, read_ids, read_colours, size_of])
def test_files_that_are_no_images_are_refused_by_what_they_are(file, tmp_path: Path, reader) -> None:
    cases = {
        b"": "is not an image: it is empty",
        b"<!DOCTYPE html><html>404": "web page or XML",
        b"\n <svg/>": "web page or XML",
        b"version https://git-lfs.github.com/spec/v1\noid": "git lfs pull",
        b"hello": "it begins with b'hello'",
    }
    for content, message in cases.items():
        with pytest.raises(DataError, match=message):
            reader(file(content, "photo.jpg"))
    with pytest.raises(DataError, match=r"missing\.png does not exist\.$"):
        reader(tmp_path / "missing.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png is a folder"):
        reader(tmp_path / "folder.png")


OTHER_FORMATS = {
    "Photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(4096),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
    "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "an icon": saved(Image.fromarray(RGB).resize((16, 16)), "ICO"),
    "AVIF": b"\0\0\0\x20ftypavif" + bytes(64),
    "HEIC": b"\0\0\0\x20ftypheic" + bytes(64),
    "OpenEXR": b"\x76\x2f\x31\x01" + bytes(64),
    "Radiance": b"#?RADIANCE\n",
    "NumPy": b"\x93NUMPY\1\0",
    "PDF": b"%PDF-1.7",
    "ZIP": b"PK\3\4" + bytes(30),
    "begins with": saved(Image.fromarray(RGB), "TGA"),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_formats_that_are_not_on_the_list_are_refused_before_their_decoder_runs(
    file, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("asked Pillow"))
    with pytest.raises(DataError, match=f"{name}.*Readable are {', '.join(FORMATS)}"):
        read_image(file(OTHER_FORMATS[name], "image.png"))


@pytest.mark.parametrize("make", [lambda a: a.astype(np.int32), lambda a: a.astype(np.float32)], ids=["int", "float"])
def test_values_without_a_range_are_refused(file, make) -> None:
    path = file(saved(Image.fromarray(make(GREY)), "TIFF"), "image.tif")
    with pytest.raises(DataError, match=r"32-bit .*numbers.*save it with 8 bits"):
        read_image(path)


def tiff(bits: int, photometric: int, rows: bytes) -> bytes:
    tags = [
        (256, 4),
        (257, 2),
        (258, bits),
        (259, 1),
        (262, photometric),
        (273, 8),
        (277, 1),
        (278, 2),
        (279, len(rows)),
    ]
    at = 8 + len(rows)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, v, 0) for tag, v in tags)
    return b"II*\0" + struct.pack("<I", at) + rows + directory + bytes(4)


def test_wide_grey_of_another_scale_is_refused_where_it_would_be_dark_or_negative(file) -> None:
    assert rgb(file(tiff(16, 1, bytes(range(16)))))[0, 0, 0] == 1
    with pytest.raises(DataError, match="16 bits per pixel, white being 0"):
        read_image(file(tiff(16, 0, bytes(range(16)))))
    with pytest.raises(DataError, match="12 bits per pixel, expected 8"):
        read_image(file(tiff(12, 1, bytes(range(12)))))


@pytest.mark.parametrize("reader", [read_image, read_ids, read_colours, size_of])
def test_large_images_are_refused_before_they_are_decoded(file, reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    before = psutil.Process().memory_info().rss
    colour = 0 if reader is read_ids else 2
    path = file(png(50_000, 50_000, 8, colour))
    assert path.stat().st_size < 100
    with pytest.raises(DataError, match=r"50000 x 50000 pixels, more than the 100,000,000 that are read.*max_pixels"):
        reader(path)
    with pytest.raises(DataError, match=r"11 x 7 pixels, more than the 76 "):
        reader(file(png(11, 7, 8, colour)), 76)
    assert psutil.Process().memory_info().rss - before < 50_000_000


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_format_is_measured_before_it_is_decoded(file, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(saved(Image.fromarray(RGB), kind))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"11 x 7 pixels"):
        read_image(path, 76)


def test_an_image_of_exactly_the_limit_is_read(file) -> None:
    assert read_image(file(saved(Image.fromarray(RGB), "PNG")), 77).shape == (3, 7, 11)


def test_a_bomb_of_a_webp_is_refused_without_memory(file) -> None:
    content = bytearray(saved(Image.fromarray(RGB), "WEBP", lossless=True))
    at = content.index(b"VP8L") + 9
    content[at : at + 4] = struct.pack("<I", (16_383 - 1) | (16_383 - 1) << 14)
    before = psutil.Process().memory_info().rss
    with pytest.raises(DataError):
        read_image(file(bytes(content)))
    assert psutil.Process().memory_info().rss - before < 100_000_000


def test_pillows_own_limit_neither_warns_nor_stops_what_is_allowed(file) -> None:
    assert Image.MAX_IMAGE_PIXELS < 95_000_000 < MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size_of(file(png(9_500, 10_000, 1, 0))) == (10_000, 9_500)
        assert size_of(file(png(30_000, 10_000, 1, 0)), 300_000_000) == (10_000, 30_000)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_text_that_unpacks_to_gigabytes_is_refused(file, kind: bytes) -> None:
    packed = zlib.compress(bytes(64 << 20), 9)
    middle = b"\0" if kind == b"zTXt" else b"\1\0\0\0"
    content = png(11, 7, 8, 2, RGB.tobytes(), before=chunk(kind, b"Comment\0" + middle + packed))
    before = psutil.Process().memory_info().rss
    with pytest.raises(DataError, match=r"image\.png cannot be read: .*too large"):
        read_image(file(content))
    assert psutil.Process().memory_info().rss - before < 50_000_000


@pytest.mark.parametrize("reader", [read_image, read_ids, read_colours, size_of])
def test_nothing_is_read_while_pillow_would_make_up_what_is_missing(
    file, reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ConfigError, match=r"LOAD_TRUNCATED_IMAGES is on.*Set it to False"):
        reader(file(saved(Image.fromarray(RGB), "PNG")))


def test_settings_and_faults_are_told_apart_so_that_skipping_does_not_skip_everything() -> None:
    assert not issubclass(ConfigError, DataError)


BASES = [
    saved(Image.fromarray(RGB), "PNG"),
    saved(Image.fromarray(RGB).quantize(8), "PNG"),
    saved(Image.fromarray(WIDE), "PNG"),
    saved(Image.fromarray(RGB), "JPEG"),
    saved(Image.fromarray(RGB), "WEBP"),
    saved(Image.fromarray(RGB), "GIF"),
    saved(Image.fromarray(RGB), "BMP"),
    saved(Image.fromarray(RGB), "PPM"),
]


def outcome(reader, path: Path) -> object:
    try:
        return reader(path, 1_000_000)
    except DataError as error:
        return error


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(BASES), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4), st.data())
def test_damaged_bytes_give_an_image_or_an_error_of_ours(file, base: bytes, changes, data: st.DataObject) -> None:
    content = bytearray(base[: data.draw(st.integers(0, len(base)))])
    for at, value in changes:
        if content:
            content[at % len(content)] = value
    path = file(bytes(content))
    for reader in (read_image, read_ids, read_colours, size_of):
        found = outcome(reader, path)
        assert str(path) in str(found) if isinstance(found, DataError) else len(found)


# Labels


def test_numbers_of_label_files_are_not_touched(file) -> None:
    palette = Image.fromarray(GREY, "P")
    palette.putpalette(RANDOM.integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert np.array_equal(read_ids(file(saved(palette, "PNG"))), GREY)
    assert np.array_equal(read_ids(file(saved(Image.fromarray(GREY), "PNG"))), GREY)
    assert read_ids(file(saved(Image.fromarray(GREY), "PNG"))).dtype == np.uint8
    assert np.array_equal(read_ids(file(saved(Image.fromarray(GREY > 99), "PNG"))), GREY > 99)
    for kind in ("PNG", "TIFF", "PPM"):
        wide = read_ids(file(saved(Image.fromarray(WIDE), kind)))
        assert np.array_equal(wide, WIDE)
        assert wide.dtype == np.int32
    numbers = WIDE.astype(np.int32) * 7
    assert np.array_equal(read_ids(file(saved(Image.fromarray(numbers), "TIFF"))), numbers)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_small_palettes_keep_their_numbers(file, bits: int) -> None:
    ids = (GREY[:, :8] % 2**bits).astype(np.uint8)
    packed = np.packbits(np.unpackbits(ids[..., None], axis=2)[..., -bits:].reshape(7, -1), axis=1)
    palette = chunk(b"PLTE", RANDOM.integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes())
    assert np.array_equal(read_ids(file(png(8, 7, bits, 3, packed.tobytes(), palette))), ids)


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_labels_that_a_decoder_scales_are_refused(file, bits: int) -> None:
    path = file(png(8, 1, bits, 0, bytes(range(bits))))
    with pytest.raises(DataError, match=r"image\.png is a grey image of 2 or 4 bits"):
        read_ids(path)
    assert rgb(path).max() > 2**bits  # a picture is meant to be scaled


@pytest.mark.parametrize("content", [b"P5 4 1 18 \0\7\21\22", b"P2 4 1 18 0 7 17 18"])
def test_grey_labels_with_another_white_are_refused(file, content: bytes) -> None:
    with pytest.raises(DataError, match="of another white than 255"):
        read_ids(file(content))
    assert read_ids(file(content.replace(b"1 18", b"1 255"))).tolist() == [[0, 7, 17, 18]]


def test_inverted_labels_are_refused(file) -> None:
    with pytest.raises(DataError, match="inverted"):
        read_ids(file(tiff(8, 0, bytes(8))))
    assert read_ids(file(tiff(8, 1, bytes(range(8))))).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_labels_compressed_with_loss_are_refused(file) -> None:
    path = file(saved(Image.fromarray(GREY), "JPEG"))
    with pytest.raises(DataError, match="is a JPEG, whose compression changes numbers"):
        read_ids(path)
    with pytest.raises(DataError, match="is a JPEG"):
        read_colours(file(saved(Image.fromarray(RGB), "JPEG")))


def test_colours_are_no_numbers_and_numbers_no_colours(file) -> None:
    for mode in ("RGB", "RGBA"):
        with pytest.raises(DataError, match=f"colour image .mode {mode}.*label map"):
            read_ids(file(saved(Image.fromarray(RGB).convert(mode), "PNG")))
    with pytest.raises(DataError, match=r"one number per pixel .mode L"):
        read_colours(file(saved(Image.fromarray(GREY), "PNG")))


def test_numbers_in_one_channel_are_read_as_they_are(file) -> None:
    alpha = np.dstack([RGB, GREY])
    for index, channel in enumerate(("red", "green", "blue", "alpha")):
        found = read_channel(file(saved(Image.fromarray(alpha), "PNG")), channel)
        assert (found.dtype, found.tolist()) == (np.uint8, alpha[..., index].tolist())
    palette = Image.fromarray(GREY % 3, "P")
    palette.putpalette(bytes([1, 2, 3, 40, 50, 60, 70, 80, 90]))
    path = file(saved(palette, "PNG", transparency=1))
    assert np.array_equal(read_channel(path, "green"), np.array([2, 50, 80])[GREY % 3])
    assert np.array_equal(read_channel(path, "alpha"), np.array([255, 0, 255])[GREY % 3])


def test_channels_that_hold_no_numbers_are_refused(file) -> None:
    with pytest.raises(DataError, match=r"one number per pixel .mode L. and no red channel\. Leave channel out"):
        read_channel(file(saved(Image.fromarray(GREY), "PNG")), "red")
    with pytest.raises(DataError, match=r"no alpha channel .mode RGB"):
        read_channel(file(saved(Image.fromarray(RGB), "PNG")), "alpha")
    with pytest.raises(DataError, match="is a JPEG"):
        read_channel(file(saved(Image.fromarray(RGB), "JPEG")), "red")
    wide = np.repeat(WIDE[..., None], 3, 2)
    with pytest.raises(DataError, match="16 bits a channel, of which the lower are lost"):
        read_channel(file(png(11, 7, 16, 2, wide.astype(">u2").tobytes())), "red")


def test_colours_of_label_files(file) -> None:
    assert np.array_equal(read_colours(file(saved(Image.fromarray(RGB), "PNG"))), RGB)
    alpha = np.dstack([RGB, GREY])
    assert np.array_equal(read_colours(file(saved(Image.fromarray(alpha), "PNG"))), RGB)
    palette = Image.fromarray(GREY % 3, "P")
    palette.putpalette(bytes([1, 2, 3, 40, 50, 60, 70, 80, 90]))
    found = read_colours(file(saved(palette, "PNG", transparency=1)))
    assert np.array_equal(found, np.array([[1, 2, 3], [40, 50, 60], [70, 80, 90]])[GREY % 3])


# Threads and handles


def test_threads_read_at_once_without_touching_what_they_share(
    file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "catch_warnings", lambda *a, **k: pytest.fail("not safe in threads"))
    images = [Image.fromarray(np.roll(RGB, index, 1)) for index in range(8)]
    paths = [file(saved(image, "PNG"), f"{index}.png") for index, image in enumerate(images)]
    paths[3].write_bytes(b"<html>")

    def read(index: int) -> bool:
        try:
            return np.array_equal(rgb(paths[index % 8]), np.array(images[index % 8]))
        except DataError as error:
            return index % 8 == 3 and "3.png is not an image" in str(error)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(200)))


@pytest.mark.skipif(os.name != "posix", reason="counts descriptors")
def test_files_are_closed_also_after_faults(file) -> None:
    contents = [*BASES, *(base[: len(base) // 2] for base in BASES), b"", b"<html>", png(50_000, 50_000, 8, 2)]
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
    contents += [saved(frames[0], kind, save_all=True, append_images=frames[1:]) for kind in ("GIF", "TIFF", "MPO")]
    paths = [file(content, f"{index}.png") for index, content in enumerate(contents)]
    before = psutil.Process().num_fds()
    kept = []
    for path in paths:
        for reader in (read_image, read_ids, read_colours, size_of):
            try:
                reader(path)
            except DataError as error:
                kept.append(error)  # and what its traceback holds
    assert len(kept) > len(BASES)
    assert psutil.Process().num_fds() == before
