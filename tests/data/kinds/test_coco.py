from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from pycocotools import mask as coco_mask

from synreal import reading
from synreal.data import Policy, load
from synreal.data.files import coco_labels
from synreal.data.labels.boxes import Boxes
from synreal.errors import ConfigError, DataError
from tests.data.own_trees import CLASSES, coco_tree, run_lengths, scene

SIZE = (20, 12)  # width and height of the image of a small data set


def small(root: Path, *objects: dict[str, Any], names: tuple[str, ...] = ("car", "bus"), **image: Any) -> Path:
    """Write one grey image with objects; what an object does not say is usual."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (90, 90, 90)).save(root / "images" / "a.png")
    usual = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1], **image}],
        "annotations": [{"id": index, **usual, **each} for index, each in enumerate(objects)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names, 1)],
    }
    write(root, content)
    return root


def write(root: Path, content: Any, name: str = "annotations.json") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def edit(root: Path, **changes: Any) -> dict[str, Any]:
    content = json.loads((root / "annotations.json").read_text())
    content.update(changes)
    write(root, content)
    return content


def mask_of(root: Path, settings: str = "") -> NDArray[np.uint8]:
    mask = load(f"coco(root='{root}'{settings})", "test", label="masks")[0][1]
    assert isinstance(mask, torch.Tensor)
    return mask.numpy()


def boxes_of(root: Path, settings: str = "") -> Boxes:
    found = load(f"coco(root='{root}'{settings})", "test", label="boxes")[0][1]
    assert isinstance(found, Boxes)
    return found


def polygon(*corners: float) -> dict[str, Any]:
    return {"segmentation": [list(corners)]}


BOX = {"bbox": [2, 3, 6, 4], "area": 24, **polygon(2, 3, 8, 3, 8, 7, 2, 7)}


def test_masks_are_those_that_were_painted(tmp_path: Path) -> None:
    coco_tree(tmp_path, 7)
    images = load(f"coco:{tmp_path}", "test", label="masks")

    assert images.classes == ("background", *CLASSES)
    assert len(images) == 7
    for index in range(7):
        made = scene(index)
        assert np.array_equal(images[index][0].permute(1, 2, 0).numpy(), made.image)
        assert np.array_equal(np.asarray(images[index][1]), made.mask)


def test_boxes_are_those_that_were_painted(tmp_path: Path) -> None:
    coco_tree(tmp_path, 7)
    images = load(f"coco:{tmp_path}", "test", label="boxes")

    assert images.classes == CLASSES
    for index in range(7):
        found, objects = images[index][1], scene(index).objects
        assert isinstance(found, Boxes)
        assert found.labels.tolist() == [label for label, *_ in objects]
        assert found.boxes.tolist() == [list(corners) for _, *corners in objects]
        assert found.area.tolist() == [(x1 - x0) * (y1 - y0) for _, x0, y0, x1, y1 in objects]
        assert not found.crowd.any()


def test_training_and_held_out_images_are_everything_once(tmp_path: Path) -> None:
    coco_tree(tmp_path, 12)
    files = {
        part: load(f"coco(root='{tmp_path}', heldout=3)", part, label="boxes").files
        for part in ("train", "heldout", "test")
    }
    assert len(files["heldout"]) == 3
    assert sorted(files["train"] + files["heldout"]) == files["test"]


def test_a_json_for_each_part(tmp_path: Path) -> None:
    for part, number in (("train", 5), ("val", 3)):
        content = coco_tree(tmp_path / part, number, seed=number)
        (tmp_path / part / "annotations.json").unlink()
        (tmp_path / part / "images").rename(tmp_path / f"{part}2017")
        write(tmp_path, content, f"annotations/instances_{part}2017.json")
    splits = "splits={'train': 'annotations/instances_train2017.json', 'test': 'annotations/instances_val2017.json'}"

    train = load(f"coco(root='{tmp_path}', heldout=1, {splits})", "train", label="masks")
    test = load(f"coco(root='{tmp_path}', {splits})", "test", label="masks")

    assert (len(train), len(test)) == (4, 3)
    assert all(name.startswith("train2017/") for name in train.files)
    assert np.array_equal(np.asarray(test[2][1]), scene(2, seed=3).mask)
    with pytest.raises(DataError, match=r"expected one JSON.*instances_train2017\.json, annotations/instances_val"):
        load(f"coco:{tmp_path}", "test", label="boxes")
    with pytest.raises(DataError, match=r"no file .*nope\.json.*instances_train2017\.json"):
        load(f"coco(root='{tmp_path}', annotations='nope.json')", "test", label="boxes")


@pytest.mark.parametrize(
    ("at", "listed", "settings"),
    [
        ("images", "0.png", ""),
        ("coco/images", "images/0.png", ""),  # BlenderProc
        ("images", "images/0.png", ""),
        ("images", "images\\0.png", ""),
        (".", "0.png", ""),
        ("images/val2017", "0.png", ""),
        ("images/val2017", "val2017/0.png", ""),
        ("pictures/new", "0.png", ", images='pictures/new'"),
        ("pictures/new", "new/0.png", ", images='pictures'"),
    ],
)
def test_images_are_found_where_tools_put_them(tmp_path: Path, at: str, listed: str, settings: str) -> None:
    (tmp_path / at).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE).save(tmp_path / at / "0.png")
    content = {"images": [{"id": 1, "file_name": listed}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    write(tmp_path, content, "coco/instances_val2017.json")

    images = load(f"coco(root='{tmp_path}'{settings})", "test", label="boxes")
    assert images.path(0).resolve() == (tmp_path / at / "0.png").resolve()


def test_images_that_are_nowhere(tmp_path: Path) -> None:
    coco_tree(tmp_path, 3)
    with pytest.raises(DataError, match=r"no folder .*pictures, which images names"):
        load(f"coco(root='{tmp_path}', images='pictures')", "test", label="boxes")
    (tmp_path / "images").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"no image that it lists was found, e\.g\. '0000\.png'.*with images"):
        load(f"coco:{tmp_path}", "test", label="boxes")


def test_missing_images_are_an_error_or_counted(tmp_path: Path) -> None:
    coco_tree(tmp_path, 6)
    (tmp_path / "images/0002.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images do not exist.*0002\.png"):
        load(f"coco:{tmp_path}", "test", label="masks")
    with pytest.warns(UserWarning, match="1 missing images left out"):
        images = load(f"coco:{tmp_path}", "test", label="masks", policy=Policy(bad_image="skip"))
    assert np.array_equal(np.asarray(images[2][1]), scene(3).mask)


@pytest.mark.parametrize("name", ["../secret.png", "../../secret.png", "/etc/passwd", "C:\\a.png", "a\0.png"])
def test_file_names_stay_in_the_root(tmp_path: Path, name: str) -> None:
    Image.new("RGB", SIZE).save(tmp_path / "secret.png")
    root = small(tmp_path / "data")
    content = edit(root)
    content["images"].append({"id": 2, "file_name": name})
    write(root, content)
    with pytest.raises(DataError, match=r"annotations\.json: the path .* (leads out of|is absolute|holds a NUL)"):
        load(f"coco:{root}", "test", label="boxes")


def test_chosen_classes_give_the_order_and_others_are_counted(tmp_path: Path) -> None:
    coco_tree(tmp_path, 6)
    kinds = [label for index in range(6) for label, *_ in scene(index).objects]
    spec = f"coco(root='{tmp_path}', classes=['plate', 'bolt'])"
    warning = f"{kinds.count(1)} objects of classes that are not used left out"

    with pytest.warns(UserWarning, match=warning):
        images = load(spec, "test", label="boxes")
    assert images.classes == ("plate", "bolt")
    found = [int(label) for index in range(6) for label in images[index][1].labels]
    assert found == [{2: 0, 0: 1}[label] for label in kinds if label != 1]

    with pytest.warns(UserWarning, match=warning):
        masks = load(spec, "test", label="masks")
    assert masks.classes == ("background", "plate", "bolt")
    table = np.array([0, 2, 0, 1], np.uint8)
    assert all(np.array_equal(np.asarray(masks[index][1]), table[scene(index).mask]) for index in range(6))

    with pytest.raises(ConfigError, match=r"plat.*Did you mean 'plate'"):
        load(f"coco(root='{tmp_path}', classes=['plat'])", "test", label="boxes")


def test_a_category_may_be_the_background(tmp_path: Path) -> None:
    root = small(tmp_path, {"category_id": 2, **BOX}, names=("background", "car"))
    found = mask_of(root)
    assert load(f"coco:{root}", "test", label="masks").classes == ("background", "car")
    assert found.sum() == 24

    spec = ", classes=['car', 'background']"
    assert mask_of(root, spec).sum() == SIZE[0] * SIZE[1] - 24


def test_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    root = small(tmp_path, {"category_id": 1, **BOX}, {"category_id": 2, **BOX}, names=("car", "car"))
    assert load(f"coco:{root}", "test", label="boxes").classes == ("car",)
    assert boxes_of(root).labels.tolist() == [0, 0]


def test_numbers_as_names_are_read_as_text(tmp_path: Path) -> None:
    root = small(tmp_path, BOX)
    edit(root, categories=[{"id": 1, "name": 7, "supercategory": "coco_annotations"}])  # BlenderProc without names
    assert load(f"coco:{root}", "test", label="boxes").classes == ("7",)


def test_later_objects_are_drawn_over_earlier_ones(tmp_path: Path) -> None:
    low = {"category_id": 1, **polygon(0, 0, 10, 0, 10, 10, 0, 10)}
    high = {"category_id": 2, **polygon(5, 5, 15, 5, 15, 12, 5, 12)}
    first, second = mask_of(small(tmp_path / "a", low, high)), mask_of(small(tmp_path / "b", high, low))

    assert first[7, 7] == 2
    assert second[7, 7] == 1
    assert (first[:5, :5] == 1).all()
    assert (first[11, 15:] == 0).all()


def random_mask(seed: int) -> NDArray[np.uint8]:
    return (np.random.default_rng(seed).random(SIZE[::-1]) < 0.4).astype(np.uint8)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("packed", [False, True])
def test_run_lengths_give_the_mask_that_they_were_made_of(tmp_path: Path, packed: bool, seed: int) -> None:
    mask = random_mask(seed)
    counts: Any = run_lengths(mask)
    if packed:
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    root = small(tmp_path, {"segmentation": {"size": list(mask.shape), "counts": counts}})

    assert np.array_equal(mask_of(root), mask)
    box, found = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask))), boxes_of(root)
    assert found.boxes[0].tolist() == [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    assert found.area.tolist() == [mask.sum()]


CORNER = st.floats(-5, 25, allow_nan=False, width=32)


@settings(max_examples=30, deadline=None)
@given(
    rings=st.lists(
        st.lists(CORNER, min_size=6, max_size=12).map(lambda ring: ring[: len(ring) // 2 * 2]), min_size=1, max_size=3
    )
)
def test_polygons_are_drawn_as_pycocotools_draws_them(tmp_path_factory: Any, rings: list[list[float]]) -> None:
    root = small(tmp_path_factory.mktemp("coco"), {"bbox": [0, 0, 1, 1], "area": 1, "segmentation": rings})
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, SIZE[1], SIZE[0])))
    assert np.array_equal(mask_of(root), expected)


def test_a_triangle_covers_the_pixels_inside(tmp_path: Path) -> None:
    found = mask_of(small(tmp_path, polygon(1, 1, 17, 1, 1, 11)))
    inside = np.zeros_like(found)
    edge = np.zeros_like(found)
    for row in range(SIZE[1]):
        for column in range(SIZE[0]):
            x, y = column + 0.5, row + 0.5
            distance = min(x - 1, y - 1, (1 - (x - 1) / 16 - (y - 1) / 10) / np.hypot(1 / 16, 1 / 10))
            inside[row, column], edge[row, column] = distance > 0, abs(distance) < 0.75
    assert np.array_equal(found[edge == 0], inside[edge == 0])
    assert inside.sum() > 60


def test_areas_are_taken_or_computed(tmp_path: Path) -> None:
    triangle = polygon(0, 0, 16, 0, 0, 8)
    root = small(
        tmp_path,
        {"bbox": [0, 0, 16, 8], "area": 50.5, **triangle},
        {"bbox": [0, 0, 16, 8], **triangle},
        {"bbox": [0, 0, 16, 8]},
    )
    found = boxes_of(root).area
    drawn = coco_mask.area(coco_mask.frPyObjects(triangle["segmentation"], SIZE[1], SIZE[0]))[0]
    assert found.tolist() == [50.5, drawn, 128]
    assert 50 < drawn < 80


def test_boxes_are_clipped_and_empty_ones_counted(tmp_path: Path) -> None:
    root = small(
        tmp_path,
        {"bbox": [-4, 2.5, 10, 30], "iscrowd": 1},
        {"bbox": [3, 3, 0, 5]},
        {"bbox": [30, 3, 4, 5]},
        {"bbox": [float("nan"), 3, 4, 5]},
        {"bbox": [1, 1, 2, 2], "category_id": 2},
    )
    with pytest.warns(UserWarning, match=r"coco \(test\): 3 boxes without area left out"):
        found = boxes_of(root)
    assert found.boxes.tolist() == [[0, 2.5, 6, 12], [1, 1, 3, 3]]
    assert found.labels.tolist() == [0, 1]
    assert found.crowd.tolist() == [True, False]
    assert found.area.tolist() == [57.0, 4.0]


def test_images_without_objects_stay(tmp_path: Path) -> None:
    root = small(tmp_path)
    assert boxes_of(root).boxes.shape == (0, 4)
    assert not mask_of(root).any()


def test_sizes_that_the_json_does_not_give_are_read(tmp_path: Path) -> None:
    root = small(tmp_path, {"bbox": [15, 2, 30, 30], **polygon(2, 3, 8, 3, 8, 7, 2, 7)}, width=None, height=None)
    assert boxes_of(root).boxes.tolist() == [[15, 2, 20, 12]]
    assert mask_of(root).sum() == 24


@pytest.mark.parametrize("label", ["masks", "boxes"])
def test_labels_of_the_stored_image_turn_with_it(tmp_path: Path, label: str) -> None:
    root = small(tmp_path, BOX)
    tags = Image.Exif()
    tags[Base.Orientation] = 6  # a quarter turn clockwise
    Image.new("RGB", SIZE).save(root / "images/a.png", exif=tags)
    if label == "boxes":
        assert boxes_of(root).boxes.tolist() == [[SIZE[1] - 7, 2, SIZE[1] - 3, 8]]
    else:
        rows, columns = mask_of(root).nonzero()
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 7, SIZE[1] - 7, SIZE[1] - 4)


@pytest.mark.parametrize("label", ["masks", "boxes"])
def test_images_of_another_size_than_the_json_says(tmp_path: Path, label: str) -> None:
    root = small(tmp_path, {**BOX, "segmentation": BOX["segmentation"]}, width=40, height=24)
    with pytest.raises(DataError, match=r"a\.png has 20 x 12 pixels, but its .* 40 x 24"):
        load(f"coco:{root}", "test", label=label)[0]
    if label == "masks":
        images = load(f"coco:{root}", "test", label=label, policy=Policy(size_mismatch="resize"))
        assert images[0][0].shape == (3, 24, 40)


def test_boxes_alone_give_no_masks(tmp_path: Path) -> None:
    coco_tree(tmp_path, 4, masks=False)
    assert len(load(f"coco:{tmp_path}", "test", label="boxes")) == 4
    with pytest.raises(DataError, match=r"7 of 7 annotations have no segmentation.*boxes alone are read as boxes"):
        load(f"coco:{tmp_path}", "test", label="masks")


@pytest.mark.parametrize("empty", [[], None, {}])
def test_single_objects_without_segmentation_are_an_error(tmp_path: Path, empty: Any) -> None:
    root = small(tmp_path, BOX, {**BOX, "segmentation": empty})
    with pytest.raises(DataError, match="1 of 2 annotations have no segmentation, the first with id 1"):
        mask_of(root)


def test_polygons_without_area_are_counted(tmp_path: Path) -> None:
    root = small(tmp_path, {"segmentation": [[2, 3, 9, 9], [2, 3, 8, 3, 8, 7, 2, 7]]}, {"segmentation": [[1, 1, 5, 5]]})
    with pytest.warns(UserWarning, match="2 polygons with fewer than 3 corners left out"):
        assert mask_of(root).sum() == 24


def test_annotations_of_unknown_images_are_counted(tmp_path: Path) -> None:
    root = small(tmp_path, BOX, {**BOX, "image_id": 5}, {**BOX, "image_id": "x"})
    with pytest.warns(UserWarning, match="2 annotations of images that the JSON does not list left out"):
        assert len(boxes_of(root).labels) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"category_id": 9}, r"annotation 0 has category_id 9, which is not among categories: 1, 2"),
        ({"category_id": None}, r"annotations\[0\] has the category_id None, expected a whole number or a text"),
        ({"image_id": [1]}, r"annotations\[0\] has the image_id \[1\], expected a whole number or a text"),
        ({"image_id": 1.5}, r"annotations\[0\] has the image_id 1\.5, expected a whole number or a text"),
        ({"image_id": float("nan")}, r"annotations\[0\] has the image_id nan, expected a whole number or a text"),
        ({"image_id": "1"}, r"annotations\[0\] has the image_id '1', a text, but images have the id 1, a number"),
        (
            {"category_id": "2"},
            r"annotations\[0\] has the category_id '2', a text, but categories have the id 2, a number.*Write both",
        ),
        ({"iscrowd": 2}, "iscrowd of annotation 0 is 2, expected 0 or 1"),
        ({"iscrowd": "no"}, "iscrowd of annotation 0 is 'no', expected 0 or 1"),
        ({"bbox": [1, 2, 3]}, r"the bbox of annotation 0 is \[1, 2, 3\], expected \[x, y, width, height\]"),
        ({"bbox": "1 2 3 4"}, r"the bbox of annotation 0 is '1 2 3 4'"),
        ({"bbox": None, "segmentation": []}, r"the bbox of annotation 0 is None"),
    ],
)
def test_damaged_annotations_are_named(tmp_path: Path, damage: dict[str, Any], message: str) -> None:
    root = small(tmp_path, {**BOX, **damage})
    with pytest.raises(DataError, match=r"annotations\.json: " + message):
        boxes_of(root)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([["a", "b", "c", "d", "e", "f"]], "annotation 0 is neither polygons"),
        ([[1, 2, 3, 4, 5, 6, 7]], "annotation 0 is neither polygons"),
        ([[1, 2, 3, 4, 5, float("nan")]], "annotation 0 is neither polygons"),
        ([[[1, 2], [3, 4], [5, 6]]], "annotation 0 is neither polygons"),
        ([[0, 0, 1e9, 1e9, 5, 1e9]], r"polygon of annotation 0 reaches to 1e\+09 pixels, its image 20 x 12"),
        ({"size": [12, 20]}, "annotation 0 is neither polygons"),
        ({"size": [12], "counts": [240]}, "annotation 0 is neither polygons"),
        ({"size": [12, 20], "counts": [-1, 241]}, "annotation 0 is neither polygons"),
        ({"size": [20, 12], "counts": [240]}, r"segmentation of annotation 0 has 12 x 20 pixels, its image 20 x 12"),
        ({"size": [12, 20], "counts": [10, 5, 10**9]}, r"run lengths of annotation 0 make 1000000015 pixels"),
        ({"size": [12, 20], "counts": [10, 5]}, r"run lengths of annotation 0 make 15 pixels"),
        ({"size": [12, 20], "counts": "0~~~~~~"}, r"run lengths of annotation 0 do not fit an image of 20 x 12"),
        ({"size": [12, 20], "counts": "11"}, r"run lengths of annotation 0 do not fit an image of 20 x 12"),
        ("RLE", "annotation 0 is neither polygons"),
    ],
)
def test_damaged_segmentations_are_named(tmp_path: Path, segmentation: Any, message: str) -> None:
    root = small(tmp_path, {"bbox": [1, 1, 2, 2], "area": 4, "segmentation": segmentation})
    with pytest.raises(DataError, match=rf"annotations\.json: .*{message}"):
        mask_of(root)


@pytest.mark.parametrize("key", [1.0, "1", "a"], ids=repr)
def test_ids_may_be_texts_or_whole_numbers_of_any_type(tmp_path: Path, key: Any) -> None:
    root = small(tmp_path, {**BOX, "image_id": key, "category_id": key}, id=key)
    edit(root, categories=[{"id": key, "name": "car"}])
    assert len(boxes_of(root).labels) == 1
    edit(root, annotations=[{**BOX, "image_id": 1, "category_id": key}])
    if key == "1":
        with pytest.raises(DataError, match="image_id 1, a number, but images have the id '1', a text"):
            boxes_of(root)


def test_ids_that_are_numbers_of_two_types_match(tmp_path: Path) -> None:
    root = small(tmp_path, {**BOX, "image_id": 1.0, "category_id": 2.0})
    assert boxes_of(root).labels.tolist() == [1]


@pytest.mark.parametrize("label", ["boxes", "masks"])
def test_images_and_categories_may_have_an_image_id_too(tmp_path: Path, label: str) -> None:
    root = small(tmp_path, {**BOX, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]}, image_id=1)
    edit(root, categories=[{"id": 1, "name": "car", "image_id": 0}])
    images = load(f"coco:{root}", "test", label=label)
    assert (images.size(0), images.classes[-1]) == (SIZE[::-1], "car")


@pytest.mark.parametrize(
    ("given", "crowd"),
    [(0, False), (1, True), ("0", False), ("1", True), (True, True), (0.0, False), (None, False), ("", False)],
)
def test_a_crowd_may_be_said_in_text(tmp_path: Path, given: Any, crowd: bool) -> None:
    assert boxes_of(small(tmp_path, {**BOX, "iscrowd": given})).crowd.tolist() == [crowd]


@pytest.mark.parametrize("label", ["boxes", "masks"])
def test_a_polygon_of_pairs_is_refused(tmp_path: Path, label: str) -> None:
    root = small(tmp_path, {"bbox": None, "segmentation": [[2, 3], [8, 3], [8, 7], [2, 7]]})
    with pytest.raises(DataError, match=r"annotation 0 is neither.*it is one list of pairs \[x, y\]; join them"):
        load(f"coco:{root}", "test", label=label)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "lists no images"),
        ({"images": None}, "expected an object with the lists images, annotations and categories"),
        ({"categories": []}, "lists no categories"),
        ({"categories": [{"id": 1}]}, r"categories\[0\] is \{'id': 1\}, expected an object with id and name"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "'a' and 'b' have the same id 1"),
        ({"images": [{"file_name": "a.png"}]}, r"images\[0\] has no id. Expected is an object with id and file_name"),
        ({"images": [{"id": 1.5, "file_name": "a.png"}]}, r"images\[0\] has the id 1\.5, expected a whole number"),
        ({"images": ["a.png"]}, r"images\[0\] is 'a\.png', expected an object with id and file_name"),
        ({"images": [{"id": 1}]}, r"images\[0\] is \{'id': 1\}, expected an object with id and file_name"),
        ({"images": [{"id": 1, "file_name": n} for n in ("a.png", "b.png")]}, "lists 2 images with the id 1"),
        ({"images": [{"id": n, "file_name": "a.png"} for n in (1, 2)]}, r"2 images with the file_name 'a\.png'"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 0, "height": 4}]}, r"is said to be 0 x 4"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": 1e6, "height": 1e6}]}, r"'a\.png' is said to be 1000000"),
        ({"images": [{"id": 1, "file_name": "a.png", "width": "9", "height": "9"}]}, r"is said to be '9' x '9'"),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = small(tmp_path, BOX)
    edit(root, **changes)
    with pytest.raises(DataError, match=rf"annotations\.json.*{message}"):
        load(f"coco:{root}", "test", label="masks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"images": [', "is not JSON.*truncated"),
        ("[" * 100_000, "is not JSON"),
        ('[{"image_id": 1, "score": 0.5}]', "found a list"),
        ('{"shapes": [], "version": 5}', "found shapes, version"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    root = small(tmp_path)
    (root / "annotations.json").write_text(text)
    with pytest.raises(DataError, match=rf"annotations\.json.*{message}"):
        load(f"coco:{root}", "test", label="boxes")


def test_fingerprints_follow_what_is_drawn(tmp_path: Path) -> None:
    def fingerprint(*objects: dict[str, Any]) -> str:
        return load(f"coco:{small(tmp_path, *objects)}", "test", label="masks").fingerprint

    runs = {"segmentation": {"size": [12, 20], "counts": [10, 5, 225]}}
    variants = [
        [BOX],
        [],
        [BOX, BOX],
        [{**BOX, "category_id": 2}],
        [{**BOX, **polygon(2, 3, 8, 3, 8, 7, 2, 6)}],
        [runs],
        [{"segmentation": {"size": [12, 20], "counts": [10, 6, 224]}}],
    ]
    assert len({fingerprint(*objects) for objects in variants}) == len(variants)
    assert fingerprint(BOX) == fingerprint(BOX)


def test_masks_are_sent_to_workers_in_few_bytes(tmp_path: Path) -> None:
    coco_tree(tmp_path, 12)
    images = load(f"coco:{tmp_path}", "train", label="masks")
    sent = pickle.dumps(images)

    assert len(sent) < 20_000
    copied = pickle.loads(sent).subset([4, 2])
    assert torch.equal(copied[1][1], images[2][1])


def test_a_json_is_read_once_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco_tree(tmp_path, 6)
    reads: list[Path] = []
    open_file = reading.open_file
    monkeypatch.setattr(reading, "open_file", lambda path: reads.append(path) or open_file(path))

    images = load(f"coco:{tmp_path}", "test", label="masks")
    for index in range(6):
        images[index]
    assert [path.name for path in reads].count("annotations.json") == 1


def test_class_names_are_known_before_reading_where_they_are_given() -> None:
    from synreal.data import find

    spec = find("coco(root='/nowhere', classes=['car', 'bus'])")
    assert spec.class_names("boxes") == ("car", "bus")
    assert spec.class_names("masks") == ("background", "car", "bus")
    assert find("coco:/nowhere").class_names("boxes") is None


@pytest.mark.parametrize("label", ["masks", "boxes"])
def test_an_image_without_size_that_cannot_be_read_is_left_out_as_the_policy_says(tmp_path: Path, label: str) -> None:
    coco_tree(tmp_path, 4)
    content = json.loads((tmp_path / "annotations.json").read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    write(tmp_path, content)
    path = load(f"coco:{tmp_path}", "test", label).path(1)
    assert path is not None
    path.write_bytes(b"")
    with pytest.raises(DataError, match=path.name):
        load(f"coco:{tmp_path}", "test", label)
    with pytest.warns(UserWarning, match="1 images that cannot be read left out"):
        images = load(f"coco:{tmp_path}", "test", label, policy=Policy(bad_image="skip"))
    assert len(images) == 3


def test_swapped_corners_and_foreign_encodings_are_told(tmp_path: Path) -> None:
    root = small(tmp_path, BOX, {**BOX, "bbox": [10, 8, -4, 3]})
    with pytest.warns(UserWarning, match="1 boxes with swapped corners .* left out"):
        assert len(boxes_of(root).labels) == 1
    text = (root / "annotations.json").read_text().replace("car", "größe")
    (root / "annotations.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"annotations\.json is not UTF-8: byte 0xf6 .* Save it as UTF-8"):
        boxes_of(root)


def test_the_json_may_end_in_capitals(tmp_path: Path) -> None:
    root = small(tmp_path, BOX)
    (root / "annotations.json").rename(root / "annotations.JSON")
    assert len(boxes_of(root).labels) == 1


COPIES = [
    {"id": 1, "name": "nut"},
    {"id": 2, "name": "bolt.001"},
    {"id": 4, "name": "bolt"},
    {"id": 5, "name": "nut.012"},
]


@pytest.mark.parametrize("label", ["boxes", "masks"])
def test_categories_that_blender_copied_are_one_on_request(tmp_path: Path, label: str) -> None:
    square = {**BOX, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]}
    root = small(tmp_path, *({**square, "category_id": key} for key in (4, 2, 5, 1)))
    edit(root, categories=COPIES)
    with pytest.warns(UserWarning, match=r"nut, nut\.012 are classes of their own, .* merge_copies: true"):
        apart = load(f"coco:{root}", "test", label=label)
    ground = ["background"] if label == "masks" else []
    assert list(apart.classes) == [*ground, "nut", "bolt.001", "bolt", "nut.012"]
    merged = load(f"coco(root='{root}', merge_copies=True)", "test", label=label)
    assert list(merged.classes) == [*ground, "nut", "bolt"]
    if label == "boxes":
        assert merged[0][1].labels.tolist() == [1, 1, 0, 0]
    else:
        assert set(merged[0][1].unique().tolist()) == {0, 1}
    chosen = load(f"coco(root='{root}', merge_copies=True, classes=['bolt'], ignore=['nut'])", "test", label=label)
    assert list(chosen.classes) == [*ground, "bolt"]
    mapped = load(f"coco(root='{root}', merge_copies=True, label_map={{'part': ['bolt', 'nut']}})", "test", label=label)
    assert list(mapped.classes) == [*ground, "part"]
    with pytest.raises(ConfigError, match=r"'blot'\. Did you mean 'bolt'"):
        load(f"coco(root='{root}', merge_copies=True, classes=['blot'])", "test", label=label)


def test_two_names_of_one_category_are_one_on_request(tmp_path: Path) -> None:
    root = small(tmp_path, BOX)
    edit(root, categories=[{"id": 1, "name": "nut"}, {"id": 1, "name": "nut.001"}])
    with pytest.raises(
        DataError, match=r"'nut' and 'nut\.001' have the same id 1, so .* With merge_copies: true they are one"
    ):
        boxes_of(root)
    assert boxes_of(root, ", merge_copies=True").labels.tolist() == [0]
    edit(root, categories=[{"id": 1, "name": "nut"}, {"id": 1, "name": "bolt"}])
    with pytest.raises(
        DataError, match=r"'nut' and 'bolt' have the same id 1, .* label_map: \{my-class: \[nut, bolt\]\}"
    ):
        boxes_of(root, ", merge_copies=True")


@pytest.mark.parametrize("label", ["boxes", "masks"])
def test_names_of_one_id_are_one_where_a_map_says_so(tmp_path: Path, label: str) -> None:
    square = {**BOX, "segmentation": [[2, 2, 8, 2, 8, 8, 2, 8]]}
    root = small(tmp_path, {**square, "category_id": 1}, {**square, "category_id": 2})
    edit(root, categories=[{"id": 1, "name": name} for name in ("tail", "rudder")] + [{"id": 2, "name": "wing"}])
    found = load(f"coco(root='{root}', label_map={{'back': ['tail', 'rudder'], 'front': 'wing'}})", "test", label=label)
    assert found.classes[-2:] == ("back", "front")
    assert (found[0][1].labels if label == "boxes" else found[0][1].unique()).tolist() == [0, 1 + (label == "masks")]
    apart = ", label_map={'back': ['tail'], 'front': 'wing'}"
    with pytest.raises(DataError, match="'tail' and 'rudder' have the same id 1"):
        load(f"coco(root='{root}'{apart})", "test", label=label)


def test_of_several_files_splits_are_suggested(tmp_path: Path) -> None:
    content = json.loads((small(tmp_path, BOX) / "annotations.json").read_text())
    (tmp_path / "annotations.json").unlink()
    for name in ("train", "valid", "test"):
        write(tmp_path, content, f"{name}/_annotations.coco.json")
    expected = (
        r"splits: \{train: train/_annotations.coco.json, heldout: valid/_annotations.coco.json, "
        r"test: test/_annotations.coco.json\}"
    )
    with pytest.raises(DataError, match=expected):
        boxes_of(tmp_path)
    write(tmp_path, content, "annotations/captions_train.json")
    write(tmp_path, content, "annotations/instances_train.json")
    with pytest.raises(DataError, match=r"splits: \{train: annotations/instances_train.json, heldout: valid/_ann"):
        boxes_of(tmp_path)


def test_the_panoptic_format_is_named(tmp_path: Path) -> None:
    root = small(tmp_path, {"segments_info": [{"id": 1, "category_id": 1}]})
    with pytest.raises(DataError, match=r"is in COCO's panoptic format, .* as in COCO's instances_\*\.json"):
        boxes_of(root)


def test_images_that_lost_their_names_are_not_told_to_be_merged(tmp_path: Path) -> None:
    root = small(tmp_path, BOX)
    edit(root, images=[{"id": "_semantic", "file_name": "_semantic"}] * 2)
    with pytest.raises(DataError, match=r"2 images with the id '_semantic', .* what wrote it lost their names"):
        boxes_of(root)


def test_smaller_objects_are_on_top_on_request(tmp_path: Path) -> None:
    window, wall = polygon(4, 4, 8, 4, 8, 8, 4, 8), polygon(2, 2, 18, 2, 18, 10, 2, 10)
    wrong = {"area": 1000}  # tools write areas of their own
    root = small(tmp_path, {**window, **wrong}, {**wall, "category_id": 2})
    with pytest.warns(
        UserWarning, match=r"of 2 objects in the first 1 images, 1 are wholly covered .* overlap: smaller"
    ):
        assert set(np.unique(mask_of(root))) == {0, 2}
    mask = mask_of(root, ", overlap='smaller'")
    assert (mask[4:8, 4:8] == 1).all()
    assert (mask == 2).sum() == 16 * 8 - 4 * 4


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("category", [1, 2])
def test_objects_that_are_seen_or_of_the_class_above_them_are_no_reason_to_warn(tmp_path: Path, category: int) -> None:
    first = polygon(4, 4, 8, 4, 8, 8, 4, 8)
    above = polygon(2, 2, 18, 2, 18, 10, 2, 10) if category == 1 else polygon(4, 4, 8, 4, 8, 7, 4, 7)
    mask_of(small(tmp_path, first, {**above, "category_id": category}))


def test_boxes_far_from_their_polygons_are_told(tmp_path: Path) -> None:
    centred = {**BOX, "bbox": [10, 9, 6, 4]}
    with pytest.warns(UserWarning, match=r"the bbox of 3 of the first 4 annotations .* that of annotation 1\."):
        boxes_of(small(tmp_path, BOX, centred, centred, centred))


@pytest.mark.filterwarnings("error")
def test_boxes_around_more_than_is_seen_and_run_lengths_are_no_reason_to_warn(tmp_path: Path) -> None:
    amodal = {**BOX, "bbox": [2, 3, 16, 9]}
    runs = {"bbox": [10, 9, 6, 1], "area": 6, "segmentation": {"size": [12, 20], "counts": [0, 12, 228]}}
    boxes_of(small(tmp_path, BOX, amodal, runs, {**BOX, "segmentation": []}, {**BOX, "segmentation": [["x", "y"]]}))


def test_covered_objects_are_looked_for_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_labels, "_MOST_DRAWN", 2 * SIZE[0] * SIZE[1] - 1)
    root = small(tmp_path, polygon(4, 4, 8, 4, 8, 8, 4, 8), {**polygon(2, 2, 18, 2, 18, 10, 2, 10), "category_id": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask_of(root)
