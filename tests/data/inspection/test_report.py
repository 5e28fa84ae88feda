from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from typing import Any

import pytest

from synreal import data
from synreal.data import Policy
from synreal.data.files.file_sets import LabelFiles
from synreal.data.inspection import duplicates as comparing
from synreal.data.inspection import scan as checking
from synreal.data.inspection.report import check
from synreal.data.inspection.scan import usable
from synreal.errors import ConfigError, DataError
from tests.data.inspection.planted import (
    CLASSES,
    MASK_FAULTS,
    SIZE,
    SKIP,
    Planted,
    cut,
    found,
    labelled,
    masked,
    picture,
)


def test_every_planted_fault_of_images_is_found(tmp_path):
    told: list[tuple[str, int, int]] = []
    entry = labelled(tmp_path / "data")
    report = check(
        entry,
        label="classes",
        domain="source",
        cache=tmp_path / "cache",
        progress=lambda *args: told.append(args),
    )
    train, heldout = report.parts
    assert found(train.findings) == {
        ("truncated", "truncated.png", "stops"),
        ("truncated", "truncated.jpg", "stops"),
        ("empty file", "empty.png", "stops"),
        ("not an image", "page.jpg", "stops"),
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
    report = check(source, target=target, label="classes", policy=SKIP, cache=tmp_path)
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
    report = check(source, target=target, label="classes", policy=SKIP, cache=tmp_path)
    assert {finding.kind for finding in report.findings if finding.effect == "stops"} == {"classes differ"}
    assert report.fails


@pytest.mark.parametrize("mismatch", ["error", "skip", "resize"])
@pytest.mark.parametrize("bad", ["error", "skip"])
def test_every_planted_fault_of_masks_is_found_and_each_policy_told_apart(bad, mismatch, tmp_path):
    entry = masked(tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "heldout")
    policy = Policy(bad, mismatch)
    report = check(entry, label="masks", domain="source", policy=policy, cache=tmp_path)
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
            usable(entry.read("train", label="masks", seed=0, cache=None, policy=policy), policy, cache=tmp_path)
        return
    with pytest.warns(UserWarning, match=r"planted \(train\): .*images left out \(truncated\)"):
        images: Any = data.load(entry, "train", label="masks", policy=policy, cache=tmp_path)
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
    report = check(entry, label="boxes", domain="source", policy=SKIP, cache=tmp_path)
    train, heldout = report.parts
    assert found(train.findings) == {
        ("box outside or empty", "outside.png", "skipped"),
        ("box outside or empty", "empty.png", "skipped"),
        ("box outside or empty", "nan.png", "skipped"),
        ("class without image", "nut", "note"),  # it has nothing but crowds
        ("size mismatch", "size.png", "skipped"),
        ("truncated", "truncated.png", "skipped"),
        ("class without image", "gear", "note"),
    }
    assert train.unlabelled == 2  # crowds are no objects
    assert train.ignored == 2
    assert train.unit == "boxes"
    assert [row["labels"] for row in train.classes] == [1, 0, 0]
    assert train.dropped == {"boxes without area left out": 2}
    assert found(heldout.findings) == {("missing file", str(tmp_path / "data" / "heldout"), "stops")}
    assert report.fails


def test_what_cannot_be_loaded_is_a_finding_and_a_missing_file_is_named(tmp_path, monkeypatch):
    entry = labelled(tmp_path / "data")

    def read(self, split, **given):
        return LabelFiles("parts", split, self.root / split, ["sound0.png", "gone.png"], [0, 0], CLASSES)

    monkeypatch.setattr(Planted, "read", read)
    report = check(entry, label="classes", domain="source", cache=tmp_path)
    assert [found(part.findings) for part in report.parts] == [
        {("missing file", str(tmp_path / "data" / "train" / "gone.png"), "stops")},
        {("missing file", str(tmp_path / "data" / "heldout" / "sound0.png"), "stops")},
    ]

    def refuse(self, split, **given):
        raise DataError("list.txt, line 3: expected a path and a number.")

    monkeypatch.setattr(Planted, "read", refuse)
    report = check(entry, label="classes", domain="target", cache=tmp_path)
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
    report = check(entry, label="classes", domain="target", cache=tmp_path)
    assert report.parts[0].warnings == ["12,403 of 24,966 frames are there."]


def test_a_second_check_reads_nothing_and_any_change_is_seen(tmp_path, monkeypatch):
    entry = labelled(tmp_path / "data")
    given: dict[str, Any] = {"label": "classes", "domain": "source", "cache": tmp_path / "cache"}
    first = check(entry, **given)
    scans = []
    scan = checking._scan
    monkeypatch.setattr(checking, "_scan", lambda images, *rest: scans.append(images.split) or scan(images, *rest))
    monkeypatch.setattr(comparing, "_end", None)
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
        report = check(entry, label="classes", domain="target", cache=tmp_path / "file")
    assert report.parts[0].images == 3


def test_arrays_are_checked_as_well(tmp_path):
    report = check("uci", label="classes", cache=tmp_path)
    (part,) = report.parts
    assert (part.data, part.part, part.images, part.usable) == ("uci", "test", 1797, 1797)
    assert part.sizes["least"] == part.sizes["greatest"] == [8, 8]
    assert sum(row["labels"] for row in part.classes) == 1797
    assert not report.fails


def test_what_is_asked_for_must_fit(tmp_path):
    with pytest.raises(ConfigError, match="real data"):
        check("uci", label="classes", domain="source", cache=tmp_path)
    with pytest.raises(ConfigError, match="has no boxes"):
        check("uci", label="boxes", cache=tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        check(Planted(root=tmp_path / "gone"), label="boxes", cache=tmp_path)
