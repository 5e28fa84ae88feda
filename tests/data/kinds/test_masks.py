from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from synreal.data import Policy, find, load
from synreal.data.datasets import STRICT
from synreal.errors import ConfigError, DataError
from tests.data.own_trees import CLASSES, COLOURS, masks_tree, scene

NAMES = ("background", *CLASSES)
BY_NUMBER = {name: number for number, name in enumerate(NAMES)}
BY_COLOUR: dict[str, list[int]] = dict(zip(NAMES, [[0, 0, 0], *map(list, COLOURS)], strict=True))


def read(root: Path, split: str = "test", policy: Policy = STRICT, **settings: Any) -> Any:
    """Load through a YAML file, as people do."""
    (root / "own.yaml").write_text(yaml.safe_dump({"format": "masks", "root": ".", **settings}))
    return load(str(root / "own.yaml"), split, label="masks", policy=policy)


def same(images: Any, table: list[int] | None = None, names: list[int] | None = None) -> bool:
    """Compare with what was painted, its numbers looked up in a table."""
    lookup = np.array(table or [0, 1, 2, 3], np.uint8)
    numbers = names or list(range(len(images)))
    return all(np.array_equal(images[i][1].numpy(), lookup[scene(n).mask]) for i, n in enumerate(numbers))


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def pair(root: Path, image: str, mask: str, pixels: Any) -> None:
    """Write an image and its mask, which holds the given rows."""
    held = np.array(pixels, np.uint8)
    save(root / image, np.zeros((*held.shape[:2], 3), np.uint8))
    save(root / mask, held)


@pytest.mark.parametrize("encoding", ["palette", "grey"])
@pytest.mark.parametrize(
    "settings",
    [
        {"classes": list(NAMES)},
        {"classes": dict(enumerate(NAMES))},
        {"label_map": BY_NUMBER},
        {"label_map": dict(enumerate(NAMES))},
        {"label_map": {str(number): name for number, name in enumerate(NAMES)}},
    ],
)
def test_numbers_are_read_as_numbers(tmp_path: Path, encoding: str, settings: dict[str, Any]) -> None:
    masks_tree(tmp_path, 5, encoding=encoding)
    images = read(tmp_path, **settings)

    assert images.classes == NAMES
    assert find(str(tmp_path / "own.yaml")).class_names("masks") == NAMES
    assert images.name == "own"
    assert same(images)
    assert np.array_equal(images[3][0].permute(1, 2, 0).numpy(), scene(3).image)


@pytest.mark.parametrize("encoding", ["palette", "colour"])
@pytest.mark.parametrize("form", ["list", "hex", "text"])
def test_colours_are_read_as_colours(tmp_path: Path, encoding: str, form: str) -> None:
    masks_tree(tmp_path, 4, encoding=encoding)
    written: dict[str, Any] = {
        "list": BY_COLOUR,
        "hex": {name: "#{:02x}{:02X}{:02x}".format(*colour) for name, colour in BY_COLOUR.items()},
        "text": {name: f"({', '.join(map(str, colour))}, 255)" for name, colour in BY_COLOUR.items()},
    }[form]
    images = read(tmp_path, label_map=written)

    assert images.classes == NAMES
    assert same(images)


def test_classes_follow_the_numbers_and_several_may_be_one_class(tmp_path: Path) -> None:
    masks_tree(tmp_path, 6)
    images = read(tmp_path, label_map={3: "metal", 1: "metal", 2: "nut", 0: "background"})
    assert images.classes == ("background", "metal", "nut")
    assert same(images, [0, 1, 2, 1])


def test_chosen_classes_give_the_order_and_others_count_nowhere(tmp_path: Path) -> None:
    masks_tree(tmp_path, 6)
    images = read(tmp_path, label_map=BY_NUMBER, classes=["plate", "background"])
    assert images.classes == ("plate", "background")
    assert same(images, [1, 255, 255, 0])
    with pytest.raises(ConfigError, match=r"plat.*Did you mean 'plate'"):
        read(tmp_path, label_map=BY_NUMBER, classes=["plat"])


def test_a_folder_of_other_files_is_not_taken_for_that_of_masks(tmp_path: Path) -> None:
    masks_tree(tmp_path, 3)
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    for name in ("Annotations", "labels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0000.xml").write_text("<annotation/>")
    assert same(read(tmp_path, classes=["background", *CLASSES]))


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        ([[0, 1]], r"label_map: \{background: 0, car: 1\}, or with classes, the names of 0, 1, 2"),
        ([[0, 127]], r"label_map: \{background: 0, car: 127\}\.$"),
        ([[(0, 0, 64), (128, 0, 0)]], r"label_map: \{background: \[0, 0, 64\], car: \[128, 0, 0\]\}\.$"),
        ([[(7, 0, 0), (10, 0, 0)]], r"Red alone differs: .* write channel: red, .* label_map: \{car: 10\}\.$"),
    ],
)
def test_what_masks_hold_is_named_as_they_hold_it(tmp_path: Path, pixels: Any, advice: str) -> None:
    pair(tmp_path, "images/a.png", "masks/a.png", pixels)
    with pytest.raises(DataError, match=rf"is not known\. The first masks hold .*{advice}"):
        read(tmp_path)


def carla(root: Path, number: int = 4, channel: int = 0) -> None:
    """Write masks as CARLA does: the number in one channel, the others the same everywhere."""
    masks_tree(root, number)
    for path in sorted((root / "masks").iterdir()):
        numbers = np.array(Image.open(path))
        pixels = np.full((*numbers.shape, 4), 255, np.uint8)
        pixels[..., :3] = 0
        pixels[..., channel] = numbers
        save(path, pixels)


@pytest.mark.parametrize("channel", ["red", "green", "blue", "alpha"])
def test_numbers_stand_in_one_channel(tmp_path: Path, channel: str) -> None:
    carla(tmp_path, channel=["red", "green", "blue", "alpha"].index(channel))
    assert same(read(tmp_path, channel=channel, label_map=BY_NUMBER))
    assert same(read(tmp_path, channel=channel, classes=list(NAMES)))
    images = read(tmp_path, channel=channel, label_map={"thing": [1, 2, 3], "ground": 0})
    assert images.classes == ("ground", "thing")
    assert same(images, [0, 1, 1, 1])
    (tmp_path / "map.yaml").write_text("thing: [1, 2, 3]\nground: [0, 9, 10, 11]\n")
    assert same(read(tmp_path, channel=channel, label_map="map.yaml"), [0, 1, 1, 1])


@pytest.mark.parametrize("encoding", ["grey", "palette"])
def test_a_class_may_have_several_numbers(tmp_path: Path, encoding: str) -> None:
    masks_tree(tmp_path, 4, encoding=encoding)
    for label_map in ({"thing": [1, 3], "nut": 2, "ground": 0}, {"thing": [1, 3, 9], "nut": [2], 0: "ground"}):
        images = read(tmp_path, label_map=label_map)
        assert images.classes == ("ground", "thing", "nut")
        assert same(images, [0, 1, 2, 1])


def test_a_class_may_have_several_colours(tmp_path: Path) -> None:
    masks_tree(tmp_path, 4, encoding="colour")
    bolt, nut, plate = (list(colour) for colour in COLOURS)
    images = read(
        tmp_path, label_map={"ground": [0, 0, 0], "thing": [bolt, "#{:02x}{:02x}{:02x}".format(*plate)], "nut": nut}
    )
    assert images.classes == ("ground", "nut", "thing")
    assert same(images, [0, 2, 1, 2])


@pytest.mark.parametrize("encoding", ["grey", "colour", "channel"])
def test_what_has_no_name_may_be_ignored(tmp_path: Path, encoding: str) -> None:
    if encoding == "channel":
        carla(tmp_path)
    else:
        masks_tree(tmp_path, 4, encoding=encoding)
    label_map: Any = {"plate": list(COLOURS[2])} if encoding == "colour" else {"plate": [3, 7]}
    settings: dict[str, Any] = {"label_map": label_map, **({"channel": "red"} if encoding == "channel" else {})}
    images = read(tmp_path, **settings, others="ignore")
    assert images.classes == ("plate",)
    assert same(images, [255, 255, 255, 0])
    with pytest.raises(DataError, match=r"that its label map does not have.*others: ignore"):
        read(tmp_path, **settings)[0]
    if encoding == "grey":
        assert same(read(tmp_path, classes=["ground", "bolt"], others="ignore"), [0, 1, 255, 255])


def test_masks_of_another_sort_say_what_to_write(tmp_path: Path) -> None:
    carla(tmp_path / "carla")
    with pytest.raises(
        DataError,
        match=r"colour image \(mode RGBA\), expected one number per pixel\. Its red channel holds nothing but "
        r"numbers of the map, 0, 1, 2, 3: write channel: red\.$",
    ):
        read(tmp_path / "carla", label_map=BY_NUMBER)[0]
    with pytest.raises(DataError, match=r"Its red channel alone varies, 0, 1, 2, 3: write channel: red\.$"):
        read(tmp_path / "carla", label_map={"bolt": 1}, others="ignore")[0]
    with pytest.raises(DataError, match=r"first masks hold the numbers 0, 1, 2, 3\. Name them"):
        read(tmp_path / "carla", channel="red")
    with pytest.raises(DataError, match=r"label_map gives colours, but the red channel holds numbers"):
        read(tmp_path / "carla", channel="red", label_map={"car": "#010203"})
    masks_tree(tmp_path / "grey", 3, encoding="grey")
    with pytest.raises(
        DataError, match=r"one number per pixel .*A list of three numbers is a colour; .*\{1: car, 2: car"
    ):
        read(tmp_path / "grey", label_map={"thing": [1, 2, 3], "ground": [0, 4, 5]})[0]
    with pytest.raises(DataError, match=r"no red channel\. Leave channel out"):
        read(tmp_path / "grey", channel="red", label_map=BY_NUMBER)[0]
    (tmp_path / "carla/masks/0000.png").write_bytes(b"")
    with pytest.raises(DataError, match="it is empty"):
        read(tmp_path / "carla", label_map=BY_NUMBER)[0]


@pytest.mark.parametrize("name", ["ignore", "Void", "UNLABELLED", "unlabeled"])
def test_ignored_names_are_no_classes(tmp_path: Path, name: str) -> None:
    masks_tree(tmp_path, 3)
    images = read(tmp_path, label_map={**BY_NUMBER, "background": 9, name: 0})
    assert images.classes == (*CLASSES, "background")
    assert same(images, [255, 0, 1, 2])

    named = read(tmp_path, classes=[name, *CLASSES])
    assert named.classes == CLASSES
    assert same(named, [255, 0, 1, 2])

    other = read(tmp_path, label_map=BY_NUMBER, ignore=["nut"])
    assert other.classes == ("background", "bolt", "plate")
    assert same(other, [0, 1, 255, 2])


def test_255_counts_nowhere_unless_it_is_named(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/a.png", [[0, 1, 255]])
    assert read(tmp_path, classes=["ground", "car"])[0][1].tolist() == [[0, 1, 255]]
    assert read(tmp_path, label_map={"ground": 0, "car": 1, "sky": 255})[0][1].tolist() == [[0, 1, 2]]


def test_masks_of_0_and_255_are_no_classes_0_and_1(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/a.png", [[0, 255, 255]])
    with pytest.raises(DataError, match=r"masks/a\.png, hold 0 and 255 alone.*label_map: \{background: 0, car: 255\}"):
        read(tmp_path, classes=["background", "car"])
    assert read(tmp_path, label_map={"background": 0, "car": 255})[0][1].tolist() == [[0, 1, 1]]


def test_unknown_numbers_name_the_file(tmp_path: Path) -> None:
    masks_tree(tmp_path, 3)
    images = read(tmp_path, classes=["background", "bolt"])
    with pytest.raises(DataError, match=r"masks/0001\.png.*2"):
        images[1]


def test_without_a_map_the_error_says_what_masks_hold(tmp_path: Path) -> None:
    masks_tree(tmp_path / "a", 6)
    masks_tree(tmp_path / "b", 6, encoding="colour")
    with pytest.raises(DataError, match=r"first masks hold the numbers 0, 1, 2, 3\. Name them with label_map"):
        read(tmp_path / "a")
    with pytest.raises(DataError, match=r"hold the colours \(0, 0, 0\), \(40, 180, 60\), .*with label_map"):
        read(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.yaml", yaml.safe_dump(BY_NUMBER)),
        ("map.json", json.dumps({str(number): name for name, number in BY_NUMBER.items()})),
        ("map.csv", "name,id\r\n" + "".join(f"{name},{number}\r\n" for name, number in BY_NUMBER.items())),
        ("map.csv", "".join(f"{number};{name}\n" for name, number in BY_NUMBER.items())),
        ("map.txt", "\n".join(f"{number} {name}" for name, number in BY_NUMBER.items())),
        ("map.txt", "".join(f"{number}: {name}\n" for name, number in BY_NUMBER.items())),
        ("map.tsv", "".join(f"{name}\t{number}\n" for name, number in BY_NUMBER.items())),
    ],
)
def test_label_maps_of_numbers_in_files(tmp_path: Path, name: str, text: str) -> None:
    masks_tree(tmp_path, 3)
    (tmp_path / name).write_text(text)
    images = read(tmp_path, label_map=name)
    assert images.classes == NAMES
    assert same(images)
    assert find(str(tmp_path / "own.yaml")).class_names("masks") is None


CVAT = "# label:color_rgb:parts:actions\n" + "".join(
    f"{name}:{','.join(map(str, colour))}::\n" for name, colour in BY_COLOUR.items()
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.yml", yaml.safe_dump(BY_COLOUR, sort_keys=False)),
        ("map.json", json.dumps({f"({r}, {g}, {b}, 255)": {"class": name} for name, (r, g, b) in BY_COLOUR.items()})),
        ("map.csv", "name,r,g,b\n" + "".join(f"{n}, {r}, {g}, {b}\n" for n, (r, g, b) in BY_COLOUR.items())),
        ("map.txt", "".join(f"{r} {g} {b}\t\t{name}\n" for name, (r, g, b) in BY_COLOUR.items())),
        ("map.txt", "".join(f"#{r:02x}{g:02x}{b:02x} {name}\n" for name, (r, g, b) in BY_COLOUR.items())),
        ("map.txt", CVAT),
    ],
)
def test_label_maps_of_colours_in_files(tmp_path: Path, name: str, text: str) -> None:
    masks_tree(tmp_path, 3, encoding="colour")
    (tmp_path / name).write_text(text)
    images = read(tmp_path, label_map=name)
    assert images.classes == NAMES
    assert same(images)


def test_what_cvat_exports_needs_no_settings(tmp_path: Path) -> None:
    made = masks_tree(tmp_path, 4, encoding="colour")
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    (tmp_path / "labelmap.txt").write_text(CVAT)
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("0002\r\n0000.png\r\n")

    assert same(load(f"masks:{tmp_path}", "test", label="masks"))
    images = read(tmp_path, splits={"test": "ImageSets/Segmentation/val.txt"})
    assert same(images, names=[0, 2])
    assert np.array_equal(images[1][0].permute(1, 2, 0).numpy(), made[2].image)


def test_what_replicator_writes(tmp_path: Path) -> None:
    black, red = [0, 0, 0, 0], [140, 25, 255, 255]
    for index, pixels in enumerate(([[black, red, [0, 0, 0, 255]]], [[black, black, [9, 8, 7, 255]]])):
        pair(tmp_path, f"rgb_{index:04}.png", f"semantic_segmentation_{index:04}.png", pixels)
    labels = [
        {"(0, 0, 0, 0)": {"class": "BACKGROUND"}, "(0, 0, 0, 255)": {"class": "UNLABELLED"}},
        {"(0, 0, 0, 0)": {"class": "BACKGROUND"}, "(9, 8, 7, 255)": {"class": "cone"}},
    ]
    labels[0]["(140, 25, 255, 255)"] = {"class": "pallet"}
    for index, content in enumerate(labels):
        (tmp_path / f"semantic_segmentation_labels_{index:04}.json").write_text(json.dumps(content))

    images = read(
        tmp_path,
        images="rgb_*.png",
        masks="semantic_segmentation_*.png",
        label_map="semantic_segmentation_labels_*.json",
    )
    assert images.classes == ("background", "pallet", "cone")
    assert [images[index][1].tolist() for index in range(2)] == [[[0, 1, 0]], [[0, 0, 2]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({0: 1}, r"got \{0: 1\}"),
        ({"car": "bus"}, r"got \{'car': 'bus'\}"),
        ({"car": [1, 70_000]}, r"got \{'car': \[1, 70000\]\}"),
        ({"car": [1, 2, 256]}, r"got \{'car'"),
        ({"car": -1}, r"got \{'car': -1\}"),
        ({"car": 70_000}, r"got \{'car': 70000\}"),
        ({"car": True}, r"got \{'car': True\}"),
        ({"car": None}, r"got \{'car': None\}"),
        ({" ": 1}, r"got \{' ': 1\}"),
        ({}, "at least one name"),
    ],
)
def test_label_maps_that_say_nothing_are_settings_errors(tmp_path: Path, values: Any, message: str) -> None:
    masks_tree(tmp_path, 1)
    with pytest.raises(ConfigError, match=rf"own\.yaml.*label_map.*{message}"):
        read(tmp_path, label_map=values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"car": 1, "bus": "#010203"}, "label_map gives numbers and colours"),
        ({"car": 1, "bus": [1, 2, 3]}, "'bus' and 'car' are both 1"),
        ({"car": 1, "bus": "1", 1: "van"}, "'car' and 'van' are both 1"),
        ({"void": 0}, "label_map names no class"),
    ],
)
def test_label_maps_that_contradict_themselves(tmp_path: Path, values: Any, message: str) -> None:
    masks_tree(tmp_path, 1)
    with pytest.raises((DataError, ConfigError), match=message):
        read(tmp_path, label_map={key: value for key, value in values.items() if value != "1"})


def test_a_label_map_file_that_is_not_there(tmp_path: Path) -> None:
    masks_tree(tmp_path, 1)
    for name in ("gone.txt", "gone_*.json"):
        with pytest.raises(DataError, match=r"no file .*gone.*, which label_map names"):
            read(tmp_path, label_map=name)


@pytest.mark.parametrize(
    ("images", "masks", "settings"),
    [
        ("rgb", "labels", {}),
        ("Images", "SegmentationClass", {}),
        ("pictures", "truth", {"images": "pictures", "masks": "truth"}),
        ("pictures/new", "truth/of/new", {"images": "pictures/new", "masks": "truth/of/new"}),
    ],
)
def test_folders_are_found_or_named(tmp_path: Path, images: str, masks: str, settings: dict[str, str]) -> None:
    masks_tree(tmp_path / "made", 3)
    for made, name in (("images", images), ("masks", masks)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / made).rename(tmp_path / name)
    (tmp_path / "made").rmdir()
    assert same(read(tmp_path, classes=list(NAMES), **settings))


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    masks_tree(tmp_path, 2)
    with pytest.raises(DataError, match=r"no folder .*gone, which masks names"):
        read(tmp_path, masks="gone", classes=list(NAMES))
    (tmp_path / "masks").rename(tmp_path / "truth")
    with pytest.raises(
        DataError, match=r"no folder of masks found in .*: it holds the folders images, truth\. Name it"
    ):
        read(tmp_path, classes=list(NAMES))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no masks found as empty/\*"):
        read(tmp_path, masks="empty", classes=list(NAMES))
    with pytest.raises(ConfigError, match=r"masks: expected a folder, or a pattern with one '\*'"):
        read(tmp_path, masks="*/*.png", classes=list(NAMES))


@pytest.mark.parametrize("layout", ["{part}/{kind}", "{kind}/{part}"])
@pytest.mark.parametrize("named", [False, True])
def test_a_folder_for_each_part(tmp_path: Path, layout: str, named: bool) -> None:
    for part, number in (("train", 5), ("val", 3)):
        masks_tree(tmp_path / "made" / part, number, seed=number)
        for kind in ("images", "masks"):
            place = tmp_path / layout.format(part=part, kind=kind)
            place.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "made" / part / kind).rename(place)
    settings: dict[str, Any] = {"images": "images", "masks": "masks"} if named else {}
    settings |= {"classes": list(NAMES), "splits": {"train": "train", "test": "val"}, "heldout": 2}
    parts = {part: read(tmp_path, part, **settings) for part in ("train", "heldout", "test")}

    assert {part: len(images) for part, images in parts.items()} == {"train": 3, "heldout": 2, "test": 3}
    assert np.array_equal(parts["test"][1][1].numpy(), scene(1, seed=3).mask)
    numbers = sorted(int(Path(name).stem) for part in ("train", "heldout") for name in parts[part].files)
    assert numbers == list(range(5))


def test_suffixes_and_subfolders(tmp_path: Path) -> None:
    for name in ("aachen/a_1", "aachen/a_2", "ulm/a_1"):
        number = len(name) + int(name[-1])
        pair(tmp_path, f"images/{name}_rgb.png", f"masks/{name}_gt_labelIds.png", [[number % 3]])
        save(tmp_path / f"masks/{name}_gt_color.png", np.zeros((1, 1, 3), np.uint8))
    settings: dict[str, Any] = {"images": "images/*_rgb.png", "classes": ["x", "y", "z"]}
    expected = [[[11 % 3]], [[12 % 3]], [[8 % 3]]]

    for masks in ({"mask_suffix": "_gt_labelIds"}, {"masks": "masks/*_gt_labelIds.png"}):
        images = read(tmp_path, **settings, **masks)
        assert [images[index][1].tolist() for index in range(3)] == expected
        assert images.files == [f"images/{name}_rgb.png" for name in ("aachen/a_1", "aachen/a_2", "ulm/a_1")]


def test_names_that_do_not_match_at_all_suggest_a_suffix(tmp_path: Path) -> None:
    pair(tmp_path, "images/a.png", "masks/a_seg.png", [[0, 1]])
    with pytest.raises(DataError, match=r"1 images without a mask, e\.g\. images/a\.png.*try mask_suffix: _seg\."):
        read(tmp_path, classes=["x", "y"])
    assert len(read(tmp_path, classes=["x", "y"], mask_suffix="_seg")) == 1


def test_images_and_masks_that_lack_the_other(tmp_path: Path) -> None:
    masks_tree(tmp_path, 6)
    for name in ("images/0001.png", "masks/0004.png", "masks/0005.png"):
        (tmp_path / name).unlink()
    with pytest.raises(
        DataError,
        match=r"2 images without a mask, e\.g\. images/0004\.png, images/0005\.png and 1 masks without an image, "
        r"e\.g\. masks/0001\.png; 3 pairs match.*on_bad_image",
    ):
        read(tmp_path, classes=list(NAMES))
    with pytest.warns(UserWarning, match="2 images without a mask left out, 1 masks without an image left out"):
        images = read(tmp_path, policy=Policy(bad_image="skip"), classes=list(NAMES))
    assert same(images, names=[0, 2, 3])
    for name in ("images/0004.png", "images/0005.png"):
        (tmp_path / name).unlink()
    with pytest.warns(UserWarning, match=r"own \(test\): 1 masks without an image left out"):
        images = read(tmp_path, classes=list(NAMES))
    assert same(images, names=[0, 2, 3])


def test_two_files_of_one_name(tmp_path: Path) -> None:
    masks_tree(tmp_path, 2)
    Image.new("RGB", (96, 64)).save(tmp_path / "images/0001.jpg")
    with pytest.raises(DataError, match=r"images/0001\.jpg and images/0001\.png have the same name"):
        read(tmp_path, classes=list(NAMES))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0000\n0009\n", r"names 1 of 2 images that are not there once: 0009 \(line 2\)"),
        ("../0000.png\n", r"line 1: the path .* leads out of"),
    ],
)
def test_lists_that_name_other_images(tmp_path: Path, text: str, message: str) -> None:
    masks_tree(tmp_path, 2)
    (tmp_path / "test.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, classes=list(NAMES), splits={"test": "test.txt"})


def test_lists_may_give_folders(tmp_path: Path) -> None:
    for name in ("aachen/1", "ulm/1", "ulm/x/1"):
        pair(tmp_path, f"images/{name}.png", f"masks/{name}.png", [[1]])
    splits = {"test": "test.txt"}
    for text, names in (
        ("ulm/1.png\n", ["ulm/1"]),
        ("images/aachen/1.png\nulm/x/1\n", ["aachen/1", "ulm/x/1"]),
    ):
        (tmp_path / "test.txt").write_text(text)
        files = read(tmp_path, classes=["x", "y"], splits=splits).files
        assert files == [f"images/{name}.png" for name in names]
    (tmp_path / "test.txt").write_text("1.png\n")
    with pytest.raises(DataError, match=r"1\.png \(line 1, several\)"):
        read(tmp_path, classes=["x", "y"], splits=splits)
    pair(tmp_path, "images/1.png", "masks/1.png", [[1]])
    assert read(tmp_path, classes=["x", "y"], splits=splits).files == ["images/1.png"]


def test_resizing_follows_the_policy(tmp_path: Path) -> None:
    masks_tree(tmp_path, 2)
    Image.new("RGB", (48, 32)).save(tmp_path / "images/0001.png")
    with pytest.raises(DataError, match=r"0001\.png has 48 x 32 pixels.*0001\.png has 96 x 64"):
        read(tmp_path, classes=list(NAMES))[1]
    images = read(tmp_path, policy=Policy(size_mismatch="resize"), classes=list(NAMES))
    assert images[1][0].shape == (3, 64, 96)


def test_settings_are_written_as_they_are_read(tmp_path: Path) -> None:
    masks_tree(tmp_path, 2)
    for label_map in (BY_NUMBER, BY_COLOUR, dict(enumerate(NAMES)), "map.txt"):
        spec = find(f"masks(root='{tmp_path}', label_map={label_map!r})")
        again = find(spec.text())
        assert again.class_names("masks") == spec.class_names("masks")
