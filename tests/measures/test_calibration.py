import math

import pytest
import torch

from synreal.errors import ConfigError, DataError, TrainingError
from synreal.functional import calibration_bins, calibration_error
from synreal.measures import Collection, check_measures
from synreal.metrics import expected_calibration_error


class Images(list):
    name, split, fingerprint, classes = "toy", "test", "0" * 64, tuple("abcd")


def ece(number, *batches, sure=False):
    collection = Collection(["ece"], Images(range(number)))
    for batch in batches:
        (collection.update_sure if sure else collection.update)(*batch)
    return collection.compute().measures["ece"]


def some(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(shape[0], 4, *shape[1:], generator=generator)
    return logits, torch.randint(4, shape, generator=generator)


def test_the_error_of_images_is_that_of_the_function():
    logits, targets = some(90)
    expected = expected_calibration_error(logits.softmax(1), targets)
    assert 0.05 < expected < 0.9
    halves = zip(logits.split(50), targets.split(50), strict=True)
    assert ece(90, *halves) == pytest.approx(expected, abs=3e-8)
    sure, said = logits.softmax(1).max(1)
    for output in (logits, said, logits.sigmoid()):  # whatever the scores are: how sure it is was said beside them
        assert ece(90, (output, targets, sure), sure=True) == pytest.approx(expected, abs=3e-8)
    assert ece(90, (said, targets, sure / 2), sure=True) != pytest.approx(expected, abs=1e-2)


def test_the_error_of_masks_is_over_all_pixels_that_count():
    logits, targets = some(5, 6, 7)
    targets = targets.to(torch.uint8)
    targets[:, :2] = 255
    flat = logits.movedim(1, -1)[targets != 255]
    expected = expected_calibration_error(flat.softmax(1), targets[targets != 255].long())
    assert ece(5, (logits, targets)) == pytest.approx(expected, abs=3e-8)
    assert ece(5, (list(logits), list(targets))) == pytest.approx(expected, abs=3e-8)
    assert expected_calibration_error(logits.softmax(1), targets, ignore_index=255) == pytest.approx(expected, abs=3e-8)
    sure, said = logits.softmax(1).max(1)
    ids = list(said.to(torch.uint8))
    assert ece(5, (ids, list(targets), list(sure)), sure=True) == pytest.approx(expected, abs=3e-8)
    parts = [ids[0][:3], ids[0][3:, :2], ids[0][3:, 2:]], [targets[0][:3], targets[0][3:, :2], targets[0][3:, 2:]]
    cut = [sure[0][:3], sure[0][3:, :2], sure[0][3:, 2:]]
    whole = ece(1, (ids[:1], targets[:1], sure[:1]), sure=True)
    assert ece(3, (*parts, cut), sure=True) == whole


def test_an_image_of_class_255_counts():
    sure = torch.tensor([0.75, 0.75])
    table = calibration_bins(sure, torch.tensor([True, False]), 15)
    targets = torch.tensor([255, 3])
    assert ece(2, (torch.tensor([255, 255]), targets, sure), sure=True) == calibration_error(table).item() == 0.25


def test_masks_without_a_pixel_that_counts_have_no_error():
    logits, targets = some(2, 3, 3)
    assert ece(2, (logits, torch.full_like(targets, 255))) is None
    assert ece(2, (logits * math.nan, targets)) is None


def test_sums_do_not_depend_on_the_order_even_of_many():
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(10_000, generator=generator, dtype=torch.float64)
    said, targets = torch.randint(4, (2, 10_000), generator=generator)
    first = ece(10_000, (said, targets, sure), sure=True)
    for _ in range(3):
        order = torch.randperm(10_000, generator=generator)
        batches = zip(said[order].split(999), targets[order].split(999), sure[order].split(999), strict=True)
        assert ece(10_000, *batches, sure=True) == first


def test_class_ids_alone_and_shapes_that_differ_are_refused():
    logits, targets = some(2, 3, 3)
    with pytest.raises(TrainingError, match=r"got class ids of shape \(1, 3, 3\), which do not say how sure"):
        ece(2, (list(logits.argmax(1)), list(targets)))
    with pytest.raises(DataError, match=r"ids of one shape, got \(2, 3, 3\) and \(2, 1, 3\)"):
        ece(2, (logits, targets[:, :1]))
    with pytest.raises(DataError, match="expected probabilities"):
        ece(2, (logits, targets, logits.amax(1).abs() + 1), sure=True)


def test_it_is_of_classes_and_masks():
    for label in ("classes", "masks"):
        check_measures(["ece"], label)
    with pytest.raises(ConfigError, match="'ece' compares classes or masks, but this task predicts boxes"):
        check_measures(["ece"], "boxes")
