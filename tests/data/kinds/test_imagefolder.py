from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from synreal.data import find, load
from synreal.data.kinds.imagefolder import ImageFolder
from synreal.errors import ConfigError, DataError
from tests.data.simple_trees import imagefolder_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return imagefolder_tree(tmp_path / "data", per_class=5, size=8)


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path, "PNG")


def test_images_and_labels_are_those_of_torchvision(root: Path) -> None:
    put(root / "nut" / "deeper" / "still" / "x.PNG")
    put(root / "plate" / "ünïcode und spaces.jpeg")
    (root / "nut" / "notes.txt").write_text("no image")
    for litter in ("._000.png", ".DS_Store", "Thumbs.db"):
        (root / "bolt" / litter).write_bytes(b"litter")
    (root / ".git").mkdir()
    images = load(f"imagefolder:{root}", "test")
    shutil.rmtree(root / ".git")
    (root / "bolt" / "._000.png").unlink()
    reference = torchvision.datasets.ImageFolder(str(root))
    assert images.classes == tuple(reference.classes) == ("bolt", "nut", "plate")
    pairs = sorted((str(images.path(index)), int(images.labels[index])) for index in range(len(images)))
    assert pairs == sorted(reference.samples)
    assert len(pairs) == 17
    image, label = images[3]
    assert label == 0
    assert np.array_equal(image.permute(1, 2, 0), np.array(Image.open(images.path(3)).convert("RGB")))
    assert images.dropped == {}


def test_parts_of_a_source_have_the_same_classes_and_share_no_image(root: Path) -> None:
    train, heldout = (load(f"imagefolder:{root}", part) for part in ("train", "heldout"))
    assert train.classes == heldout.classes
    assert (len(train), len(heldout)) == (13, 2)
    assert not set(train.files) & set(heldout.files)
    assert train.fingerprint != heldout.fingerprint


def test_classes_are_numbered_alike_though_one_is_missing_from_the_part_that_is_held_out(tmp_path: Path) -> None:
    imagefolder_tree(tmp_path / "train", size=8)
    imagefolder_tree(tmp_path / "val", size=8, per_class=2)
    shutil.rmtree(tmp_path / "val" / "bolt")
    data = ImageFolder(root=tmp_path, splits={"train": "train", "heldout": "val", "test": "val"})
    assert load(data, "train").classes == ("bolt", "nut", "plate")
    with pytest.warns(UserWarning, match=r"val: no image of bolt\."):
        heldout = load(data, "heldout")
    assert heldout.classes == ("bolt", "nut", "plate")
    assert sorted(heldout.labels.tolist()) == [1, 1, 2, 2]
    assert load(data, "test").classes == ("nut", "plate")


def test_classes_select_and_order(root: Path) -> None:
    data = ImageFolder(root=root, classes=["plate", "bolt"])
    assert data.class_names("classes") == ("plate", "bolt")
    with pytest.warns(UserWarning, match=r"5 images of classes that are not used \(nut\) left out"):
        images = load(data, "test")
    assert images.classes == ("plate", "bolt")
    assert {(file.split("/")[0], int(label)) for file, label in zip(images.files, images.labels, strict=True)} == {
        ("plate", 0),
        ("bolt", 1),
    }


def test_a_class_without_folder_is_an_error_that_names_the_nearest(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"'blot'\. Did you mean 'bolt'\? Known: bolt, nut, plate"):
        load(ImageFolder(root=root, classes=["blot", "nut"]), "test")


def test_a_class_folder_without_image_warns_and_stays_a_class(root: Path) -> None:
    (root / "empty").mkdir()
    (root / "empty" / "x.heic").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"imagefolder, .*data: no image of empty\."):
        images = load(f"imagefolder:{root}", "test")
    assert images.classes == ("bolt", "empty", "nut", "plate")
    assert torch.bincount(images.labels).tolist() == [5, 0, 5, 5]


def test_folders_without_any_image_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "x.exr").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image in the class folders of .*: cat\. Read are \.png"):
        load(f"imagefolder:{tmp_path}", "train")


@pytest.mark.parametrize("names", [["train", "val"], ["Train", "Test"], ["valid", "training", "test"], ["train"]])
def test_folders_of_parts_are_not_taken_for_classes(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        imagefolder_tree(tmp_path / name, size=8, per_class=2)
    train = next(name for name in names if name.lower().startswith("train"))
    with pytest.raises(DataError, match=r"expected one folder per class") as caught:
        load(f"imagefolder:{tmp_path}", "train")
    assert f"splits={{'train': '{train}', 'test': '" in str(caught.value)
    assert f"imagefolder:{tmp_path}/{train}." in str(caught.value)
    assert len(load(f"imagefolder:{tmp_path}/{train}", "test")) == 6
    written = f"imagefolder(root='{tmp_path}', splits={{'train': '{train}', 'test': '{names[-1]}'}})"
    assert len(load(written, "test")) == 6


def test_a_train_among_other_classes_is_a_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "truck"):
        put(tmp_path / name / "1.png")
    assert load(f"imagefolder:{tmp_path}", "test").classes == ("bus", "train", "truck")
    shutil.rmtree(tmp_path / "bus")
    shutil.rmtree(tmp_path / "truck")
    assert load(ImageFolder(root=tmp_path, classes=["train"]), "test").classes == ("train",)


def test_images_without_class_folders_are_an_error(tmp_path: Path) -> None:
    put(tmp_path / "b.png")
    put(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no folders, only 2 images such as a\.png; expected one folder per class"):
        load(f"imagefolder:{tmp_path}", "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no folders, only nothing that is read"):
        load(f"imagefolder:{tmp_path}/empty", "test")


def test_images_beside_class_folders_are_counted(root: Path) -> None:
    put(root / "preview.png")
    with pytest.warns(UserWarning, match="1 images outside of class folders left out"):
        images = load(f"imagefolder:{root}", "test")
    assert len(images) == 15


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    composed, pieces = (unicodedata.normalize(form, "Möwe") for form in ("NFC", "NFD"))
    put(tmp_path / pieces / "1.png")
    put(tmp_path / "crow" / "1.png")
    images = load(ImageFolder(root=tmp_path, classes=[composed, "crow"]), "test")
    assert images.classes == (composed, "crow")
    assert len(images) == 2
    (tmp_path / composed).mkdir(exist_ok=True)
    if len(os.listdir(tmp_path)) == 3:  # not on macOS, where both are one folder
        with pytest.raises(DataError, match="two folders named"):
            load(f"imagefolder:{tmp_path}", "test")


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist, expected a folder"):
        load(f"imagefolder:{tmp_path}/none", "test")


def test_a_damaged_image_is_an_error_when_it_is_read(root: Path) -> None:
    (root / "bolt" / "002.png").write_bytes(b"")
    images = load(f"imagefolder:{root}", "test")
    with pytest.raises(DataError, match=r"bolt/002\.png is not an image: it is empty"):
        images[2]


def test_max_pixels_is_passed_on(root: Path) -> None:
    images = load(f"imagefolder(root='{root}', max_pixels=63)", "test")
    with pytest.raises(DataError, match="8 x 8 pixels, more than the 63"):
        images[0]


def test_reading_is_announced_for_classification_alone(root: Path) -> None:
    with pytest.raises(ConfigError, match="has no boxes"):
        load(f"imagefolder:{root}", "test", label="boxes")
    assert find(f"imagefolder:{root}").text() == f"imagefolder:{root}"
