"""What every kind of data set that lies in files keeps to, from the registry: a new one brings a tree of its own."""

import json
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from synreal_cli.app import main

from synreal import data
from synreal.data import Policy
from synreal.data.rendered import numerals, scenes, stamp_images
from synreal.errors import DataError
from tests.data import own_trees, simple_trees, stamp_trees, trees, urban_trees

TREES = {
    "visda17": trees.visda17_tree,
    "sim10k": trees.sim10k_tree,
    "voc": trees.voc_tree,
    "kitti": trees.kitti_tree,
    "gta5": urban_trees.gta5_tree,
    "cityscapes": urban_trees.cityscapes_tree,
    "coco": own_trees.coco_tree,
    "masks": own_trees.masks_tree,
    "solo": own_trees.solo_tree,
    "perception": own_trees.perception_tree,
    "imagefolder": simple_trees.imagefolder_tree,
    "pacs": simple_trees.pacs_tree,
    "list": simple_trees.list_tree,
    "yolo": simple_trees.yolo_tree,
}
MORE = {
    "masks": {"classes": ("background", *own_trees.CLASSES)},
    "list": {"file": "labels.txt"},
    "pacs": {"domain": "photo"},
}
KINDS = [name for name, kind in data.DATA.classes().items() if issubclass(kind, data.FolderData)]
EMBEDDED = [
    (name, label) for name, kind in data.DATA.classes().items() if name not in KINDS for label in kind.label_kinds
]
CASES = [(name, label) for name in KINDS for label in data.get(name).label_kinds]

# A label file of one image, that is no image itself, by kind; of the others a fault ends all, or is that of a mask.
TEXTS = {
    "kitti": "label_2/*.txt",
    "voc": "Annotations/*.xml",
    "sim10k": "Annotations/*.xml",
    "yolo": "labels/train/*.txt",
    "solo": "sequence.*/step*.json",
}
OTHERS = {"visda17", "gta5", "cityscapes", "coco", "masks", "perception", "imagefolder", "pacs", "list"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of a few images instead of thousands


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))


def made(name, root):
    TREES[name](root / name)
    return data.get(name)(root=root / name, **MORE.get(name, {}))


def test_every_kind_has_a_tree():
    assert set(TREES) == set(KINDS)


@pytest.mark.parametrize(("name", "label"), CASES)
def test_every_part_gives_labels_of_the_kind_asked_for(name, label, tmp_path):
    entry = made(name, tmp_path)
    for part in entry.parts:
        images = data.load(entry, part, label)
        assert images.label_kind.name == label
        # Results say which of its own splits a benchmark was tested on.
        assert (images.name, images.split) == (entry.label, getattr(entry, "split", part) if part == "test" else part)
        assert entry.class_names(label) in (None, images.classes)
        assert len(images) > 0
        for index in range(len(images)):
            image, item = images[index]
            height, width = images.size(index)
            assert (image.dtype, image.shape) == (torch.uint8, (3, height, width))
            assert images.label_kind.problem(item, (height, width), images.classes) is None
            assert images.labels is None or item == images.labels[index]
        with pytest.raises(IndexError):
            images[len(images)]


@pytest.mark.parametrize(("name", "label"), [case for case in CASES if "source" in data.get(case[0]).domains])
def test_what_is_held_out_is_not_trained_on(name, label, tmp_path):
    entry = made(name, tmp_path)
    train, heldout = (data.load(entry, part, label=label) for part in ("train", "heldout"))
    paths = [{images.path(index) for index in range(len(images))} for images in (train, heldout)]
    assert not paths[0] & paths[1]
    assert all(len(found) == len(images) for found, images in zip(paths, (train, heldout), strict=True))


@pytest.mark.parametrize(("name", "label"), CASES)
def test_sets_reach_workers_and_parts_of_them_are_other_sets(name, label, tmp_path):
    entry = made(name, tmp_path)
    images = data.load(entry, entry.parts[0], label=label)
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again[1][0], images[1][0])
    some = images.subset([1])
    assert len(some) == 1
    assert torch.equal(some[0][0], images[1][0])
    assert some.fingerprint != images.fingerprint
    assert data.load(entry, entry.parts[0], label=label).fingerprint == images.fingerprint
    with images.path(0).open("ab") as file:
        file.write(b"x")
    assert data.load(entry, entry.parts[0], label=label).fingerprint != images.fingerprint


@pytest.mark.parametrize(("name", "label"), CASES)
def test_files_whose_contents_alone_changed_are_other_data(name, label, tmp_path):
    entry = made(name, tmp_path)
    images = data.load(entry, entry.parts[0], label=label)
    files = [file for file in (images.path(0), images.label_path(0)) if file is not None]
    seen = {images.fingerprint}
    for file in files:
        before, raw = file.stat(), file.read_bytes()
        file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        seen.add(data.load(entry, entry.parts[0], label=label).fingerprint)
    assert len(seen) == 1 + len(files)


@pytest.mark.parametrize(("name", "label"), CASES)
def test_a_truncated_image_is_named_skipped_and_found_by_the_check(name, label, tmp_path, capsys):
    entry = made(name, tmp_path)
    part = entry.parts[0]
    path = data.load(entry, part, label=label).path(1)

    def check(*more):
        with pytest.raises(SystemExit) as stop:
            main(["data", "check", entry.text(), "--task", label, "--json", *more])
        out = json.loads(capsys.readouterr().out)
        return stop.value.code, {finding["file"] for one in out["parts"] for finding in one["findings"]}

    code, files = check()
    assert code == 0
    assert not any(path.name in file for file in files)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    images = data.load(entry, part, label=label)
    with pytest.raises(DataError, match=path.name):
        images[1]
    code, files = check()
    assert code == 1
    assert any(path.name in file for file in files)
    assert check("--on-bad-image", "skip")[0] == 0
    left = data.load(entry, part, label=label, policy=Policy(bad_image="skip"))
    assert len(left) == len(images) - 1
    assert sum(left.dropped.values()) - sum(images.dropped.values()) == 1


@pytest.mark.parametrize(("name", "label"), CASES)
def test_an_image_whose_header_cannot_be_read_stops_or_is_skipped(name, label, tmp_path):
    entry = made(name, tmp_path)
    part = entry.parts[0]
    images = data.load(entry, part, label)
    path = images.path(1)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=path.name):
        data.load(entry, part, label)[1]
    left = data.load(entry, part, label, policy=Policy(bad_image="skip"))
    assert len(left) == len(images) - 1
    assert path not in {left.path(index) for index in range(len(left))}
    assert sum(left.dropped.values()) - sum(images.dropped.values()) == 1
    for index in range(len(left)):
        left[index]


@pytest.mark.parametrize(("name", "label"), [(name, label) for name, label in CASES if name not in OTHERS])
def test_a_damaged_label_file_stops_or_is_skipped(name, label, tmp_path):
    entry = made(name, tmp_path)
    part = entry.parts[0]
    images = data.load(entry, part, label)
    path = min(entry.root.rglob(TEXTS[name]))
    path.write_bytes(b"{<1 2 three\xff")
    with pytest.raises(DataError, match=rf"{path.name}.* on_bad_image: skip leaves such files out"):
        data.load(entry, part, label)
    left = data.load(entry, part, label, policy=Policy(bad_image="skip"))
    assert len(left) == len(images) - 1
    assert left.classes == images.classes
    assert left.dropped["label files that cannot be read left out"] == 1


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_label_files_alone_are_refused_even_where_they_are_skipped(name, tmp_path):
    entry = made(name, tmp_path)
    for path in entry.root.rglob(TEXTS[name]):
        path.write_bytes(b"{<1 2 three\xff")
    with pytest.raises(DataError, match=r"None of \d+ label files can be read, e\.g\. "):
        data.load(entry, entry.parts[0], "boxes", policy=Policy(bad_image="skip"))


@pytest.mark.parametrize(("name", "label"), EMBEDDED)
def test_nothing_is_left_out_of_data_that_are_made_here(name, label, tmp_path, monkeypatch):
    """They are checked while they are made: to skip what is bad, as a script over all data sets asks, skips nothing."""
    for module, counts in ((numerals, "COUNTS"), (scenes, "COUNTS"), (stamp_images, "COUNTS")):
        monkeypatch.setattr(module, counts, {"train": 10, "heldout": 10})
    monkeypatch.setattr(stamp_images, "SCENE_COUNTS", {"train": 4, "heldout": 4, "test": 4})
    monkeypatch.setattr(scenes, "TARGET_COUNT", 4)
    monkeypatch.setattr(stamp_images, "VIEWS", 1)
    root = {"root": stamp_trees.stamp_tree(tmp_path / "stamps")} if name == "stamps" else {}
    entry = data.get(name)(**root)
    for part in entry.parts:
        images = data.load(entry, part, label)
        left = data.load(entry, part, label, policy=Policy("skip", "skip"))
        assert (len(left), left.fingerprint, left.dropped) == (len(images), images.fingerprint, {})
        assert images.label_kind.name == label


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_folder_is_told_from_a_wrong_one(name, tmp_path):
    entry = data.get(name)(root=tmp_path, **MORE.get(name, {}))
    for part in entry.parts:
        with pytest.raises(DataError, match=str(tmp_path)) as caught:
            data.load(entry, part, label=entry.label_kinds[0])
        assert len(str(caught.value)) < 700


@pytest.mark.parametrize(("name", "label"), CASES)
def test_a_small_limit_of_pixels_refuses_every_image(name, label, tmp_path):
    entry = made(name, tmp_path).model_copy(update={"max_pixels": 20})
    with pytest.raises(DataError, match=r"more than the 20 that are read|20 at most"):
        data.load(entry, entry.parts[0], label=label)[0]


def test_no_kind_imports_torch_before_it_is_read():
    code = "import sys; from synreal import data; data.available(); print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_warnings_are_said_once_a_part(tmp_path):
    entry = made("visda17", tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data.load(entry, "train")
    assert len(told) == 1


@pytest.mark.parametrize("name", ["list", "coco", "visda17", "voc", "sim10k", "solo", "perception"])
def test_a_listed_image_that_is_missing_stops_or_is_skipped_and_the_check_says_so(name, tmp_path, capsys):
    entry = made(name, tmp_path)
    label = entry.label_kinds[-1]
    part, domain = ("test", "target") if "target" in entry.domains else ("train", "source")
    images = data.load(entry, part, label=label)
    path = images.path(1)
    path.unlink()
    with pytest.raises(DataError, match=path.stem):
        data.load(entry, part, label=label)
    left = data.load(entry, part, label=label, policy=Policy(bad_image="skip"))
    assert len(left) == len(images) - 1
    assert left.dropped["missing images left out"] == 1
    for policy, expected in (("error", (1, {"stops"})), ("skip", (0, {"skipped"}))):
        with pytest.raises(SystemExit) as stop:
            main(["data", "check", entry.text(), "--as", domain, "--task", label, "--json", "--on-bad-image", policy])
        parts = json.loads(capsys.readouterr().out)["parts"]
        findings = [finding for one in parts for finding in one["findings"]]
        effects = {finding["effect"] for finding in findings if path.stem in finding["message"]}
        assert (stop.value.code, effects) == expected
