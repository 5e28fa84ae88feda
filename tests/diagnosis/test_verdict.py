"""The verdict is a function of scores alone."""

import itertools

import pytest

from synreal.diagnosis import Tried, judge
from synreal.diagnosis.verdict import MARGIN, without_labels

ABOVE, WITHIN, BELOW = 2 * MARGIN, MARGIN / 2, -2 * MARGIN


def tried(frozen, csg, *, tuned=0.6, noise=0.0, more=()):
    return [
        Tried("frozen", "frozen", tuned + frozen, styles=0.5, noise=noise),
        Tried("fine-tuned", "tuned", tuned, styles=0.6),
        Tried("csg", "regularizer", tuned + csg, styles=0.7, noise=noise),
        Tried("feature_l2", "regularizer", tuned + csg - 0.001, styles=0.4, noise=noise),
        *more,
    ]


@pytest.mark.parametrize(
    ("frozen", "csg", "advice"),
    [
        (ABOVE, ABOVE, "keep"),
        (BELOW, ABOVE, "keep"),
        (ABOVE, BELOW, "keep"),
        (ABOVE, WITHIN, "keep"),
        (WITHIN, WITHIN, "unclear"),
        (BELOW, WITHIN, "free"),
        (WITHIN, BELOW, "free"),
        (BELOW, BELOW, "free"),
    ],
)
def test_the_side_is_told_by_whatever_is_ahead_and_else_by_what_is_behind(frozen, csg, advice):
    found = judge(tried(frozen, csg))
    assert found.advice == advice
    assert found.regularizer == ("csg" if advice == "keep" else "none")
    assert judge(tried(frozen, csg)[::-1]).advice == advice


@pytest.mark.parametrize(("frozen", "csg"), [*itertools.product([ABOVE, BELOW], repeat=2)])
def test_what_so_few_images_cannot_tell_apart_counts_for_nothing(frozen, csg):
    found = judge(tried(frozen, csg, noise=3 * MARGIN))
    assert found.advice == "unclear"
    assert any("could be chance" in reason for reason in found.reasons)


def test_reasons_tell_the_numbers():
    reasons = " ".join(judge(tried(0.081, 0.05)).reasons)
    assert "The frozen backbone is 8.1 points ahead of fine-tuning on real images (68.1 % against 60.0 %)" in reasons
    assert "csg is 5.0 points ahead of fine-tuning" in reasons
    assert "held-out source is best with csg (70.0 %)" in reasons


def test_a_regularizer_that_is_not_ahead_is_not_promised():
    reasons = " ".join(judge(tried(ABOVE, WITHIN)).reasons)
    assert "csg is not clearly ahead after so few steps" in reasons
    assert "not clearly ahead" not in " ".join(judge(tried(ABOVE, ABOVE)).reasons)


@pytest.mark.parametrize(("way", "words"), [("half_way", "--wise-ft 0.5"), ("head_first", "--phase head_first")])
def test_what_costs_little_is_told_where_it_is_best(way, words):
    better, worse = (judge(tried(ABOVE, ABOVE, more=[Tried("x", way, real)])) for real in (0.9, 0.1))
    assert words in " ".join(better.reasons)
    assert words not in " ".join(worse.reasons)
    assert better.advice == worse.advice == "keep"


def test_without_real_images_nothing_is_claimed():
    found = judge(without_labels(tried(ABOVE, ABOVE), {}))
    assert (found.advice, found.regularizer) == ("unclear", "none")
    assert "--photos" in found.reasons[0]


def test_estimates_take_the_place_of_scores_and_are_called_so():
    guessed = without_labels(tried(BELOW, BELOW, noise=1.0), {"frozen": 0.8, "fine-tuned": 0.6, "csg": 0.7})
    found = judge(guessed, estimated=True)
    assert (found.advice, found.regularizer) == ("keep", "csg")
    assert "an estimated 20.0 points ahead" in " ".join(found.reasons)


def test_no_regularizer_need_be_tried():
    found = judge([Tried("fine-tuned", "tuned", 0.5), Tried("frozen", "frozen", 0.6)])
    assert (found.advice, found.regularizer) == ("keep", "none")
