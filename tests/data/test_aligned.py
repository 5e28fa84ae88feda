from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.data.aligned import aligned
from synreal.data.class_names import align_names, differences
from synreal.data.labels.boxes import Boxes
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.errors import ConfigError, DataError


def test_the_same_classes_need_nothing():
    found = align_names(("car", "bus"), ("car", "bus"))
    assert found.table == (0, 1)
    assert differences(found) == []
    images = ArrayImages("real", "test", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), "ab")
    assert aligned(images, ("a", "b"), align_names("ab", "ab")) is images


def test_spelling_does_not_tell_classes_apart():
    found = align_names(("traffic light", "Car", "bus"), ("CAR", "traffic_light", "boat"))
    assert found.table == (1, 0, None)
    assert differences(found) == [
        "calls 'Car' 'CAR'",
        "calls 'traffic light' 'traffic_light'",
        "has no bus: not measured",
        "has boat, which the source does not have: left out",
    ]


@given(st.permutations(range(6)), st.integers(1, 6))
def test_every_class_finds_its_own(order, number):
    source = [f"class {index}" for index in range(6)]
    target = [source[index] for index in order][:number]
    found = align_names(source, target)
    assert [source[index] for index in found.table if index is not None] == target
    assert set(found.missing) == set(source) - set(target)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (("car", "bus"), ("person", "boat"), r"share no class. Source: car, bus. Target: person, boat"),
        (("motorbike",), ("motor-bikes",), r"Did you mean 'motorbike' by 'motor-bikes'\?"),
        (("background", "car"), ("background", "boat"), "share no class"),
        (("car", "Car"), ("car",), "The class name 'car' occurs twice in car, Car"),
        (("car",), ("bus", "bu_s", "car"), "occurs twice in bus, bu_s, car"),
    ],
)
def test_what_cannot_be_matched_is_refused(source, target, message):
    with pytest.raises(ConfigError, match=message):
        align_names(source, target)


SOURCE, TARGET = ("background", "car", "bus"), ("bus", "boat", "background")
ALIGNMENT = align_names(SOURCE, TARGET)


def test_images_of_foreign_classes_are_left_out_and_counted():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2).contiguous()
    moved = aligned(ArrayImages("real", "test", images, torch.tensor([0, 1, 2, 0]), TARGET), SOURCE, ALIGNMENT)
    assert (moved.name, moved.split, moved.classes, len(moved)) == ("real", "test", SOURCE, 3)
    assert moved.labels == [2, 0, 2]
    assert [(int(image[0, 0, 0]), label) for image, label in moved] == [(0, 2), (2, 0), (3, 2)]
    assert moved.size(1) == (2, 2)
    assert moved.dropped == {"images of classes that the source does not have": 1}
    again = pickle.loads(pickle.dumps(moved))
    assert again[2][1] == 2


def test_a_target_without_a_usable_image_is_refused():
    images = ArrayImages("real", "test", torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.tensor([1, 1]), TARGET)
    with pytest.raises(DataError, match=r"real \(test\) has no image of any of the source's classes"):
        aligned(images, SOURCE, ALIGNMENT)


def test_pixels_of_foreign_classes_count_nowhere():
    masks = torch.tensor([[[0, 1], [2, IGNORE]]], dtype=torch.uint8)
    moved = aligned(
        ArrayMasks("real", "test", torch.zeros(1, 3, 2, 2, dtype=torch.uint8), masks, TARGET), SOURCE, ALIGNMENT
    )
    assert moved[0][1].tolist() == [[2, IGNORE], [0, IGNORE]]
    assert moved[0][1].dtype == torch.uint8


def test_boxes_of_foreign_classes_are_left_out_and_images_stay():
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2]])
    objects = Boxes(boxes, torch.tensor([1, 0, 1]), torch.tensor([False, True, True]), torch.tensor([1.0, 4, 1]))
    alone = Boxes(boxes[:1], torch.tensor([1]), torch.tensor([False]), torch.tensor([1.0]))
    images = ArrayBoxes("real", "test", torch.zeros(2, 3, 2, 2, dtype=torch.uint8), [objects, alone], TARGET)
    moved = aligned(images, SOURCE, ALIGNMENT)
    assert len(moved) == 2
    found = moved[0][1]
    assert (found.boxes.tolist(), found.labels.tolist()) == ([[0, 0, 2, 2]], [2])
    assert (found.crowd.tolist(), found.area.tolist()) == ([True], [4])
    assert moved[1][1].boxes.shape == (0, 4)


def test_the_fingerprint_tells_what_the_classes_became():
    images = ArrayImages("real", "test", torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 2]), TARGET)
    one = aligned(images, SOURCE, ALIGNMENT)
    other = aligned(images, ("bus", "background"), align_names(("bus", "background"), TARGET))
    assert len({images.fingerprint, one.fingerprint, other.fingerprint}) == 3
