from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from synreal import data
from synreal.data.labels.boxes import Boxes
from synreal.data.rendered import scenes
from synreal.errors import ConfigError, DataError


def test_names_by_domain_and_task() -> None:
    assert {"digits", "mnist", "uci"} <= set(data.available())
    assert "digits" in data.available("source")
    assert "mnist" not in data.available("source")
    assert {"mnist", "uci"} <= set(data.available("target", "classes"))
    assert "digits" not in data.available("target")
    assert data.available() == sorted(data.available())
    for label in ("masks", "boxes"):
        assert {"digits", "mnist"} <= set(data.available(label=label))
        assert "uci" not in data.available(label=label)


@pytest.mark.parametrize("name", data.available())
def test_every_kind_says_what_it_is(name: str) -> None:
    kind = data.get(name)
    assert kind.kind == name
    assert kind.domains
    assert set(kind.domains) <= {"source", "target"}
    assert kind.label_kinds
    assert set(kind.label_kinds) <= {"classes", "masks", "boxes"}
    assert kind.summary.endswith(".")
    assert "\n" not in kind.summary
    assert kind.needs
    assert kind.__doc__
    for field in kind.model_fields:
        assert any(f"{field}:" in (parent.__doc__ or "") for parent in kind.__mro__), f"{name}: {field} is undocumented"


def test_a_data_set_is_frozen() -> None:
    entry = data.find("mnist")
    assert (entry.label, entry.parts, data.find("digits").parts) == ("mnist", ("test",), ("train", "heldout"))
    with pytest.raises(ValidationError, match="frozen"):
        entry.root = "elsewhere"


def _example(name: str, folder: Path) -> str:
    return f"{name}:{folder}" if "root" in data.get(name).model_fields else name


@pytest.mark.parametrize("name", data.available())
def test_a_text_reads_back_as_the_same_data_set(name: str, tmp_path: Path) -> None:
    entry = data.find(_example(name, tmp_path))
    assert data.find(entry.text()) == entry
    if isinstance(entry, data.FolderData):
        more = ", heldout=7" if "source" in entry.domains else ""
        full = data.find(f"{name}(root='{tmp_path}', name='mine', max_pixels=99{more})")
        assert data.find(full.text()) == full
        assert full.label == "mine"


@pytest.mark.parametrize("source", data.available("source"))
def test_default_targets_share_classes_and_task(source: str, tmp_path: Path) -> None:
    entry = data.find(_example(source, tmp_path))
    for label in entry.label_kinds:
        if not entry.default_targets(label):
            with pytest.raises(ConfigError, match="name the real data to test on"):
                data.default_targets(entry, label)
            continue
        for target in data.default_targets(entry, label):
            assert "target" in data.find(target).domains
            assert data.find(target).class_names(label) == entry.class_names(label)


def test_default_targets_of_digits() -> None:
    assert data.default_targets("digits") == ("mnist", "uci")
    assert data.default_targets("digits", "masks") == data.default_targets("digits", "boxes") == ("mnist",)
    with pytest.raises(ConfigError, match=r"'mnist' is real data: it is tested on, never trained on.*digits"):
        data.default_targets("mnist")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coco", r"'coco' needs its folder: write coco:/path/to/it"),
        ("coco:", r"'coco' needs its folder"),
        ("digits:/data", r"'digits' does not take a folder.*Write 'digits' alone"),
        ("coco(root='x', clases=['a'])", r"Unknown setting of data set coco 'clases'. Did you mean 'classes'"),
        ("coco(root='x', classes=['a', 'a'])", r"Data set coco: classes: expected at least one name, and each once"),
        ("coco(root='x', splits={'val': 'y'})", r"Unknown split 'val'.*heldout"),
        ("coco(root='x', heldout=0)", r"heldout: Input should be greater than or equal to 1"),
        ("cityscapes(root='x', heldout=3)", r"heldout: nothing is held out of real data"),
        ("coco(root='x', name='a/b')", r"name: expected letters, digits"),
        ("coco(root='x', name='source')", r"not 'source'"),
        ("coco('x')", r"Expected name\(key=value"),
        ("nothing.yaml", r"Cannot read the data set description .*nothing.yaml: No such file"),
    ],
)
def test_wrong_texts_say_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        data.find(text)


def test_a_bare_folder_needs_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=rf"{tmp_path}' is a path: write the kind of data before it.*coco, gta5"):
        data.find(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert data.find("digits").kind == "digits"


def _describe(folder: Path, text: str) -> Path:
    path = folder / "my parts.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_description_is_read_relative_to_its_file(tmp_path: Path) -> None:
    path = _describe(
        tmp_path,
        "format: coco\nroot: renders\nclasses: [bolt, nut, 3]\nsplits: {train: a.json, test: b.json}\n",
    )
    entry = data.find(str(path))
    assert (entry.kind, entry.label) == ("coco", "my-parts")
    assert entry.root == tmp_path / "renders"
    assert entry.class_names("boxes") == ("bolt", "nut", "3")
    assert data.find(entry.text()) == entry


def test_a_description_needs_no_folder_where_its_kind_needs_none(tmp_path: Path) -> None:
    assert data.find(str(_describe(tmp_path, "format: digits\n"))) == data.find("digits")
    assert data.find(str(_describe(tmp_path, "format: stamps\n"))) == data.find("stamps")
    assert data.find(str(_describe(tmp_path, "format: stamps\nroot: x\n"))).root == tmp_path / "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root: .\n", "must describe a data set with 'format: NAME'"),
        ("format: cocoo\n", "my parts.yaml: Unknown data set 'cocoo'. Did you mean 'coco'"),
        ("format: coco\nclases: [a]\n", "my parts.yaml: Unknown key of data set coco 'clases'"),
        ("- a\n", "must hold 'key: value' lines"),
        ("format: &x coco\nname: *x\n", "aliases"),
        ("format: digits\nroot: x\n", "my parts.yaml: Data set 'digits' does not take a folder"),
    ],
)
def test_a_wrong_description_names_the_file(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        data.find(str(_describe(tmp_path, text)))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'coco': .*gone does not exist, expected a folder"):
        data.load(f"coco:{tmp_path / 'gone'}", "test", label="boxes")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, expected a folder"):
        data.load(f"coco:{tmp_path / 'file'}", "test", label="boxes")


def test_some_images_are_held_out_by_name(tmp_path: Path) -> None:
    entry = data.find(f"coco:{tmp_path}")
    names = [f"{number}.png" for number in range(60)]
    train, heldout = entry.chosen(names, "train"), entry.chosen(names, "heldout")
    assert len(heldout) == 6  # a tenth
    assert sorted(train + heldout) == list(range(60))
    shuffled = names[::-1]
    assert {shuffled[index] for index in entry.chosen(shuffled, "heldout")} == {names[index] for index in heldout}
    many = [str(number) for number in range(9_000)]
    assert len(entry.chosen(many, "heldout")) == 500
    assert entry.chosen(names, "test") == list(range(60))
    with pytest.raises(DataError, match="60 images are to be held out of 60, which leaves none"):
        data.find(f"coco(root='{tmp_path}', heldout=60)").chosen(names, "train")


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [("digits", "heldout", 1_000), ("mnist", "test", 5_000), ("uci", "test", 1_797)],
)
def test_loads_what_it_describes(name: str, split: str, count: int, tmp_path: Path) -> None:
    images = data.load(name, split, cache=tmp_path)
    assert (images.name, images.split, len(images)) == (name, split, count)
    assert images.classes == data.find(name).class_names("classes")
    assert f"{count:,}" in data.get(name).summary


def test_segmentation_has_a_background_and_the_others_do_not() -> None:
    numerals = tuple("0123456789")
    for name in ("digits", "mnist"):
        assert data.find(name).class_names("masks") == ("background", *numerals)
        for label in ("classes", "boxes"):
            assert data.find(name).class_names(label) == numerals


@pytest.mark.parametrize("label", ["masks", "boxes"])
@pytest.mark.parametrize(("name", "split", "count"), [("digits", "heldout", 4), ("mnist", "test", 2)])
def test_loads_scenes_by_task(
    name: str, split: str, count: int, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{scenes.COUNTS['train']:,} and {scenes.COUNTS['heldout']}" in data.get("digits").summary
    assert f"{scenes.TARGET_COUNT}" in data.get("mnist").summary
    monkeypatch.setitem(scenes.COUNTS, "heldout", 4)
    monkeypatch.setattr(scenes, "TARGET_COUNT", 2)
    images = data.load(name, split, label=label, cache=tmp_path)
    assert (images.name, images.split, len(images)) == (name, split, count)
    assert images.classes == data.find(name).class_names(label)
    assert isinstance(images[0][1], torch.Tensor if label == "masks" else Boxes)


def test_scenes_of_another_seed_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scenes.COUNTS, "train", 2)
    one, two = (data.load("digits", "train", label="boxes", seed=seed, cache=tmp_path) for seed in (0, 1))
    assert one.fingerprint != two.fingerprint


def test_labels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'uci' has no boxes, only classes\. A target with boxes: .*mnist.*\.",
    ):
        data.load("uci", "test", label="boxes", cache=tmp_path)
    for call in (
        lambda label: data.load("digits", "train", label=label),
        lambda label: data.default_targets("digits", label),
    ):
        with pytest.raises(ConfigError, match=r"Unknown kind of label 'mask'. Did you mean 'masks'"):
            call("mask")


def test_seed_reaches_the_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed -5"):
        data.load("digits", "train", seed=-5, cache=tmp_path)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    for call in (data.find, data.get, data.default_targets, lambda name: data.load(name, "test")):
        with pytest.raises(ConfigError, match=r"Unknown data set 'mnits'. Did you mean 'mnist'\?"):
            call("mnits")
    with pytest.raises(ConfigError, match=r"Unknown domain 'real'.*source, target"):
        data.available("real")
    with pytest.raises(ConfigError, match=r"Unknown kind of label.*'juggling'.*classes"):
        data.available(label="juggling")


@pytest.mark.parametrize(
    ("name", "split", "known"),
    [("digits", "test", "train, heldout"), ("mnist", "train", "test"), ("uci", "", "test")],
)
def test_wrong_split_names_the_valid_ones(name: str, split: str, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*no split '{split}'\. Known: {known}\."):
        data.load(name, split)


def test_listing_imports_no_torch() -> None:
    code = "import sys; from synreal import data; data.find('digits'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
