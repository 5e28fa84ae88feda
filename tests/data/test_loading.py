"""Links that lead nowhere: named, or left out and counted, in every format."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synreal.data import Policy, load
from synreal.data.inspection.report import check
from synreal.errors import DataError
from tests.data.own_trees import coco_tree, masks_tree, solo_tree
from tests.data.simple_trees import imagefolder_tree, list_tree, yolo_tree
from tests.data.trees import kitti_tree, voc_tree

CASES = {
    "imagefolder": ("classes", imagefolder_tree, "bolt/000.png", ""),
    "list": ("classes", list_tree, "images/000.png", ", file='labels.txt'"),
    "yolo": ("boxes", yolo_tree, "images/val/0003.png", ""),
    "voc": ("boxes", voc_tree, "JPEGImages/000000.jpg", ""),
    "kitti": ("boxes", kitti_tree, "training/image_2/0.png", ""),
    "coco": ("masks", coco_tree, "images/0000.png", ""),
    "masks": ("masks", masks_tree, "images/0000.png", ", classes=['background', 'bolt', 'nut', 'plate']"),
    "masks itself": ("masks", masks_tree, "masks/0000.png", ", classes=['background', 'bolt', 'nut', 'plate']"),
    "solo": ("boxes", solo_tree, "sequence.0/step0.camera.png", ""),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_link_that_leads_nowhere(tmp_path: Path, case: str) -> None:
    label, make, file, settings = CASES[case]
    root = tmp_path / "data"
    make(root)
    path = root / file
    assert path.is_file()
    value = f"{case.split()[0]}(root={str(root)!r}{settings})"
    whole = len(load(value, "test", label))
    path.unlink()
    path.symlink_to(path.parent / "gone.png")
    with pytest.raises(DataError, match=rf"{path.name}"):
        load(value, "test", label, cache=tmp_path / "cache")
    images = load(value, "test", label, cache=tmp_path / "cache", policy=Policy("skip"))
    assert len(images) == whole - 1
    assert sum(images.dropped.values()) == 1
    assert check(value, label, domain="target", cache=tmp_path / "cache").fails
    assert not check(value, label, domain="target", cache=tmp_path / "cache", policy=Policy("skip")).fails


def test_the_message_says_where_the_link_leads(tmp_path: Path) -> None:
    imagefolder_tree(tmp_path)
    (tmp_path / "bolt" / "z.png").symlink_to("/somewhere/else.png")
    with pytest.raises(
        DataError, match=r"1 files are links that lead nowhere, e\.g\. .*z\.png, to /somewhere/else\.png"
    ):
        load(f"imagefolder:{tmp_path}", "test")
    shutil.copy(tmp_path / "bolt" / "000.png", tmp_path / "here.png")
    (tmp_path / "bolt" / "z.png").unlink()
    (tmp_path / "bolt" / "z.png").symlink_to(tmp_path / "here.png")
    assert len(load(f"imagefolder:{tmp_path}", "test")) == 25
