from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as theirs
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels as their_labels
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from synreal.data import Policy, check_domain, find, load
from synreal.data.files import urban_labels
from synreal.data.files.urban import CLASSES, NAMES, THING_NAMES, VOID, VOID_COLOURS
from synreal.data.kinds.cityscapes import COUNTS, Cityscapes
from synreal.data.labels.masks import IGNORE
from synreal.errors import ConfigError, DataError, SynrealError
from synreal.measures import Collection
from synreal.metrics import mean_iou
from tests.data.urban_trees import box, cityscapes_tree, to_train_ids

THINGS = {24: 0, 25: 1, 26: 2, 27: 3, 28: 4, 31: 5, 32: 6, 33: 7}
LABELS = ("label_ids", "train_ids", "polygons")
ENDS = {"label_ids": "labelIds.png", "train_ids": "labelTrainIds.png", "instance_ids": "instanceIds.png"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cityscapes_tree(tmp_path_factory.mktemp("cityscapes"), number=4, size=(48, 32), train_ids=True)


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "cityscapes"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))


def read_and_hear(root: Path, label: str = "masks", policy: Policy | None = None, **fields: Any) -> tuple[Any, str]:
    """Load, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = load(Cityscapes(root=root, **fields), "test", label=label, policy=policy or Policy())
    return images, "\n".join(str(each.message) for each in caught)


def read(root: Path, label: str = "masks", policy: Policy | None = None, **fields: Any) -> Any:
    return read_and_hear(root, label, policy, **fields)[0]


def refused(root: Path, label: str = "masks", policy: Policy | None = None, **fields: Any) -> str:
    with pytest.raises(SynrealError) as raised:
        read(root, label, policy, **fields)
    return str(raised.value)


def files(root: Path, end: str) -> list[Path]:
    return sorted(root.glob(f"**/*_{end}"))


def raw(images: Any, index: int, root: Path) -> np.ndarray:
    stem = Path(images.files[index]).name.removesuffix("_leftImg8bit.png")
    return np.array(Image.open(next(root.glob(f"gtFine/*/*/{stem}_gtFine_labelIds.png"))))


# --- Masks


@pytest.mark.parametrize("labels", ["auto", *LABELS])
def test_masks_are_those_of_the_label_ids(labels: str, made: Path) -> None:
    images = read(made, labels=labels)
    assert images.classes == NAMES
    assert len(images) == 4
    for index in range(4):
        image, mask = images[index]
        assert mask.dtype == image.dtype == torch.uint8
        assert (mask.numpy() == to_train_ids(raw(images, index, made))).all()
        assert set(mask.unique().tolist()) == {0, 2, 10, 11, 13, IGNORE}
        assert (image.permute(1, 2, 0).numpy() == np.array(Image.open(made / images.files[index]))).all()


def test_classes_are_those_of_cityscapesscripts() -> None:
    measured = sorted((each for each in their_labels if 0 <= each.trainId < 255), key=lambda each: each.trainId)
    assert [(each.name, each.id, each.color) for each in measured] == [tuple(each) for each in CLASSES]
    assert {each.id: each.name for each in their_labels if each.ignoreInEval and each.id >= 0} == VOID
    assert [each.name for each in measured if each.hasInstances] == list(THING_NAMES)
    known = {each.colour for each in CLASSES} | set(VOID_COLOURS)
    assert known - {each.color for each in their_labels} == {(20, 20, 20)}, "GTA5's static"
    assert {each.color for each in their_labels} <= known


def test_mean_iou_agrees_with_cityscapesscripts(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are wrong in places, name void classes nowhere, and miss one class and invent another."""
    images = read(made)
    collection = Collection(["mean_iou"], images)
    truths, predicted, targets = [], [], []
    for index in range(len(images)):
        ids = raw(images, index, made)
        guess = torch.from_numpy(to_train_ids(ids))
        guess[guess == IGNORE] = 13
        guess = guess.roll((2, 3), (0, 1))
        guess[guess == 11] = 12
        numbers = np.array([each.raw_id for each in CLASSES], dtype=np.uint8)[guess.numpy()]
        Image.fromarray(numbers).save(tmp_path / f"pred{index}.png")
        truths.append(str(made / f"{images.masks.files[index]}"))
        predicted.append(guess)
        targets.append(images[index][1])
        collection.update([guess], [targets[-1]])
    for setting, value in {"quiet": True, "JSONOutput": False, "evalInstLevelScore": False}.items():
        monkeypatch.setattr(theirs.args, setting, value)
    paths = [str(tmp_path / f"pred{index}.png") for index in range(len(images))]
    expected = theirs.evaluateImgLists(paths, truths, theirs.args)
    score = collection.compute()
    assert 0.2 < score.measures["mean_iou"] < 0.9
    assert score.measures["mean_iou"] == pytest.approx(expected["averageScoreClasses"], abs=1e-12)
    assert mean_iou(torch.stack(predicted), torch.stack(targets), 19) == pytest.approx(
        expected["averageScoreClasses"], abs=1e-12
    )
    for name, value in score.per_class.items():
        assert (value is None) == np.isnan(expected["classScores"][name])
        assert value is None or value == pytest.approx(expected["classScores"][name], abs=1e-12)
    assert score.per_class["person"] == score.per_class["rider"] == 0, "missed and invented"


# --- Polygons

POINTS = st.tuples(st.integers(-20, 60), st.integers(-20, 50))
NAMED = ["road", "car", "cargroup", "persongroup", "person", "polegroup", "static", "license plate", "trailer"]
OBJECTS = st.fixed_dictionaries(
    {
        "label": st.sampled_from([*NAMED, "trailergroup", "bicycle", "sky"]),
        "polygon": st.lists(POINTS, min_size=2, max_size=7),
    },
    optional={"deleted": st.sampled_from([0, 1])},
)


@settings(max_examples=60, deadline=None)
@given(objects=st.lists(OBJECTS, max_size=8))
def test_polygons_are_drawn_as_cityscapesscripts_draws_them(
    objects: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    annotation = Annotation()
    path = tmp_path_factory.getbasetemp() / "drawn_polygons.json"
    path.write_text(json.dumps({"imgWidth": 40, "imgHeight": 30, "objects": objects}))
    annotation.fromJsonFile(str(path))
    assert (urban_labels.draw_classes(path) == np.array(createLabelImage(annotation, "trainIds"))).all()
    assert (urban_labels.draw_instances(path) == np.array(createInstanceImage(annotation, "ids"))).all()


def test_later_polygons_cover_earlier_ones_and_deleted_ones_nothing(tmp_path: Path) -> None:
    objects = [
        {"label": "road", "polygon": box(-5, -5, 9, 9)},
        {"label": "car", "polygon": box(2, 2, 5, 5)},
        {"label": "static", "polygon": box(4, 4, 5, 5)},
        {"label": "sky", "polygon": box(0, 0, 9, 9), "deleted": 1},
        {"label": "license plate", "polygon": box(2, 2, 3, 3)},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"imgWidth": 12, "imgHeight": 8, "objects": objects}))
    expected = np.full((8, 12), IGNORE)
    expected[:, :10] = 0
    expected[2:6, 2:6] = 13
    expected[4:6, 4:6] = IGNORE
    assert urban_labels.draw_classes(tmp_path / "a.json").tolist() == expected.tolist()


SQUARE: dict[str, Any] = {"label": "car", "polygon": box(0, 0, 3, 3)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"imgWidth": 4, "imgHei', "a.json is not JSON: Unterminated string"),
        (b"", "a.json is not JSON"),
        (b"\xff\xfe\x00", "a.json is not JSON"),
        (b"[" * 100_000, "a.json is not JSON"),
        ([], "Expected imgWidth, imgHeight, and objects"),
        ({"imgWidth": 4, "imgHeight": 4}, "KeyError('objects')"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [{"label": "car"}]}, "KeyError('polygon')"),
        ({"imgWidth": 0, "imgHeight": 4, "objects": []}, "imgWidth and imgHeight are 0 and 4, expected whole numbers"),
        ({"imgWidth": "4", "imgHeight": 4, "objects": []}, "are '4' and 4"),
        ({"imgWidth": True, "imgHeight": 4, "objects": []}, "are True and 4"),
        ({"imgWidth": 10**6, "imgHeight": 10**6, "objects": []}, "product of at most 100,000,000"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE, SQUARE | {"label": "cat"}]}, "objects[1] has label 'cat'"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"label": "group"}]}, "objects[0] has label 'group'"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"label": ["car"]}]}, "objects[0] has label ['car']"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [[1, 2]]}]}, "(car): its polygon has 1"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [1, 2]}]}, "the polygon as [[x, y], ...]"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [[1, None], [2, 3]]}]}, "as [[x, y], ...]"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [[1, 1e300], [2, 3]]}]}, "beyond 1,000,000"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [[1, 10**400], [2, 3]]}]}, "as [[x, y]"),
        ({"imgWidth": 4, "imgHeight": 4, "objects": [SQUARE | {"polygon": [[0, float("nan")], [2, 3]]}]}, "beyond"),
    ],
)
def test_damaged_polygons_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    for draw in (urban_labels.draw_classes, urban_labels.draw_instances):
        with pytest.raises(DataError) as raised:
            draw(path)
        assert message in str(raised.value)
        assert str(path) in str(raised.value)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        urban_labels.draw_classes(path)


# --- Boxes


def naive_objects(numbers: np.ndarray) -> list[tuple[list[int], int, bool, int]]:
    """Find objects pixel by pixel: box, label, whether a group, area."""
    pixels: dict[int, list[tuple[int, int]]] = {}
    for y, row in enumerate(numbers.tolist()):
        for x, number in enumerate(row):
            pixels.setdefault(number, []).append((x, y))
    found = []
    for number in sorted(pixels):
        kind = number // 1000 if number >= 1000 else number
        if kind in THINGS:
            xs, ys = zip(*pixels[number], strict=True)
            corners = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
            found.append((corners, THINGS[kind], number < 1000, len(xs)))
    return found


def rows(objects: Any) -> list[tuple[list[int], int, bool, int]]:
    columns = (objects.boxes, objects.labels, objects.crowd, objects.area)
    return [*zip(*(column.tolist() for column in columns), strict=True)]


NUMBERS = [0, 7, 24, 26, 33, 29, 24000, 24001, 25000, 26000, 26001, 26999, 29000, 30001, 31000, 33017]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from(NUMBERS)),
    st.integers(1, 3),
)
def test_objects_are_those_found_pixel_by_pixel(numbers: np.ndarray, scale: int) -> None:
    numbers = numbers.repeat(scale, 0).repeat(scale, 1)
    found = urban_labels.objects_in(numbers, Path("a.png"))
    assert rows(found) == naive_objects(numbers)
    assert [part.dtype.name for part in found] == ["float32", "int64", "bool", "float32"]


@pytest.mark.parametrize("boxes", ["auto", "instance_ids", "polygons"])
def test_boxes_enclose_visible_pixels(boxes: str, made: Path) -> None:
    images = read(made, "boxes", boxes=boxes)
    assert images.classes == THING_NAMES
    assert len(images) == 4
    for index, file in enumerate(files(made, "gtFine_instanceIds.png")):
        stored = Image.open(file)
        assert stored.mode.startswith("I;16"), "as in the download"
        image, objects = images[index]
        assert rows(objects) == naive_objects(np.array(stored))
        assert objects.crowd.any()
        assert image.shape == (3, 32, 48)
        assert images.size(index) == images.sizes[index] == (32, 48)


def test_an_image_without_objects_is_kept(tree: Path) -> None:
    first, second = files(tree, "gtFine_instanceIds.png")[:2]
    Image.fromarray(np.full((32, 48), 7, np.uint16)).save(first)
    lone = np.zeros((32, 48), np.uint16)
    lone[31, 47] = 26_003
    lone[0, 0] = 29_000  # a caravan is no class
    Image.fromarray(lone).save(second)
    images = read(tree, "boxes")
    assert len(images) == 4
    assert images[0][1].boxes.shape == (0, 4)
    assert rows(images[1][1]) == [([47, 31, 48, 32], 2, False, 1)]


def test_boxes_are_kept_in_the_cache_until_files_change(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(tree, "boxes")
    calls: list[Path] = []
    original = urban_labels.read_instances

    def counted(path: Path, max_pixels: int) -> np.ndarray:
        calls.append(path)
        return original(path, max_pixels)

    monkeypatch.setattr(urban_labels, "read_instances", counted)
    again = read(tree, "boxes")
    assert not calls
    assert again.fingerprint == before.fingerprint
    assert [rows(objects) for objects in again.boxes] == [rows(objects) for objects in before.boxes]
    Image.fromarray(np.zeros((32, 48), np.uint16)).save(files(tree, "gtFine_instanceIds.png")[2])
    changed = read(tree, "boxes")
    assert len(calls) == 4
    assert changed.fingerprint != before.fingerprint
    assert [len(objects.labels) for objects in changed.boxes][2] == 0
    read(tree, "boxes", boxes="polygons")
    assert len(calls) == 4, "polygons are kept apart"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: Image.fromarray(n.clip(0, 255).astype(np.uint8)), "has 8 bits per pixel, but instance ids need 16"),
        (lambda n: Image.fromarray(n).convert("RGB"), "is a colour image"),
        (lambda n: Image.fromarray((n * 0 + 255).astype(np.uint16)), "holds 255, which stands for no class of"),
        (lambda n: Image.fromarray((n * 0 + 255).astype(np.uint16)), "255 is a train id: expected raw ids"),
        (lambda n: Image.fromarray((n * 0 + 13_000).astype(np.uint16)), "holds 13000, which stands for no class"),
        (lambda n: Image.fromarray((n * 0 + 34).astype(np.uint16)), "holds 34, which"),
        (None, "is not an image: it is empty"),
    ],
)
def test_instance_files_of_another_kind_are_refused_or_left_out(
    change: Callable[[np.ndarray], Image.Image] | None, message: str, tree: Path
) -> None:
    path = files(tree, "gtFine_instanceIds.png")[1]
    if change is None:
        path.write_bytes(b"")
    else:
        change(np.array(Image.open(path))).save(path)
    said = refused(tree, "boxes")
    assert message in said
    assert str(path) in said
    images, heard = read_and_hear(tree, "boxes", Policy(bad_image="skip"))
    assert len(images) == 3
    assert "1 images whose label file cannot be read left out" in heard
    stem = path.name.removesuffix("_gtFine_instanceIds.png")
    assert not any(stem in file for file in images.files)
    assert message in refused(tree, "boxes"), "what is left out under one policy stays an error under the other"


def test_numbers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(DataError, match="numbers from 0 to 2000000000, expected 16 bits"):
        urban_labels.objects_in(np.array([[0, 2_000_000_000]], dtype=np.int32), Path("a.png"))


def test_boxes_of_images_of_another_size_are_refused(tree: Path) -> None:
    path = tree / read(tree, "boxes").files[0]
    Image.open(path).resize((24, 16)).save(path)
    with pytest.raises(DataError, match="has 24 x 16 pixels, but its boxes were drawn on 48 x 32"):
        read(tree, "boxes")[0]


# --- Which files


def test_it_is_known_by_name(made: Path) -> None:
    entry = find(f"cityscapes:{made}")
    assert isinstance(entry, Cityscapes)
    assert (entry.class_names("masks"), entry.class_names("boxes")) == (NAMES, THING_NAMES)
    assert find(entry.text()) == entry
    full = Cityscapes(root=made, split="train", labels="polygons", boxes="polygons", name="streets")
    assert find(full.text()) == full
    with pytest.raises(ConfigError, match="never trained on"):
        check_domain(entry, "source")


def test_the_test_split_is_refused(made: Path) -> None:
    with pytest.raises(ConfigError, match="cityscapes: split: the labels of the test split are kept secret"):
        find(f"cityscapes(root='{made}', split=test)")
    with pytest.raises(ConfigError, match="split: Input should be 'val' or 'train'"):
        find(f"cityscapes(root='{made}', split=eval)")


def test_the_train_split(tmp_path: Path) -> None:
    cityscapes_tree(tmp_path, 2, (24, 16), split="train")
    images = read(tmp_path, split="train")
    assert [Path(file).parent.as_posix() for file in images.files] == [
        "leftImg8bit/train/aachen",
        "leftImg8bit/train/zurich",
    ]
    message = refused(tmp_path)
    assert "gtFine has no folder 'val', it holds train. It comes with gtFine_trainvaltest.zip" in message


def test_auto_takes_what_covers_most_images_and_label_ids_before_others(tree: Path) -> None:
    def used() -> str:
        return str(read(tree).masks.files[0]).rpartition("_gtFine_")[2]

    assert used() == "labelIds.png"
    files(tree, "gtFine_labelIds.png")[3].unlink()
    assert used() == "labelTrainIds.png"
    for path in files(tree, "gtFine_labelTrainIds.png"):
        path.unlink()
    assert used() == "polygons.json"
    files(tree, "gtFine_polygons.json")[3].unlink()
    assert used() == "labelIds.png"
    for path in files(tree, "gtFine_instanceIds.png")[1:]:
        path.unlink()
    assert len(read(tree, "boxes")) == 3, "boxes from polygons"


def test_what_is_asked_for_and_absent_is_explained(tree: Path) -> None:
    for path in files(tree, "gtFine_labelTrainIds.png") + files(tree, "gtFine_instanceIds.png"):
        path.unlink()
    message = refused(tree, labels="train_ids")
    assert "holds no *_gtFine_labelTrainIds.png, which labels='train_ids' asks for" in message
    assert "not in the download: csCreateTrainIdLabelImgs of cityscapesscripts makes them" in message
    assert "Use labels='label_ids' or labels='polygons', or leave labels out" in message
    message = refused(tree, "boxes", boxes="instance_ids")
    assert "holds no *_gtFine_instanceIds.png, which boxes='instance_ids' asks for" in message
    assert "Use boxes='polygons', or leave boxes out" in message


def test_incomplete_sets_are_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(tree, "gtFine_labelIds.png")[0].unlink()
    for path in files(tree, "leftImg8bit.png")[2:]:
        path.unlink()
    images, heard = read_and_hear(tree, labels="label_ids")
    assert len(images) == 1
    assert "holds 1 of the 500 images of 'val' with labels (2 images, 3 label files)" in heard
    assert "cityscapes (test): 1 images without a label file left out, 2 label files without an image left out" in heard
    monkeypatch.setitem(COUNTS, "val", 2)
    assert not read_and_hear(cityscapes_tree(tree.parent / "other", 2, (24, 16)))[1]


def test_images_and_labels_match_by_city_sequence_and_frame(tree: Path) -> None:
    """Frames of one sequence differ in their last number alone."""
    for path in files(tree, "leftImg8bit.png"):
        path.rename(path.with_name(path.name.replace("_000019_", "_000029_").replace("_005020_", "_005030_")))
    message = refused(tree)
    assert "no image of 'val' has a label file of its name: frankfurt_000000_005030_gtFine_labelIds.png" in message
    assert "gtFine_trainvaltest.zip" in message


def moved(tree: Path, *pairs: tuple[str, str]) -> None:
    for old, new in pairs:
        (tree / new).parent.mkdir(parents=True, exist_ok=True)
        (tree / old).rename(tree / new)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit"), ("gtFine", "gtFine_trainvaltest/gtFine")],
        [("gtFine", "gtFine_trainvaltest/gtFine")],
        [("leftImg8bit", "x"), ("x", "leftImg8bit/leftImg8bit"), ("gtFine", "y"), ("y", "gtFine/gtFine")],
        [("leftImg8bit", "cityscapes/leftImg8bit"), ("gtFine", "cityscapes/gtFine")],
    ],
)
def test_trees_as_archives_are_unpacked(pairs: list[tuple[str, str]], tree: Path, made: Path) -> None:
    moved(tree, *pairs)
    images, expected = read(tree), read(made)
    assert [Path(file).name for file in images.files] == [Path(file).name for file in expected.files]
    assert (images[3][1] == expected[3][1]).all()
    assert len(read(tree, "boxes")) == 4


def test_a_flat_folder_of_images_gives_those_that_have_labels(tree: Path) -> None:
    (tree / "images").mkdir()
    for path in files(tree, "leftImg8bit.png"):
        path.rename(tree / "images" / path.name)
    shutil.rmtree(tree / "leftImg8bit")
    shutil.copy(next((tree / "images").iterdir()), tree / "images/aachen_000000_000019_leftImg8bit.png")
    moved(tree, ("gtFine", "gtFine_trainvaltest/gtFine"))
    images, heard = read_and_hear(tree)
    assert [Path(file).parent.as_posix() for file in images.files] == ["images"] * 4
    assert "left out" not in heard


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("leftImg8bit", "lacks leftImg8bit/val, it holds gtFine. It comes with leftImg8bit_trainvaltest.zip"),
        ("gtFine", "lacks gtFine/val, it holds leftImg8bit. It comes with gtFine_trainvaltest.zip"),
        (
            "leftImg8bit/val",
            "leftImg8bit has no folder 'val', it holds no folder. It comes with leftImg8bit_trainvaltest.zip",
        ),
        ("leftImg8bit/val/*", "holds no image CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png. They come with leftImg8bit_"),
        ("gtFine/val/*", "no image of 'val' has a label file of its name: frankfurt_000000_005020_gtFine_labelIds.png"),
    ],
)
def test_a_missing_part_names_its_archive(gone: str, message: str, tree: Path) -> None:
    for path in tree.glob(gone):
        shutil.rmtree(path)
    assert message in refused(tree)
    assert message.replace("labelIds", "instanceIds") in refused(tree, "boxes")


def test_what_does_not_lie_in_a_city_or_was_left_behind_is_no_image(tree: Path) -> None:
    image = files(tree, "leftImg8bit.png")[0]
    shutil.copy(image, tree / "leftImg8bit/val" / image.name.replace("frankfurt", "bonn"))
    shutil.copy(image, image.with_name(f"._{image.name}"))
    shutil.copy(image, image.with_name("Thumbs.db"))
    label = files(tree, "gtFine_labelIds.png")[0]
    shutil.copy(label, label.with_name(f"._{label.name}"))
    shutil.copy(image, image.with_name(image.name.replace("leftImg8bit", "rightImg8bit")))
    images, heard = read_and_hear(tree)
    assert len(images) == 4
    assert "(4 images, 4 label files)" in heard
    assert "left out" not in heard


# --- What label files hold


def each_label(tree: Path, end: str, change: Callable[[np.ndarray], Image.Image]) -> None:
    for path in files(tree, f"gtFine_{end}"):
        change(np.array(Image.open(path))).save(path)


def test_train_ids_where_raw_ids_are_expected(tree: Path) -> None:
    each_label(tree, "labelIds.png", lambda ids: Image.fromarray(to_train_ids(ids)))
    message = refused(tree)
    assert "_gtFine_labelIds.png: it holds 255, which no file of raw ids does (they end at 33)" in message
    each_label(tree, "labelIds.png", lambda ids: Image.fromarray(ids % 19))
    heard = read_and_hear(tree)[1]
    assert "No number above 18 stands in 4 label files" in heard
    assert "labels='train_ids'" in heard
    assert "No number above" not in read_and_hear(tree, labels="train_ids")[1]


def test_raw_ids_where_train_ids_are_expected(tree: Path) -> None:
    for path in files(tree, "gtFine_labelIds.png"):
        shutil.copy(path, path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    message = refused(tree, labels="train_ids")
    assert "labelTrainIds.png: it holds 23, but train ids are 0 to 18 and 255: these are raw ids" in message
    assert "labels='label_ids'" in message


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_refused(mode: str, tree: Path) -> None:
    for path in files(tree, "gtFine_color.png"):
        Image.open(path).convert(mode).save(path.with_name(path.name.replace("color", "labelIds")))
    message = refused(tree)
    assert (
        f"is a colour image (mode {mode}), expected one number per pixel. Colours are in *_gtFine_color.png" in message
    )


def test_a_palette_does_not_change_ids(tree: Path, made: Path) -> None:
    def painted(ids: np.ndarray) -> Image.Image:
        image = Image.fromarray(ids)
        image.putpalette([9, 8, 7] * 256)
        return image

    each_label(tree, "labelIds.png", painted)
    assert all((mask == expected).all() for (_, mask), (_, expected) in zip(read(tree), read(made), strict=True))


def test_numbers_of_another_encoding(tree: Path) -> None:
    each_label(tree, "labelIds.png", lambda ids: Image.fromarray(ids + 100))
    message = refused(tree)
    assert "holds numbers that its label map does not have" in message
    assert "labelIds files hold 0 to 33; these are encoded in another way" in message


def test_a_mask_of_another_size_than_its_image(tree: Path) -> None:
    each_label(tree, "labelIds.png", lambda ids: Image.fromarray(ids[:16, :24]))
    with pytest.raises(
        DataError, match=r"_leftImg8bit.png has 48 x 32 pixels, but its mask .*labelIds.png has 24 x 16"
    ):
        read(tree)[0]
    image, mask = read(tree, policy=Policy(size_mismatch="resize"))[0]
    assert image.shape == (3, 16, 24)
    assert mask.shape == (16, 24)


def test_polygon_masks_are_a_set_of_their_own(tree: Path) -> None:
    images = read(tree, labels="polygons")
    part = images.subset([2, 0])
    assert (part[0][1] == images[2][1]).all()
    assert images.masks.place(1).endswith("_gtFine_polygons.json")
    assert part.fingerprint != images.fingerprint != read(tree).fingerprint
    path = files(tree, "gtFine_polygons.json")[0]
    path.write_text(path.read_text() + " ")
    assert read(tree, labels="polygons").fingerprint != images.fingerprint
    path.write_text("{")
    images, heard = read_and_hear(tree, policy=Policy(bad_image="skip"), labels="polygons")
    assert len(images) == 3
    assert "1 images left out" in heard
