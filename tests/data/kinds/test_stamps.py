from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from synreal.data import default_targets, find, load
from synreal.data.kinds.stamps import CLASSES
from synreal.data.rendered import numerals, stamp_files, stamp_images
from synreal.data.rendered.composition import crop_square, read_photograph
from synreal.data.rendered.stamp_files import Cutouts, Stamp, cut_out, find_folder, list_stamps, load_cutouts
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError, DataError
from tests.data.stamp_trees import COLOURS, png, stamp_tree, svg

RGB = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in COLOURS.values()])
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stamp_tree(tmp_path_factory.mktemp("stamps"))


@pytest.fixture(scope="module")
def cutouts(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cutouts:
    return load_cutouts(folder, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stamp_files, "PLACES", (str(tmp_path / "nowhere"),))


def sides(folder: Path) -> tuple[set[str], set[str], list[str]]:
    stamps, out = list_stamps(folder)
    drawn, photographed = ({stamp.file for stamp in stamps if stamp.drawn is side} for side in (True, False))
    assert len(stamps) == len(drawn) + len(photographed)
    return drawn, photographed, out


def test_vector_files_and_cartoons_are_drawings(folder: Path) -> None:
    drawn, photographed, out = sides(folder)
    files = ("a1.svg", "a2.svg", "bus.svg", "cat.svg", "sub/cartoon/drawn.png")
    assert drawn == {f"{name}/{file}" for name in CLASSES for file in files}
    assert photographed == {f"{name}/sub/{stem}.png" for name in CLASSES for stem in "xyz"}
    assert out == []
    assert all(stamp.file.startswith(CLASSES[stamp.label] + "/") for stamp in list_stamps(folder)[0])


def test_drawings_outside_cartoon_are_known_by_name(tmp_path: Path) -> None:
    stamp_tree(tmp_path)
    for file in ("animals/mammals/hedgehog.png", "town/flags/redflag.png", "town/roadsigns/stoplight_01_red.png"):
        png(tmp_path / file, "123456")
    png(tmp_path / "town/roadsigns/give_way_sign.png", "123456")
    drawn, photographed, _ = sides(tmp_path)
    assert {"animals/mammals/hedgehog.png", "town/flags/redflag.png", "town/roadsigns/stoplight_01_red.png"} <= drawn
    assert "town/roadsigns/give_way_sign.png" in photographed


def test_each_picture_is_listed_once(tmp_path: Path) -> None:
    stamp_tree(tmp_path)
    for file in ("animals/bus.PNG", "animals/sub/x_mirror.png", "animals/cat_mirror.png", "animals/sub/x_flip.png"):
        png(tmp_path / file, "123456")
    png(tmp_path / "animals/other/bus.png", "123456")  # another picture: it lies elsewhere
    png(tmp_path / "animals/other/lone_mirror.png", "654321")
    png(tmp_path / "vehicles/emergency/sedan_police.png", "123456")
    for litter in ("animals/.hidden.png", "animals/__MACOSX/a.png", "animals/a1.txt", "people/man.png"):
        png(tmp_path / litter, "123456") if litter.endswith("png") else (tmp_path / litter).write_text("")
    drawn, photographed, out = sides(tmp_path)
    assert sorted(out) == [
        "animals/bus.PNG",
        "animals/cat_mirror.png",
        "animals/sub/x_flip.png",
        "animals/sub/x_mirror.png",
        "vehicles/emergency/sedan_police.png",
    ]
    assert "animals/bus.svg" in drawn
    assert {"animals/other/bus.png", "animals/other/lone_mirror.png", "animals/sub/x.png"} <= photographed
    assert len(drawn | photographed) == 5 * 8 + 2


@pytest.mark.parametrize(
    ("file", "family"),
    [
        ("animals/cartoon/ladybug-2.png", "ladybug"),
        ("food/fruit/apple_core_01.svg", "apple_core"),
        ("household/Pencil.svg", "pencil"),
        ("household/pencil2.svg", "pencil"),
        ("town/roadsigns/stoplight_01_red.png", "stoplight"),
        ("vehicles/flight/planes/747.png", "747"),
        ("vehicles/7spoke256.png", "7spoke"),
    ],
)
def test_variants_of_a_picture_are_one_family(file: str, family: str) -> None:
    assert Stamp(file, 0, True).family == family


@pytest.mark.parametrize("below", ["", "stamps", "tuxpaint/stamps", "usr/share/tuxpaint/stamps"])
def test_the_folder_is_found_below_what_was_unpacked(below: str, tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "there" / below / name).mkdir(parents=True)
    found = find_folder(tmp_path / "there")
    assert found is not None
    assert found.resolve() == (tmp_path / "there" / below).resolve()


def test_a_folder_without_stamps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    with pytest.raises(DataError, match=r"holds animals, expected Tux Paint's folders animals, food.*--from FOLDER"):
        find_folder(tmp_path)
    with pytest.raises(DataError, match=r"gone does not exist, expected a folder"):
        find_folder(tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file is a file"):
        find("stamps(root='%s')" % (tmp_path / "file")).check()


def test_an_installed_package_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cutouts: Cutouts
) -> None:
    monkeypatch.setattr(stamp_files, "PLACES", (str(tmp_path / "nowhere"), str(folder)))
    assert find_folder(None) == folder
    assert load_cutouts(None, cache=tmp_path).fingerprint == cutouts.fingerprint


@pytest.mark.parametrize(("width", "height", "unit"), [(100, 40, ""), (300, 900, ""), (7, 7, "pt"), (20, 10, "mm")])
def test_vector_files_are_rendered_to_one_size_in_any_unit(width: int, height: int, unit: str, tmp_path: Path) -> None:
    svg(tmp_path / "a.svg", "ff8000", width, height, unit)
    picture = cut_out(tmp_path / "a.svg")
    assert picture.dtype == np.uint8
    assert max(picture.shape[:2]) == 192
    assert picture.shape[0] / picture.shape[1] == pytest.approx(height / width, rel=0.02)
    assert (picture[5:-5, 5:-5] == [255, 128, 0, 255]).all()


def test_a_picture_is_cropped_to_what_can_be_seen(tmp_path: Path) -> None:
    pixels = np.zeros((40, 50, 4), np.uint8)
    pixels[10:25, 20:31] = [200, 100, 50, 255]
    pixels[25:27, 20:31] = [0, 0, 0, 60]  # a shadow
    pixels[30:40] = [0, 0, 0, 7]  # what nobody sees
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(cut_out(tmp_path / "a.png"), pixels[10:27, 20:31])


def test_shrinking_leaves_no_fringe_of_what_was_transparent(tmp_path: Path) -> None:
    pixels = np.zeros((500, 400, 4), np.uint8)
    pixels[...] = [0, 255, 0, 0]
    rows, columns = np.mgrid[:500, :400]
    pixels[((rows - 250) / 240) ** 2 + ((columns - 200) / 190) ** 2 < 1] = [255, 0, 0, 255]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = cut_out(tmp_path / "a.png")
    assert picture.shape[0] == 192
    alpha = picture[..., 3]
    assert ((alpha > 20) & (alpha < 235)).sum() > 50, "there is a soft edge"
    assert picture[alpha > 20][:, 1].max() < 10
    assert picture[alpha > 20][:, 0].min() > 245


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_other_modes_of_png_files_are_read(mode: str, tmp_path: Path) -> None:
    png(tmp_path / "a.png", "808080", (20, 30), border=3)
    image = Image.open(tmp_path / "a.png")
    if mode == "P":
        palette = Image.new("P", image.size, 0)
        palette.putpalette([1, 2, 3, 128, 128, 128])
        palette.paste(1, (3, 3, 33, 23))
        palette.save(tmp_path / "b.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / "b.png")
    picture = cut_out(tmp_path / "b.png")
    # Without alpha, all of it is the object.
    assert picture.shape == ((26, 36, 4) if mode in ("L", "RGB") else (20, 30, 4))
    assert picture[picture.shape[0] // 2, picture.shape[1] // 2].tolist() == [128, 128, 128, 255]


def test_a_picture_that_nobody_sees_is_refused(tmp_path: Path) -> None:
    Image.new("RGBA", (50, 50), (10, 10, 10, 90)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is all but transparent"):
        cut_out(tmp_path / "a.png")
    Image.new("RGBA", (50, 50)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png is all but transparent"):
        cut_out(tmp_path / "b.png")


def test_cutouts_are_what_the_files_show(cutouts: Cutouts) -> None:
    assert cutouts.counts() == {name: {"drawn": 5, "photographed": 3} for name in CLASSES}
    assert len(cutouts.pictures) == len(cutouts.stamps) == 40
    assert not cutouts.skipped
    assert not cutouts.left_out
    for stamp, picture in zip(cutouts.stamps, cutouts.pictures, strict=True):
        height, width = picture.shape[:2]
        assert picture[height // 2, width // 2].tolist() == [*RGB[stamp.label], 255]
        if not stamp.drawn:
            assert (height, width) == (20, 21 + "xyz".index(Path(stamp.file).stem))


def test_cutouts_are_cached_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = stamp_tree(tmp_path / "stamps"), tmp_path / "cache"
    steps: list[tuple[int, int]] = []
    first = load_cutouts(root, cache=cache, progress=lambda *step: steps.append(step))
    assert steps == [(done, 40) for done in range(1, 41)]
    with monkeypatch.context() as patch:
        patch.setattr(stamp_files, "cut_out", lambda path: pytest.fail("read again"))
        again = load_cutouts(root, cache=cache)
    assert (again.fingerprint, again.stamps) == (first.fingerprint, first.stamps)
    assert all(map(np.array_equal, first.pictures, again.pictures))
    assert [path.name for path in cache.iterdir()] == [f"{first.key}.safetensors"]
    assert f"resvg_py{version('resvg_py')}" in first.key
    svg(root / "food/a1.svg", "00fe00")  # as long as it was
    other = load_cutouts(root, cache=cache)
    assert other.fingerprint != first.fingerprint
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures("nothing_installed")
def test_prepared_cutouts_need_no_files(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"not installed: none of .*apt install tuxpaint-stamps-default.*--from FOLDER"):
        load_cutouts(None, cache=cache)
    root = stamp_tree(tmp_path / "stamps")
    one = load_cutouts(root, cache=cache)
    svg(root / "food/a1.svg", "00fe00")
    two = load_cutouts(root, cache=cache)
    stamp_files.keep(one, cache=cache)
    assert load_cutouts(None, cache=cache).fingerprint == one.fingerprint
    path = stamp_files.keep(two, cache=cache)
    assert load_cutouts(None, cache=cache).fingerprint == two.fingerprint
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"making its content again"), pytest.raises(DataError, match=r"are damaged"):
        load_cutouts(None, cache=cache)
    with pytest.raises(DataError, match=r"not cached.*SYNREAL_CACHE"):
        stamp_files.keep(two, cache=tmp_path / "other")


def test_without_renderer_only_the_cache_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = stamp_tree(tmp_path / "stamps"), tmp_path / "cache"

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    with monkeypatch.context() as patch:
        patch.setattr(stamp_files, "version", missing)
        with pytest.raises(DataError, match=r"resvg_py, which is not installed: pip install 'synreal\[stamps\]'"):
            load_cutouts(root, cache=cache)
    made = load_cutouts(root, cache=cache)
    monkeypatch.setattr(stamp_files, "version", missing)
    assert load_cutouts(root, cache=cache).fingerprint == made.fingerprint


def test_broken_files_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp_images, "VIEWS", 1)
    root = stamp_tree(tmp_path / "stamps")
    (root / "food/broken.svg").write_text("<svg")
    (root / "food/empty.png").write_bytes(b"")
    whole = (root / "town/sub/x.png").read_bytes()
    (root / "town/sub/cut.png").write_bytes(whole[: len(whole) // 2])
    found = load_cutouts(root, cache=tmp_path)
    assert set(found.skipped) == {"food/broken.svg", "food/empty.png", "town/sub/cut.png"}
    assert "cannot be rendered" in found.skipped["food/broken.svg"]
    assert str(root / "food/empty.png") in found.skipped["food/empty.png"]
    assert found.counts()["food"] == {"drawn": 5, "photographed": 3}
    with pytest.warns(UserWarning, match=r"stamps: 3 files left out: .*broken\.svg cannot be rendered"):
        load(f"stamps:{root}", "test", label="classes", cache=tmp_path)


def test_a_picture_on_both_sides_stays_a_drawing(tmp_path: Path) -> None:
    root = stamp_tree(tmp_path / "stamps")
    (root / "food/sub/copy.png").write_bytes((root / "food/sub/cartoon/drawn.png").read_bytes())
    found = load_cutouts(root, cache=tmp_path)
    assert found.left_out == ("food/sub/copy.png",)
    assert found.counts()["food"] == {"drawn": 5, "photographed": 3}


def test_a_class_with_too_few_pictures_is_refused(tmp_path: Path) -> None:
    root = stamp_tree(tmp_path / "stamps")
    for stem in "xyz":
        (root / f"town/sub/{stem}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"town has 0 different photographed stamps.*expected 2 .*3 were"):
        load_cutouts(root, cache=tmp_path)


def test_drawings_are_divided_by_family_and_photographs_are_the_target(cutouts: Cutouts) -> None:
    rows = {split: stamp_images.chosen(cutouts, split) for split in ("train", "heldout", "test")}
    every = sorted(index for split in rows.values() for row in split for index in row)
    assert every == list(range(40)), "each stamp is in one split"
    for split, by_class in rows.items():
        for label, row in enumerate(by_class):
            assert row, "no class is empty"
            assert {cutouts.stamps[index].label for index in row} == {label}
            assert {cutouts.stamps[index].drawn for index in row} == {split != "test"}
    for train, heldout in zip(rows["train"], rows["heldout"], strict=True):
        assert not {cutouts.stamps[i].family for i in train} & {cutouts.stamps[i].family for i in heldout}
        assert len({cutouts.stamps[i].family for i in heldout}) == 1


def shown(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The class whose colour each pixel of an image, (3, H, W), has; -1 for none."""
    same = (image.transpose(1, 2, 0)[None] == RGB[:, None, None]).all(3)
    return np.where(same.any(0), same.argmax(0), -1)


def test_one_photographed_stamp_on_each_image_of_the_target(cutouts: Cutouts, tmp_path: Path) -> None:
    images = stamp_images.load_target(cutouts, label="classes", cache=tmp_path)
    assert isinstance(images, ArrayImages)
    assert (images.name, images.split, images.classes) == ("stamps", "test", CLASSES)
    assert len(images) == 4 * 15
    assert images.labels.bincount().tolist() == [12] * 5
    lengths = []
    for number, (image, label) in enumerate(images):
        seen = shown(image.numpy()) == label
        rows, columns = np.nonzero(seen)
        assert 8 <= min(rows.min(), columns.min())
        assert max(rows.max(), columns.max()) < 120
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        lengths.append(max(height, width))
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert seen[box].mean() > 0.99, "a rectangle"
        # Around it lies the photograph, as it was drawn first.
        package, file, part = stamp_images.PHOTOGRAPHS[number % len(stamp_images.PHOTOGRAPHS)]
        photograph = read_photograph(package, file)
        photograph = photograph if part is None else photograph.crop(part)
        expected = np.rint(255 * crop_square(photograph, numerals.generator(0, 8, number)))
        changed = np.abs(image.numpy().transpose(1, 2, 0) - expected).max(2) > 0
        outside = np.ones_like(changed)
        outside[max(0, rows.min() - 2) : rows.max() + 3, max(0, columns.min() - 2) : columns.max() + 3] = False
        assert not changed[outside].any()
    assert min(lengths) >= 62
    assert max(lengths) <= 108
    assert max(lengths) - min(lengths) > 25


def test_source_images_are_balanced_and_reproducible(cutouts: Cutouts) -> None:
    made = stamp_images._compose(cutouts, "train", 40, 0)
    assert made["labels"].tolist() == [number % 5 for number in range(40)]
    assert made["images"].shape == (40, 3, 128, 128)
    assert np.array_equal(stamp_images._compose(cutouts, "train", 7, 0)["images"], made["images"][:7])
    for other in (stamp_images._compose(cutouts, "train", 7, 1), stamp_images._compose(cutouts, "heldout", 7, 0)):
        assert not (other["images"] == made["images"][:7]).all((1, 2, 3)).any()


def test_source_images_show_their_class(cutouts: Cutouts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerals, "develop", lambda canvas, rng: np.rint(255 * canvas).astype(np.uint8))
    made = stamp_images._compose(cutouts, "train", 20, 0)
    for image, label in zip(made["images"], made["labels"], strict=True):
        seen = shown(image)
        assert (seen == label).sum() > 600
        assert (seen[seen != label] == -1).all()


@pytest.mark.parametrize("compose", [stamp_images._compose, stamp_images._compose_scenes])
def test_no_background_of_the_source_is_used_twice(
    compose: Callable[..., dict[str, NDArray[np.uint8]]], cutouts: Cutouts
) -> None:
    both = [compose(cutouts, split, 12, 0)["images"] for split in ("train", "heldout")]
    # In four corners of eight pixels there is hardly ever a stamp.
    corners = [images[..., [*range(4), *range(124, 128)]][..., [*range(4), *range(124, 128)], :] for images in both]
    assert not (corners[0] == corners[1]).all((1, 2, 3)).any()
    assert (corners[0] == corners[1]).mean() < 0.1


@pytest.mark.parametrize("split", ["train", "test"])
def test_masks_and_boxes_of_scenes_are_what_can_be_seen(
    split: str, cutouts: Cutouts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerals, "develop", lambda canvas, rng: np.rint(255 * canvas).astype(np.uint8))
    made = stamp_images._compose_scenes(cutouts, split, 30, 0)
    assert np.array_equal(made["images"][:5], stamp_images._compose_scenes(cutouts, split, 5, 0)["images"])
    assert made["counts"].min() >= 1
    assert 3 <= made["counts"].max() <= 4
    assert set(made["labels"].tolist()) == set(range(5))
    ends = np.cumsum(made["counts"])[:-1]
    parts = (np.split(made[field], ends) for field in ("boxes", "labels", "areas"))
    alone = 0
    for image, mask, boxes, labels, areas in zip(made["images"], made["masks"], *parts, strict=True):
        seen = shown(image)
        sure = seen >= 0
        assert np.array_equal(seen[sure] + 1, mask[sure]), "pure colours are inside the mask of their class"
        assert (mask[~sure] > 0).sum() <= 0.12 * (mask > 0).sum(), "all else in it is soft edges"
        assert areas.sum() == (mask > 0).sum()
        for label in set(labels.tolist()):
            rows, columns = np.nonzero(mask == label + 1)
            own = boxes[labels == label]
            around = [*own[:, :2].min(0), *own[:, 2:].max(0)]
            assert around == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            alone += len(own) == 1
    assert alone > 20
    longest = (made["boxes"][:, 2:] - made["boxes"][:, :2]).max(1)
    assert longest.max() <= 84
    assert longest.min() < 50


def halves(drawn: bool) -> Cutouts:
    """One picture a class: red on the left, blue on the right."""
    picture = np.zeros((20, 30, 4), np.uint8)
    picture[:, :15] = [255, 0, 0, 255]
    picture[:, 15:] = [0, 0, 255, 255]
    stamps = [Stamp(f"{name}/{name}.png", label, drawn) for label, name in enumerate(CLASSES)]
    return Cutouts("key", tuple(stamps), (picture,) * 5, "0" * 64, {}, ())


@pytest.mark.parametrize("drawn", [True, False])
def test_drawings_are_mirrored_and_photographs_are_not(drawn: bool) -> None:
    made = [stamp_images._stamp(halves(drawn), 0, 30.0, np.random.default_rng(seed)) for seed in range(200)]
    mirrored = sum(bool(stamp.colours[10, 0, 2] > 0.9) for stamp in made)
    assert 70 < mirrored < 130 if drawn else mirrored == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 192), st.integers(1, 192), st.floats(40, 108), st.integers(128, 255))
def test_a_stamp_of_any_shape_has_a_mask(height: int, width: int, side: float, alpha: int) -> None:
    picture = np.full((height, width, 4), alpha, np.uint8)
    cutouts = Cutouts("key", (Stamp("food/a.png", 1, True),), (picture,), "0" * 64, {}, ())
    stamp = stamp_images._stamp(cutouts, 0, side, np.random.default_rng(0))
    assert stamp.label == 1
    assert stamp.cover.shape == stamp.mask.shape == stamp.colours.shape[:2]
    assert max(stamp.mask.shape) == round(side)
    assert stamp.mask.all()


def test_a_mask_is_what_covers_half_of_what_lies_behind() -> None:
    picture = np.full((30, 30, 4), 255, np.uint8)
    picture[:, :10, 3], picture[:, 10:20, 3] = 120, 136
    cutouts = Cutouts("key", (Stamp("food/a.png", 1, False),), (picture,), "0" * 64, {}, ())
    mask = stamp_images._stamp(cutouts, 0, 30.0, np.random.default_rng(0)).mask
    assert not mask[:, :9].any()
    assert mask[:, 11:].all()


def test_a_hair_has_a_mask() -> None:
    picture = np.zeros((192, 192, 4), np.uint8)
    picture[96] = 255
    cutouts = Cutouts("key", (Stamp("food/a.png", 1, True),), (picture,), "0" * 64, {}, ())
    assert stamp_images._stamp(cutouts, 0, 50.0, np.random.default_rng(0)).mask.any()


def test_photographs_hold_a_crop() -> None:
    for package, file, box in stamp_images.PHOTOGRAPHS:
        photograph = read_photograph(package, file)
        width, height = photograph.size
        left, top, right, bottom = box or (0, 0, width, height)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert min(right - left, bottom - top) > 128


@pytest.mark.parametrize("label", ["classes", "masks", "boxes"])
def test_the_data_set_is_loaded_by_name(
    label: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for counts in ("COUNTS", "SCENE_COUNTS"):
        monkeypatch.setattr(stamp_images, counts, {"train": 10, "heldout": 5, "test": 6})
    monkeypatch.setattr(stamp_images, "VIEWS", 1)
    entry = find(f"stamps:{folder}")
    assert entry.parts == ("train", "heldout", "test")
    kind = {"classes": ArrayImages, "masks": ArrayMasks, "boxes": ArrayBoxes}[label]
    for split in entry.parts:
        images = load(entry, split, label=label, cache=tmp_path)
        assert isinstance(images, kind)
        assert images.classes == entry.class_names(label)
        assert images.size(0) == (128, 128)
        assert len(images) == {"train": 10, "heldout": 5, "test": 15 if label == "classes" else 6}[split]
        other = load(entry, split, label=label, seed=1, cache=tmp_path)
        assert (images.fingerprint == other.fingerprint) == (split == "test"), "the target is one fixed set"


def test_masks_and_boxes_share_their_scenes(cutouts: Cutouts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp_images, "SCENE_COUNTS", {"train": 4})
    masks = stamp_images.load_source(cutouts, "train", label="masks", cache=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("scenes-stamps-v1-seed0-train-4x128px-")
    boxes = stamp_images.load_source(cutouts, "train", label="boxes", cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(masks[3][0], boxes[3][0])


def test_wrong_requests(cutouts: Cutouts, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown stamps split 'test'"):
        stamp_images.load_source(cutouts, "test", label="classes", cache=tmp_path)
    with pytest.raises(ConfigError, match=r"seed -1, expected 0 or more"):
        stamp_images.load_source(cutouts, "train", label="classes", seed=-1, cache=tmp_path)
    with pytest.raises(ConfigError, match=r"Unknown kind of label of stamps 'depth'"):
        stamp_images.load_target(cutouts, label="depth", cache=tmp_path)
    with pytest.raises(ConfigError, match=r"needs its folder"):
        find("stamps:")


def test_how_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for text, plain in (
        ("stamps", "stamps"),
        (f"stamps:{folder.name}", f"stamps:{folder}"),
        (f"stamps(root='{folder}')", f"stamps:{folder}"),
    ):
        entry = find(text)
        assert entry.text() == plain
        assert find(entry.text()) == entry
        assert entry.label == "stamps"
        for label in entry.label_kinds:
            assert default_targets(entry, label) == (plain,)


def test_naming_it_imports_no_torch() -> None:
    code = (
        "import sys; from synreal.data import find; find('stamps').class_names('detection'); "
        "find('stamps').check(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    return stamp_tree(tmp_path / "stamps")


@pytest.mark.usefixtures("nothing_installed")
def test_prepare_reports_what_it_cached(prepared: Path, call: Call) -> None:
    (prepared / "food/broken.svg").write_text("<svg")
    png(prepared / "food/sub/x_mirror.png", "123456")
    code, out, _ = call("data", "prepare", "stamps", "--from", prepared)
    assert code == 0
    assert "food          5 drawn     3 photographed" in out
    assert "all          25 drawn    15 photographed" in out
    assert "1 files left out" in out
    assert "1 files could not be used:" in out
    assert "broken.svg cannot be rendered" in out
    code, out, _ = call("data", "prepare", "stamps", "--json")  # from the cache now
    assert code == 0
    facts = json.loads(out)
    assert facts["classes"]["town"] == {"drawn": 5, "photographed": 3}
    assert list(facts["skipped"]) == ["food/broken.svg"]
    assert facts["left_out"] == ["food/sub/x_mirror.png"]
    assert Path(facts["file"]).is_file()
    assert len(facts["fingerprint"]) == 64


@pytest.mark.usefixtures("nothing_installed")
def test_prepare_says_what_is_wrong(prepared: Path, call: Call) -> None:
    code, _, err = call("data", "prepare", "stamps")
    assert code == 2
    assert "apt install tuxpaint-stamps-default" in err
    code, _, err = call("data", "prepare", "stamp")
    assert code == 2
    assert "Did you mean 'stamps'?" in err
    code, _, err = call("data", "prepare", "stamps", "--from", prepared / "gone")
    assert code == 2
    assert "does not exist" in err
