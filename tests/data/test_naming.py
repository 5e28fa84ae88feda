from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from synreal.data import Policy, find, load
from synreal.data.class_names import align_names
from synreal.data.labels.boxes import Boxes
from synreal.data.naming import as_found, plain_name
from synreal.data.own import warn_of_empty
from synreal.errors import ConfigError, DataError
from synreal.metrics import coco_ap
from tests.data import own_trees, simple_trees, trees
from tests.data.own_trees import CLASSES, scene

TREES: dict[str, Callable[[Path], object]] = {
    "voc": lambda root: trees.voc_tree(root, names=CLASSES),
    "kitti": lambda root: trees.kitti_tree(root, names=CLASSES),
    "coco": own_trees.coco_tree,
    "yolo": simple_trees.yolo_tree,
    "solo": own_trees.solo_tree,
}
BOXED = pytest.mark.parametrize("kind", sorted(TREES))
DRAWN = pytest.mark.parametrize("kind", ["coco", "solo"])

pytestmark = pytest.mark.filterwarnings("ignore:.*left out", "ignore:.*taken to hold")


def read(kind: str, root: Path, label: str = "boxes", part: str = "test", **settings: Any) -> Any:
    """Load through a YAML file, as people do."""
    path = root.parent / "own.yaml"
    path.write_text(yaml.safe_dump({"format": kind, "root": root.name, **settings}, sort_keys=False))
    images = load(str(path), part, label)
    assert find(str(path)).class_names(label) in (None, images.classes)
    assert find(find(str(path)).text()) == find(str(path))
    return images


def made(kind: str, folder: Path) -> Path:
    TREES[kind](folder / kind)
    return folder / kind


def boxes(images: Any) -> list[Boxes]:
    return [images[index][1] for index in range(len(images))]


def rows(objects: Boxes) -> list[tuple[int, bool, list[float]]]:
    return sorted(zip(objects.labels.tolist(), objects.crowd.tolist(), objects.boxes.tolist(), strict=True))


def looked_up(plain: Boxes, uses: list[list[tuple[int, bool]]]) -> list[tuple[int, bool, list[float]]]:
    """Return what the boxes of single classes become: by class, the classes that it stands for and whether as crowd."""
    return sorted(
        (label, crowd, corners)
        for old, corners in zip(plain.labels.tolist(), plain.boxes.tolist(), strict=True)
        for label, crowd in uses[old]
    )


BOLT, NUT, PLATE = 0, 1, 2


@BOXED
@pytest.mark.parametrize(
    ("settings", "classes", "uses"),
    [
        (
            {"label_map": {"metal": ["bolt", "plate"], "hex": "nut"}},
            ("metal", "hex"),
            [[(0, False)], [(1, False)], [(0, False)]],
        ),
        ({"label_map": {"hex": ["nut"]}}, ("hex",), [[], [(0, False)], []]),
        (
            {"label_map": {"metal": ["bolt", "plate"], "hex": "nut"}, "classes": ["hex", "metal"]},
            ("hex", "metal"),
            [[(1, False)], [(0, False)], [(1, False)]],
        ),
        (
            {"label_map": {"metal": ["bolt", "plate"], "hex": "nut"}, "classes": ["hex"]},
            ("hex",),
            [[], [(0, False)], []],
        ),
        ({"ignore": ["nut"]}, ("bolt", "plate"), [[(0, False)], [(0, True), (1, True)], [(1, False)]]),
        ({"ignore": "nut", "classes": ["plate"]}, ("plate",), [[], [(0, True)], [(0, False)]]),
        ({"ignore": ["nut"], "classes": ["nut", "plate"]}, ("plate",), [[], [(0, True)], [(0, False)]]),
        (
            {"label_map": {"plate": "bolt", "nut": "plate"}, "ignore": ["nut"]},
            ("plate", "nut"),
            [[(0, False)], [(0, True), (1, True)], [(1, False)]],
        ),
    ],
)
def test_names_become_classes_or_crowds(
    kind: str, settings: dict[str, Any], classes: tuple[str, ...], uses: list[list[tuple[int, bool]]], tmp_path: Path
) -> None:
    root = made(kind, tmp_path)
    plain, images = read(kind, root), read(kind, root, **settings)
    assert plain.classes == CLASSES
    assert images.classes == classes
    assert [rows(each) for each in boxes(images)] == [looked_up(each, uses) for each in boxes(plain)]
    assert [rows(each) for each in boxes(images)] != [[] for _ in boxes(plain)]


@BOXED
def test_what_has_no_class_is_counted(kind: str, tmp_path: Path) -> None:
    root = made(kind, tmp_path)
    nuts = sum(int((each.labels == NUT).sum()) for each in boxes(read(kind, root)))
    images = read(kind, root, label_map={"metal": ["bolt", "plate"]})
    assert [number for what, number in images.dropped.items() if what.startswith("objects of")] == [nuts]
    assert "objects of" not in str(read(kind, root, label_map={"metal": ["bolt", "plate"]}, ignore=["nut"]).dropped)


@BOXED
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"label_map": {"metal": ["bolt", "plaet"]}},
            ConfigError,
            r"Unknown name of .*'plaet'\. Did you mean 'plate'\?",
        ),
        ({"ignore": ["nuts"]}, ConfigError, r"Unknown name of .*'nuts'\. Did you mean 'nut'\? Known: bolt, nut, plate"),
        ({"ignore": ["nut", "bolt", "plate"]}, DataError, r"ignore has all names, .*: no class is left"),
        (
            {"label_map": {"a": ["bolt", "nut"], "b": "nut"}},
            ConfigError,
            r"label_map: 'nut' belongs to two classes, a and b; keep it in one",
        ),
        ({"label_map": {"a": "nut"}, "ignore": ["nut"]}, ConfigError, "'nut' belongs to class a and is to be ignored"),
        ({"label_map": {"metal": "bolt"}, "classes": ["mteal"]}, ConfigError, "class of label_map 'mteal'.*'metal'"),
        ({"label_map": {}}, ConfigError, r"expected the names that belong to each class, e\.g\. \{vehicle: \[car, van"),
        ({"label_map": ["car"]}, ConfigError, "expected the names that belong to each class"),
        ({"label_map": {0: "bolt"}}, ConfigError, "a class whose name is a number is quoted"),
        ({"label_map": {"a": {"b": "c"}}}, ConfigError, r"expected a name or a list of names"),
        ({"label_map": {"a": []}}, ConfigError, r"at least one name"),
        ({"label_map": {"a": ["nut", "nut"]}}, ConfigError, r"each once"),
        ({"label_map": {"a": True}}, ConfigError, r"put the name in quotes"),
        ({"ignore": 1.5}, ConfigError, r"ignore: .*expected a list of names"),
    ],
)
def test_names_that_contradict_or_occur_nowhere(
    kind: str, settings: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read(kind, made(kind, tmp_path), **settings)


@pytest.mark.parametrize("kind", ["voc", "kitti"])
def test_a_name_may_be_in_another_part(kind: str, tmp_path: Path) -> None:
    for part, names in (("one", ("bolt", "nut")), ("two", ("bolt", "plate"))):
        tree = trees.voc_tree if kind == "voc" else trees.kitti_tree
        tree(tmp_path / kind / part, names=names)
    settings: dict[str, Any] = {
        "splits": {"train": "one", "test": "two"},
        "label_map": {"metal": ["bolt", "plate"], "hex": "nut"},
    }
    for part in ("train", "heldout", "test"):
        assert read(kind, tmp_path / kind, part=part, **settings).classes == ("metal", "hex")
    with pytest.raises(ConfigError, match=r"'plat'\. Did you mean 'plate'\? Known: bolt, nut, plate"):
        read(kind, tmp_path / kind, **{**settings, "ignore": ["plat"]})
    # Without the other part, nothing says that the name exists.
    with pytest.raises(ConfigError, match="Unknown name"):
        read(kind, tmp_path / kind / "two", label_map=settings["label_map"])


@DRAWN
@pytest.mark.parametrize(
    ("settings", "classes", "table"),
    [
        ({"label_map": {"metal": ["bolt", "plate"], "hex": "nut"}}, ("metal", "hex"), [0, 1, 2, 1]),
        ({"ignore": ["nut"]}, ("bolt", "plate"), [0, 1, 255, 2]),
        ({"label_map": {"metal": ["bolt", "plate"]}, "ignore": ["nut"]}, ("metal",), [0, 1, 255, 1]),
        (
            {"label_map": {"metal": ["bolt", "plate"], "hex": "nut"}, "classes": ["hex", "background", "metal"]},
            None,
            [1, 2, 0, 2],
        ),
    ],
)
def test_pixels_go_by_the_same_names(
    kind: str, settings: dict[str, Any], classes: tuple[str, ...] | None, table: list[int], tmp_path: Path
) -> None:
    images = read(kind, made(kind, tmp_path), "masks", **settings)
    assert images.classes == (("hex", "background", "metal") if classes is None else ("background", *classes))
    for index in range(len(images)):
        assert np.array_equal(images[index][1].numpy(), np.array(table, np.uint8)[scene(index).mask])


def test_what_is_left_out_is_background_of_coco_and_ignored_of_solo(tmp_path: Path) -> None:
    for kind, other in (("coco", 0), ("solo", 255)):
        images = read(kind, made(kind, tmp_path), "masks", label_map={"hex": "nut"})
        assert np.array_equal(images[3][1].numpy(), np.array([0, other, 1, other], np.uint8)[scene(3).mask])


def test_numbers_name_classes_of_yolo(tmp_path: Path) -> None:
    root = made("yolo", tmp_path)
    plain = [rows(each) for each in boxes(read("yolo", root, label_map={"metal": ["bolt", "plate"]}, ignore=["nut"]))]
    for label_map, ignore in (
        ({"metal": [BOLT, PLATE]}, NUT),
        ({"metal": [BOLT, "plate"]}, ["nut"]),
        ({"metal": ["plate", PLATE, BOLT]}, [NUT, "nut"]),
    ):
        found = read("yolo", root, label_map=label_map, ignore=ignore)
        assert [rows(each) for each in boxes(found)] == plain
    with pytest.raises(DataError, match=r"data\.yaml has no number 3, only 0 to 2"):
        read("yolo", root, label_map={"metal": [3]})
    with pytest.raises(DataError, match=r"'nut' belongs to two classes, a and b"):
        read("yolo", root, label_map={"a": [NUT], "b": ["nut"]})
    # A number 0 that is ignored is a number, too.
    assert read("yolo", root, ignore=0).classes == ("nut", "plate")


def test_numbers_are_enough_where_yolo_has_no_names(tmp_path: Path) -> None:
    root = made("yolo", tmp_path)
    plain = boxes(read("yolo", root, part="test"))
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\n")
    images = read("yolo", root, label_map={"metal": [BOLT, PLATE, 17]})
    assert images.classes == ("metal",)
    assert [rows(each) for each in boxes(images)] == [
        looked_up(each, [[(0, False)], [], [(0, False)]]) for each in plain
    ]
    with pytest.raises(DataError, match=r"has no data\.yaml with names.*or numbers in label_map"):
        read("yolo", root, label_map={"metal": [BOLT, "plate"]})
    images = read("yolo", root, classes=["bolt", "other", "plate"], ignore=["other"])
    assert images.classes == ("bolt", "plate")
    expected = [looked_up(each, [[(0, False)], [(0, True), (1, True)], [(1, False)]]) for each in plain]
    assert [rows(each) for each in boxes(images)] == expected


def test_names_that_are_numbers_are_text_elsewhere(tmp_path: Path) -> None:
    root = trees.kitti_tree(tmp_path / "kitti", names=("1", "2", "3"))
    assert read("kitti", root, label_map={"low": [1, 2], "high": 3}).classes == ("low", "high")


@pytest.mark.parametrize("written", ["DontCare", "dontcare"])
def test_dont_care_of_kitti_may_be_ignored(written: str, tmp_path: Path) -> None:
    root = made("kitti", tmp_path)
    with (root / "training/label_2/0.txt").open("a") as file:
        file.write(trees.kitti_line("DontCare", 1, 2, 11, 12) + "\n")
    left = read("kitti", root)
    assert left.dropped == {"objects marked DontCare left out": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = read("kitti", root, ignore=[written])
    assert images.classes == left.classes == CLASSES
    crowds = images[0][1].chosen(images[0][1].crowd)
    assert rows(crowds) == [(label, True, [1, 2, 11, 12]) for label in range(3)]
    assert rows(images[0][1].chosen(~images[0][1].crowd)) == rows(left[0][1])
    with pytest.raises(ConfigError, match=r"Unknown name.*'DontCare'"):
        read("kitti", root, label_map={"car": "DontCare"})


def test_a_part_of_ignored_boxes_alone_is_refused(tmp_path: Path) -> None:
    voc = trees.voc_tree(tmp_path / "voc", 1, names=("nut",))
    kitti = trees.kitti_tree(tmp_path / "kitti", 1, names=("nut",))
    yolo = made("yolo", tmp_path)
    for path in (yolo / "labels").rglob("*.txt"):
        path.write_text("1 0.5 0.5 0.2 0.2\n")
    for kind, root in (("voc", voc), ("kitti", kitti), ("yolo", yolo)):
        with pytest.raises(DataError, match="no image has a box of plate"):
            read(kind, root, ignore=["nut"], classes=["plate"])


def test_crowds_of_coco_stay_crowds_and_empty_boxes_count_once(tmp_path: Path) -> None:
    root = made("coco", tmp_path)
    path = root / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(iscrowd=1, bbox=[0, 0, 5, 5], category_id=2)
    content["annotations"][1].update(bbox=[5, 5, 0, 0], category_id=5, segmentation=None, area=1)
    path.write_text(json.dumps(content))
    images = read("coco", root, label_map={"metal": ["bolt"], "flat": ["plate"]}, ignore=["nut"])
    assert (0, True, [0, 0, 5, 5]) in rows(images[0][1])
    assert images.dropped["boxes without area left out"] == 1


def test_detections_in_ignored_boxes_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    root = trees.kitti_tree(tmp_path / "kitti", 1)
    trees.write(
        root / "training/label_2/0.txt",
        f"{trees.kitti_line('Car', 0, 0, 40, 40)}\n{trees.kitti_line('Van', 50, 0, 90, 40)}\n",
    )
    found = {
        "boxes": torch.tensor([[50.0, 0, 90, 40], [0, 0, 40, 40]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([0, 0]),
    }
    for settings, ap in (({"classes": ["Car"]}, 0.5), ({"classes": ["Car"], "ignore": ["Van"]}, 1.0)):
        objects = read("kitti", root, **settings)[0][1]
        target = {"boxes": objects.boxes, "labels": objects.labels, "crowd": objects.crowd, "area": objects.area}
        assert coco_ap([found], [target], num_classes=1)["ap"] == pytest.approx(ap, abs=0.01)


def test_a_skipped_image_is_skipped_with_its_names(tmp_path: Path) -> None:
    root = made("voc", tmp_path)
    shutil.rmtree(root / "ImageSets", ignore_errors=True)
    (root / "JPEGImages/000001.jpg").unlink()
    (tmp_path / "own.yaml").write_text("format: voc\nroot: voc\nlabel_map: {metal: [bolt, plate], hex: nut}\n")
    images = load(str(tmp_path / "own.yaml"), "test", "boxes", policy=Policy("skip"))
    assert (len(images), images.classes) == (5, ("metal", "hex"))


def test_many_names_take_time_that_grows_with_their_number_alone(tmp_path: Path) -> None:
    """Each name looked for in a list of all would take minutes."""
    names = [f"class {number}" for number in range(32_000)]
    content = {
        "images": [{"id": index, "file_name": f"{index}.png", "height": 8, "width": 8} for index in range(2)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
        "annotations": [
            {"id": index, "image_id": index % 2, "category_id": index, "bbox": [1, 1, 4, 4], "area": 16}
            for index in range(len(names))
        ],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    for index in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    began = time.process_time()
    images = load({"format": "coco", "root": str(tmp_path), "classes": names}, "test", "boxes")
    align_names(images.classes, images.classes[::-1])
    as_found(names, names[1:])
    warn_of_empty("x", names, list(range(len(names))))
    assert images.classes == tuple(names)
    assert time.process_time() - began < 10


def test_names_as_they_are_found() -> None:
    naming = as_found(["a", "b"], ["c"])
    assert naming.classes == ("a", "b")
    assert naming.uses == {"a": ((0, False),), "b": ((1, False),), "c": ((0, True), (1, True))}
    assert [naming.pixel(name) for name in "abcd"] == [0, 1, 255, None]


@BOXED
def test_names_that_blender_copied_are_one_on_request(tmp_path: Path, kind: str) -> None:
    root = made(kind, tmp_path)
    for path in root.rglob("*"):
        if path.suffix in (".json", ".yaml", ".xml", ".txt"):
            path.write_text(path.read_text().replace("nut", "bolt.001"))
    with pytest.warns(UserWarning, match=r"bolt, bolt\.001 are classes of their own, .*merge_copies: true"):
        apart = read(kind, root)
    merged = read(kind, root, merge_copies=True)
    assert sorted(apart.classes) == ["bolt", "bolt.001", "plate"]
    assert sorted(merged.classes) == ["bolt", "plate"]
    for before, after in zip(boxes(apart), boxes(merged), strict=True):
        names = [apart.classes[number].removesuffix(".001") for number in before.labels.tolist()]
        assert [merged.classes[number] for number in after.labels.tolist()] == names


@pytest.mark.parametrize(
    ("name", "plain"), [("bolt.001", "bolt"), ("bolt.1", "bolt.1"), (".001", ".001"), ("a.b.0123", "a.b"), ("m8", "m8")]
)
def test_the_number_of_a_copy(name: str, plain: str) -> None:
    assert plain_name(name) == plain
