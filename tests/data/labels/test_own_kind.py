"""A fourth kind of label, a float map, and a data set with it: one plugin file, from loading to the check."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synreal import data
from synreal.data.aligned import aligned
from synreal.data.class_names import align_names
from synreal.data.files.copies import Resized
from synreal.data.inspection.teaching import check_teaches
from synreal.data.labels import LABELS
from synreal.errors import ConfigError, DataError
from synreal.plugins import load_plugin

PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.tv_tensors import Mask

from synreal import data
from synreal.data.files.decoding import read_image
from synreal.data.files.file_sets import ImageFiles
from synreal.data.files.fingerprints import fingerprint_files
from synreal.data.files.paths import scan_images
from synreal.data.labels import LABELS, Counts, LabelKind
from synreal.errors import DataError


@LABELS.register
class Depth(LabelKind[torch.Tensor]):
    """A distance per pixel in metres: float32, (H, W); NaN where none was measured."""

    name: ClassVar[str] = "depth"
    summary: ClassVar[str] = "A distance per pixel."
    unit: ClassVar[str] = "pixels"

    def realign(self, label, table):
        return label

    def resize(self, label, before, after):
        return F.interpolate(label[None, None], after, mode="nearest-exact")[0, 0]

    def transform(self, label, geometry):
        return geometry(Mask(label)).as_subclass(torch.Tensor)

    def count(self, label, classes):
        measured = int(label.isfinite().sum())
        return Counts(np.array([measured] + [0] * (classes - 1)), label.numel() - measured)

    def problem(self, label, image_size, classes):
        if image_size is not None and label.shape != image_size:
            return f"expected a depth map of shape {image_size}, got {tuple(label.shape)}."
        return "there is a distance below 0." if (label < 0).any() else None

    def teaches(self, counts):
        return None if counts.labels.any() else "no pixel has a distance"


class DepthFiles(ImageFiles[torch.Tensor]):
    label_kind = Depth()

    def __getitem__(self, index):
        image = read_image(self.path(index), self.max_pixels)
        label = torch.from_numpy(np.load(self.label_path(index)))
        problem = self.label_kind.problem(label, tuple(image.shape[1:]), self.classes)
        if problem is not None:
            raise DataError(f"{self.label_path(index)}: {problem}")
        return image, label

    def label_path(self, index):
        return self.path(index).with_suffix(".npy")


@data.register
class Lidar(data.FolderData):
    """Images with a depth map beside each."""

    kind: ClassVar[str] = "lidar"
    domains: ClassVar[tuple[str, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("depth",)
    summary: ClassVar[str] = "Images with depth maps."
    needs: ClassVar[str] = "a folder of x.png with x.npy"

    def class_names(self, label):
        return ("distance",)

    def read(self, split, *, label, seed, cache, policy):
        files = scan_images(self.root)
        files = [files[index] for index in self.chosen(files, split)]
        maps = fingerprint_files(self.root, [file.replace(".png", ".npy") for file in files])
        return DepthFiles(
            self.label, split, self.root, files, self.class_names(label), labels=[maps.encode()],
            max_pixels=self.max_pixels,
        )
'''


@pytest.fixture
def plugin(tmp_path: Path, own_registry: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "depth.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty images of 20 x 30, each with a ramp in which one row was not measured."""
    folder = tmp_path / "lidar"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
        depth = np.linspace(1, 50 + number, 600, dtype=np.float32).reshape(20, 30)
        depth[3] = np.nan
        np.save(folder / f"{number:02}.npy", depth)
    return folder


def test_it_is_loaded_resized_realigned_and_fingerprinted(plugin, root, tmp_path):
    load_plugin(plugin)
    assert "depth" in LABELS.available()
    assert data.available(label="depth") == ["lidar"]
    images = data.load(f"lidar:{root}", "train", "depth")
    assert (images.label_kind.name, len(images), images.classes) == ("depth", 18, ("distance",))
    image, depth = images[0]
    assert (image.shape, depth.shape, depth.dtype) == ((3, 20, 30), (20, 30), torch.float32)

    small = Resized(images, 10, tmp_path / "cache")
    for _ in range(2):  # made, then read from the cache
        image, reduced = small[0]
        assert (image.shape, reduced.shape, reduced.dtype) == ((3, 10, 15), (10, 15), torch.float32)
        assert torch.equal(reduced.nan_to_num(), depth[1::2, 1::2].nan_to_num())

    moved = aligned(images, ("colour", "distance"), align_names(("colour", "distance"), images.classes))
    assert moved.classes == ("colour", "distance")
    assert len(moved) == len(images)
    assert torch.equal(moved[0][1].nan_to_num(), depth.nan_to_num())

    assert data.load(f"lidar:{root}", "train", "depth").fingerprint == images.fingerprint
    assert len({images.fingerprint, small.fingerprint, moved.fingerprint, images.subset([0]).fingerprint}) == 4
    assert pickle.loads(pickle.dumps(moved))[1][1].shape == (20, 30)
    with images.label_path(0).open("ab") as file:
        file.write(b"more")
    assert data.load(f"lidar:{root}", "train", "depth").fingerprint != images.fingerprint


def test_it_is_checked_from_the_command_line(plugin, root, call):
    arguments = ("data", "check", f"lidar:{root}", "--plugin", plugin, "--as", "source")
    code, out, err = call(*arguments, "--json")
    report = json.loads(out)
    assert (code, err, report["label"]) == (0, "", "depth")
    train = report["parts"][0]
    assert (train["unit"], train["ignored"], train["images"], train["findings"]) == ("pixels", 18 * 30, 18, [])
    assert train["classes"] == [{"name": "distance", "images": 18, "labels": 18 * 19 * 30}]

    images = data.load(f"lidar:{root}", "train", "depth")
    np.save(images.label_path(0), np.zeros((5, 5), np.float32))
    images.path(1).write_bytes(images.path(1).read_bytes()[:200])
    code, out, _ = call(*arguments)
    assert code == 1
    assert "bad label: stops training" in out
    assert f"{images.label_path(0)}: expected a depth map of shape (20, 30), got (5, 5)." in " ".join(out.split())
    code, out, _ = call(*arguments, "--task", "depth", "--on-bad-image", "skip")
    assert code == 0
    assert "Training can start. Images left out: 2." in out
    with pytest.warns(UserWarning, match=r"1 images left out \(bad label\), 1 images left out \(truncated\)"):
        images = data.load(f"lidar:{root}", "train", "depth", policy=data.Policy("skip"))
    assert len(images) == 16
    for index in range(16):
        images[index]


def test_a_part_that_teaches_nothing_is_told(plugin, root, call):
    for path in root.glob("*.npy"):
        np.save(path, np.full((20, 30), np.nan, np.float32))
    code, out, _ = call("data", "check", f"lidar:{root}", "--plugin", plugin, "--as", "source")
    assert code == 1
    assert "lidar (train) can teach nothing: no pixel has a distance." in out
    with pytest.raises(DataError, match=r"lidar \(train\) can teach nothing: no pixel has a distance"):
        check_teaches(data.load(f"lidar:{root}", "train", "depth"), cache=root / "cache")


def test_it_is_listed(plugin, call):
    rows = json.loads(call("data", "list", "--plugin", plugin, "--json")[1])
    (row,) = [row for row in rows if row["name"] == "lidar"]
    assert (row["labels"], row["classes"]) == (["depth"], {"depth": ["distance"]})
    assert call("data", "list", "--plugin", plugin)[1].count("lidar") == 1


def test_others_have_no_such_labels(plugin, root, call, tmp_path):
    load_plugin(plugin)
    with pytest.raises(ConfigError, match=r"'uci' has no depth, only classes\. A target with depth: lidar\."):
        data.load("uci", "test", "depth")
    with pytest.raises(ConfigError, match=r"'lidar' has no masks, only depth\."):
        data.load(f"lidar:{root}", "train", "masks")
    code, _, err = call("data", "show", f"lidar:{root}", "--plugin", plugin, "-o", tmp_path / "x.png")
    assert code == 2
    assert "has no classes, only depth" in " ".join(err.split())


def test_a_kind_that_gives_other_labels_than_it_was_asked_for_is_told(plugin, root, tmp_path):
    plugin.write_text(PLUGIN.replace('label_kinds: ClassVar[tuple[str, ...]] = ("depth",)', 'label_kinds = ("masks",)'))
    load_plugin(plugin)
    with pytest.raises(ConfigError, match="'lidar' gave depth where masks were asked for"):
        data.load(f"lidar:{root}", "train", "masks")


def test_taken_names_are_refused(plugin):
    plugin.write_text(PLUGIN.replace('name: ClassVar[str] = "depth"', 'name: ClassVar[str] = "masks"'))
    with pytest.raises(ConfigError, match=r"Kind of label name 'masks' is taken by synreal\.data\.labels\.masks"):
        load_plugin(plugin)
    plugin.write_text(PLUGIN.replace('kind: ClassVar[str] = "lidar"', 'kind: ClassVar[str] = "coco"'))
    with pytest.raises(ConfigError, match=r"Data set name 'coco' is taken by synreal\.data\.kinds\.coco\.Coco"):
        load_plugin(plugin)
    assert "depth" not in LABELS.available(), "half a plugin is none"


def test_a_data_set_without_kinds_of_label_is_refused(plugin):
    plugin.write_text(PLUGIN.replace("    label_kinds: ClassVar", "    kinds: ClassVar"))
    with pytest.raises(ConfigError, match=r"Lidar in .*depth\.py lacks label_kinds: each is a tuple of names"):
        load_plugin(plugin)


def test_its_module_is_known_to_pickle(plugin, root):
    module = load_plugin(plugin)
    assert sys.modules[module.__name__].Depth is LABELS.get("depth")
    with pytest.raises(DataError, match="holds no image"):
        module.DepthFiles("x", "train", root, [], ("distance",), labels=[])
