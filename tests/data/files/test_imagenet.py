from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synreal.data.files.imagenet import imagenet_images
from synreal.errors import DataError
from synreal.weights import imagenet_classes, imagenet_ids

IDS = ["n00000001", "n00000002", "n00000003"]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)


def test_files_and_folders_tell_the_class(tmp_path):
    for name in (
        "n00000003_fox.png",
        "n00000001/ILSVRC2012_val_00000001.png",
        "val/n00000002/n00000002_7.png",
        "n00000009_else.png",
        "plain.png",
    ):
        picture(tmp_path / name)
    images = imagenet_images(tmp_path, IDS)
    assert {str(images.path(i).relative_to(tmp_path)): images[i][1] for i in range(len(images))} == {
        "n00000003_fox.png": 2,
        "n00000001/ILSVRC2012_val_00000001.png": 0,
        "val/n00000002/n00000002_7.png": 1,
    }
    assert images.dropped == {"images of no known class": 2}


def test_what_holds_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        imagenet_images(tmp_path / "none", IDS)
    picture(tmp_path / "cat.png")
    with pytest.raises(DataError, match=r"holds 1 images, and none says .* n01440764_tench\.JPEG"):
        imagenet_images(tmp_path, IDS)
    with pytest.raises(DataError, match="is a file"):
        imagenet_images(tmp_path / "cat.png", IDS)


def test_ids_stand_in_the_order_of_the_classes():
    ids = imagenet_ids()
    assert ids == sorted(ids)
    assert len(ids) == 1000
    assert dict(zip(ids, imagenet_classes(), strict=True))["n02123045"] == "tabby, tabby cat"
