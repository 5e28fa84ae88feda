"""The union of what terms ask for."""

import torch

from synreal.core.passes import STUDENT, Pass, Plan
from synreal.core.teachers import Average

REFERENCE = Pass("reference", 1)
SLOW, FAST = Average(0.99), Average(0.9)


def shared(*asked):
    return [run.shared for run in Plan.of(asked).runs]


def test_the_students_own_pass_needs_no_run():
    assert Plan.of([{STUDENT}, set()]) == Plan((), (), False)


def test_a_pass_that_several_ask_for_runs_once():
    assert shared({STUDENT, REFERENCE}, {REFERENCE}) == [REFERENCE]
    assert Plan.of([{REFERENCE}]).reference
    assert not Plan.of([{Pass("average", 1, average=SLOW)}]).reference


def test_views_networks_and_averages_run_apart():
    asked = {Pass("reference", 0), REFERENCE, Pass("student", 1)}
    averages = {Pass("average", 1, average=SLOW), Pass("average", 1, average=FAST)}
    assert set(shared(asked, averages)) == asked | averages
    assert Plan.of([averages]).averages == (FAST, SLOW)


def test_a_run_has_gradient_and_moves_statistics_if_one_of_its_passes_asks_for_it():
    quiet, moving = Pass("student", 1), Pass("student", 1, moves_stats=True)
    learning = Pass("student", 1, grad=True)
    (run,) = Plan.of([{quiet}, {learning}, {moving}]).runs
    assert run.shared == Pass("student", 1, grad=True, moves_stats=True)
    found = {"4": torch.rand(2, 3, requires_grad=True) * 2}
    maps = run.maps(found)
    assert set(maps) == {quiet, learning, moving}
    assert maps[learning] is found
    for needed in (quiet, moving):
        assert not maps[needed]["4"].requires_grad
        assert torch.equal(maps[needed]["4"], found["4"])


def test_the_order_of_terms_does_not_change_the_order_of_runs():
    asked = [{Pass("average", 0, average=SLOW)}, {REFERENCE}, {Pass("student", 1), Pass("average", 0, average=FAST)}]
    assert Plan.of(asked) == Plan.of(asked[::-1])
