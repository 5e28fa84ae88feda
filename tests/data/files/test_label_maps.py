from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from synreal.data.files.label_maps import LabelMap, MaskPaths, channel_advice
from synreal.data.labels.masks import IGNORE
from synreal.errors import DataError

NUMBERS = LabelMap({0: 2, 5: 0, 9: IGNORE, 300: 1, 65_535: 254}, hints={7: "seven is a raw id."})
COLOURS = {(0, 0, 0): IGNORE, (255, 0, 0): 0, (0, 255, 0): 1, (1, 2, 3): 254}


def saved(array: np.ndarray, path: Path, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.sampled_from([0, 5, 9, 300])))
def test_numbers_become_classes_one_by_one(ids: np.ndarray) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = NUMBERS.read(saved(ids, Path(folder) / "a.png"))
    assert found.dtype == np.uint8
    assert found.tolist() == [[NUMBERS.ids[int(number)] for number in row] for row in ids]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_classes_one_by_one(mode: str, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 4, (6, 7))
    pixels = np.array(list(COLOURS), dtype=np.uint8)[drawn]
    path = tmp_path / "a.png"
    if mode == "P":
        image = Image.fromarray(drawn.astype(np.uint8))
        image.putpalette([value for colour in COLOURS for value in colour])
        image.save(path)
    else:
        saved(pixels, path, mode)
    expected = [[COLOURS[tuple(pixel)] for pixel in row] for row in pixels.tolist()]
    assert LabelMap(colours=COLOURS).read(path).tolist() == expected


def test_a_palette_file_gives_its_indices_not_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 5], [9, 0]], dtype=np.uint8))
    image.putpalette([200, 100, 50] * 256)
    image.save(tmp_path / "a.png")
    assert NUMBERS.read(tmp_path / "a.png").tolist() == [[2, 0], [IGNORE, 2]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0, 6]], "a.png holds numbers that its label map does not have: 6. Known: 0, 5, 9, 300, 65535. Add them to"),
        ([list(range(10, 22))], "10, 11, 12, 13, 14, 15, 16, 17 and 4 more"),
        ([[6, 7]], "a.png: seven is a raw id."),
    ],
)
def test_a_number_outside_the_map_is_refused(values: list[list[int]], message: str, tmp_path: Path) -> None:
    saved(np.array(values, dtype=np.uint8), tmp_path / "a.png")
    with pytest.raises(DataError) as raised:
        NUMBERS.read(tmp_path / "a.png")
    assert message in str(raised.value)


def test_a_colour_outside_the_map_is_refused(tmp_path: Path) -> None:
    path = saved(np.array([[[255, 0, 0], [254, 0, 9]]], dtype=np.uint8), tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png holds colours that .*: \(254, 0, 9\). Known: \(0, 0, 0\)"):
        LabelMap(colours=COLOURS).read(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_colours_where_numbers_are_expected_are_refused_with_advice(mode: str, tmp_path: Path) -> None:
    path = saved(np.zeros((2, 2, 3), np.uint8), tmp_path / "a.tif", mode)
    with pytest.raises(DataError, match=rf"a.tif is a colour image \(mode {mode}\).*label map"):
        LabelMap({0: 0}).read(path)
    with pytest.raises(DataError, match=rf"a.tif is a colour image \(mode {mode}\), .* Say colours\.$"):
        LabelMap({0: 0}, colour_advice="Say colours.").read(path)


def test_numbers_where_colours_are_expected_are_refused_with_advice(tmp_path: Path) -> None:
    path = saved(np.zeros((2, 2), np.uint8), tmp_path / "a.png")
    with pytest.raises(
        DataError, match=r"a.png has one number per pixel \(mode L\), expected colours\. Say numbers\.$"
    ):
        LabelMap(colours=COLOURS, colour_advice="Say numbers.").read(path)


def test_what_the_map_lacks_may_be_ignored(tmp_path: Path) -> None:
    numbers = LabelMap({3: 0, 4: 1}, ignore_others=True)
    path = saved(np.array([[3, 4], [5, 255]], np.uint8), tmp_path / "a.png")
    assert numbers.read(path).tolist() == [[0, 1], [IGNORE, IGNORE]]
    colours = LabelMap(colours={(1, 2, 3): 4}, ignore_others=True)
    path = saved(np.array([[[1, 2, 3], [3, 2, 1]]], np.uint8), tmp_path / "b.png")
    assert colours.read(path).tolist() == [[4, IGNORE]]


def test_numbers_stand_in_the_channel_that_is_named(tmp_path: Path) -> None:
    path = saved(np.array([[[7, 3, 0, 9], [8, 4, 0, 9]]], np.uint8), tmp_path / "a.png")
    maps = [LabelMap({3: 0, 4: 1}, channel="green"), LabelMap({7: 0, 8: 0}, channel="red")]
    assert [each.read(path).tolist() for each in maps] == [[[0, 1]], [[0, 0]]]
    assert MaskPaths(tmp_path, ["a.png"], maps[0]).fault(0) == "ids out of range"
    saved(np.zeros((2, 2), np.uint8), tmp_path / "b.png")
    assert MaskPaths(tmp_path, ["b.png"], maps[0]).fault(0) == "wrong mode"
    with pytest.raises(DataError, match="the red channel gives numbers, not colours"):
        LabelMap(colours=COLOURS, channel="red")


def test_what_is_read_otherwise_has_another_fingerprint() -> None:
    maps = [
        LabelMap({1: 0}),
        LabelMap({1: 0}, channel="red"),
        LabelMap({1: 0}, channel="blue"),
        LabelMap({1: 0}, ignore_others=True),
    ]
    assert len({each.describe() for each in maps}) == 4
    assert maps[0].describe() == b"([(1, 0)], [])"  # as in records that were written before there was a choice


@pytest.mark.parametrize(
    ("pixels", "ids", "expected"),
    [
        (
            [[7, 0, 0], [1, 0, 0]],
            {0, 1, 7},
            "red channel holds nothing but numbers of the map, 1, 7: write channel: red",
        ),
        ([[0, 0, 7, 255], [0, 0, 1, 255]], {1, 7}, "blue channel holds nothing but numbers of the map"),
        ([[9, 0, 7], [8, 0, 1]], {1, 7}, "blue channel holds nothing but"),
        ([[9, 0, 0], [8, 0, 0]], {1, 7}, "red channel alone varies, 8, 9"),
        ([[9, 1, 200], [8, 100, 3]], {4, 5}, None),
        ([[7, 7, 7], [1, 1, 1]], {1, 7}, "red channel holds"),
    ],
)
def test_the_channel_that_holds_numbers_is_found(
    pixels: list[list[int]], ids: set[int], expected: str | None, tmp_path: Path
) -> None:
    # Over several masks: one alone may show one class.
    paths = [saved(np.array([[row]], np.uint8), tmp_path / f"{index}.png") for index, row in enumerate(pixels)]
    found = channel_advice(paths, ids)
    assert found is None if expected is None else expected in str(found)
    grey = saved(np.zeros((2, 2), np.uint8), tmp_path / "grey.png")
    assert channel_advice([grey, *paths], ids) is None


@pytest.mark.parametrize("values", [[[-1, 0]], [[0, 65_536]]])
def test_numbers_beyond_16_bits_are_refused(values: list[list[int]], tmp_path: Path) -> None:
    path = saved(np.array(values, dtype=np.int32), tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a.tif holds numbers from -?\d+ to \d+, expected 0 to 65535"):
        NUMBERS.read(path)


@pytest.mark.parametrize(
    ("given_map", "message"),
    [
        ({}, "either numbers or colours"),
        ({"ids": {}}, "either numbers or colours"),
        ({"ids": {0: 0}, "colours": COLOURS}, "either numbers or colours"),
        ({"ids": {-1: 0}}, "numbers 0 to 65535, got -1"),
        ({"ids": {65_536: 0}}, "numbers 0 to 65535, got 65536"),
        ({"ids": {3: -1}}, "classes 0 to 254 or 255"),
        ({"ids": {3: 256}}, "got 3: 256"),
        ({"colours": {(0, 0, 256): 0}}, r"from 0 to 255, got \(0, 0, 256\)"),
        ({"colours": {(0, 0): 0}}, r"from 0 to 255, got \(0, 0\)"),
    ],
)
def test_an_impossible_map_is_refused(given_map: dict[str, dict[object, int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelMap(**given_map)  # type: ignore[arg-type]


def test_a_map_travels_to_workers_without_its_table(tmp_path: Path) -> None:
    path = saved(np.array([[[255, 0, 0], [1, 2, 3]]], dtype=np.uint8), tmp_path / "a.png")
    label_map = LabelMap(colours=COLOURS)
    before = label_map.read(path)
    text = pickle.dumps(label_map)
    assert len(text) < 2_000
    assert (pickle.loads(text).read(path) == before).all()


def test_mask_paths(tmp_path: Path) -> None:
    for index, number in enumerate((0, 5, 9)):
        saved(np.full((2, 3), number, np.uint8), tmp_path / f"{index}.png")
    files = ["0.png", "1.png", "2.png"]
    masks = MaskPaths(tmp_path, files, NUMBERS)
    assert [int(masks.read(index)[0, 0]) for index in range(3)] == [2, 0, IGNORE]
    assert masks.place(1) == str(tmp_path / "1.png")
    assert masks.path(2) == tmp_path / "2.png"
    part = MaskPaths(tmp_path, [files[2], files[0]], NUMBERS)
    other_map = MaskPaths(tmp_path, files, LabelMap({**NUMBERS.ids, 0: 3}))
    assert len({tuple(each.digest()) for each in (masks, part, other_map)}) == 3
    assert MaskPaths(tmp_path, files, LabelMap(NUMBERS.ids)).digest() == masks.digest()
    with pytest.raises(DataError, match="more than the 5 that are read"):
        MaskPaths(tmp_path, files, NUMBERS, max_pixels=5).read(0)
