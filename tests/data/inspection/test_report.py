from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from synreal.data import registry
from synreal.data.files.file_sets import BoxFiles, LabelFiles, MaskFiles
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.inspection import report as checking
from synreal.data.inspection.report import check, duplicates, usable
from synreal.data.registry import Policy
from synreal.data.sets import ArrayImages, Boxes
from synreal.errors import ConfigError, DataError

SIZE = (24, 32)
SKIP = Policy("skip", "skip")
CLASSES = ("bolt", "nut", "gear")


def pixels(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)


def cut(path: Path, part: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])


def boxes(*corners: list[float], label: int = 0, crowd: bool = False) -> Boxes:
    number = len(corners)
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.full((number,), label),
        torch.full((number,), crowd),
        torch.ones(number),
    )


class Planted(registry.FolderData):
    """All images of a folder, by number; the fixtures below write them."""

    kind: ClassVar[str] = "planted"
    domains: ClassVar[tuple[registry.Domain, ...]] = ("source", "target")
    tasks: ClassVar[tuple[str, ...]] = ("classification", "segmentation", "detection")
    summary: ClassVar[str] = "For tests."
    needs: ClassVar[str] = "a folder"
    boxes: Any = None
    sizes: Any = None
    labels: Any = None

    def read(self, split: str, *, task: str, seed: int, cache: Any, policy: Policy) -> Any:
        folder = self.root / split
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        shared: dict[str, Any] = {"max_pixels": self.max_pixels, "dropped": {}}
        if task == "classification":
            labels = [self.labels[name] if self.labels else 0 for name in files]
            return LabelFiles(self.label, split, folder, files, labels, CLASSES, **shared)
        if task == "segmentation":
            masks = [f"masks/{Path(name).stem}.png" for name in files]
            label_map = LabelMap({0: 0, 1: 1, 2: 2, 9: 255})
            paths = MaskPaths(folder, masks, label_map)
            resize = policy.size_mismatch == "resize"
            return MaskFiles(self.label, split, folder, files, paths, CLASSES, resize=resize, **shared)
        shared["dropped"] = {"boxes without area left out": 2}
        sizes = [(self.sizes or {}).get(name) for name in files]
        objects = [boxes(*self.boxes[name][0], **self.boxes[name][1]) for name in files]
        return BoxFiles(self.label, split, folder, files, objects, sizes, CLASSES, **shared)


def labelled(root: Path) -> Planted:
    """A training part with one of each fault of an image; the held-out part is sound."""
    folder = root / "train"
    for number in range(6):
        picture(folder / f"sound{number}.png", number)
    picture(folder / "truncated.png", 10)
    cut(folder / "truncated.png")
    picture(folder / "truncated.jpg", 11)
    cut(folder / "truncated.jpg")
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    picture(folder / "large.png", 12, (100, 100))
    Image.fromarray(np.zeros(SIZE, np.float32)).save(folder / "float.tif")
    shutil.copy(folder / "sound0.png", folder / "twice.png")
    shutil.copy(folder / "sound1.png", folder / "twice-other.png")
    Image.new("RGB", (32, 24), (7, 7, 7)).save(folder / "black.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels(13)).save(folder / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(np.arange(768, dtype=np.uint16).reshape(SIZE) * 80).save(folder / "wide.png")
    Image.fromarray(pixels(14)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels(15)).convert("P").save(folder / "palette.png")
    for number in range(20, 23):
        picture(root / "heldout" / f"sound{number}.png", number)
    shutil.copytree(root / "heldout", root / "test")
    (root / "test" / "sound22.png").unlink()
    picture(root / "test" / "other.png", 30)
    shutil.copy(folder / "sound5.png", root / "heldout")
    labels = {path.name: 0 for path in root.rglob("*.*")}
    labels |= {"sound1.png": 1, "sound2.png": 1}
    return Planted(root=root, name="parts", max_pixels=5000, labels=labels)


def found(findings: list[Any]) -> set[tuple[str, str, str]]:
    return {(each.kind, each.file, each.effect) for each in findings}


def test_every_planted_fault_of_images_is_found(tmp_path):
    told: list[tuple[str, int, int]] = []
    entry = labelled(tmp_path / "data")
    report = check(
        entry,
        task="classification",
        domain="source",
        cache=tmp_path / "cache",
        progress=lambda *args: told.append(args),
    )
    train, heldout = report.parts
    assert found(train.findings) == {
        ("truncated", "truncated.png", "stops"),
        ("truncated", "truncated.jpg", "stops"),
        ("empty file", "empty.png", "stops"),
        ("no image", "page.jpg", "stops"),
        ("too large", "large.png", "stops"),
        ("wrong mode", "float.tif", "stops"),
        ("duplicate", "twice.png", "note"),
        ("duplicate, other class", "twice-other.png", "note"),
        ("one colour", "black.png", "note"),
        ("class without image", "gear", "note"),
    }
    assert found(heldout.findings) == {
        ("class without image", "nut", "note"),
        ("class without image", "gear", "note"),
    }
    root = tmp_path / "data"
    assert found(report.findings) == {("in train and heldout", str(root / "heldout" / "sound5.png"), "note")}
    assert report.fails
    assert (train.images, train.usable, heldout.images) == (19, 19, 4)
    assert train.turned == 1
    assert Counter(train.encodings) == {
        "PNG (RGB, 8 bit)": 10,
        "PNG (grey, 16 bit)": 1,
        "PNG (palette, 8 bit)": 1,
        "JPEG (RGB, 8 bit)": 1,
        "JPEG (CMYK, 8 bit)": 1,
        "TIFF (grey, floating point)": 1,
    }
    assert train.classes == [
        {"name": "bolt", "images": 11, "labels": 11},
        {"name": "nut", "images": 2, "labels": 2},
        {"name": "gear", "images": 0, "labels": 0},
    ]
    assert train.sizes["least"] == [24, 32]
    assert train.sizes["frequent"] == [[24, 32, 12], [32, 24, 1]]
    assert [row[1:] for row in told if row[0] == "parts (train)"][-1] == (19, 19)
    for finding in train.findings:
        assert finding.file in finding.message
    json.dumps(dataclasses.asdict(report), allow_nan=False)


def test_images_of_the_target_that_are_in_the_source_break_the_claim(tmp_path):
    source, target = labelled(tmp_path / "a"), labelled(tmp_path / "b")
    (tmp_path / "b" / "test" / "sound20.png").unlink()
    report = check(source, target=target, task="classification", policy=SKIP, cache=tmp_path)
    assert [(part.data, part.part) for part in report.parts] == [
        ("parts", "train"),
        ("parts", "heldout"),
        ("parts", "test"),
    ]
    crossing = [finding for finding in report.findings if "target" in finding.kind]
    assert found(crossing) == {("in source (heldout) and target", str(tmp_path / "b" / "test" / "sound21.png"), "note")}
    assert "zero-shot" in crossing[0].message
    assert str(tmp_path / "a" / "heldout" / "sound21.png") in crossing[0].message
    assert not report.fails
    assert report.differences == []


def test_classes_that_do_not_meet_stop_a_training(tmp_path, monkeypatch):
    target = labelled(tmp_path / "data").model_copy(update={"name": "other"})
    read = Planted.read

    def renamed(self, split, **given):
        images = read(self, split, **given)
        if split == "test":
            images.classes = ("a", "b", "c")
        return images

    monkeypatch.setattr(Planted, "read", renamed)
    source = labelled(tmp_path / "source")
    report = check(source, target=target, task="classification", policy=SKIP, cache=tmp_path)
    assert {finding.kind for finding in report.findings if finding.effect == "stops"} == {"classes differ"}
    assert report.fails


def masked(root: Path) -> Planted:
    folder = root / "train"
    (folder / "masks").mkdir(parents=True)
    names = ("sound", "size", "ids", "colour", "cut", "ignored", "broken", "turned")
    for number, name in enumerate(names):
        suffix = "jpg" if name == "turned" else "png"
        picture(folder / f"{name}.{suffix}", number)
        mask = np.zeros(SIZE, np.uint8)
        mask[:6] = 1
        mask[6:8] = 9
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    masks = folder / "masks"
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(masks / "size.png")
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(masks / "ids.png")
    picture(masks / "colour.png", 40)
    cut(masks / "cut.png", 0.7)
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(masks / "ignored.png")
    palette = Image.fromarray(np.zeros(SIZE, np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(masks / "sound.png")
    cut(folder / "broken.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels(13)).save(folder / "turned.jpg", exif=turned)
    return Planted(root=root)


MASK_FAULTS = {
    ("size mismatch", "size.png"),
    ("ids out of range", "masks/ids.png"),
    ("wrong mode", "masks/colour.png"),
    ("truncated", "masks/cut.png"),
    ("truncated", "broken.png"),
}


@pytest.mark.parametrize("mismatch", ["error", "skip", "resize"])
@pytest.mark.parametrize("bad", ["error", "skip"])
def test_every_planted_fault_of_masks_is_found_and_each_policy_told_apart(bad, mismatch, tmp_path):
    entry = masked(tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "heldout")
    policy = Policy(bad, mismatch)
    report = check(entry, task="segmentation", domain="source", policy=policy, cache=tmp_path)
    train = report.parts[0]
    effects = {"error": "stops", "skip": "skipped", "resize": "resized"}
    expected = {(kind, file, effects[mismatch if kind == "size mismatch" else bad]) for kind, file in MASK_FAULTS} | {
        ("mask ignored", "masks/ignored.png", "note"),
        ("class without image", "gear", "note"),
    }
    assert found(train.findings) == expected
    assert report.fails == ("error" in policy)
    assert train.usable == 8 - 4 * (bad == "skip") - (mismatch == "skip")
    assert train.label_encodings == {"PNG (grey, 8 bit)": 6, "PNG (palette, 8 bit)": 1, "PNG (RGB, 8 bit)": 1}
    # sound: 768 of class 0; turned: 6 rows of class 1, 2 of 255; ignored: all 255
    assert [row["labels"] for row in train.classes] == [768 + 16 * 32, 6 * 32, 0]
    assert [row["images"] for row in train.classes] == [2, 1, 0]
    assert train.ignored == 768 + 2 * 32
    assert len(report.findings) == 8, "all images of train are held out, too"

    if "error" in policy:
        with pytest.raises(DataError, match=r"truncated|pixels|size"):
            usable(entry.read("train", task="segmentation", seed=0, cache=None, policy=policy), policy, cache=tmp_path)
        return
    with pytest.warns(UserWarning, match=r"planted \(train\): .*images left out \(truncated\)"):
        images: Any = registry.load(entry, "train", task="segmentation", policy=policy, cache=tmp_path)
    assert len(images) == train.usable
    assert images.dropped["images left out (truncated)"] == 2
    for index in range(len(images)):
        images[index]


def test_every_planted_fault_of_boxes_is_found(tmp_path):
    folder = tmp_path / "data" / "train"
    names = ("sound", "without", "crowd", "outside", "empty", "nan", "size", "truncated")
    for number, name in enumerate(names):
        picture(folder / f"{name}.png", number)
    cut(folder / "truncated.png")
    good = [2.0, 3.0, 12.0, 14.0]
    drawn: dict[str, Any] = {f"{name}.png": ([good], {}) for name in names}
    drawn |= {
        "without.png": ([], {}),
        "crowd.png": ([good, [0, 0, 32, 24]], {"label": 1, "crowd": True}),
        "outside.png": ([[2, 3, 33, 14]], {}),
        "empty.png": ([[2, 3, 2, 14]], {}),
        "nan.png": ([[2, float("nan"), 4, 14]], {}),
    }
    entry = Planted(root=tmp_path / "data", boxes=drawn, sizes={"size.png": (240, 320), "sound.png": SIZE})
    report = check(entry, task="detection", domain="source", policy=SKIP, cache=tmp_path)
    train, heldout = report.parts
    assert found(train.findings) == {
        ("box outside or empty", "outside.png", "skipped"),
        ("box outside or empty", "empty.png", "skipped"),
        ("box outside or empty", "nan.png", "skipped"),
        ("size mismatch", "size.png", "skipped"),
        ("truncated", "truncated.png", "skipped"),
        ("class without image", "gear", "note"),
    }
    assert train.unlabelled == 1
    assert train.ignored == 2
    assert train.unit == "boxes"
    assert [row["labels"] for row in train.classes] == [1, 2, 0]
    assert train.dropped == {"boxes without area left out": 2}
    assert found(heldout.findings) == {("missing file", str(tmp_path / "data" / "heldout"), "stops")}
    assert report.fails


def test_what_cannot_be_loaded_is_a_finding_and_a_missing_file_is_named(tmp_path, monkeypatch):
    entry = labelled(tmp_path / "data")

    def read(self, split, **given):
        return LabelFiles("parts", split, self.root / split, ["sound0.png", "gone.png"], [0, 0], CLASSES)

    monkeypatch.setattr(Planted, "read", read)
    report = check(entry, task="classification", domain="source", cache=tmp_path)
    assert [found(part.findings) for part in report.parts] == [
        {("missing file", str(tmp_path / "data" / "train" / "gone.png"), "stops")},
        {("missing file", str(tmp_path / "data" / "heldout" / "sound0.png"), "stops")},
    ]

    def refuse(self, split, **given):
        raise DataError("list.txt, line 3: expected a path and a number.")

    monkeypatch.setattr(Planted, "read", refuse)
    report = check(entry, task="classification", domain="target", cache=tmp_path)
    assert found(report.parts[0].findings) == {("cannot be loaded", "parts", "stops")}
    assert report.parts[0].findings[0].message.startswith("list.txt, line 3")
    assert report.fails


def test_warnings_of_the_loader_are_reported_and_not_raised(tmp_path, monkeypatch):
    entry = labelled(tmp_path / "data")
    read = Planted.read

    def warned(self, split, **given):
        import warnings

        warnings.warn("12,403 of 24,966 frames are there.", stacklevel=1)
        return read(self, split, **given)

    monkeypatch.setattr(Planted, "read", warned)
    report = check(entry, task="classification", domain="target", cache=tmp_path)
    assert report.parts[0].warnings == ["12,403 of 24,966 frames are there."]


def test_a_second_check_reads_nothing_and_any_change_is_seen(tmp_path, monkeypatch):
    entry = labelled(tmp_path / "data")
    given: dict[str, Any] = {"task": "classification", "domain": "source", "cache": tmp_path / "cache"}
    first = check(entry, **given)
    scans = []
    scan = checking._scan
    monkeypatch.setattr(checking, "_scan", lambda images, *rest: scans.append(images.split) or scan(images, *rest))
    monkeypatch.setattr(checking, "_end", None)
    assert check(entry, **given) == first
    assert check(entry, policy=SKIP, **given).parts[0].usable == 13
    assert scans == []
    monkeypatch.undo()
    monkeypatch.setattr(checking, "_scan", lambda images, *rest: scans.append(images.split) or scan(images, *rest))

    assert check(entry, fresh=True, **given) == first
    assert scans == ["train", "heldout"]
    scans.clear()
    # The same name and size at another time: contents may differ.
    file = tmp_path / "data" / "heldout" / "sound21.png"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    assert file.stat().st_size == before.st_size
    report = check(entry, **given)
    assert scans == ["heldout"]
    assert ("truncated", "sound21.png", "stops") in found(report.parts[1].findings)
    scans.clear()
    for kept in (tmp_path / "cache" / "checks").iterdir():
        kept.write_text(kept.read_text()[:-20])
    assert check(entry, **given) == report
    assert scans == ["train", "heldout"]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path):
    entry = labelled(tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="SYNREAL_CACHE"):
        report = check(entry, task="classification", domain="target", cache=tmp_path / "file")
    assert report.parts[0].images == 3


def test_usable_leaves_out_what_cannot_be_used(tmp_path):
    entry = labelled(tmp_path / "data")
    images = entry.read("train", task="classification", seed=0, cache=None, policy=SKIP)
    part = usable(images, SKIP, cache=tmp_path)
    assert len(part) == 13
    assert set(images.files) - set(part.files) == {
        "truncated.png",
        "truncated.jpg",
        "empty.png",
        "page.jpg",
        "large.png",
        "float.tif",
    }
    assert part.dropped == {
        "images left out (empty file)": 1,
        "images left out (no image)": 1,
        "images left out (too large)": 1,
        "images left out (truncated)": 2,
        "images left out (wrong mode)": 1,
    }
    assert images.dropped == {}
    assert part.fingerprint != images.fingerprint
    assert usable(part, SKIP, cache=tmp_path) is part


def test_a_scan_of_a_run_that_resizes_still_tells_of_sizes(tmp_path):
    entry = masked(tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "heldout")
    with pytest.warns(UserWarning, match="left out"):
        images: Any = registry.load(
            entry, "train", task="segmentation", policy=Policy("skip", "resize"), cache=tmp_path
        )
    assert "size.png" in images.files
    assert images.resize
    report = check(entry, task="segmentation", domain="source", cache=tmp_path)
    assert ("size mismatch", "size.png", "stops") in found(report.parts[0].findings)


def test_usable_ends_where_no_image_is_left(tmp_path):
    for number in range(3):
        picture(tmp_path / "train" / f"{number}.png", number)
        cut(tmp_path / "train" / f"{number}.png")
    images = Planted(root=tmp_path).read("train", task="classification", seed=0, cache=None, policy=SKIP)
    with pytest.raises(DataError, match=r"none of 3 images can be used.*0\.png.*truncated"):
        usable(images, SKIP, cache=tmp_path)
    report = check(
        Planted(root=tmp_path), task="classification", domain="source", policy=SKIP, cache=tmp_path / "cache"
    )
    assert "nothing left" in {finding.kind for finding in report.parts[0].findings if finding.effect == "stops"}


@pytest.mark.parametrize("workers", [1, 5])
def test_the_scan_is_the_same_however_many_threads_read(workers, tmp_path):
    entry = labelled(tmp_path / "data")
    images = entry.read("train", task="classification", seed=0, cache=None, policy=SKIP)
    assert checking._scan(images, workers, None) == checking._scan(images, 2, None)


def test_duplicates_are_found_by_content_alone(tmp_path):
    count, each = 40, 3000
    generator = np.random.default_rng(0)
    contents = [generator.bytes(each) for _ in range(count)]
    contents += [contents[3][:-1] + b"x", b"x" + contents[4][1:]]  # unlike at one end only, of one size
    end = generator.bytes(5000)
    contents += [generator.bytes(100) + end, generator.bytes(100) + end]  # alike in the last 4096 bytes
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    order = generator.permutation(count)
    for number in range(20):
        (tmp_path / "a" / f"{number}.png").write_bytes(contents[number])
    shared = set(order[:15].tolist()) & set(range(20))
    for number in order[:15]:
        (tmp_path / "b" / f"other{number}.png").write_bytes(contents[number])
    (tmp_path / "a" / "long.png").write_bytes(contents[-1])
    (tmp_path / "b" / "long.png").write_bytes(contents[-2])
    (tmp_path / "b" / "near3.png").write_bytes(contents[-4])
    (tmp_path / "b" / "near4.png").write_bytes(contents[-3])

    def files(folder: str) -> LabelFiles:
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        return LabelFiles(folder, "test", tmp_path / folder, names, [0] * len(names), CLASSES)

    pairs = duplicates(files("a"), files("b"), cache=tmp_path / "cache")
    expected = {(str(tmp_path / "a" / f"{n}.png"), str(tmp_path / "b" / f"other{n}.png")) for n in shared}
    assert len(shared) >= 5
    assert set(pairs) == expected
    assert len(pairs) == len(expected)
    in_memory = ArrayImages("x", "test", torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), CLASSES)
    assert duplicates(in_memory, files("a"), cache=tmp_path) == duplicates(files("a"), in_memory) == []


def test_empty_files_are_not_duplicates(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    images = LabelFiles("x", "test", tmp_path, ["a.png", "b.png"], [0, 0], CLASSES)
    assert checking._repeated(images) == []


def test_arrays_are_checked_as_well(tmp_path):
    report = check("uci", task="classification", cache=tmp_path)
    (part,) = report.parts
    assert (part.data, part.part, part.images, part.usable) == ("uci", "test", 1797, 1797)
    assert part.sizes["least"] == part.sizes["greatest"] == [8, 8]
    assert sum(row["labels"] for row in part.classes) == 1797
    assert not report.fails


def test_what_is_asked_for_must_fit(tmp_path):
    with pytest.raises(ConfigError, match="real data"):
        check("uci", task="classification", domain="source", cache=tmp_path)
    with pytest.raises(ConfigError, match="no labels for detection"):
        check("uci", task="detection", cache=tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        check(Planted(root=tmp_path / "gone"), task="detection", cache=tmp_path)
