import json

import pytest
import torch
from PIL import Image

from synreal import data
from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.figures import FIGURES


@pytest.fixture
def loaded(monkeypatch):
    """Three small images for each set; gives what was asked for."""
    asked = []

    def load(entry, split, label="classes", *, seed=0, cache=None):
        name = entry.label
        asked.append((name, split, label, seed))
        classes = entry.class_names(label)
        images = torch.full((3, 3, 16, 16), 100 + seed, dtype=torch.uint8)
        if label == "classes":
            return ArrayImages(name, split, images, torch.arange(3), classes)
        if label == "masks":
            return ArrayMasks(name, split, images, torch.ones(3, 16, 16, dtype=torch.uint8), classes)
        box = Boxes(torch.tensor([[2.0, 3.0, 12.0, 14.0]]), torch.tensor([1]), torch.tensor([False]), torch.ones(1))
        return ArrayBoxes(name, split, images, [box] * 3, classes)

    monkeypatch.setattr(data, "load", load)
    return asked


@pytest.fixture
def drawn(monkeypatch):
    """Names of the sheets that drew."""
    names = []
    for name, sheet in FIGURES.classes().items():

        def draw(*args, name=name, draw=sheet.draw):
            names.append(name)
            return draw(*args)

        monkeypatch.setattr(sheet, "draw", draw)
    return names


@pytest.mark.parametrize(
    ("arguments", "label", "function", "file"),
    [
        ([], "classes", "class_sheet", "digits.png"),
        (["--task", "cls"], "classes", "class_sheet", "digits.png"),
        (["--task", "seg"], "masks", "mask_sheet", "digits-seg.png"),
        (["-t", "segmentation"], "masks", "mask_sheet", "digits-seg.png"),
        (["--task", "det"], "boxes", "box_sheet", "digits-det.png"),
    ],
)
def test_source_and_targets_are_drawn_with_the_labels_of_the_task(
    arguments, label, function, file, call, loaded, drawn, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("data", "show", "digits", *arguments, "--seed", 5)
    assert code == 0, err
    assert out.strip() == f"Wrote {file}"
    assert drawn == [function]
    targets = data.default_targets("digits", label)
    assert loaded == [("digits", "train", label, 5), *((name, "test", label, 0) for name in targets)]
    with Image.open(tmp_path / file) as image:
        assert image.format == "PNG"


def test_only_targets_with_labels_for_the_task_are_shown(call, loaded, tmp_path):
    for task, targets in (("cls", {"mnist", "uci"}), ("seg", {"mnist"}), ("det", {"mnist"})):
        loaded.clear()
        assert call("data", "show", "digits", "-t", task, "-o", tmp_path / "x.png")[0] == 0
        assert {name for name, split, *_ in loaded if split == "test"} == targets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--task", "segm"], "Did you mean 'seg"),
        (["digits", "--task", "det", "-o", "x.jpg"], "is a PNG; got --output x.jpg"),
        (["digits", "--target", "uci", "--task", "seg"], "'uci' has no masks, only classes"),
        (["digits", "--target", "digits"], "'digits' is synthetic"),
        (["mnist", "--task", "seg"], "'mnist' is real data: it is tested on, never trained on"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_is_loaded(
    arguments, message, call, loaded, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = call("data", "show", *arguments)
    assert code == 2
    assert message in " ".join(err.split())
    assert not loaded
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["seg", "det"])
def test_sheets_of_scenes_that_cannot_be_written(task, call, loaded, tmp_path):
    (tmp_path / "file").write_text("precious")
    code, _, err = call("data", "show", "digits", "--task", task, "-o", tmp_path / "file" / "x.png")
    assert code == 2
    assert "Cannot write" in err
    assert (tmp_path / "file").read_text() == "precious"


def test_help_names_the_files(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    code, out, _ = call("data", "show", "--help")
    assert code == 0
    for text in ("SOURCE.png", "SOURCE-seg.png", "SOURCE-det.png", "cls, seg or det"):
        assert text in out


def test_targets_can_be_chosen_and_a_label_names_the_file(call, loaded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("data", "show", "digits()", "--target", "uci")
    assert code == 0, err
    assert out.strip() == "Wrote digits.png"
    assert [name for name, *_ in loaded] == ["digits", "uci"]


def test_the_list_names_what_each_kind_serves_for_and_its_classes(call):
    rows = {row["name"]: row for row in json.loads(call("data", "list", "--json")[1])}
    assert set(rows) == set(data.available())
    for name, row in rows.items():
        kind = data.get(name)
        assert (row["domains"], row["labels"]) == (list(kind.domains), list(kind.label_kinds))
        assert (row["summary"], row["needs"]) == (kind.summary, kind.needs)
        assert set(row["classes"]) == set(kind.label_kinds)
    assert rows["digits"]["classes"]["boxes"] == list("0123456789")
    assert rows["gta5"]["classes"]["masks"][:2] == ["road", "sidewalk"]
    assert rows["coco"]["classes"] == {"masks": None, "boxes": None}
    assert "root" in rows["gta5"]["settings"]
    lines = call("data", "list")[1].splitlines()
    assert [line.split()[:3] for line in lines] == [
        [name, "/".join(data.get(name).domains), "/".join(data.get(name).label_kinds)] for name in data.available()
    ]
