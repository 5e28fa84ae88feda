"""What every kind of label keeps to, from the registry, and what each makes of its own labels."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from synreal import data
from synreal.data.labels import LABELS
from synreal.data.labels.base import Counts
from synreal.data.labels.boxes import Boxes, Objects
from synreal.data.labels.classes import Classes
from synreal.data.labels.masks import IGNORE, Masks

SIZE = (4, 6)
CLASSES = ("background", "cat", "dog")


def boxes(*corners: tuple[float, float, float, float], labels: list[int], crowd: list[bool] | None = None) -> Boxes:
    found = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    return Boxes(
        found,
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
        (found[:, 2:] - found[:, :2]).prod(1),
    )


EXAMPLES: dict[str, list[Any]] = {
    "classes": [0, 2],
    "masks": [
        torch.tensor([0, 1, 2, IGNORE], dtype=torch.uint8).repeat(6).reshape(SIZE),
        torch.full(SIZE, 1, dtype=torch.uint8),
    ],
    "boxes": [
        boxes((0, 0, 2, 2), (1, 1, 6, 4), labels=[1, 2], crowd=[False, True]),
        boxes(labels=[]),
    ],
}


def the_same(kind: Any, one: Any, two: Any) -> bool:
    return type(one) is type(two) and bool(kind.digest(one) == kind.digest(two))


class Crop:
    """A geometry as views draw them: a crop, mirrored."""

    before = SIZE
    after = (3, 4)

    def __call__(self, shape: Any) -> Any:
        return F.horizontal_flip(F.crop(shape, 1, 2, 3, 4))


def test_every_kind_has_examples():
    assert set(EXAMPLES) == set(LABELS.available())


def test_data_sets_have_kinds_that_there_are():
    assert {label for kind in data.DATA.classes().values() for label in kind.label_kinds} == set(LABELS.available())


@pytest.mark.parametrize("name", LABELS.available())
def test_labels_without_a_problem_survive_what_is_done_to_them(name):
    kind = pickle.loads(pickle.dumps(LABELS.get(name)()))
    assert kind.summary.endswith(".")
    assert len({kind.digest(label) for label in EXAMPLES[name]}) == 2
    for label in EXAMPLES[name]:
        assert kind.problem(label, SIZE, CLASSES) is None
        assert kind.problem(label, None, CLASSES) is None
        assert the_same(kind, kind.realign(label, (0, 1, 2)), label)
        assert the_same(kind, kind.resize(label, SIZE, SIZE), label)
        assert "image" not in kind.encode(label)
        assert the_same(kind, kind.decode(kind.encode(label)), label)
        smaller = kind.resize(label, SIZE, (2, 3))
        assert kind.problem(smaller, (2, 3), CLASSES) is None
        moved = kind.transform(label, Crop())
        assert kind.problem(moved, Crop.after, CLASSES) is None
        counts = kind.count(label, len(CLASSES))
        assert (counts.labels.shape, counts.labels.dtype) == ((3,), np.int64)


@pytest.mark.parametrize("name", LABELS.available())
def test_digests_tell_sets_apart(name):
    kind, (one, two) = LABELS.get(name)(), EXAMPLES[name]
    sets = [[one, two], [two, one], [one], [two], [one, one]]
    assert len({b"".join(kind.digests(labels)) for labels in sets}) == len(sets)


@pytest.mark.parametrize("name", LABELS.available())
def test_a_label_of_too_few_classes_is_refused(name):
    kind = LABELS.get(name)()
    assert any("expected 0..0" in (kind.problem(label, SIZE, CLASSES[:1]) or "") for label in EXAMPLES[name])


def test_classes_that_the_source_does_not_have():
    assert Classes().realign(1, (2, None, 0)) is None
    assert Classes().realign(0, (2, None, 0)) == 2
    mask = Masks().realign(EXAMPLES["masks"][0], (2, None, 0))
    assert mask[0].tolist() == [2, IGNORE, 0, IGNORE, 2, IGNORE]
    assert mask.dtype == torch.uint8
    found = Objects().realign(EXAMPLES["boxes"][0], (2, None, 0))
    assert (found.labels.tolist(), found.boxes.tolist(), found.crowd.tolist()) == ([0], [[1, 1, 6, 4]], [True])


def test_masks_and_boxes_move_with_the_image():
    mask = torch.arange(24, dtype=torch.uint8).reshape(SIZE)
    moved = Masks().transform(mask, Crop())
    assert type(moved) is torch.Tensor
    assert moved.tolist() == mask[1:4, 2:6].flip(1).tolist()
    found = Objects().transform(boxes((3, 2, 5, 4), (1, 0, 3, 3), (0, 0, 2, 1), labels=[1, 2, 0]), Crop())
    assert found.boxes.tolist() == [[1, 1, 3, 3], [3, 0, 4, 2]], "the third leaves the image"
    assert type(found.boxes) is torch.Tensor
    assert (found.labels.tolist(), found.area.tolist()) == ([1, 2], [4, 2])
    assert Classes().transform(2, Crop()) == 2


def test_what_is_ignored_and_what_is_small_is_counted():
    counts = Masks().count(EXAMPLES["masks"][0], 3)
    assert (counts.labels.tolist(), counts.ignored, counts.small) == ([6, 6, 6], 6, 0)
    for other, small in ((1, 1), (2, 0)):  # pixels that are not of the class of nearly all
        mask = torch.zeros(SIZE, dtype=torch.uint8)
        mask[0, :other] = 1
        assert Masks().count(mask, 3).small == small
    objects = boxes((0, 0, 0.5, 3), (0, 0, 2, 0.25), (0, 0, 3, 3), (1, 1, 1.5, 2), labels=[0, 1, 1, 2])
    crowd = Boxes(objects.boxes, objects.labels, torch.tensor([False, False, False, True]), objects.area)
    counts = Objects().count(crowd, 3)
    assert (counts.labels.tolist(), counts.ignored, counts.small) == ([1, 2, 0], 1, 2)
    ignored = boxes((0, 0, 2, 3), (0, 0, 2, 3), (0, 0, 3, 3), labels=[0, 1, 1], crowd=[True, True, True])
    counts = Objects().count(ignored, 3)
    assert (counts.labels.tolist(), counts.ignored) == ([0, 0, 0], 2)


@pytest.mark.parametrize(
    ("kind", "counts", "why"),
    [
        (Classes(), ([3, 1], 0, 0), None),
        (Classes(), ([3, 0], 0, 0), "all images are of one class"),
        (Classes(), ([0, 0], 0, 0), "there is no image"),
        (Masks(), ([3, 1], 9, 0), None),
        (Masks(), ([3, 0], 9, 0), "all pixels are of one class"),
        (Masks(), ([30, 3], 9, 3), "no image shows more than one pixel of an object"),
        (Masks(), ([30, 4], 9, 3), None),
        (Masks(), ([0, 0], 9, 0), "all pixels are ignored"),
        (Objects(), ([3, 0], 0, 0), None),
        (Objects(), ([3, 1], 3, 0), None),
        (Objects(), ([0, 0], 0, 0), "there is no object"),
        (Objects(), ([0, 0], 4, 0), "all boxes stand for crowds"),
        (Objects(), ([3, 1], 1, 4), "every box has a side below one pixel"),
        (Objects(), ([3, 1], 1, 3), None),
    ],
)
def test_why_a_part_can_teach_nothing(kind, counts, why):
    labels, ignored, small = counts
    said = kind.teaches(Counts(np.array(labels), ignored, small))
    assert said == why or (why is not None and said.startswith(why))


def test_a_mask_that_is_ignored_is_remarked():
    mask = torch.full(SIZE, IGNORE, dtype=torch.uint8)
    assert Masks().remark(mask, 3, "a.png") == ("mask ignored", "All pixels of a.png are ignored.")
    assert all(Masks().remark(label, 3, "a.png") is None for label in EXAMPLES["masks"])
