import json

import pytest
import torch
from PIL import Image

from synreal import data, figures
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks, Boxes


@pytest.fixture
def loaded(monkeypatch):
    """Three small images for each set; gives what was asked for."""
    asked = []

    def load(entry, split, *, task="classification", seed=0, cache=None):
        name = entry.label
        asked.append((name, split, task, seed))
        classes = entry.class_names(task)
        images = torch.full((3, 3, 16, 16), 100 + seed, dtype=torch.uint8)
        if task == "classification":
            return ArrayImages(name, split, images, torch.arange(3), classes)
        if task == "segmentation":
            return ArrayMasks(name, split, images, torch.ones(3, 16, 16, dtype=torch.uint8), classes)
        box = Boxes(torch.tensor([[2.0, 3.0, 12.0, 14.0]]), torch.tensor([1]), torch.tensor([False]), torch.ones(1))
        return ArrayBoxes(name, split, images, [box] * 3, classes)

    monkeypatch.setattr(data, "load", load)
    return asked


@pytest.fixture
def drawn(monkeypatch):
    """Names of the functions that drew."""
    names = []
    for name in ("contact_sheet", "mask_sheet", "box_sheet"):
        sheet = getattr(figures, name)

        def draw(*args, name=name, sheet=sheet):
            names.append(name)
            return sheet(*args)

        monkeypatch.setattr(figures, name, draw)
    return names


@pytest.mark.parametrize(
    ("arguments", "task", "function", "file"),
    [
        ([], "classification", "contact_sheet", "digits.png"),
        (["--task", "cls"], "classification", "contact_sheet", "digits.png"),
        (["--task", "seg"], "segmentation", "mask_sheet", "digits-seg.png"),
        (["-t", "segmentation"], "segmentation", "mask_sheet", "digits-seg.png"),
        (["--task", "det"], "detection", "box_sheet", "digits-det.png"),
    ],
)
def test_source_and_targets_are_drawn_with_the_labels_of_the_task(
    arguments, task, function, file, call, loaded, drawn, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("data", "show", "digits", *arguments, "--seed", 5)
    assert code == 0, err
    assert out.strip() == f"Wrote {file}"
    assert drawn == [function]
    targets = data.default_targets("digits", task)
    assert loaded == [("digits", "train", task, 5), *((name, "test", task, 0) for name in targets)]
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
        (["digits", "--target", "uci", "--task", "seg"], "'uci' has no labels for segmentation"),
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
        assert (row["domains"], row["tasks"]) == (list(kind.domains), list(kind.tasks))
        assert (row["summary"], row["needs"]) == (kind.summary, kind.needs)
        assert set(row["classes"]) == set(kind.tasks)
    assert rows["digits"]["classes"]["detection"] == list("0123456789")
    assert rows["gta5"]["classes"]["segmentation"][:2] == ["road", "sidewalk"]
    assert rows["coco"]["classes"] == {"segmentation": None, "detection": None}
    assert "root" in rows["gta5"]["settings"]
    lines = call("data", "list")[1].splitlines()
    assert [line.split()[:3] for line in lines] == [
        [name, "/".join(data.get(name).domains), "/".join(data.get(name).tasks)] for name in data.available()
    ]
