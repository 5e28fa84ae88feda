from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import synreal.data as data
from synreal.data import Policy
from synreal.data.kinds import visda17
from synreal.data.kinds.visda17 import CLASSES, Visda17
from synreal.errors import ConfigError, DataError
from tests.data.trees import visda17_tree, write

OFFICIAL = dict(visda17.COUNTS)


@pytest.fixture(autouse=True)
def _official(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of 36 images are taken for complete ones, unless a test says otherwise."""
    monkeypatch.setattr(visda17, "COUNTS", dict.fromkeys(visda17.COUNTS, 36))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return visda17_tree(tmp_path_factory.mktemp("visda"), parts=("train", "validation", "test"))


@pytest.fixture
def tree(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "visda"))


def read(root: Path, part: str, **settings: object):  # type: ignore[no-untyped-def]
    entry = Visda17(root=root, **settings)
    return entry.read(part, label="classes", seed=0, cache=None, policy=Policy())


def rows(images) -> list[tuple[str, int]]:  # type: ignore[no-untyped-def]
    return sorted(zip(images.files, images.labels.tolist(), strict=True))


def test_all_parts_hold_the_images_and_classes_of_their_lists(tree: Path) -> None:
    expected = {}
    for part in ("train", "validation", "test"):
        lines = (tree / part / "image_list.txt").read_text().split("\n")
        expected[part] = sorted((line.split(" ")[0], int(line.split(" ")[1])) for line in lines)
    train, held = read(tree, "train"), read(tree, "heldout")
    assert sorted(rows(train) + rows(held)) == expected["train"]
    assert (len(train), len(held)) == (32, 4), "a tenth, rounded up"
    assert rows(read(tree, "test")) == expected["validation"]
    assert rows(read(tree, "test", split="test")) == expected["test"]
    assert train.classes == CLASSES
    assert (train.name, train.split, held.split) == ("visda17", "train", "heldout")


def test_images_come_as_rgb_with_the_class_of_their_folder(tree: Path) -> None:
    target = read(tree, "test")
    image, label = target[7]
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 40, 64))
    assert CLASSES[label] == target.files[7].split("/")[0]
    file = tree / "validation" / target.files[7]
    assert np.array_equal(image.permute(1, 2, 0), Image.open(file))
    for mode in ("L", "P", "CMYK"):
        Image.open(file).convert(mode).save(file.with_suffix(".tif"))
        shutil.move(file.with_suffix(".tif"), file)
        assert tuple(target[7][0].shape) == (3, 40, 64)


def test_classes_are_in_alphabetical_order_and_known_without_reading() -> None:
    assert list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == 12
    assert Visda17(root=Path("nowhere")).class_names("classes") == CLASSES


def test_official_counts_sum_over_the_classes() -> None:
    validation = [3646, 3475, 4690, 10401, 4691, 2075, 5796, 4000, 4549, 2281, 4236, 5548]
    test = [5196, 4272, 6970, 7280, 6331, 5491, 8079, 7673, 4287, 2762, 7264, 6767]
    assert OFFICIAL == {"train": 152_397, "validation": sum(validation), "test": sum(test)}


def test_without_lists_the_folders_tell_the_same(tree: Path) -> None:
    before = [read(tree, part) for part in ("train", "heldout", "test")]
    for part in ("train", "validation"):
        (tree / part / "image_list.txt").unlink()
        write(tree / part / "bus/Thumbs.db", "x")
        write(tree / part / "._bus", "x")
    for listed, part in zip(before, ("train", "heldout", "test"), strict=True):
        assert rows(read(tree, part)) == rows(listed)


@pytest.mark.parametrize("prefix", ["train/", "./", "./train/", "train\\"])
def test_lists_of_other_packages_are_read(tree: Path, prefix: str) -> None:
    """CRLF, a byte order mark, no final line end, and paths from the folder above."""
    expected = rows(read(tree, "train"))
    listing = tree / "train/image_list.txt"
    lines = [prefix + line.replace(" ", " \t ") for line in listing.read_text().split("\n")]
    listing.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert rows(read(tree, "train")) == expected


def test_the_list_may_lie_beside_the_folders(tree: Path) -> None:
    expected = rows(read(tree, "test"))
    listing = tree / "validation/image_list.txt"
    lines = [f"validation/{line}" for line in listing.read_text().split("\n")][:5]
    write(tree / "image_list/validation.txt", "\n".join(lines))
    listing.unlink()
    with pytest.warns(UserWarning, match="5 images"):
        assert rows(read(tree, "test")) == [row for row in expected if any(row[0] in line for line in lines)]


def test_paths_may_hold_spaces(tree: Path) -> None:
    shutil.move(tree / "train/bus", tree / "train/bu s")
    listing = tree / "train/image_list.txt"
    listing.write_text(listing.read_text().replace("bus/", "bu s/").replace("bu s/src_1", "bu s/src_1"))
    files = dict(rows(read(tree, "train")) + rows(read(tree, "heldout")))
    assert sum(file.startswith("bu s/") and label == 2 for file, label in files.items()) == 3


def test_the_class_of_trains_is_not_taken_for_the_folder_of_training_images(tree: Path) -> None:
    train = tree / "train"
    expected = rows(read(tree, "train"))
    for listed in (True, False):
        found = read(tree, "train")
        assert rows(found) == expected
        assert found.root == train
        if listed:
            (train / "image_list.txt").unlink()
    assert ("train", 10) in {(file.split("/")[0], label) for file, label in expected}
    # A list's "train/x.png" is of the class, "train/bus/x.png" of the folder.
    assert visda17._below("train/x.png", "train") == "train/x.png"
    assert visda17._below("train/train/x.png", "train") == "train/x.png"
    for part, root in (("train", train), ("train", tree)):
        if root == tree:
            shutil.rmtree(train)
        with pytest.raises(DataError, match=r"is the class train of .*Give the folder that holds .*train\.tar"):
            read(root, part)


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("nested", ["visda-2017", "{}", "visda/{}"])
def test_nested_folders_are_found(tmp_path: Path, nested: str, lists: bool) -> None:
    for part in ("train", "validation"):
        visda17_tree(tmp_path / "plain" / part, parts=(part,), lists=lists)
        below = tmp_path / "nested" / nested.format(part)
        below.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / "plain" / part, below, dirs_exist_ok=True)
    for part, split in (("train", "train"), ("validation", "test")):
        found = read(tmp_path / "nested", split)
        assert rows(found) == rows(read(tmp_path / "plain" / part, split))


def test_a_missing_folder_names_its_archive(tree: Path) -> None:
    shutil.rmtree(tree / "validation")
    with pytest.raises(DataError, match=r"lacks validation .*found test, train\)\. validation comes with valid"):
        read(tree, "test")
    assert len(read(tree, "train")) == 32


def test_the_list_of_the_test_images_may_lie_above_them_but_not_be_missing(tree: Path) -> None:
    expected = rows(read(tree, "test", split="test"))
    shutil.move(tree / "test/image_list.txt", tree / "image_list.txt")
    assert rows(read(tree, "test", split="test")) == expected
    validation = rows(read(tree, "test"))
    (tree / "validation/image_list.txt").unlink()
    assert rows(read(tree, "test")) == validation, "the list of other images is none of its"
    (tree / "image_list.txt").unlink()
    with pytest.raises(DataError, match=r"test has no image_list\.txt, and its folders are not classes\. Fetch"):
        read(tree, "test", split="test")


@pytest.mark.parametrize("label", ["12", "99", "4096"])
def test_classes_out_of_range_are_refused_with_file_and_line(tree: Path, label: str) -> None:
    listing = tree / "test/image_list.txt"
    lines = listing.read_text().split("\n")
    lines[4] = f"{lines[4].split(' ')[0]} {label}"
    listing.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"test/image_list\.txt, line 5: class {label}, expected 0 \(aeroplane\) to"):
        read(tree, "test", split="test")


@pytest.mark.parametrize(
    "line", ["aeroplane/x.png", "aeroplane/x.png -1", "aeroplane/x.png 1.0", "0", "aeroplane/x.png ²"]
)
def test_lines_without_path_and_class_are_refused(tree: Path, line: str) -> None:
    write(tree / "train/image_list.txt", f"\n{line}\n")
    with pytest.raises(DataError, match=r"image_list\.txt, line 2: expected 'path class', e\.g\. .*, got"):
        read(tree, "train")


def test_a_list_that_disagrees_with_the_folders_is_refused(tree: Path) -> None:
    listing = tree / "validation/image_list.txt"
    listing.write_text(listing.read_text().replace("bus/020001.jpg 2", "bus/020001.jpg 3"))
    with pytest.raises(DataError, match=r"line 8: bus/020001\.jpg lies in the folder bus, .* 3 means car; expected 2"):
        read(tree, "test")


def test_an_image_of_two_classes_is_refused_and_one_listed_twice_counts_once(tree: Path) -> None:
    listing = tree / "test/image_list.txt"
    text = listing.read_text()
    expected = rows(read(tree, "test", split="test"))
    listing.write_text(f"{text}\n{text.split(chr(10))[0]}\n")
    with pytest.warns(UserWarning, match="lists 1 lines twice"):
        assert rows(read(tree, "test", split="test")) == expected
    listing.write_text(f"{text}\n{text.split(' ')[0]} 7")
    with pytest.raises(DataError, match=r"line 37: trunk01/000000\.jpg has another label in line 1"):
        read(tree, "test", split="test")


def test_missing_images_are_counted_and_named(tree: Path) -> None:
    for file in ("bus/020000.jpg", "car/030002.jpg"):
        (tree / "validation" / file).unlink()
    with pytest.raises(
        DataError,
        match=r"2 of 36 images that .*image_list\.txt names are not in .*, e\.g\. bus/020000\.jpg, "
        r"car/030002\.jpg\. Unpack validation\.tar again",
    ):
        read(tree, "test")
    with pytest.warns(UserWarning, match="34 images; the official validation has 36"):
        images = Visda17(root=tree).read("test", label="classes", seed=0, cache=None, policy=Policy("skip"))
    assert len(images) == 34
    assert images.dropped == {"missing images left out": 2}
    assert {image.name for image in map(images.path, range(34))}.isdisjoint({"020000.jpg", "030002.jpg"})


def test_a_list_does_not_lead_out_of_its_folder(tree: Path) -> None:
    write(tree / "train/image_list.txt", "aeroplane/../../validation/bus/020000.jpg 0\n")
    with pytest.raises(DataError, match=r"line 1: the path .* leads out of"):
        read(tree, "train")


def test_trunk_folders_are_no_classes(tree: Path) -> None:
    shutil.rmtree(tree / "validation")
    (tree / "test/image_list.txt").unlink()
    shutil.move(tree / "test", tree / "validation")
    with pytest.raises(DataError, match=r"holds the folders trunk01, trunk02, trunk03, expected image_list\.txt or a"):
        read(tree, "test")
    shutil.rmtree(tree / "validation")
    (tree / "validation").mkdir()
    with pytest.raises(DataError, match=r"holds no folder, expected image_list\.txt"):
        read(tree, "test")


def test_other_counts_than_the_official_ones_are_said_with_both(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visda17, "COUNTS", OFFICIAL)
    with pytest.warns(UserWarning, match=r"visda17 \(train\): 36 images; the official train has 152,397"):
        read(tree, "train")
    shutil.rmtree(tree / "validation/bus")
    shutil.rmtree(tree / "validation/knife")
    (tree / "validation/image_list.txt").unlink()
    with pytest.warns(UserWarning, match=r"\(test\): 30 images, none of bus, knife; .* validation has 55,388"):
        read(tree, "test")
    read(tree, "heldout")  # said once


def test_one_name_trains_and_tests(tree: Path) -> None:
    source = data.find(f"visda17(root={str(tree)!r}, heldout=5, name='renders', max_pixels=9999)")
    (target,) = data.default_targets(source)
    assert data.find(target) == Visda17(root=tree, max_pixels=9999)
    assert data.default_targets(f"visda17:{tree}") == (f"visda17:{tree}",)
    assert len(data.load(source, "heldout")) == 5
    found = data.load(target, "test")
    assert (found.name, len(found)) == ("visda17", 36)
    assert found.root == tree / "validation"


def test_the_other_target_has_a_name_of_its_own(tree: Path) -> None:
    target = data.find(f"visda17(root={str(tree)!r}, split=test)")
    assert target.label == data.load(target, "test").name == "visda17-test"
    assert data.find(target.text()) == target
    with pytest.raises(ConfigError, match="split"):
        data.find(f"visda17(root={str(tree)!r}, split=train)")
