"""Data that can teach nothing, in every format: refused by the check and before a training, with the cause."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synreal.config import make_config
from synreal.data import load
from synreal.data.inspection import teaching
from synreal.data.inspection.report import check
from synreal.data.inspection.teaching import check_teaches
from synreal.data.sets import ArrayImages
from synreal.errors import DataError
from tests.data.own_trees import coco_tree, masks_tree, solo_tree
from tests.data.simple_trees import imagefolder_tree, list_tree, yolo_tree
from tests.data.trees import kitti_tree, voc_tree

SIZE = (96, 64)


def _coco(root: Path, change: Any) -> str:
    content = coco_tree(root)
    for entry in content["annotations"]:
        change(entry)
    (root / "annotations.json").write_text(json.dumps(content))
    return f"coco:{root}"


def crowds(root: Path) -> str:
    return _coco(root, lambda entry: entry.update(iscrowd=1))


def strangers(root: Path) -> str:
    return _coco(root, lambda entry: entry.update(image_id=entry["image_id"] + 1000))


def unannotated(root: Path) -> str:
    content = coco_tree(root)
    (root / "annotations.json").write_text(json.dumps({**content, "annotations": []}))
    return f"coco:{root}"


def _polygon(entry: dict[str, Any]) -> list[float]:
    x, y, width, height = entry["bbox"]
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def corners(root: Path) -> str:
    return _coco(root, lambda entry: entry.update(segmentation=[_polygon(entry)[:2] + _polygon(entry)[4:6]]))


def shares(root: Path) -> str:
    def divide(entry: dict[str, Any]) -> None:
        polygon = [value / SIZE[place % 2] for place, value in enumerate(_polygon(entry))]
        box = [value / SIZE[place % 2] for place, value in enumerate(entry["bbox"])]
        entry.update(bbox=box, area=box[2] * box[3], segmentation=[polygon])

    return _coco(root, divide)


def yolo_divided_twice(root: Path) -> str:
    for path in yolo_tree(root).rglob("labels/*/*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{row[0]} {' '.join(str(float(value) / 96) for value in row[1:])}\n" for row in rows))
    return f"yolo:{root}"


def voc_shares(root: Path) -> str:
    for path in voc_tree(root).rglob("*.xml"):
        path.write_text(re.sub(r"<([xy]m..)>([\d.]+)<", lambda m: f"<{m[1]}>{float(m[2]) / 96}<", path.read_text()))
    return f"voc(root={str(root)!r}, one_based=False)"


def kitti_shares(root: Path) -> str:
    for path in kitti_tree(root).rglob("*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text(
            "".join(
                " ".join([*row[:4], *(f"{float(value) / 96:.4f}" for value in row[4:8]), *row[8:]]) + "\n"
                for row in rows
            )
        )
    return f"kitti:{root}"


def solo_shares(root: Path) -> str:
    solo_tree(root)
    for path in root.rglob("step*.json"):
        frame = json.loads(path.read_text())
        for capture in frame["captures"]:
            for annotation in capture["annotations"]:
                for value in annotation.get("values", ()):
                    value["dimension"] = [number / 96 for number in value["dimension"]]
        path.write_text(json.dumps(frame))
    return f"solo:{root}"


def solo_black(root: Path) -> str:
    solo_tree(root)
    for path in root.rglob("*egmentation*.png"):
        Image.new("RGB", SIZE).save(path)
    return f"solo:{root}"


def one_number(root: Path, value: int = 0) -> str:
    masks_tree(root, encoding="grey")
    for path in (root / "masks").glob("*.png"):
        Image.new("L", SIZE, value).save(path)
    return f"masks(root={str(root)!r}, classes=['background', 'bolt', 'nut', 'plate'])"


def ignored(root: Path) -> str:
    one_number(root, 255)
    return f"masks(root={str(root)!r}, label_map={{'background': 0, 'bolt': 1}})"


def nested(root: Path) -> str:
    imagefolder_tree(root / "images")
    return f"imagefolder:{root}"


def one_folder(root: Path) -> str:
    imagefolder_tree(root)
    for name in ("nut", "plate"):
        shutil.rmtree(root / name)
    return f"imagefolder:{root}"


def one_listed(root: Path) -> str:
    path = list_tree(root) / "labels.txt"
    path.write_text(re.sub(r"\S+\n", "bolt\n", path.read_text()))
    return f"list(root={str(root)!r}, file='labels.txt')"


CASES = [
    (crowds, "boxes", "all boxes stand for crowds"),
    (strangers, "boxes", "there is no object.*Left out while it was read: .* annotations of images that the JSON does"),
    (strangers, "masks", "all pixels are of one class. Classes found: background. Left out .* annotations of images"),
    (unannotated, "boxes", "there is no object"),
    (unannotated, "masks", "all pixels are of one class"),
    (corners, "masks", "all pixels are of one class.*polygons with fewer than 3 corners"),
    (shares, "boxes", "every box has a side below one pixel, as where shares"),
    (shares, "masks", "no image shows more than one pixel of an object, as where shares"),
    (yolo_divided_twice, "boxes", "every box has a side below one pixel"),
    (voc_shares, "boxes", "every box has a side below one pixel"),
    (kitti_shares, "boxes", "every box has a side below one pixel"),
    (solo_shares, "boxes", "every box has a side below one pixel"),
    (solo_black, "masks", "all pixels are of one class"),
    (one_number, "masks", "all pixels are of one class"),
    (ignored, "masks", "all pixels are ignored"),
    (nested, "classes", r"the only class folder, .*images, holds the folders bolt, nut, plate.*imagefolder:.*images"),
    (one_folder, "classes", "all images are of one class, .*Classes found: bolt"),
    (one_listed, "classes", "all images are of one class, .*Classes found: bolt"),
]
TASKS = {"classes": "cls", "masks": "seg", "boxes": "det"}


@pytest.mark.parametrize(("make", "label", "why"), CASES, ids=[f"{make.__name__}-{label}" for make, label, _ in CASES])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_data_that_can_teach_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, label: str, why: str
) -> None:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    value = make(tmp_path / "data")
    report = check(value, label, domain="source")
    assert report.fails
    (said, *_) = [each.message for part in report.parts for each in part.findings if each.effect == "stops"]
    assert re.search(why, said)

    real = tmp_path / "real"
    target = f"imagefolder:{imagefolder_tree(real)}" if label == "classes" else f"coco:{real}"
    if label != "classes":
        coco_tree(real)
    config = make_config({"task": TASKS[label], "source": value, "targets": [target], "weights": "none"})
    with pytest.raises(DataError, match=why):
        config.task.load(config.setup)


def test_crowds_are_drawn_in_masks_and_teach(tmp_path: Path) -> None:
    check_teaches(load(crowds(tmp_path), "train", label="masks"))


def test_one_class_of_objects_is_enough(tmp_path: Path) -> None:
    one = _coco(tmp_path, lambda entry: entry.update(category_id=2))
    for label in ("boxes", "masks"):
        check_teaches(load(one, "train", label=label))


def test_data_that_teach_are_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco_tree(tmp_path)
    images = load(f"coco:{tmp_path}", "train", label="masks")
    monkeypatch.setattr(teaching, "scan", None)
    read: list[int] = []
    monkeypatch.setattr(type(images), "__getitem__", _noted(type(images).__getitem__, read))
    check_teaches(images)
    assert len(read) == 1


def _noted(get: Any, read: list[int]) -> Any:
    def noted(self: Any, index: int) -> Any:
        read.append(index)
        return get(self, index)

    return noted


def test_an_only_object_far_from_all_looked_at_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "_LOOKED_AT", 2)
    masks_tree(tmp_path, encoding="grey")
    for path in (tmp_path / "masks").glob("*.png"):
        if path.stem != "0005":
            Image.new("L", SIZE).save(path)
    value = f"masks(root={str(tmp_path)!r}, classes=['background', 'bolt', 'nut', 'plate'], heldout=1)"
    assert np.asarray(Image.open(tmp_path / "masks" / "0005.png")).any()
    check_teaches(load(value, "train", label="masks"), cache=tmp_path / "cache")


def test_an_item_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    masks_tree(tmp_path, encoding="grey")
    value = f"masks(root={str(tmp_path)!r}, classes=['background', 'bolt', 'nut', 'plate'])"
    images = load(value, "train", label="masks")
    images.label_path(0).write_bytes(b"no image")  # type: ignore[union-attr]
    check_teaches(images)


def test_sets_in_memory_are_told_too() -> None:
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    check_teaches(ArrayImages("own", "train", pixels, torch.tensor([0, 0, 0, 1]), ["a", "b"]))
    with pytest.raises(DataError, match=r"own \(train\) can teach nothing: all images are of one class"):
        check_teaches(ArrayImages("own", "train", pixels, torch.zeros(4, dtype=torch.int64), ["a", "b"]))
