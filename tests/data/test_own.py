from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from synreal import data
from synreal.data import datasets, registry
from synreal.data.files.paths import scan_images
from synreal.data.own import OwnData, read_names, suggested_splits
from synreal.errors import ConfigError, DataError


class Flat(OwnData):
    kind: ClassVar[str] = "flat"
    label_kinds: ClassVar[tuple[str, ...]] = ("classes", "masks")
    summary: ClassVar[str] = "Images of one class."
    needs: ClassVar[str] = "a folder"

    def read(self, split: str, **_: Any) -> Any:
        from synreal.data.files.file_sets import LabelFiles

        files = scan_images(self.folder(split))
        kept = self.part(files, split)
        return LabelFiles(
            self.label, split, self.folder(split), [files[i] for i in kept], [0] * len(kept), self.classes or ("all",)
        )


@pytest.fixture
def root(tmp_path: Path, own_registry: None) -> Path:
    datasets.DATA.register(Flat)
    for folder, number in (("a", 12), ("b", 5)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(number):
            Image.new("L", (4, 4)).save(tmp_path / "data" / folder / f"{index}.png")
    return tmp_path / "data"


def names(entry: datasets.DataSet, split: str) -> set[str]:
    images = data.load(entry, split)
    return {f"{images.root.name}/{name}" for name in images.files}


def test_it_is_source_and_target(root: Path) -> None:
    data = registry.find(f"flat:{root}")
    assert data.parts == ("train", "heldout", "test")
    assert not data.apart
    train, heldout, test = (names(data, part) for part in data.parts)
    assert len(heldout) == 2
    assert not train & heldout
    assert train | heldout == test
    assert len(test) == 17
    assert names(data, "heldout") == heldout


def test_heldout_says_how_many(root: Path) -> None:
    assert len(names(Flat(root=root, heldout=7), "train")) == 10
    with pytest.raises(DataError, match=r"17 images are to be held out of 17.*smaller heldout"):
        names(Flat(root=root, heldout=17), "train")


def test_one_image_is_enough_for_a_target_alone(root: Path) -> None:
    for path in sorted(path for path in root.rglob("*") if path.is_file())[1:]:
        path.unlink()
    assert len(names(Flat(root=root), "test")) == 1
    for part in ("train", "heldout"):
        with pytest.raises(DataError, match=r"there is one image\. A source needs two at least"):
            names(Flat(root=root), part)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["test", "train", "valid"], "{train: train, heldout: valid, test: test}"),
        (["images/train2017", "images/val2017"], "{train: images/train2017, heldout: images/val2017}"),
        (["a", "b", "latest"], "as-ever"),
        (["val"], "as-ever"),
    ],
)
def test_splits_are_suggested_by_names(places: list[str], expected: str) -> None:
    assert suggested_splits(places, "as-ever") == expected


def test_splits_say_where_parts_lie(root: Path) -> None:
    data = Flat(root=root, splits={"train": "a", "test": "b"})
    assert data.apart
    train, heldout, test = (names(data, part) for part in data.parts)
    assert (len(train), len(heldout), len(test)) == (10, 2, 5)
    assert {name[0] for name in train | heldout} == {"a"}
    assert {name[0] for name in test} == {"b"}


def test_a_split_may_hold_the_images_that_are_held_out(root: Path) -> None:
    data = Flat(root=root, splits={"train": "a", "heldout": "b"})
    assert len(names(data, "train")) == 12
    assert len(names(data, "heldout")) == 5
    assert not data.apart


def test_images_that_are_held_out_are_never_trained_on(root: Path) -> None:
    same = Flat(root=root, splits={"train": "a", "heldout": "a"})
    assert not names(same, "train") & names(same, "heldout")
    with pytest.raises(DataError, match="splits names heldout, but not train"):
        names(Flat(root=root, splits={"heldout": "b"}), "train")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("c", r"data/c does not exist, expected a folder\. Folders in .*data: a, b\."),
        ("a/0.png", "is a file, expected a folder"),
        ("../data2", "leads out of"),
        ("/etc", "absolute"),
    ],
)
def test_parts_that_are_not_there_are_named(root: Path, place: str, message: str) -> None:
    (root.parent / "data2").mkdir()
    with pytest.raises(DataError, match=message):
        names(Flat(root=root, splits={"train": place}), "train")


def test_a_link_that_leaves_the_root_is_no_part(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="leads out of"):
        names(Flat(root=root, splits={"train": "link"}), "train")


def test_parts_are_known(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown split 'val'.*Known: heldout, test, train"):
        registry.find(f"flat(root='{root}', splits={{'val': 'b'}})")


@pytest.mark.parametrize(
    "classes", [["car", "bus"], ("car", "bus"), {0: "car", 1: "bus"}, {1: "bus", 0: "car"}, {"0": "car", "1": " bus "}]
)
def test_classes_are_a_list_or_numbered(root: Path, classes: Any) -> None:
    data = Flat(root=root, classes=classes)
    assert data.classes == ("car", "bus")
    assert data.class_names("classes") == ("car", "bus")
    assert data.class_names("masks") == ("background", "car", "bus")
    assert Flat(root=root, classes=["car", "background"]).class_names("masks") == ("car", "background")
    assert Flat(root=root).class_names("masks") is None


def test_numerals_are_names() -> None:
    assert read_names([1, 0, "x"]) == ("1", "0", "x")


def test_names_are_composed_as_those_of_folders_are() -> None:
    assert read_names([unicodedata.normalize("NFD", "Möwe")]) == (unicodedata.normalize("NFC", "Möwe"),)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({1: "car", 2: "bus"}, "expected names for the numbers 0 to 1"),
        ({0: "car", "bus": "x"}, "expected names for the numbers 0 to 1"),
        ({0: "car", "00": "bus"}, "expected names for the numbers 0 to 1"),
        ({}, "at least one name"),
        ([], "at least one name"),
        (["car", "car"], "each once"),
        (["car", " car"], "each once"),
        (["car", ""], "'' is not one"),
        (["car", "b\nus"], r"'b\\nus' is not one"),
        (["car", 1.5], "1.5 is not one"),
        (["car", None], "None is not one"),
        (["yes", True], "put the name in quotes"),
        ("car", r"a list of names, e\.g\. \[car, bus\]"),
        (3, "a list of names"),
    ],
)
def test_what_are_not_classes_is_refused(root: Path, classes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"Data set flat: classes: .*{message}"):
        registry.find(f"flat(root='{root}', classes={classes!r})")


def test_a_yaml_file_describes_it(root: Path) -> None:
    (root / "parts.yaml").write_text(
        "format: flat\nclasses:\n  0: car\n  1: no bus\nsplits: {train: a, test: b}\nheldout: 3\n"
    )
    data = registry.find(str(root / "parts.yaml"))
    assert data == Flat(
        root=root, name="parts", classes=["car", "no bus"], splits={"train": "a", "test": "b"}, heldout=3
    )
    assert len(names(data, "train")) == 9
    assert registry.find(data.text()) == data
