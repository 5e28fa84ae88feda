from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from synreal.data import load
from synreal.data.labels.boxes import Boxes
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import DataError

ROOT = Path(__file__).parents[2]
CLASSES = ("background", "cat", "dog")


def images(count: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.arange(count * channels * 4 * 6, dtype=torch.uint8).reshape(count, channels, 4, 6)


def masks() -> torch.Tensor:
    return torch.tensor([0, 1, 2, IGNORE], dtype=torch.uint8).repeat(12).reshape(2, 4, 6)


def objects(*corners: tuple[float, float, float, float], **changes: Any) -> Boxes:
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    fields = {
        "boxes": boxes,
        "labels": torch.ones(count, dtype=torch.int64),
        "crowd": torch.zeros(count, dtype=torch.bool),
        "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
    }
    return Boxes(**fields | changes)


def boxed(*boxes: Boxes) -> ArrayBoxes:
    return ArrayBoxes("toy", "test", images(len(boxes)), boxes, CLASSES)


def test_masks_are_given_as_they_are() -> None:
    data = ArrayMasks("toy", "train", images(), masks(), list(CLASSES))
    assert (data.name, data.split, data.classes, len(data)) == ("toy", "train", CLASSES, 2)
    image, mask = data[1]
    assert torch.equal(image, images()[1])
    assert torch.equal(mask, masks()[1])


def test_boxes_are_given_as_they_are_even_none() -> None:
    one, none = objects((0, 0, 6, 4), (1.5, 2, 3, 4)), objects()
    data = boxed(one, none)
    assert (data.name, data.split, data.classes, len(data)) == ("toy", "test", CLASSES, 2)
    assert torch.equal(data[0][0], images()[0])
    assert data[0][1] is one
    assert data[1][1].boxes.shape == (0, 4)


def test_fingerprint_of_masks_sees_images_and_masks() -> None:
    seen = {ArrayMasks("toy", "train", images(), masks(), CLASSES).fingerprint}
    for x, y in ((images() + 1, masks()), (images(), masks().roll(1)), (images(1), masks()[:1])):
        seen.add(ArrayMasks("other", "test", x, y, CLASSES).fingerprint)
    assert len(seen) == 4
    assert ArrayMasks("other", "test", images(), masks(), CLASSES).fingerprint in seen


def test_fingerprint_of_boxes_sees_every_field_and_which_image_it_belongs_to() -> None:
    a, b = (0, 0, 2, 2), (1, 1, 3, 4)
    sets = [
        (objects(a, b), objects()),
        (objects(), objects(a, b)),
        (objects(a), objects(b)),
        (objects(b, a), objects()),
        (objects(a, b, labels=torch.tensor([1, 2])), objects()),
        (objects(a, b, crowd=torch.tensor([False, True])), objects()),
        (objects(a, b, area=torch.tensor([4.0, 5.0])), objects()),
    ]
    assert len({boxed(*parts).fingerprint for parts in sets}) == len(sets)
    assert boxed(*sets[0]).fingerprint == boxed(objects(a, b), objects()).fingerprint


def test_boxes_are_frozen_and_have_no_equality_of_their_own() -> None:
    one = objects((0, 0, 2, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.area = one.area  # type: ignore[misc]
    assert one == one
    assert one != objects((0, 0, 2, 2))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (images().float(), masks(), r"toy \(train\): expected uint8 images of shape \(N, 3 or 1, H, W\), got torch.fl"),
        (images(channels=2), masks(), r"shape \(N, 3 or 1, H, W\), got torch.uint8 \(2, 2, 4, 6\)"),
        (images()[:0], masks()[:0], "holds no image"),
        (images(), masks().long(), r"image 0: expected a uint8 mask of shape \(4, 6\), got torch.int64 \(4, 6\)"),
        (images(), masks()[:, :3], r"expected a uint8 mask of shape \(4, 6\), got torch.uint8 \(3, 6\)"),
        (images(), masks().clamp(max=3), r"labels span 0..3, expected 0..2"),
    ],
)
def test_masks_that_do_not_fit_are_refused(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArrayMasks("toy", "train", x, y, CLASSES)


def test_a_mask_has_no_number_for_a_256th_class() -> None:
    many = [str(i) for i in range(256)]
    assert len(ArrayMasks("toy", "train", images(), masks(), many[:255])) == 2
    with pytest.raises(DataError, match="256 classes, but a mask can tell 255 apart"):
        ArrayMasks("toy", "train", images(), masks(), many)


def test_a_mask_may_be_ignored_altogether() -> None:
    assert len(ArrayMasks("toy", "train", images(), torch.full((2, 4, 6), IGNORE, dtype=torch.uint8), CLASSES)) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            objects((0, 0, 2, 2), boxes=torch.zeros(1, 4, dtype=torch.float64)),
            r"boxes as torch.float32 of shape \(1, 4",
        ),
        (objects((0, 0, 2, 2), labels=torch.ones(2, dtype=torch.int64)), r"boxes as .* \(2, 4\), got .* \(1, 4\)"),
        (objects((0, 0, 2, 2), labels=torch.ones(1, dtype=torch.int32)), r"labels as torch.int64 of shape \(1,\)"),
        (objects((0, 0, 2, 2), crowd=torch.zeros(1)), r"crowd as torch.bool of shape \(1,\), got torch.float32"),
        (objects((0, 0, 2, 2), area=torch.zeros(1, 1)), r"area as torch.float32 of shape \(1,\), got .* \(1, 1\)"),
        (objects((0, 0, 2, 2), labels=torch.tensor([3])), "labels span 3..3, expected 0..2"),
        (objects((0, 0, 2, 2), labels=torch.tensor([-1])), "labels span -1..-1, expected 0..2"),
        (objects((0, 0, 2, 2), (-1, 0, 2, 2)), r"box \[-1.0, 0.0, 2.0, 2.0\] is empty or leaves the image"),
        (objects((0, -0.5, 2, 2)), "is empty or leaves"),
        (objects((0, 0, 6.5, 2)), r"leaves the image, expected x0 < x1 within 0..6 and y0 < y1 within 0..4"),
        (objects((0, 0, 2, 5)), "is empty or leaves"),
        (objects((2, 0, 2, 2)), "is empty or leaves"),
        (objects((0, 2, 2, 2)), "is empty or leaves"),
        (objects((0, 0, 2, float("nan"))), "is empty or leaves"),
    ],
)
def test_boxes_that_do_not_fit_are_refused_with_their_image(wrong: Boxes, message: str) -> None:
    with pytest.raises(DataError, match=rf"toy \(test\), image 1: .*{message}"):
        boxed(objects((0, 0, 2, 2)), wrong)


def test_boxes_need_as_many_images() -> None:
    with pytest.raises(DataError, match=r"toy \(test\): 2 images but 1 labels"):
        ArrayBoxes("toy", "test", images(), [objects()], CLASSES)
    with pytest.raises(DataError, match="holds no image"):
        boxed()
    with pytest.raises(DataError, match=r"uint8 images of shape \(N, 3 or 1, H, W\)"):
        ArrayBoxes("toy", "test", images(2, 2), [objects()] * 2, CLASSES)


def test_grey_images_are_read_as_colour_and_labels_are_checked() -> None:
    data = ArrayImages("toy", "test", images(2, 1), torch.tensor([0, 2]), CLASSES)
    image, label = data[1]
    assert image.shape == (3, 4, 6)
    assert (image == images(2, 1)[1]).all()
    assert label == 2
    for labels, message in (
        ([0, 3], r"image 1: label 3, expected 0..2 for 3 classes"),
        ([0], r"2 images but 1 labels"),
        ([[0], [1]], r"expected labels of shape \(N,\), got \(2, 1\)"),
    ):
        with pytest.raises(DataError, match=message):
            ArrayImages("toy", "test", images(2, 1), torch.tensor(labels), CLASSES)
    with pytest.raises(DataError, match=r"shape \(N, 3 or 1, H, W\)"):
        ArrayImages("toy", "test", images(2, 2), torch.tensor([0, 1]), CLASSES)


def test_fingerprints_are_those_that_records_name(tmp_path: Path) -> None:
    """Committed records name their data by fingerprints: these must never change."""
    named = (ROOT / "benchmarks" / "results" / "digits-classification.json").read_text()
    for name in ("mnist", "uci"):
        assert load(name, "test", cache=tmp_path).fingerprint in named


def test_a_fingerprint_is_a_hash_of_images_and_labels() -> None:
    def sha256(*tensors: torch.Tensor) -> str:
        return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()

    labels = torch.tensor([0, 2])
    assert ArrayImages("toy", "test", images(), labels, CLASSES).fingerprint == sha256(images(), labels)
    assert ArrayMasks("toy", "test", images(), masks(), CLASSES).fingerprint == sha256(images(), masks())
    one, two = objects((0, 0, 2, 2), (1, 1, 3, 4)), objects()
    parts = (part for each in (one, two) for part in (each.boxes, each.labels, each.crowd, each.area))
    assert boxed(one, two).fingerprint == sha256(images(), torch.tensor([2, 0]), *parts)


def test_a_part_of_a_set_says_of_itself_what_the_set_does() -> None:
    whole = ArrayImages("toy", "test", images(3), torch.tensor([0, 2, 1]), CLASSES)
    part = whole.subset([2, 0], {"images left out": 1})
    assert (part.name, part.split, part.classes, len(part), part.size(0)) == ("toy", "test", CLASSES, 2, (4, 6))
    assert (part.dropped, whole.dropped) == ({"images left out": 1}, {})
    assert (part.path(0), part.label_path(0), part.root) == (None, None, None)
    assert torch.equal(part[0][0], images(3)[2])
    assert [part[index][1] for index in range(2)] == [1, 0] == torch.as_tensor(part.labels).tolist()
    with pytest.raises(IndexError):
        part[2]
    with pytest.raises(DataError, match=r"toy \(test\): no image is left"):
        whole.subset([])
