"""Every reader, and a file that it can read: each gives the file, and a function that reads what stands in it."""

import hashlib
import importlib
import json
import os
import socket
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image
from pycocotools.mask import encode
from safetensors.torch import save

from synreal import data, locking
from synreal.bench import read_grid
from synreal.bench.cells import cells_of
from synreal.bench.ledger import Ledger
from synreal.bench.watch import Lengths, Watch
from synreal.config import RunConfig, make_config, read_yaml
from synreal.data.files.cache import cached
from synreal.data.files.decoding import read_image
from synreal.data.files.map_texts import read_pairs
from synreal.data.inspection.store import Kept, Store
from synreal.data.rendered import stamp_files
from synreal.engine import checkpoint, hashes, run_folder
from synreal.engine.environment import Environment
from synreal.locking import Holder, Lock
from synreal.rates import RatePolicy
from synreal.records import leaderboard, read_record
from synreal.terminal import printable
from synreal.weights import Student
from synreal.weights.mapping import read_state
from synreal.weights.origin import RANDOM
from tests.data import own_trees, simple_trees, stamp_trees, trees, urban_trees
from tests.engine.test_checkpoint import snapshot
from tests.records.made import made

SIZE = (24, 16)
testing_again = importlib.import_module("synreal.engine.trained")


class Subject(NamedTuple):
    """A file that is damaged, and what reads it; ``as_json`` says that it can also be given another shape."""

    path: Path
    read: Callable[[], object]
    as_json: bool = False


READERS: dict[str, Callable[[Path], Subject]] = {}


def reader(make):
    READERS[make.__name__] = make
    return make


def items(entry, label, part="test"):
    """Read a part and all that is in it, tolerantly and not."""
    found = data.load(entry, part, label=label)
    for index in range(len(found)):
        found[index]


# --- configurations and grids ---


@reader
def configuration(folder):
    path = folder / "run.yaml"
    path.write_text(RunConfig(task="cls", regularizers=["csg", "weight_l2(weight=0.1)"]).to_yaml())
    return Subject(path, lambda: make_config(read_yaml(path)).to_yaml())


@reader
def configuration_by_hand(folder):
    path = folder / "run.yaml"
    settings = {"task": "seg", "lr": 0.1, "data": {"source": "digits"}, "regularizers": ["csg", {"name": "kl"}]}
    path.write_text(json.dumps(settings))
    return Subject(path, lambda: make_config(read_yaml(path)).to_yaml(), as_json=True)


@reader
def grid(folder):
    path = folder / "grid.yaml"
    values = {"pairs": ["a.yaml"], "regularizers": ["none", "csg"], "seeds": [0, 1], "axes": {"training.lr": [0.1]}}
    path.write_text(json.dumps(values | {"settings": {"epochs": 2}, "weights": [1, 3], "records": "r.json"}))
    return Subject(path, lambda: read_grid(path), as_json=True)


@reader
def description(folder):
    path = folder / "parts.yaml"
    values = {"format": "coco", "root": "data", "classes": ["x"], "ignore": ["nut"], "splits": {"train": "a.json"}}
    path.write_text(json.dumps(values | {"label_map": {"x": ["bolt"]}, "heldout": 3, "images": "images"}))
    return Subject(path, lambda: data.find(str(path)), as_json=True)


@reader
def source_text(folder):
    path = folder / "text"
    path.write_text("yolo(root='/data/x', classes=['a', 'b'], splits={'train': 'a', 'test': 'b'}, heldout=2)")
    return Subject(path, lambda: data.find(path.read_bytes().decode("utf-8", "surrogateescape")))


# --- data ---


@reader
def coco_boxes(folder):
    own_trees.coco_tree(folder / "coco", 3, SIZE)
    return Subject(folder / "coco/annotations.json", lambda: items(f"coco:{folder / 'coco'}", "boxes"), as_json=True)


@reader
def coco_masks(folder):
    own_trees.coco_tree(folder / "coco", 3, SIZE)
    return Subject(folder / "coco/annotations.json", lambda: items(f"coco:{folder / 'coco'}", "masks"), as_json=True)


@reader
def yolo_labels(folder):
    simple_trees.yolo_tree(folder / "yolo", 4, SIZE)
    path = sorted((folder / "yolo/labels").rglob("*.txt"))[0]
    return Subject(path, lambda: items(f"yolo:{folder / 'yolo'}", "boxes", "train"))


@reader
def yolo_description(folder):
    simple_trees.yolo_tree(folder / "yolo", 4, SIZE)
    path = folder / "yolo/data.yaml"
    values = {"path": ".", "train": "images/train", "val": ["images/val"], "names": {0: "a", 1: "b", 2: "c"}, "nc": 3}
    path.write_text(json.dumps(values))
    return Subject(path, lambda: items(f"yolo:{folder / 'yolo'}", "boxes"), as_json=True)


@reader
def voc(folder):
    trees.voc_tree(folder / "voc", 2)
    path = sorted((folder / "voc").rglob("*.xml"))[0]
    return Subject(path, lambda: items(f"voc:{folder / 'voc'}", "boxes"))


@reader
def kitti(folder):
    trees.kitti_tree(folder / "kitti", 2)
    path = sorted((folder / "kitti").rglob("*.txt"))[0]
    return Subject(path, lambda: items(f"kitti:{folder / 'kitti'}", "boxes"))


@reader
def solo_boxes(folder):
    own_trees.solo_tree(folder / "solo", 2, SIZE)
    path = folder / "solo/sequence.0/step0.frame_data.json"
    return Subject(path, lambda: items(f"solo:{folder / 'solo'}", "boxes"), as_json=True)


@reader
def solo_masks(folder):
    own_trees.solo_tree(folder / "solo", 2, SIZE)
    path = folder / "solo/sequence.0/step0.frame_data.json"
    return Subject(path, lambda: items(f"solo:{folder / 'solo'}", "masks"), as_json=True)


@reader
def solo_definitions(folder):
    own_trees.solo_tree(folder / "solo", 2, SIZE)
    path = folder / "solo/annotation_definitions.json"
    return Subject(path, lambda: items(f"solo:{folder / 'solo'}", "boxes"), as_json=True)


@reader
def perception_boxes(folder):
    own_trees.perception_tree(folder / "perception", 2, SIZE)
    path = folder / "perception/Dataset0/captures_000.json"
    return Subject(path, lambda: items(f"perception:{folder / 'perception'}", "boxes"), as_json=True)


@reader
def perception_definitions(folder):
    own_trees.perception_tree(folder / "perception", 2, SIZE)
    path = folder / "perception/Dataset0/annotation_definitions.json"
    return Subject(path, lambda: items(f"perception:{folder / 'perception'}", "masks"), as_json=True)


@reader
def cityscapes_polygons(folder):
    from synreal.data.files.urban_labels import _read_polygons

    path = folder / "x_polygons.json"
    path.write_text(json.dumps(urban_trees.polygons(urban_trees.street(0, (64, 32)), (64, 32))))
    return Subject(path, lambda: _read_polygons(path, 1 << 20), as_json=True)


@reader
def coco_run_lengths(folder):
    own_trees.coco_tree(folder / "coco", 3, SIZE)
    path = folder / "coco/annotations.json"
    content = json.loads(path.read_text())
    packed = encode(np.asfortranarray(np.eye(SIZE[1], SIZE[0], dtype=np.uint8)))["counts"].decode()
    for each in content["annotations"]:
        each["segmentation"] = {"size": [SIZE[1], SIZE[0]], "counts": packed}
    path.write_text(json.dumps(content))
    return Subject(path, lambda: items(f"coco:{folder / 'coco'}", "masks"), as_json=True)


@reader
def cityscapes_ids(folder):
    urban_trees.cityscapes_tree(folder / "cityscapes", 1, SIZE)
    (path,) = (folder / "cityscapes").rglob("*_labelIds.png")
    return Subject(path, lambda: items(f"cityscapes:{folder / 'cityscapes'}", "masks"))


@reader
def cityscapes_instances(folder):
    urban_trees.cityscapes_tree(folder / "cityscapes", 1, SIZE)
    (path,) = (folder / "cityscapes").rglob("*_instanceIds.png")
    return Subject(path, lambda: items(f"cityscapes:{folder / 'cityscapes'}", "boxes"))


@reader
def gta5_list(folder):
    urban_trees.gta5_tree(folder / "gta5", 2, SIZE, listed="some.txt")
    text = f"gta5(root='{folder / 'gta5'}', frames='some.txt')"
    return Subject(folder / "gta5/some.txt", lambda: items(text, "masks", "train"))


@reader
def gta5_split(folder):
    urban_trees.gta5_tree(folder / "gta5", 3, SIZE, split={"trainIds": [1, 2], "valIds": [3]})
    text = f"gta5(root='{folder / 'gta5'}', frames='official')"
    return Subject(folder / "gta5/split.mat", lambda: items(text, "masks", "train"))


@reader
def gta5_labels(folder):
    urban_trees.gta5_tree(folder / "gta5", 2, SIZE, listed="some.txt")
    text = f"gta5(root='{folder / 'gta5'}', frames='some.txt')"
    return Subject(data.load(text, "train", label="masks").label_path(0), lambda: items(text, "masks", "train"))


@reader
def sim10k_annotation(folder):
    trees.sim10k_tree(folder / "sim10k", 2, size=SIZE)
    path = sorted((folder / "sim10k").rglob("*.xml"))[0]
    return Subject(path, lambda: items(f"sim10k:{folder / 'sim10k'}", "boxes", "train"))


@reader
def sim10k_list(folder):
    trees.sim10k_tree(folder / "sim10k", 2, size=SIZE)
    path = folder / "sim10k/VOC2012/ImageSets/Main/trainval10k.txt"
    return Subject(path, lambda: items(f"sim10k:{folder / 'sim10k'}", "boxes", "train"))


@reader
def visda17_list(folder):
    trees.visda17_tree(folder / "visda17", 1, size=SIZE)
    return Subject(
        folder / "visda17/validation/image_list.txt", lambda: items(f"visda17:{folder / 'visda17'}", "classes")
    )


@reader
def voc_list(folder):
    trees.voc_tree(folder / "voc", 2, lists={"val": [0, 1]})
    path = folder / "voc/ImageSets/Main/val.txt"
    text = f"voc(root='{folder / 'voc'}', splits={{'test': 'val'}})"
    return Subject(path, lambda: items(text, "boxes"))


@reader
def kitti_list(folder):
    trees.kitti_tree(folder / "kitti", 2)
    path = folder / "kitti/some.txt"
    path.write_text("0\n1\n")
    text = f"kitti(root='{folder / 'kitti'}', splits={{'test': 'some.txt'}})"
    return Subject(path, lambda: items(text, "boxes"))


@reader
def yolo_list(folder):
    simple_trees.yolo_tree(folder / "yolo", 4, SIZE)
    path = folder / "yolo/some.txt"
    path.write_text("images/train/0000.png\n./images/train/0001.png\n")
    (folder / "yolo/data.yaml").write_text(json.dumps({"train": "some.txt", "val": "images/val", "names": list("abc")}))
    return Subject(path, lambda: items(f"yolo:{folder / 'yolo'}", "boxes", "train"))


@reader
def stamp_drawing(folder):
    stamp_trees.svg(folder / "a.svg", "00ff00")
    return Subject(folder / "a.svg", lambda: stamp_files.cut_out(folder / "a.svg"))


@reader
def stamp_photograph(folder):
    stamp_trees.png(folder / "a.png", "00ff00")
    return Subject(folder / "a.png", lambda: stamp_files.cut_out(folder / "a.png"))


@reader
def list_file(folder):
    simple_trees.list_tree(folder / "list", per_class=1)
    path = next(path for path in sorted((folder / "list").iterdir()) if path.is_file())
    return Subject(path, lambda: items(f"list(root='{folder / 'list'}', file={path.name!r})", "classes"))


@reader
def list_table(folder):
    simple_trees.list_tree(folder / "list", per_class=1)
    path = folder / "list/all.csv"
    files = sorted((folder / "list").rglob("*.png"))
    path.write_text("path,label\n" + "".join(f"{file.relative_to(folder / 'list')},a\n" for file in files))
    return Subject(path, lambda: items(f"list(root='{folder / 'list'}', file='all.csv')", "classes"))


@reader
def list_of_masks(folder):
    own_trees.masks_tree(folder / "masks", 2, SIZE)
    path = folder / "masks/some.txt"
    path.write_text("images/0000.png\n0001\n")
    text = f"masks(root='{folder / 'masks'}', classes=['a', 'b', 'c', 'd'], splits={{'test': 'some.txt'}})"
    return Subject(path, lambda: items(text, "masks"))


@reader
def label_map_json(folder):
    path = folder / "map.json"
    path.write_text(json.dumps({"car": 1, "bus": [2, 3], "7": "x", "sky": "#00ff00"}))
    return Subject(path, lambda: read_pairs(path), as_json=True)


@reader
def label_map_yaml(folder):
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump({"car": 1, "bus": [2, 3], "x": 4}))
    return Subject(path, lambda: read_pairs(path))


@reader
def label_map_text(folder):
    path = folder / "labelmap.txt"
    path.write_text("# label:color:parts\nroad:128,64,128::\ncar 1\n2;bus\nsky #00ff00\n")
    return Subject(path, lambda: read_pairs(path))


def pixels(folder, form, **more):
    path = folder / f"image.{form}"
    Image.fromarray(own_trees.scene(0, SIZE).image).save(path, format=form, **more)
    return Subject(path, lambda: read_image(path))


READERS |= {f"image_{form}": partial(pixels, form=form) for form in ("png", "tiff", "webp", "bmp", "gif")}


@reader
def image_jpeg(folder):
    turned = Image.Exif()
    turned[0x0112] = 6
    return pixels(folder, "jpeg", exif=turned)


@reader
def mask_of_numbers(folder):
    own_trees.masks_tree(folder / "masks", 1, SIZE)
    path = folder / "masks/masks/0000.png"
    return Subject(path, lambda: items(f"masks(root='{folder / 'masks'}', classes=['a', 'b', 'c', 'd'])", "masks"))


@reader
def mask_of_colours(folder):
    own_trees.masks_tree(folder / "masks", 1, SIZE, encoding="colour")
    path = folder / "masks/masks/0000.png"
    names = dict(zip(("ground", *own_trees.CLASSES), ((0, 0, 0), *own_trees.COLOURS), strict=True))
    label_map = {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in names.items()}
    return Subject(path, lambda: items(f"masks(root='{folder / 'masks'}', label_map={label_map})", "masks"))


# --- what is kept in the cache: whatever is wrong with it, it is made again ---


@reader
def cached_arrays(folder):
    def read():
        found = cached("key", lambda: {"a": np.arange(6)}, folder)
        assert found["a"].tolist() == list(range(6))

    read()
    return Subject(folder / "key.safetensors", read)


@reader
def kept_findings(folder):
    class Found(Kept):
        names: list[str]
        counts: dict[str, int]

    def read():
        Store(folder).keep("key", Found, lambda: Found(names=["a"], counts={"a": 1}))

    read()
    (path,) = (folder / "checks").iterdir()
    return Subject(path, read, as_json=True)


# --- run folders and records ---


@reader
def run_json(folder):
    config = RunConfig(task="cls").model_dump(mode="json")
    path = folder / "run.json"
    environment = Environment(
        device="cpu", device_name="", threads=1, processes=1, platform="x", git_commit=None
    ).model_dump()
    facts = {
        "format": 1, "config": config, "classes": ["a"], "data": {"train": "0"}, "files": {"train": "0"},
        "weights": {"source": None}, "reference": None, "versions": {}, "plugins": [],
        "command": "x", "environment": environment,
    }  # fmt: skip
    path.write_text(json.dumps(facts))
    return Subject(path, lambda: make_config(run_folder.read(folder, "read").config), as_json=True)


@reader
def hashes_of_files(folder):
    found = {"train": b"1" * 64 + b"  a.png\n"}
    hashes.write(folder, {"train": b"0" * 64 + b"  a.png\n"})
    (path,) = (folder / "hashes").iterdir()
    return Subject(path, lambda: hashes.changes(folder, hashes.digests({"train": path.read_bytes()}), found))


@reader
def config_yaml(folder):
    config = RunConfig(task="cls")
    path = folder / "config.yaml"
    path.write_text(config.to_yaml())
    facts = types.SimpleNamespace(config=config.model_dump(mode="json"))
    return Subject(path, lambda: run_folder.check_copy(folder, facts))


@reader
def run_lock(folder):
    path = folder / "run.lock"
    path.write_text(json.dumps(Holder(socket.gethostname(), os.getpid(), "2026-01-01 00:00:00")._asdict()))

    def read():
        printable(str(locking.holder(path)))
        lock = Lock(path, "The run folder")
        try:
            lock.acquire(0)
        finally:
            lock.release()

    return Subject(path, read, as_json=True)


@reader
def student(folder):
    path = folder / "model.safetensors"
    checkpoint.export_student(path, {"a": torch.ones(2, 2)}, STUDENT)
    return Subject(path, lambda: read_back(path))


@reader
def student_facts(folder):
    path = folder / "facts.json"
    path.write_text(json.dumps(STUDENT))

    def read():
        file = folder / "model.safetensors"
        file.write_bytes(save({"a": torch.ones(1)}, metadata={"synreal": path.read_bytes().decode("utf-8", "ignore")}))
        read_back(file)

    return Subject(path, read, as_json=True)


STATISTICS = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
STUDENT = {"backbone": "b", "classes": ["0", "1"], "library": "timm", "statistics": STATISTICS}


def read_back(path):
    """Read a student as ``synreal evaluate`` does, up to building its network."""
    checkpoint.read_student(path)
    facts = checkpoint.read_student_facts(path)
    testing_again._check_facts(facts, ["0", "1"], "b", path)
    testing_again._prepared_as(Student(torch.nn.Identity(), RANDOM, STATISTICS), facts, path)


@reader
def pair(folder):
    path = folder / "pair.yaml"
    values = {"task": "cls", "source": "digits", "targets": ["mnist"], "training": {"lr": 0.1}, "lr": 0.1}
    path.write_text(json.dumps(values | {"regularizers": ["csg"], "output": {"folder": "x"}}))
    settings = {"regularizers": ["none", "csg"], "axes": {"training.momentum": [0.8, 0.9]}, "seeds": [0]}
    (folder / "grid.yaml").write_text(json.dumps({"pairs": ["pair.yaml"], **settings}))
    return Subject(path, lambda: cells_of(read_grid(folder / "grid.yaml")), as_json=True)


@reader
def metrics(folder):
    path = folder / "metrics.jsonl"
    rows = [{"step": 1, "loss": 1.5}, {"step": 2, "epoch": 1, "eval/source/accuracy": 0.5}, {"step": 3, "loss": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cell = types.SimpleNamespace(folder=folder, config=RunConfig(), pair="x")

    def read():
        watch = Watch(cell, Lengths())
        watch.look()
        assert watch.total is None or watch.total >= 0
        run_folder.truncate_metrics(path, 2)

    return Subject(path, read)


def checkpoint_file(folder, name, remake):
    path = checkpoint.save(folder / "checkpoints", snapshot(3), keep=1)

    def read():
        if remake:  # as somebody would who knows how checkpoints are made
            manifest = json.loads((path / "manifest.json").read_text())
            manifest["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
            (path / "manifest.json").write_text(json.dumps(manifest))
        checkpoint.load(path)

    return Subject(path / name, read, as_json=name.endswith(".json"))


@reader
def state_json(folder):
    return checkpoint_file(folder, "state.json", True)


@reader
def manifest(folder):
    return checkpoint_file(folder, "manifest.json", False)


@reader
def checkpoint_tensors(folder):
    return checkpoint_file(folder, "optimizer.safetensors", True)


@reader
def result(folder):
    path = folder / "result.json"
    path.write_text(made("none", config={"views": [{"name": "crop"}]}).model_dump_json())

    def read():
        read_record(folder)
        board = leaderboard.build(leaderboard.find([folder]))
        for write in (leaderboard.as_markdown, leaderboard.as_json, leaderboard.as_html):
            printable(write(board), lines=True).encode()

    return Subject(path, read, as_json=True)


@reader
def records(folder):
    path = folder / "records.json"
    path.write_text(
        json.dumps([made(method, seed).model_dump(mode="json") for method in ("none", "csg") for seed in (0,)])
    )

    def read():
        assert Ledger(path, ()).others >= 0
        leaderboard.as_csv(leaderboard.build(leaderboard.find([path])))

    return Subject(path, read, as_json=True)


@reader
def rate_policy(folder):
    path = folder / "policy.safetensors"
    RatePolicy().save(path, {"episodes": 1})
    return Subject(path, lambda: RatePolicy.load(path).draw([1.0] * 11, 0))


@reader
def weights(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(save({"a": torch.ones(2, 2), "b": torch.zeros(3)}))
    return Subject(path, lambda: read_state(path))


@reader
def pickled_weights(folder):
    path = folder / "weights.pt"
    torch.save({"a": torch.ones(2, 2), "b": torch.zeros(3)}, path)
    return Subject(path, lambda: read_state(path))
