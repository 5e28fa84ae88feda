from __future__ import annotations

import shutil
from typing import Any

import pytest

from synreal import data
from synreal.data import Policy
from synreal.data.inspection import scan as checking
from synreal.data.inspection.report import check
from synreal.data.inspection.scan import usable
from synreal.errors import DataError
from tests.data.inspection.planted import (
    SKIP,
    Planted,
    cut,
    found,
    labelled,
    masked,
    names,
    picture,
)


def test_usable_leaves_out_what_cannot_be_used(tmp_path):
    entry = labelled(tmp_path / "data")
    images = entry.read("train", label="classes", seed=0, cache=None, policy=SKIP)
    part = usable(images, SKIP, cache=tmp_path)
    assert len(part) == 13
    assert set(images.files) - set(names(part)) == {
        "truncated.png",
        "truncated.jpg",
        "empty.png",
        "page.jpg",
        "large.png",
        "float.tif",
    }
    assert part.dropped == {
        "images left out (empty file)": 1,
        "images left out (not an image)": 1,
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
        images: Any = data.load(entry, "train", label="masks", policy=Policy("skip", "resize"), cache=tmp_path)
    assert "size.png" in names(images)
    sizes = {images[index][0].shape[1:] for index in range(len(images)) if images.path(index).name == "size.png"}
    assert sizes == {(12, 16)}, "the image is brought to its mask"
    report = check(entry, label="masks", domain="source", cache=tmp_path)
    assert ("size mismatch", "size.png", "stops") in found(report.parts[0].findings)


def test_usable_ends_where_no_image_is_left(tmp_path):
    for number in range(3):
        picture(tmp_path / "train" / f"{number}.png", number)
        cut(tmp_path / "train" / f"{number}.png")
    images = Planted(root=tmp_path).read("train", label="classes", seed=0, cache=None, policy=SKIP)
    with pytest.raises(DataError, match=r"none of 3 images can be used.*0\.png.*truncated"):
        usable(images, SKIP, cache=tmp_path)
    report = check(Planted(root=tmp_path), label="classes", domain="source", policy=SKIP, cache=tmp_path / "cache")
    assert "nothing left" in {finding.kind for finding in report.parts[0].findings if finding.effect == "stops"}


@pytest.mark.parametrize("workers", [1, 5])
def test_the_scan_is_the_same_however_many_threads_read(workers, tmp_path):
    entry = labelled(tmp_path / "data")
    images = entry.read("train", label="classes", seed=0, cache=None, policy=SKIP)
    assert checking._scan(images, workers, None) == checking._scan(images, 2, None)
