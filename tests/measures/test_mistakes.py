"""Which mistakes a network makes, and in which images they are worst."""

import math

import pytest
import torch

from synreal.data.labels.boxes import Boxes
from synreal.measures import Looker
from synreal.measures.box_mistakes import BoxMistakes
from synreal.measures.mistakes import KEPT, ClassMistakes, Kind, PixelMistakes
from tests.distributed.measures import Outcome, judged


class Images:
    classes = ("cat", "dog", "emu")


def boxes(corners, labels, crowd=None):
    number = len(labels)
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).view(number, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * number, dtype=torch.bool),
        torch.ones(number),
    )


def found(corners, labels, scores=None):
    values = torch.tensor(scores or [0.9] * len(labels))
    return {
        "boxes": torch.tensor(corners, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": values,
    }


HERE, THERE, FAR = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]


def test_classes_that_are_taken_for_others_are_counted_and_the_farthest_kept():
    judge = ClassMistakes(Images)
    # Ten cats, of which all but the last are taken for dogs, each farther from the truth than the one before.
    scores = torch.tensor([[0.0, float(i + 1), -1] for i in range(9)] + [[9.0, 0, 0]])
    for start in range(0, 10, 3):
        part = slice(start, start + 3)
        judge.see_predicted(torch.arange(10)[part], scores[part], torch.zeros(10, dtype=torch.int64)[part])
    (mistake,) = judge.worst(5)
    assert (mistake.kind, mistake.count, mistake.total) == (Kind(0, 1), 9, 10)
    assert mistake.images == (8, 7, 6, 5)[:KEPT]
    assert judge.found(Kind(1, 0)).count == 0
    most, least = judge.most_and_least(4)
    assert most == [0, 2, 4, 6]  # all nine are equally wrong: these lie evenly over them
    assert least == [9]
    assert judge.judge(scores[9], 0).words == "cat"


def test_of_equally_bad_images_the_first_of_the_set_are_kept_in_whichever_order_they_come():
    judge = ClassMistakes(Images)
    for index in reversed(range(7)):
        judge.see_predicted(torch.tensor([index]), torch.eye(3)[[2]], torch.tensor([0]))
    assert judge.worst(1)[0].images == tuple(range(KEPT))


def test_pixels_that_are_taken_for_others_are_counted_and_ignored_ones_are_not():
    judge = PixelMistakes(Images)
    truth = torch.tensor([[[0, 0, 1], [1, 255, 2]], [[0, 0, 0], [0, 0, 255]], [[255] * 3] * 2], dtype=torch.uint8)
    said = torch.tensor([[[0, 1, 1], [0, 0, 2]], [[1, 1, 0], [0, 0, 0]], [[0] * 3] * 2], dtype=torch.uint8)
    judge.see_predicted(torch.arange(3), list(said), list(truth))
    assert [(one.kind, one.count, one.total, one.images) for one in judge.worst(9)] == [
        (Kind(0, 1), 3, 7, (1, 0)),
        (Kind(1, 0), 1, 2, (0,)),
    ]
    assert judge.judge(said[0], truth[0]).wrong == pytest.approx(2 / 5)
    assert judge.judge(said[1], truth[1]).words == "60.0 % of pixels right"
    assert math.isnan(judge.judge(said[2], truth[2]).wrong)
    assert judge.most_and_least(4) == ([0, 1], [])
    logits = torch.nn.functional.one_hot(said[0].long(), 3).permute(2, 0, 1).float()
    assert judge.judge(logits, truth[0]) == judge.judge(said[0], truth[0])


@pytest.mark.parametrize(
    ("prediction", "target", "counts", "wrong", "words"),
    [
        (found([HERE], [0]), boxes([HERE], [0]), {}, 0, "1 of 1 objects right"),
        (found([HERE], [0], [0.4]), boxes([HERE], [0]), {(0, None): 1}, 1, "0 of 1 objects right"),
        (found([HERE], [1]), boxes([HERE], [0]), {(0, 1): 1}, 1, "0 of 1 objects right"),
        (
            found([FAR], [1]),
            boxes([HERE], [0]),
            {(0, None): 1, (None, 1): 1},
            1,
            "0 of 1 objects right, 1 box too many",
        ),
        # The second box of one object is one too many, and does not take the other's.
        (
            found([HERE, HERE, THERE], [0, 0, 2], [0.6, 0.9, 0.8]),
            boxes([HERE, THERE], [0, 2]),
            {(None, 0): 1},
            1 / 3,
            "2 of 2 objects right, 1 box too many",
        ),
        # An object goes to the box of its own class, however unsure that is; the surer one of another class is left.
        (found([HERE, HERE], [1, 0], [0.9, 0.5]), boxes([HERE], [0]), {(None, 1): 1}, 1 / 2, None),
        # In a crowd nothing is missed, and boxes of its class count as nothing.
        (found([[1, 1, 3, 3]], [0]), boxes([HERE], [0], [True]), {}, 0, "no object"),
        (found([[1, 1, 3, 3]], [1]), boxes([HERE], [0], [True]), {(None, 1): 1}, 1, "no object, 1 box too many"),
        (found([], []), boxes([], []), {}, 0, "no object"),
        (found([[0, 0, 10, 4.9]], [0]), boxes([HERE], [0]), {(0, None): 1, (None, 0): 1}, 1, None),
        (found([[0, 0, 10, 5.1]], [0]), boxes([HERE], [0]), {}, 0, None),
    ],
)
def test_boxes_are_matched_with_objects(prediction, target, counts, wrong, words):
    one = BoxMistakes(Images).judge(prediction, (0, target))
    assert one.counts == {Kind(*kind): number for kind, number in counts.items()}
    assert one.wrong == pytest.approx(wrong)
    assert words is None or one.words == words
    assert sum(one.totals.values()) == int((~target.crowd).sum())


@pytest.mark.parametrize("kind", ["accuracy", "masks", "boxes"])
def test_the_images_in_which_the_most_and_the_least_is_wrong(kind):
    outcome = Outcome(kind, 17)
    one = judged(outcome, range(17), 4)
    wrong = {index: one.judge(outcome.outputs[index], outcome.targets[index]).wrong for index in range(17)}
    most, least = one.most_and_least(3)
    assert 0 < len(most) <= 3
    assert not set(most) & set(least)
    others = [value for index, value in wrong.items() if index not in most]
    assert min(wrong[index] for index in most) >= max(others)
    counted = sum(mistake.count for mistake in one.worst(999))
    assert counted == sum(
        sum(one.judge(outcome.outputs[index], outcome.targets[index]).counts.values()) for index in range(17)
    )


def test_it_reads_predictions_and_no_features():
    assert ClassMistakes.see is Looker.see
    assert ClassMistakes.see_predicted is not Looker.see_predicted
