from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from synreal.data import Policy, load
from synreal.errors import DataError
from tests.data.own_trees import CLASSES, COLOURS, perception_tree, scene, solo_tree

GB = {"g": 0, "b": 0, "a": 255}


def read(root: Path, label: str = "boxes", settings: str = "", **more: Any) -> Any:
    return load(f"perception(root='{root}'{settings})", "test", label=label, **more)


def change(path: Path, how: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def definitions(root: Path, how: Callable[[Any], None]) -> None:
    change(root / "Dataset0" / "annotation_definitions.json", lambda content: how(content["annotation_definitions"]))


def captures(root: Path, how: Callable[[Any], None], place: int = 0) -> None:
    change(root / "Dataset0" / f"captures_{place:03}.json", lambda content: how(content["captures"]))


def test_boxes_and_masks_are_those_that_were_painted(tmp_path: Path) -> None:
    perception_tree(tmp_path, 5)
    boxes, masks = read(tmp_path), read(tmp_path, "masks")

    assert boxes.classes == CLASSES
    assert masks.classes == ("background", *CLASSES)
    assert len(boxes) == len(masks) == 5
    for index in range(5):
        made = scene(index)
        image, found = boxes[index]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), made.image)
        assert found.boxes.tolist() == [list(corners) for _, *corners in made.objects]
        assert found.labels.tolist() == [label for label, *_ in made.objects]
        assert np.array_equal(masks[index][1].numpy(), made.mask)


def test_colours_are_bytes_where_opacity_is(tmp_path: Path) -> None:
    def to_bytes(given: Any) -> None:
        for entry, colour in zip(given[1]["spec"], COLOURS, strict=True):
            entry["pixel_value"] = dict(zip("rgba", [*colour, 255], strict=True))

    perception_tree(tmp_path, 2)
    definitions(tmp_path, to_bytes)
    assert np.array_equal(read(tmp_path, "masks")[1][1].numpy(), scene(1).mask)


def test_a_dark_colour_of_bytes_is_not_taken_for_shares(tmp_path: Path) -> None:
    perception_tree(tmp_path, 2)
    dark = {"label_name": "dark", "pixel_value": {"r": 1, "g": 0, "b": 1, "a": 255}}
    definitions(tmp_path, lambda given: given[1].update(spec=[dark]))
    for name in ("2", "3"):
        Image.new("RGB", (96, 64), (1, 0, 1)).save(tmp_path / f"SemanticSegmentation0/segmentation_{name}.png")
    found = read(tmp_path, "masks")
    assert found.classes == ("background", "dark")
    assert (found[0][1] == 1).all()


def test_names_come_from_the_boxes_where_no_definition_is_left(tmp_path: Path) -> None:
    perception_tree(tmp_path, 5)
    (tmp_path / "Dataset0" / "annotation_definitions.json").unlink()
    assert read(tmp_path).classes == tuple(sorted(CLASSES))
    with pytest.raises(DataError, match=r"has no annotation_definitions.json, which says what the colours of masks"):
        read(tmp_path, "masks")


def test_captures_of_a_lidar_and_without_the_annotation_are_left_out(tmp_path: Path) -> None:
    def spoil(given: Any) -> None:
        given[0]["filename"] = "RGB0/lidar_0.pcd"
        given[1]["annotations"].pop(0)

    perception_tree(tmp_path, 6)
    captures(tmp_path, spoil)
    found = read(tmp_path)
    assert len(found) == 4
    assert found.dropped == {"captures without an image left out": 1, "images without boxes left out": 1}
    captures(tmp_path, lambda given: given[2]["annotations"][0].update(values=[]))  # an image without an object stays
    assert len(read(tmp_path)[0][1].labels) == 0


def test_key_points_and_boxes_in_space_are_no_boxes(tmp_path: Path) -> None:
    def more(given: Any) -> None:
        for capture in given:
            space = {"label_id": 1, "label_name": "bolt", "translation": {"x": 1.0}, "size": {"x": 1.0}}
            capture["annotations"][:0] = [
                {"id": "k", "annotation_definition": "8b3e", "values": [{"label_id": 1, "keypoints": [{"x": 1.0}]}]},
                {"id": "l", "annotation_definition": "8b3e", "values": [[1.0, 2.0]]},
                {"id": "d", "annotation_definition": "bounding box 3D", "values": [space]},
            ]

    perception_tree(tmp_path, 4)
    captures(tmp_path, more)
    spec = [{"label_id": 9, "label_name": "ghost"}]
    definitions(
        tmp_path,
        lambda given: given.extend(
            [{"id": "8b3e", "name": "keypoints", "spec": []}, {"id": "bounding box 3D", "spec": spec}]
        ),
    )
    found = read(tmp_path)
    assert found.classes == CLASSES
    assert found[0][1].labels.tolist() == [label for label, *_ in scene(0).objects]


def test_of_several_labelers_one_is_chosen_by_id_or_name(tmp_path: Path) -> None:
    def second(given: Any) -> None:
        for capture in given:
            capture["annotations"].append(
                {"id": "x", "annotation_definition": "aaaa", "values": capture["annotations"][0]["values"][:1]}
            )

    perception_tree(tmp_path, 4)
    captures(tmp_path, second)
    spec = [{"label_id": 1, "label_name": CLASSES[0]}]
    definitions(tmp_path, lambda given: given.append({"id": "aaaa", "name": "few", "spec": spec}))
    with pytest.raises(DataError, match=r"has boxes of 2 labelers: 'f9f2', 'aaaa'. Choose one with labeler"):
        read(tmp_path)
    for name in ("few", "aaaa"):
        assert len(read(tmp_path, settings=f", labeler='{name}'")[0][1].labels) == 1
    assert len(read(tmp_path, settings=", labeler='bounding box'")[0][1].labels) == len(scene(0).objects)
    with pytest.raises(DataError, match=r"Was a BoundingBox2DLabeler active, and is its id 'nobody'\?"):
        read(tmp_path, settings=", labeler='nobody'")


def test_the_root_is_the_folder_above_the_lists_or_holds_everything(tmp_path: Path) -> None:
    perception_tree(tmp_path / "run", 4)
    with pytest.raises(DataError, match=r"the images lie beside .*Dataset0, in .*run\. Give that folder as root"):
        read(tmp_path / "run" / "Dataset0")
    for path in (tmp_path / "run" / "Dataset0").iterdir():
        path.rename(tmp_path / "run" / path.name)
    (tmp_path / "run" / "Dataset0").rmdir()
    assert np.array_equal(read(tmp_path / "run", "masks")[3][1].numpy(), scene(3).mask)


def test_the_other_format_of_unity_is_named(tmp_path: Path) -> None:
    perception_tree(tmp_path / "old", 2)
    solo_tree(tmp_path / "new", 2)
    with pytest.raises(DataError, match=r"holds captures_\*.json, .* Read it as perception:.*old"):
        load(f"solo:{tmp_path / 'old'}", "test", label="boxes")
    with pytest.raises(DataError, match=r"holds sequence.\*, .* Read it as solo:.*new"):
        read(tmp_path / "new")
    with pytest.raises(DataError, match=r"expected one Perception data set in .*, a folder with captures_000.json"):
        read(tmp_path / "old" / "RGB0")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda given: given[0].pop("label_name"), r"captures\[0\]: values holds .*, expected label_name, x, y, width"),
        (lambda given: given[0].update(x="left"), r"values holds .*could not convert"),
    ],
)
def test_damaged_boxes_are_named(how: Any, message: str, tmp_path: Path) -> None:
    perception_tree(tmp_path, 2)
    captures(tmp_path, lambda given: how(given[0]["annotations"][0]["values"]))
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    "value", [0, {"r": 1.0}, {"r": 300, "g": 0, "b": 0, "a": 255}, {"r": "x", "g": 0, "b": 0, "a": 1}]
)
def test_colours_that_are_none_are_named(value: Any, tmp_path: Path) -> None:
    perception_tree(tmp_path, 2)
    definitions(tmp_path, lambda given: given[1]["spec"][0].update(pixel_value=value))
    with pytest.raises(DataError, match=rf"definitions\[1\]: pixel_value of '{CLASSES[0]}' is .*, expected a colour"):
        read(tmp_path, "masks")


def test_masks_without_a_file_and_paths_out_of_the_root_are_refused(tmp_path: Path) -> None:
    perception_tree(tmp_path / "run", 2)
    captures(tmp_path / "run", lambda given: given[0]["annotations"][1].pop("filename"))
    with pytest.raises(DataError, match="its semantic segmentation '12f9' has no filename"):
        read(tmp_path / "run", "masks")
    captures(tmp_path / "run", lambda given: given[0].update(filename="../secret.png"))
    with pytest.raises(DataError, match="secret"):
        read(tmp_path / "run", policy=Policy(bad_image="skip"))
