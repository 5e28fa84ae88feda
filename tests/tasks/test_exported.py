import math

import pytest
import torch

from synreal.tasks.exported import Agreement, compared_boxes, compared_probabilities


def test_probabilities_are_compared_class_by_class_and_answers_are_counted():
    theirs = [torch.tensor([0.6, 0.4]), torch.tensor([0.2, 0.8])]
    ours = [torch.tensor([0.45, 0.55]), torch.tensor([0.2, 0.8])]
    found = compared_probabilities(theirs, ours, "images")
    assert found.difference == pytest.approx(0.15)
    assert (found.equal, found.total, found.share, found.unit) == (1, 2, 0.5, "images")
    masks = compared_probabilities([torch.rand(3, 4, 5)] * 2, [torch.rand(3, 4, 5)] * 2, "pixels")
    assert masks.total == 40


def test_boxes_are_compared_with_the_one_of_their_class_that_lies_there():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    scores, labels = torch.tensor([0.9, 0.6, 0.5]), torch.tensor([0, 1, 0])
    theirs = {"boxes": boxes, "scores": scores, "labels": labels}
    order = torch.tensor([2, 1, 0])
    same = {key: value[order] for key, value in theirs.items()}
    assert compared_boxes([theirs], [same], [100]) == Agreement(0.0, 3, 3, "boxes", 1)
    moved = {**theirs, "boxes": boxes + torch.tensor([2.0, 0, 0, 0]), "scores": scores - 0.01}
    found = compared_boxes([theirs], [moved], [100])
    assert (found.difference, found.equal) == (pytest.approx(0.02), 3)
    other_class = {**theirs, "labels": torch.tensor([0, 2, 0])}
    assert compared_boxes([theirs], [other_class], [100]).equal == 2
    fewer = {key: value[:1] for key, value in theirs.items()}
    for one, other in ((theirs, fewer), (fewer, theirs)):
        found = compared_boxes([one], [other], [100])
        assert (found.equal, found.total) == (1, 3)
    none = {key: value[:0] for key, value in theirs.items()}
    assert compared_boxes([theirs, none], [none, none], [100, 100]) == Agreement(0.0, 0, 3, "boxes", 2)


def test_what_is_not_finite_never_agrees():
    good, bad = Agreement(0.0, 4, 4, "images", 4), Agreement(math.nan, 4, 4, "images", 4)
    assert good.within(0)
    for both in (bad, good.and_of(bad), bad.and_of(good)):
        assert not both.within(math.inf)
    assert good.and_of(good) == Agreement(0.0, 8, 8, "images", 8)
    assert not Agreement(0.0, 8, 10, "images", 10).within(0.1)
