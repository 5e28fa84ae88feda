from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import synreal.data as data
from synreal.data import Policy
from synreal.data.kinds.kitti import Kitti
from synreal.errors import ConfigError, DataError
from tests.data.trees import colour, kitti_line, kitti_tree, write

NAMES = ("Car", "Cyclist", "Pedestrian")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kitti_tree(tmp_path_factory.mktemp("kitti"), 7)


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "own"))


def load(root: Path, split: str = "test", **settings: object):  # type: ignore[no-untyped-def]
    return data.load(Kitti(root=root, **settings), split, label="boxes")


def label(tree: Path, index: int, *lines: str) -> None:
    write(tree / f"training/label_2/{index}.txt", "\n".join(lines))


def test_boxes_lie_where_the_objects_are_drawn(tree: Path) -> None:
    images = load(tree)
    assert images.classes == NAMES
    assert images.files == [f"training/image_2/{index}.png" for index in range(7)]
    for index in range(7):
        image, objects = images[index]
        assert len(objects.labels) == 1 + index % 3
        for box, number in zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True):
            drawn = (image.permute(1, 2, 0).numpy() == colour(number, 3)).all(2)
            assert [drawn.any(0).argmax(), drawn.any(1).argmax()] == box[:2]
            assert drawn.sum() == (box[2] - box[0]) * (box[3] - box[1]), "half-open, from 0"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("Camera/rgb", "Camera/object_detection"),
        ("Camera/rgb", "Camera/object_detection/bbox_2d_tight"),
        ("rgb", "object_detection"),
        ("warehouse/Camera/rgb", "warehouse/Camera/object_detection"),
        ("images", "labels"),
        ("image_2", "label_2"),
    ],
)
def test_usual_folders_are_found(tmp_path: Path, images: str, labels: str) -> None:
    kitti_tree(tmp_path, 3, images=images, labels=labels)
    write(tmp_path / "testing/image_2/9.png", "not labelled")
    assert load(tmp_path).files == [f"{images}/{index}.png" for index in range(3)]


def test_all_cameras_are_read_together(tmp_path: Path) -> None:
    for camera in ("Camera", "Camera_01"):
        kitti_tree(tmp_path, 2, images=f"{camera}/rgb", labels=f"{camera}/object_detection")
    assert load(tmp_path).files == [
        f"{camera}/rgb/{index}.png" for camera in ("Camera", "Camera_01") for index in (0, 1)
    ]


def test_folders_can_be_named(tmp_path: Path) -> None:
    kitti_tree(tmp_path, 2, images="a/pictures", labels="a/texts")
    with pytest.raises(DataError, match=r"holds a, expected image_2 with label_2, rgb with .* Name the folders"):
        load(tmp_path)
    assert len(load(tmp_path, images="a/pictures", labels="a/texts")) == 2
    with pytest.raises(DataError, match=r"text is not a folder"):
        load(tmp_path, images="a/pictures", labels="a/text")
    with pytest.raises(DataError, match="leads out of"):
        load(tmp_path / "a", images="../a/pictures", labels="../../x")
    with pytest.raises(ConfigError, match="expected both images and labels"):
        data.find(f"kitti(root={str(tmp_path)!r}, images='a/pictures')")


def test_a_split_that_is_not_there_is_named(tree: Path) -> None:
    with pytest.raises(DataError, match=r"valid, which splits names, does not exist; .* Folders in .*: training"):
        load(tree, "test", splits={"test": "valid"})


def test_splits_are_folders_or_lists(tree: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        shutil.copytree(tree / "training", tmp_path / "parts" / part)
    splits = {"train": "train", "test": "val"}
    assert len(load(tmp_path / "parts", "train", splits=splits)) == 6
    assert load(tmp_path / "parts", "test", splits=splits).files[0] == "val/image_2/0.png"
    write(tree / "ImageSets/train.txt", "3\r\n1\r\n")
    write(tree / "ImageSets/val.txt", "1\n12\n13")
    write(tree / "ImageSets/held.txt", "0")
    lists = {"train": "ImageSets/train.txt", "heldout": "ImageSets/held.txt", "test": "ImageSets/val.txt"}
    assert load(tree, "train", splits=lists).files == ["training/image_2/1.png", "training/image_2/3.png"]
    with pytest.raises(DataError, match=r"2 names that .*val\.txt lists have no text file below .*, e\.g\. 12, 13"):
        load(tree, "test", splits=lists)
    assert load(tree, "heldout", splits=lists).files == ["training/image_2/0.png"]
    with pytest.raises(DataError, match="splits names heldout, but not train"):
        load(tree, "train", splits={"heldout": "ImageSets/held.txt"})
    with pytest.raises(DataError, match=r"no\.txt, which splits names, does not exist"):
        load(tree, "train", splits={"train": "no.txt"})


def test_dont_care_is_counted_and_empty_files_are_background(tree: Path) -> None:
    label(
        tree,
        0,
        kitti_line("Car", 1, 2, 30, 40),
        kitti_line("DontCare", 5, 5, 9, 9),
        "",
        kitti_line("dontcare", 5, 5, 9, 9),
    )
    label(tree, 1)
    with pytest.warns(UserWarning, match=r"kitti \(test\): 2 objects marked DontCare left out\.$"):
        images = load(tree)
    assert images.classes == NAMES
    assert images[0][1].boxes.tolist() == [[1, 2, 30, 40]]
    assert not images[0][1].crowd.any()
    assert len(images[1][1].labels) == 0


def test_eight_fields_are_enough_and_names_may_hold_spaces(tree: Path) -> None:
    label(
        tree,
        0,
        "Car 0 0 0 1 2 30 40",
        "pallet jack 0.00 0 0.00 1.50 2.25 30 40" + " 0" * 7,
        "Car 0 0 0 5 6 7 8" + " 0" * 7 + " 0.97",
        "\tvan\t0 0 0 5 6 7 8 ",
    )
    images = load(tree, classes=["Car", "pallet jack", "van", *NAMES[1:]])
    assert images[0][1].boxes.tolist() == [[1, 2, 30, 40], [1.5, 2.25, 30, 40], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert images[0][1].labels.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "Car 0 0 0 1 2 30",
            r"expected a name and at least 7 numbers .*, got 'Car 0 0 0 1 2 30'\. on_bad_image: skip ",
        ),
        ("Car 0 0 0 1 2 30 x", "at least 7 numbers"),
        ("Car", "at least 7 numbers"),
        ("Car,0,0,0,1,2,30,40", "at least 7 numbers"),
        ("0 0.5 0.5 0.1 0.1", "This looks like YOLO: format yolo"),
    ],
)
def test_other_lines_are_refused_with_file_and_line(tree: Path, line: str, said: str) -> None:
    label(tree, 2, kitti_line("Car", 1, 2, 30, 40), line)
    with pytest.raises(DataError, match=rf"label_2/2\.txt, line 2: .*{said}"):
        load(tree)


def test_boxes_are_clipped_to_the_image_and_those_without_area_dropped(tree: Path) -> None:
    corners = [(90, 60, 300, 200), (-4, -4, 5, 5), (7, 7, 7, 9), (200, 1, 210, 9), (float("nan"), 1, 2, 3)]
    label(tree, 0, *(kitti_line("Car", *each) for each in corners))
    with pytest.warns(UserWarning, match="3 boxes without area left out"):
        assert load(tree)[0][1].boxes.tolist() == [[90, 60, 96, 64], [0, 0, 5, 5]]


def test_images_and_text_files_without_each_other(tree: Path) -> None:
    (tree / "training/label_2/3.txt").unlink()
    with pytest.warns(UserWarning, match="1 images without a text file left out"):
        assert len(load(tree)) == 6
    for index in (0, 1, 2, 4):
        (tree / f"training/image_2/{index}.png").unlink()
    with pytest.raises(DataError, match=r"4 of 6 text files in .* have no image in .*, e\.g\. 0\.txt, .* and 1 more"):
        load(tree)


def test_names_are_those_of_the_whole_source(tree: Path) -> None:
    label(tree, 5, kitti_line("Tram", 1, 2, 30, 40))
    write(tree / "train.txt", "0\n1\n2\n3\n4\n")
    write(tree / "val.txt", "5\n6\n")
    splits = {"train": "train.txt", "heldout": "val.txt", "test": "val.txt"}
    sets = [load(tree, part, splits=splits) for part in splits]
    assert sets[0].classes == sets[1].classes == (*NAMES, "Tram")
    assert sets[2].classes == ("Car", "Tram")
    with pytest.warns(UserWarning, match=r"objects of other classes \(Car, Cyclist, Pedestrian\) left out"):
        assert load(tree, "test", classes=["Tram"]).classes == ("Tram",)


def test_images_that_cannot_be_read_are_left_out_if_asked(tree: Path) -> None:
    (tree / "training/image_2/4.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"4\.png is not an image: it is empty"):
        load(tree)
    with pytest.warns(UserWarning, match="1 images that cannot be read left out"):
        images = data.load(Kitti(root=tree), "test", label="boxes", policy=Policy(bad_image="skip"))
    assert len(images) == 6
    assert np.array_equal([len(images[i][1].labels) for i in range(6)], [1, 2, 3, 1, 3, 1])


@pytest.mark.parametrize("fields", [8, 15, 16])
@pytest.mark.parametrize("name", ["Truck 2", "Type 2", "Type 2 truck", "Van 10 20", "Car"])
def test_names_may_hold_numbers(tree: Path, name: str, fields: int) -> None:
    label(tree, 0, kitti_line(name, 1, 2, 30, 40, fields))
    label(tree, 1, kitti_line("Car", 1, 2, 30, 40))
    images = load(tree)
    (number,) = images[0][1].labels.tolist()
    assert images.classes[number] == name
    assert images[0][1].boxes.tolist() == [[1, 2, 30, 40]]


def test_a_damaged_number_is_no_part_of_a_name(tree: Path) -> None:
    line = kitti_line("Car", 1, 2, 30, 40).replace("30.00", "3O.OO")
    label(tree, 0, line)
    with pytest.raises(DataError, match=r"0\.txt, line 1: expected a name and at least 7 numbers"):
        load(tree)


def test_swapped_corners_are_not_boxes_without_area(tree: Path) -> None:
    label(tree, 0, kitti_line("Car", 30, 2, 1, 40), kitti_line("Car", 1, 2, 30, 40))
    with pytest.warns(UserWarning, match="1 boxes with swapped corners .* left out"):
        assert len(load(tree)[0][1].labels) == 1
