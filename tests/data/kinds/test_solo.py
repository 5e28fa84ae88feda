from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synreal.data import Policy, load
from synreal.errors import ConfigError, DataError
from tests.data.own_trees import CLASSES, COLOURS, scene, solo_tree

BOXES, MASKS = "BoundingBox2DAnnotation", "SemanticSegmentationAnnotation"


def frame_file(root: Path, index: int = 0) -> Path:
    return root / f"sequence.{index}" / "step0.frame_data.json"


def frame(root: Path, index: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(frame_file(root, index).read_text())
    return content


def rewrite(root: Path, content: Any, index: int = 0) -> None:
    frame_file(root, index).write_text(json.dumps(content))


def annotation(content: dict[str, Any], kind: str) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = content["captures"][0]["annotations"]
    return next(each for each in annotations if each["@type"].endswith(kind))


def read(root: Path, label: str = "boxes", settings: str = "", **more: Any) -> Any:
    return load(f"solo(root='{root}'{settings})", "test", label=label, **more)


def definitions(root: Path, spec: list[dict[str, Any]] | None) -> None:
    path = root / "annotation_definitions.json"
    if spec is None:
        path.unlink()
        return
    kind = f"type.unity.com/unity.solo.{BOXES}"
    path.write_text(json.dumps({"annotationDefinitions": [{"@type": kind, "id": "bounding box", "spec": spec}]}))


def test_boxes_are_those_that_were_painted(tmp_path: Path) -> None:
    solo_tree(tmp_path, 12)  # sequence.10 comes after sequence.9
    images = read(tmp_path)

    assert images.classes == CLASSES
    assert len(images) == 12
    for index in range(12):
        made = scene(index)
        image, found = images[index]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), made.image)
        assert found.boxes.tolist() == [list(corners) for _, *corners in made.objects]
        assert found.labels.tolist() == [label for label, *_ in made.objects]


def test_masks_are_those_that_were_painted(tmp_path: Path) -> None:
    solo_tree(tmp_path, 5)
    images = read(tmp_path, "masks")

    assert images.classes == ("background", *CLASSES)
    assert all(np.array_equal(images[index][1].numpy(), scene(index).mask) for index in range(5))


def test_training_and_held_out_images_are_everything_once(tmp_path: Path) -> None:
    solo_tree(tmp_path, 8)
    spec = f"solo(root='{tmp_path}', heldout=2)"
    parts = {part: load(spec, part, label="masks") for part in ("train", "heldout", "test")}
    assert [len(parts[part]) for part in ("train", "heldout", "test")] == [6, 2, 8]
    assert sorted(parts["train"].files + parts["heldout"].files) == sorted(parts["test"].files)
    name = parts["heldout"].files[1]
    index = int(name.split("/")[0].removeprefix("sequence."))
    assert torch.equal(parts["heldout"][1][1], torch.from_numpy(scene(index).mask))


def test_a_folder_for_each_part(tmp_path: Path) -> None:
    solo_tree(tmp_path / "solo", 3)
    solo_tree(tmp_path / "solo_1", 2, seed=1)
    spec = f"solo(root='{tmp_path}', splits={{'train': 'solo', 'heldout': 'solo_1', 'test': 'solo_1'}})"

    assert [len(load(spec, part, label="boxes")) for part in ("train", "heldout", "test")] == [3, 2, 2]
    assert np.array_equal(load(spec, "test", label="masks")[1][1].numpy(), scene(1, seed=1).mask)
    with pytest.raises(DataError, match=r"expected one SOLO data set in .*; found solo, solo_1"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"no folder .*solo_2, which splits names"):
        read(tmp_path, settings=", splits={'test': 'solo_2'}")


def test_the_only_data_set_below_the_root_is_found(tmp_path: Path) -> None:
    solo_tree(tmp_path / "solo_7", 3)
    assert len(read(tmp_path)) == 3
    with pytest.raises(DataError, match=r"expected one SOLO data set.*found none"):
        read(tmp_path / "solo_7" / "sequence.0")


def test_classes_follow_the_ids_of_the_definitions(tmp_path: Path) -> None:
    solo_tree(tmp_path, 6)
    spec = [{"label_id": 9 - index, "label_name": name} for index, name in enumerate(("washer", *CLASSES))]
    definitions(tmp_path, spec)
    images = read(tmp_path)
    assert images.classes == ("plate", "nut", "bolt", "washer")
    assert images[4][1].labels.tolist() == [2 - label for label, *_ in scene(4).objects]

    definitions(tmp_path, None)
    images = read(tmp_path)
    assert images.classes == tuple(sorted(CLASSES))


def test_chosen_classes_leave_others_out(tmp_path: Path) -> None:
    solo_tree(tmp_path, 6)
    kinds = [label for index in range(6) for label, *_ in scene(index).objects]
    with pytest.warns(UserWarning, match=f"{kinds.count(1)} objects of classes that are not used left out"):
        images = read(tmp_path, settings=", classes=['plate', 'bolt']")
    found = [int(label) for index in range(6) for label in images[index][1].labels]
    assert found == [{2: 0, 0: 1}[label] for label in kinds if label != 1]

    masks = read(tmp_path, "masks", ", classes=['plate', 'bolt']")
    assert masks.classes == ("background", "plate", "bolt")
    table = np.array([0, 2, 255, 1], np.uint8)
    assert all(np.array_equal(masks[index][1].numpy(), table[scene(index).mask]) for index in range(6))
    with pytest.raises(ConfigError, match=r"plat.*Did you mean 'plate'"):
        read(tmp_path, settings=", classes=['plat']")


def test_boxes_are_clipped_and_empty_ones_counted(tmp_path: Path) -> None:
    solo_tree(tmp_path, 1)
    content = frame(tmp_path)
    values = [
        {"labelName": "nut", "origin": [-5.0, 10.5], "dimension": [25.0, 100.0]},
        {"labelName": "bolt", "origin": [5.0, 5.0], "dimension": [0.0, 10.0]},
    ]
    annotation(content, BOXES)["values"] = values
    rewrite(tmp_path, content)
    with pytest.warns(UserWarning, match="1 boxes without area left out"):
        found = read(tmp_path)[0][1]
    assert found.boxes.tolist() == [[0, 10.5, 20, 64]]
    assert found.labels.tolist() == [1]


def test_frames_without_objects_stay_and_without_the_labeler_are_counted(tmp_path: Path) -> None:
    solo_tree(tmp_path, 4)
    empty, other, blind = frame(tmp_path, 0), frame(tmp_path, 1), frame(tmp_path, 2)
    del annotation(empty, BOXES)["values"]  # lists without any are not written
    other["captures"][0]["annotations"] = [annotation(other, MASKS)]
    del blind["captures"][0]["filename"]
    for index, content in enumerate((empty, other, blind)):
        rewrite(tmp_path, content, index)
    with pytest.warns(UserWarning, match=f"1 images without {BOXES} left out, 1 captures without an image left out"):
        images = read(tmp_path)
    assert images.files == ["sequence.0/step0.camera.png", "sequence.3/step0.camera.png"]
    assert images[0][1].boxes.shape == (0, 4)


def test_every_camera_gives_an_image(tmp_path: Path) -> None:
    solo_tree(tmp_path, 2)
    content, second = frame(tmp_path, 0), frame(tmp_path, 1)["captures"][0]
    second |= {"id": "left", "filename": "step0.left.png"}
    Image.fromarray(scene(1).image).save(tmp_path / "sequence.0" / "step0.left.png")
    content["captures"].append(second)
    rewrite(tmp_path, content)
    images = read(tmp_path)
    assert [name.split("/")[1] for name in images.files] == ["step0.camera.png", "step0.left.png", "step0.camera.png"]
    assert torch.equal(images[1][1].boxes, images[2][1].boxes)


def test_of_several_labelers_one_is_chosen(tmp_path: Path) -> None:
    solo_tree(tmp_path, 1)
    content = frame(tmp_path)
    more = {**annotation(content, BOXES), "id": "parts", "values": []}
    content["captures"][0]["annotations"].append(more)
    rewrite(tmp_path, content)
    with pytest.raises(DataError, match=r"captures\[0\] has 2 of .*'bounding box', 'parts'\. Choose one with labeler"):
        read(tmp_path)
    assert len(read(tmp_path, settings=", labeler='parts'")[0][1].labels) == 0
    assert len(read(tmp_path, settings=", labeler='bounding box'")[0][1].labels) == 1
    with pytest.raises(DataError, match="Was a BoundingBox2DLabeler active"):
        read(tmp_path, settings=", labeler='nobody'")


def test_other_simulations_name_their_labeler(tmp_path: Path) -> None:
    solo_tree(tmp_path, 2)
    for index in range(2):
        content = frame(tmp_path, index)
        content["captures"][0]["annotations"] = [annotation(content, BOXES)]
        rewrite(tmp_path, content, index)
    with pytest.raises(DataError, match="SemanticSegmentationLabeler active"):
        read(tmp_path, "masks")


def test_a_colour_of_two_labels_is_an_error(tmp_path: Path) -> None:
    solo_tree(tmp_path, 3)
    content = frame(tmp_path, 2)
    annotation(content, MASKS)["instances"] = [{"labelName": "screw", "pixelValue": [*COLOURS[0], 255]}]
    rewrite(tmp_path, content, 2)
    with pytest.raises(DataError, match=r"\(200, 40, 40\) stands for 'screw', elsewhere for 'bolt'"):
        read(tmp_path, "masks")


def test_colours_that_no_frame_names_are_an_error(tmp_path: Path) -> None:
    solo_tree(tmp_path, 2)
    path = tmp_path / "sequence.1" / "step0.camera.semantic segmentation.png"
    pixels = np.array(Image.open(path))
    pixels[3, 3] = (1, 2, 3, 255)
    Image.fromarray(pixels).save(path)
    images = read(tmp_path, "masks")
    with pytest.raises(DataError, match=r"sequence\.1/step0.*\(1, 2, 3\)"):
        images[1]


@pytest.mark.parametrize("label", ["masks", "boxes"])
def test_images_of_another_size_than_the_frame_says(tmp_path: Path, label: str) -> None:
    solo_tree(tmp_path, 1)
    Image.new("RGB", (48, 32)).save(tmp_path / "sequence.0/step0.camera.png")
    with pytest.raises(DataError, match=r"48 x 32 pixels, but its .* 96 x 64"):
        read(tmp_path, label)[0]
    if label == "masks":
        assert read(tmp_path, label, policy=Policy(size_mismatch="resize"))[0][0].shape == (3, 64, 96)


def test_missing_images_are_an_error_or_counted(tmp_path: Path) -> None:
    solo_tree(tmp_path, 3)
    (tmp_path / "sequence.1/step0.camera.png").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images do not exist.*sequence\.1/step0\.camera\.png"):
        read(tmp_path)
    with pytest.warns(UserWarning, match="1 missing images left out"):
        images = read(tmp_path, policy=Policy(bad_image="skip"))
    assert images[1][1].labels.tolist() == [label for label, *_ in scene(2).objects]


@pytest.mark.parametrize("key", ["image", "mask"])
def test_file_names_stay_in_their_sequence(tmp_path: Path, key: str) -> None:
    solo_tree(tmp_path, 2)
    content = frame(tmp_path)
    holder = content["captures"][0] if key == "image" else annotation(content, MASKS)
    holder["filename"] = "../../secret.png"
    rewrite(tmp_path, content)
    with pytest.raises(DataError, match=r"step0\.frame_data\.json: the path .* leads out of"):
        read(tmp_path, "masks")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"values": [{"labelName": "nut", "origin": [1, 2]}]}, r"captures\[0\]: values holds .*expected labelName"),
        ({"values": [{"labelName": "nut", "origin": [1], "dimension": [2, 3]}]}, r"captures\[0\]: values .*3 numbers"),
        ({"values": [{"labelName": "nut", "origin": "ab", "dimension": [2, 3]}]}, r"captures\[0\]: values holds"),
        ({"values": [{"origin": [1, 2], "dimension": [2, 3]}]}, r"values holds.*'labelName'"),
        ({"values": {"nut": 1}}, r"expected values to be a list of objects"),
    ],
)
def test_damaged_boxes_are_named(tmp_path: Path, damage: dict[str, Any], message: str) -> None:
    solo_tree(tmp_path, 1)
    content = frame(tmp_path)
    annotation(content, BOXES).update(damage)
    rewrite(tmp_path, content)
    with pytest.raises(DataError, match=r"step0\.frame_data\.json.*" + message):
        read(tmp_path)


@pytest.mark.parametrize("value", [float("inf"), -1, 0.5, 256])
def test_colours_that_are_none_are_named(tmp_path: Path, value: float) -> None:
    solo_tree(tmp_path, 1)
    content = frame(tmp_path)
    annotation(content, MASKS)["instances"][0]["pixelValue"] = [value, 0, 0, 255]
    rewrite(tmp_path, content)
    with pytest.raises(DataError, match=r"step0\.frame_data\.json.*instances holds .*numbers from 0 to 255"):
        read(tmp_path, label="masks")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[]", "must hold an object"), ('{"captures": [1]}', "expected captures to be a list")],
)
def test_damaged_frames_are_named(tmp_path: Path, text: str, message: str) -> None:
    solo_tree(tmp_path, 2)
    frame_file(tmp_path, 1).write_text(text)
    with pytest.raises(DataError, match=rf"sequence\.1/step0\.frame_data\.json.*{message}"):
        read(tmp_path)


def test_sequences_without_frames(tmp_path: Path) -> None:
    (tmp_path / "sequence.0").mkdir()
    with pytest.raises(DataError, match=r"holds sequences but no frames, expected sequence\.0/step0\.frame_data\.json"):
        read(tmp_path)


def test_an_image_without_size_that_cannot_be_read_is_left_out_as_the_policy_says(tmp_path: Path) -> None:
    solo_tree(tmp_path)
    for frame in tmp_path.rglob("*.frame_data.json"):
        content = json.loads(frame.read_text())
        for capture in content["captures"]:
            capture.pop("dimension", None)
        frame.write_text(json.dumps(content))
    images = read(tmp_path)
    images.path(1).write_bytes(b"")
    with pytest.raises(DataError, match=images.path(1).name):
        read(tmp_path)
    with pytest.warns(UserWarning, match="1 images that cannot be read left out"):
        assert len(read(tmp_path, policy=Policy(bad_image="skip"))) == len(images) - 1


def test_swapped_corners_and_foreign_encodings_are_told(tmp_path: Path) -> None:
    solo_tree(tmp_path)
    path = next(tmp_path.rglob("step0.frame_data.json"))
    frame = json.loads(path.read_text())
    for annotation in frame["captures"][0]["annotations"]:
        for value in annotation.get("values", ()):
            value["dimension"][0] *= -1
    path.write_text(json.dumps(frame))
    with pytest.warns(UserWarning, match="boxes with swapped corners .* left out"):
        load(f"solo:{tmp_path}", "test", label="boxes")
    path.write_bytes(path.read_bytes().replace(b"bolt", "größe".encode("latin-1")) + "ü".encode("latin-1"))
    with pytest.raises(DataError, match=r"frame_data\.json is not UTF-8: byte .* Save it as UTF-8"):
        load(f"solo:{tmp_path}", "test", label="boxes")
