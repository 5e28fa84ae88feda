from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from synreal.data import Policy, load
from synreal.data.kinds.yolo import Yolo, read_objects
from synreal.data.labels.boxes import Objects
from synreal.data.sets import BoxedImages
from synreal.errors import ConfigError, DataError
from tests.data.own_trees import CLASSES, scene
from tests.data.simple_trees import yolo_tree

W, H = 40, 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One image of 40 x 20 in images/ with a label file, and names."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (W, H)).save(tmp_path / "images" / "a.png")
    (tmp_path / "classes.txt").write_text("car\nbus\n")
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    return tmp_path


def read(root: Path, split: str = "test", policy: Policy | None = None, **settings: object) -> BoxedImages:
    options = {} if policy is None else {"policy": policy}
    return load(Yolo(root=root, **settings), split, label="boxes", **options)


def labelled(root: Path, text: str) -> torch.Tensor:
    (root / "labels" / "a.txt").write_text(text)
    objects = read(root)[0][1]
    return torch.cat([objects.labels[:, None], objects.boxes], 1)


def test_boxes_are_those_that_were_painted(tmp_path: Path) -> None:
    yolo_tree(tmp_path)
    data = f"yolo:{tmp_path}"
    parts = {part: load(data, part, label="boxes") for part in ("train", "heldout", "test")}
    assert [len(images) for images in parts.values()] == [9, 3, 3]
    assert parts["heldout"].files == parts["test"].files
    for images in parts.values():
        assert images.classes == CLASSES
        assert images.dropped == {}
        for index, file in enumerate(images.files):
            made = scene(int(Path(file).stem))
            image, objects = images[index]
            assert np.array_equal(image.permute(1, 2, 0), made.image)
            found = torch.cat([objects.labels[:, None], objects.boxes], 1)
            torch.testing.assert_close(found, torch.tensor(made.objects, dtype=torch.float32), atol=1e-3, rtol=0)
            sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
            torch.testing.assert_close(objects.area, sides.prod(1))
            assert not objects.crowd.any()


def test_shares_become_pixels(root: Path) -> None:
    assert labelled(root, "1 0.5 0.5 0.2 0.4").tolist() == [[1, 16, 6, 24, 14]]


def test_a_polygon_gives_the_box_around_it(root: Path) -> None:
    assert labelled(root, "0 0.1 0.5 0.5 0.25 0.25 0.75").tolist() == [[0, 4, 5, 20, 15]]
    turned = "1 0.5 0.2 0.75 0.5 0.5 0.8 0.25 0.5"  # as of boxes that are not parallel to the axes
    torch.testing.assert_close(labelled(root, turned), torch.tensor([[1.0, 10, 4, 30, 16]]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 1), *(st.floats(0, 1) for _ in range(4))).filter(
            lambda row: abs(row[1] - row[3]) * W > 0.01 and abs(row[2] - row[4]) * H > 0.01
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_any_boxes_come_back(root: Path, rows: list[tuple[int, float, float, float, float]]) -> None:
    sorted_rows = [(label, min(a, c), min(b, d), max(a, c), max(b, d)) for label, a, b, c, d in rows]
    text = "\n".join(
        f"{label} {(a + c) / 2!r} {(b + d) / 2!r} {c - a!r} {d - b!r}" for label, a, b, c, d in sorted_rows
    )
    expected = [[label, a * W, b * H, c * W, d * H] for label, a, b, c, d in dict.fromkeys(sorted_rows)]
    found = labelled(root, text)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)
    assert Objects().problem(read(root)[0][1], (H, W), ("car", "bus")) is None


def test_lines_may_be_written_in_other_ways(root: Path) -> None:
    assert labelled(root, "\ufeff1.0 .5 5e-1\t0.2  0.4 \r\n\r\n").tolist() == [[1, 16, 6, 24, 14]]


def test_a_line_that_stands_twice_is_one_object(root: Path) -> None:
    assert len(labelled(root, "1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 0.4\n2 0.5 0.5 0.2 0.4", r"labels/a\.txt, line 2: class 2, but there are names for 0 to 1"),
        ("-1 0.5 0.5 0.2 0.4", r"a\.txt, line 1: the class is -1, expected a whole number"),
        ("0.5 0.5 0.5 0.2 0.4", r"a\.txt, line 1: the class is 0\.5, expected a whole number"),
        ("nan 0.5 0.5 0.2 0.4", r"the class is nan"),
        ("inf 0.5 0.5 0.2 0.4", r"the class is inf"),
        ("\n\ncar 0.5 0.5 0.2 0.4", r"a\.txt, line 3: expected numbers, .*got 'car "),
        ("0 nan 0.5 0.2 0.4", r"a\.txt, line 1: expected shares"),
        ("0 0.5 0.5 inf 0.4", r"a\.txt, line 1: expected shares"),
        ("0 20 10 8 8", r"a\.txt, line 1: expected shares of the image's width and height, 0 to 1.*Divide pixels"),
        ("0 -0.6 0.5 0.2 0.4", "expected shares"),
        ("0 0.5 0.5 -0.2 0.4", r"line 1: width -0\.2 and height 0\.4, expected none below 0"),
        ("0 0.5 0.5 0.2", r"line 1: 4 fields, expected 5"),
        ("0", r"line 1 is .0. alone"),
        ("0 0.5 0.5 0.2 0.4 0.9", r"line 1: 6 fields\. The last is a prediction's confidence"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1", r"line 1: 8 fields, expected 5"),
    ],
)
def test_lines_that_are_wrong(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled(root, text)


def test_boxes_that_reach_out_are_clipped_and_counted_beyond_rounding(root: Path) -> None:
    (root / "labels" / "a.txt").write_text("0 0.0 0.5 0.2 0.4\n1 0.9 0.5 0.22 0.4\n1 0.5 0.5 0.2 1.04\n")
    with pytest.warns(UserWarning, match="yolo .test.: 1 boxes clipped that reach out of their image"):
        images = read(root)
    expected = torch.tensor([[0.0, 6, 4, 14], [31.6, 6, 40, 14], [16, 0, 24, 20]])
    torch.testing.assert_close(images[0][1].boxes, expected)


def test_boxes_without_area_are_left_out_and_counted(root: Path) -> None:
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0 0.4\n1 0.5 0.5 0.2 0.4\n1 1.4 0.5 0.2 0.2\n")
    with pytest.warns(UserWarning, match="2 boxes without area left out"):
        images = read(root)
    assert images[0][1].labels.tolist() == [1]


def test_images_without_label_file_have_no_object_and_label_files_without_image_are_counted(root: Path) -> None:
    Image.new("RGB", (W, H)).save(root / "images" / "b.png")
    Image.new("RGB", (W, H)).save(root / "images" / "c.png")
    (root / "labels" / "c.txt").write_text("")
    (root / "labels" / "gone.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (root / "README.txt").write_text("no label file")
    message = "1 label files without image, 1 images without label file, taken to hold no object\\.$"
    with pytest.warns(UserWarning, match=message):
        images = read(root)
    assert images.files == ["images/a.png", "images/b.png", "images/c.png"]
    assert [len(images[index][1].labels) for index in range(3)] == [1, 0, 0]
    assert images[1][1].boxes.shape == (0, 4)


def test_labels_may_lie_beside_images(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (W, H)).save(tmp_path / "deep" / "a.jpg")
    (tmp_path / "deep" / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "deep" / "classes.txt").write_text("car\n")
    images = read(tmp_path, classes=["car"])
    assert images[0][1].boxes.tolist() == [[16, 6, 24, 14]]


def test_the_last_folder_called_images_counts(tmp_path: Path) -> None:
    for folder in ("images/train/images", "images/train/labels", "labels/train/images"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (W, H)).save(tmp_path / "images/train/images/a.png")
    (tmp_path / "images/train/labels/a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "labels/train/images/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    assert read(tmp_path, classes=["car", "bus"])[0][1].labels.tolist() == [0]


def test_images_without_any_labels_are_an_error(root: Path) -> None:
    message = r"the image has no label file, e\.g\. images/a\.png has none as labels/a\.txt\. Give the root"
    (root / "labels" / "a.txt").unlink()
    with pytest.raises(DataError, match=message):
        read(root)
    (root / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="holds no image"):
        read(root)


@pytest.mark.parametrize("names", [("Images", "Labels"), ("images", "LABELS"), ("Images", "labels")])
def test_upper_case_does_not_tell_folders_apart(root: Path, names: tuple[str, str]) -> None:
    expected = read(root)[0][1].boxes
    for old, new in zip(("images", "labels"), names, strict=True):
        (root / old).rename(root / new)
    assert read(root)[0][1].boxes.equal(expected)


def test_labels_names_the_folder_of_the_text_files(root: Path) -> None:
    expected = read(root)[0][1].boxes
    (root / "labels").rename(root / "yolo_labels")
    with pytest.raises(DataError, match=r"There is yolo_labels/a\.txt: if it is one, give labels: yolo_labels, the"):
        read(root)
    assert read(root, labels="yolo_labels")[0][1].boxes.equal(expected)
    (root / "labels").mkdir()  # of another conversion
    (root / "labels" / "a.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    assert read(root, labels="yolo_labels")[0][1].boxes.equal(expected)


@pytest.mark.parametrize("places", [("run/a.png", "run/labels/a.txt"), ("run/a.png", "labels/run/a.txt")])
def test_labels_lie_beside_images_in_no_folder_of_images(root: Path, places: tuple[str, str]) -> None:
    expected = read(root)[0][1].boxes
    for old, new in zip(("images/a.png", "labels/a.txt"), places, strict=True):
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)
    (root / "images").rmdir()
    assert read(root)[0][1].boxes.equal(expected)


def test_a_number_of_boxes_is_no_line_of_yolo(root: Path) -> None:
    (root / "labels" / "a.txt").write_text("1\n10 12 30 40\n")
    with pytest.raises(DataError, match=r"line 1 is '1' alone, .* as BBox-Label-Tool writes them"):
        read(root)


def test_no_object_at_all_is_an_error(root: Path) -> None:
    (root / "labels" / "a.txt").write_text("\n")
    with pytest.raises(DataError, match="no image has a box of car, bus"):
        read(root)


def test_exif_turns_the_size_that_shares_are_of(root: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (W, H)).save(root / "images" / "a.png", exif=tags)
    images = read(root)
    image, objects = images[0]
    assert image.shape == (3, W, H)
    assert objects.boxes.tolist() == [[8, 12, 12, 28]]


# Names


def test_names_are_read_from_yaml_before_classes_txt(root: Path) -> None:
    assert read(root).classes == ("car", "bus")
    (root / "data.yaml").write_text("names: [lorry, van]\nnc: 2\n")
    assert read(root).classes == ("lorry", "van")
    (root / "data.yaml").rename(root / "dataset.yaml")
    (root / "dataset.yaml").write_text("names:\n  1: van\n  0: lorry\n")
    assert read(root).classes == ("lorry", "van")


def test_classes_number_what_has_no_names_and_select_what_has(root: Path) -> None:
    (root / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 0.2\n")
    with pytest.warns(UserWarning, match="1 objects of other classes left out"):
        images = read(root, classes=["bus"])
    assert images.classes == ("bus",)
    assert images[0][1].labels.tolist() == [0]
    assert images[0][1].boxes.tolist() == [[16, 6, 24, 14]]
    with pytest.raises(ConfigError, match=r"classes\.txt 'bsu'\. Did you mean 'bus'"):
        read(root, classes=["bsu"])
    (root / "classes.txt").unlink()
    images = read(root, classes=["bus", "car"])
    assert images.classes == ("bus", "car")
    assert images[0][1].labels.tolist() == [1, 0]


def test_names_are_needed(root: Path) -> None:
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"no data\.yaml with names and no classes\.txt.*classes=\['car', 'bus'\]"):
        read(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [car]\nnc: 2", r"data\.yaml: nc is 2, but there are 1 names"),
        ("names: {1: car, 2: bus}", r"data\.yaml, names: expected names for the numbers 0 to 1"),
        ("names: [yes, no]", r"data\.yaml, names: .*put the name in quotes"),
        ("names: car", r"data\.yaml, names: expected a list"),
        ("names: [car, bus]\ntest: 3", r"data\.yaml, test: expected a path or a list of paths, got 3"),
        ("names: [car, bus]\ntest: [3]", r"data\.yaml, test: expected a path"),
        ("names: [car, bus]\ntest: ../../x", r"data\.yaml, test: the path '\.\./x' leads out"),
        ("names: [car, bus]\nval: /etc", r"data\.yaml, val: the path '/etc' is absolute"),
        ("names: [car, bus]\nval: nowhere", r"data\.yaml, val: .*nowhere does not exist"),
        ("names: [car, bus]\npath: /etc\nval: images", r"data\.yaml, path: '/etc' lies outside of .*root must be"),
        ("names: [car, bus]\npath: ../other/x\nval: images", r"data\.yaml, path: '\.\./other/x' is not in"),
        (f"names: [car, bus]\npath: {'x' * 5000}", r"data\.yaml, path: 'x{80}\.\.\.' is not in"),
        (f"names: [car, bus]\nval: ../{'x' * 5000}", r"data\.yaml, val: the path 'x+\.\.\.' is longer than"),
    ],
)
def test_descriptions_that_are_wrong(root: Path, text: str, message: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        read(root)


def test_a_description_that_is_no_yaml(root: Path) -> None:
    (root / "data.yaml").write_text("names: [car")
    with pytest.raises(ConfigError, match=r"data\.yaml is not YAML"):
        read(root)


# Parts


@pytest.fixture
def parts(root: Path) -> Path:
    for part, number in (("train", 4), ("valid", 2)):
        for folder in ("images", "labels"):
            (root / part / folder).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (W, H)).save(root / part / "images" / f"{part}{index}.png")
            (root / part / "labels" / f"{part}{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.2 0.4\n")
    return root


def stems(root: Path, **settings: object) -> list[str]:
    return [
        " ".join(Path(file).stem for file in read(root, part, **settings).files)
        for part in ("train", "heldout", "test")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "train: train/images\nval: valid/images\n",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",  # as Roboflow writes it
        "path: .\ntrain: train\nval: [valid/images]\ntest:\n",
    ],
)
def test_a_description_says_where_parts_lie(parts: Path, text: str) -> None:
    (parts / "data.yaml").write_text(text + "names: [car, bus]\n")
    assert stems(parts) == ["train0 train1 train2 train3", "valid0 valid1", "valid0 valid1"]


@pytest.mark.parametrize("path", ["{}", "../datasets/{}", "/content/{}", "./"])
def test_a_path_from_where_the_data_were_made_is_the_root_by_its_name(parts: Path, path: str) -> None:
    (parts / "data.yaml").write_text(
        f"path: {path.format(parts.name)}\ntrain: train/images\nval: valid/images\nnames: [car, bus]\n"
    )
    assert stems(parts)[0] == "train0 train1 train2 train3"


def test_a_test_part_is_tested_on(parts: Path) -> None:
    (parts / "data.yaml").write_text("train: train\nval: valid\ntest: images\nnames: [car, bus]\n")
    assert stems(parts) == ["train0 train1 train2 train3", "valid0 valid1", "a"]


def test_the_same_images_to_train_and_validate_are_divided(parts: Path) -> None:
    (parts / "data.yaml").write_text("train: train\nval: train\nnames: [car, bus]\n")
    train, heldout, test = (set(each.split()) for each in stems(parts))
    assert (len(train), len(heldout), len(test)) == (3, 1, 4)
    assert train | heldout == test


def test_without_val_some_of_train_are_held_out(parts: Path) -> None:
    (parts / "data.yaml").write_text("train: train\ntest: valid\nnames: [car, bus]\n")
    train, heldout, test = (set(each.split()) for each in stems(parts))
    assert (len(train), len(heldout)) == (3, 1)
    assert test == {"valid0", "valid1"}


def test_splits_come_before_the_description(parts: Path) -> None:
    (parts / "data.yaml").write_text("train: train\nval: valid\nnames: [car, bus]\n")
    splits = {"train": "valid/images", "heldout": "images", "test": "train/images"}
    assert stems(parts, splits=splits) == ["valid0 valid1", "a", "train0 train1 train2 train3"]
    with pytest.raises(DataError, match=r"splits: .*none does not exist, expected a folder.*images, labels, train"):
        read(parts, splits={"test": "none"})
    with pytest.raises(DataError, match="splits names heldout, but not train"):
        read(parts, "train", splits={"heldout": "valid"})


def test_without_either_every_image_is_read(parts: Path) -> None:
    assert stems(parts)[2] == "a train0 train1 train2 train3 valid0 valid1"


def test_text_files_list_the_images_of_a_part(parts: Path) -> None:
    (parts / "sub").mkdir()
    (parts / "train.txt").write_text("./train/images/train1.png\r\ntrain\\images\\train0.png\r\n")
    (parts / "train" / "val.txt").write_text("./images/train3.png\n")
    (parts / "data.yaml").write_text("train: train.txt\nval: train/val.txt\nnames: [car, bus]\n")
    assert stems(parts) == ["train1 train0", "train3", "train3"]
    images = read(parts, "train")
    assert images.dropped == {}  # labels of images that are not listed are not in excess
    assert [int(images[index][1].labels) for index in range(2)] == [1, 0]


def test_lists_of_images_stay_in_the_root_and_name_what_is_missing(parts: Path) -> None:
    (parts / "train.txt").write_text("train/images/train1.png\ntrain/images/none.png\n")
    with pytest.raises(DataError, match=r"train\.txt: 1 of 2 images do not exist in .*none\.png"):
        read(parts, splits={"test": "train.txt"})
    with pytest.warns(UserWarning, match="1 missing images left out"):
        images = read(parts, policy=Policy(bad_image="skip"), splits={"test": "train.txt"})
    assert len(images) == 1
    (parts / "train.txt").write_text("../x.png\n")
    with pytest.raises(DataError, match=r"train\.txt, line 1: the path '\.\./x\.png' leads out"):
        read(parts, splits={"test": "train.txt"})


def test_images_that_cannot_be_read_end_it_or_are_counted(parts: Path) -> None:
    (parts / "train" / "images" / "train2.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"train2\.png is not an image: it looks like a web page"):
        read(parts, splits={"test": "train"})
    with pytest.warns(UserWarning, match="1 images that cannot be read left out"):
        images = read(parts, policy=Policy(bad_image="skip"), splits={"test": "train"})
    assert [Path(file).stem for file in images.files] == ["train0", "train1", "train3"]
    assert [int(images[index][1].labels) for index in range(3)] == [0, 1, 1]


def test_key_points_are_left_out_where_the_description_says_there_are_some(root: Path) -> None:
    (root / "data.yaml").write_text("names: [car, bus]\nkpt_shape: [2, 2]\n")
    assert labelled(root, "1 0.5 0.5 0.2 0.4 0.9 0.9 0.1 0.1").tolist() == [[1, 16, 6, 24, 14]]


def test_label_files_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n3 0.5 0.25 1 0.5\n")
    assert list(read_objects(path)) == [(2, 3, [0, 0, 1, 0.5])]
    path.write_bytes(b"0 0.5 \xff")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_objects(path))


def test_a_clean_folder_warns_of_nothing(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(root).dropped == {}


@pytest.mark.parametrize("given", ["../{name}", "../{name}/", "./../{name}/images/..", "images/../"])
def test_a_path_that_leads_back_to_the_root_is_the_root(root: Path, given: str) -> None:
    path = given.format(name=root.name)
    (root / "data.yaml").write_text(f"path: {path}\ntrain: images\nval: images\nnames: [car, bus]\n")
    images = read(root)
    assert (images.files, images[0][1].labels.tolist()) == (["images/a.png"], [1])


@pytest.mark.parametrize("place", ["../{name}/images", "../{name}/list.txt"])
def test_places_that_lead_back_to_the_root_are_below_it(root: Path, place: str) -> None:
    (root / "list.txt").write_text(f"../{root.name}/images/a.png\n")
    (root / "data.yaml").write_text(f"val: {place.format(name=root.name)}\nnames: [car, bus]\n")
    assert read(root).files == ["images/a.png"]
    (root / "data.yaml").unlink()
    assert read(root, splits={"test": place.format(name=root.name)}).files == ["images/a.png"]


def test_label_files_may_end_in_capitals(root: Path) -> None:
    (root / "labels" / "a.txt").rename(root / "labels" / "a.TXT")
    (root / "labels" / "b.Txt").write_text("")
    with pytest.warns(UserWarning, match="1 label files without image"):
        assert read(root)[0][1].labels.tolist() == [1]
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.4\n")
    with pytest.warns(UserWarning, match="1 label files without image"):
        assert read(root)[0][1].labels.tolist() == [0]  # one that ends as usual comes first


@pytest.fixture
def cvat(tmp_path: Path) -> Path:
    """CVAT's YOLO 1.1: lists and names beside folders of images with their label files, all named from data/."""
    root = tmp_path / "export"
    for part, numbers in (("train", range(6)), ("valid", range(6, 8))):
        for number in numbers:
            path = root / f"obj_{part}_data" / "deep" / f"f{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (W, H), (number, 0, 0)).save(path)
            path.with_suffix(".txt").write_text("1 0.5 0.5 0.2 0.4\n")
        (root / f"{part}.txt").write_text("".join(f"data/obj_{part}_data/deep/f{number}.png\n" for number in numbers))
    (root / "obj.names").write_text("car\nbus\n")
    (root / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    return root


def test_cvats_yolo_is_read(cvat: Path) -> None:
    train, heldout, test = (read(cvat, part) for part in ("train", "heldout", "test"))
    assert train.files == [f"obj_train_data/deep/f{number}.png" for number in range(6)]
    assert heldout.files == test.files == ["obj_valid_data/deep/f6.png", "obj_valid_data/deep/f7.png"]
    assert (train.classes, train.dropped) == (("car", "bus"), {})
    assert (train[0][1].labels.tolist(), train[0][1].boxes.tolist()) == ([1], [[16, 6, 24, 14]])


def test_cvats_yolo_without_a_part_to_hold_out(cvat: Path) -> None:
    (cvat / "obj.data").write_text("train=data/train.txt\n")
    train, heldout, test = (read(cvat, part) for part in ("train", "heldout", "test"))
    assert (len(train), len(heldout), len(test)) == (5, 1, 8)
    assert {*train.files, *heldout.files} == {f"obj_train_data/deep/f{number}.png" for number in range(6)}
    (cvat / "obj.data").unlink()
    assert read(cvat, splits={"test": "valid.txt"}).files == [
        "obj_valid_data/deep/f6.png",
        "obj_valid_data/deep/f7.png",
    ]


def test_a_folder_that_is_called_data_is_no_prefix(cvat: Path) -> None:
    (cvat / "data").mkdir()
    for path in list(cvat.iterdir()):
        if path.name not in ("data", "obj.data"):
            path.rename(cvat / "data" / path.name)
    assert read(cvat).files == ["data/obj_valid_data/deep/f6.png", "data/obj_valid_data/deep/f7.png"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"obj.data": "classes = 3\nnames = data/obj.names\n"}, r"obj\.data: classes is 3, but there are 2 names"),
        ({"obj.data": "names = data/no.names\n"}, r"obj\.data, names: .*data/no\.names does not exist"),
        ({"obj.data": "train data/train.txt\n"}, r"obj\.data, line 1: expected 'key = value', got 'train data/train"),
        ({"obj.data": "valid = data/no.txt\n"}, r"obj\.data, val: .*no\.txt does not exist"),
        ({"obj.data": "valid = ../../secret.txt\n"}, r"obj\.data, val: the path '../secret\.txt' leads out of"),
        (
            {"valid.txt": "data/obj_valid_data/deep/f9.png\n"},
            r"valid\.txt: 1 of 1 images do not exist .* data/obj_valid",
        ),
        ({"obj.names": "car\n\nbus\n"}, r"obj\.names, line 2 is blank and 'bus' follows: whether that is class 1 or 2"),
    ],
)
def test_damaged_exports_of_cvat_are_named(cvat: Path, changes: dict[str, str], said: str) -> None:
    for name, text in changes.items():
        (cvat / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read(cvat)


@pytest.mark.parametrize("text", ["car\n\nbus\n", "\ncar\nbus\n", "car\r\n \t\r\nbus"])
def test_a_blank_line_between_names_is_refused(root: Path, text: str) -> None:
    (root / "classes.txt").write_text(text)
    with pytest.raises(
        DataError, match=r"classes\.txt, line \d is blank and .* Remove the blank line, or write a name"
    ):
        read(root)


def test_blank_lines_behind_names_do_not_count(root: Path) -> None:
    (root / "classes.txt").write_text("car\nbus\n\n \n")
    assert read(root).classes == ("car", "bus")


@pytest.mark.parametrize("machine", ["/content/parts/", "C:\\work\\parts\\", "x64/Release/data/"])
def test_paths_of_the_machine_that_trained_lead_to_the_root(cvat: Path, machine: str) -> None:
    expected = read(cvat, "train").files
    for path in [cvat / "obj.data", *cvat.glob("*.txt")]:
        path.write_text(re.sub(r"(?m)(^|(?<= ))data/", lambda _: machine, path.read_text()))
    assert read(cvat, "train").files == expected
    (cvat / "obj.data").write_text("names = /elsewhere/none.names\n")
    with pytest.raises(DataError, match=r"the path '/elsewhere/none\.names' is absolute"):
        read(cvat)
