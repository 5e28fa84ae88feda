import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synreal.records import bootstrap_interval
from synreal.records.numbers import value_text

VALUES = st.floats(min_value=-1, max_value=1, allow_nan=False).map(lambda value: round(value, 3))


@pytest.mark.parametrize("values", [[], [0.1]])
def test_fewer_than_two_values_have_no_interval(values):
    assert bootstrap_interval(values) is None


@given(st.lists(VALUES, min_size=2, max_size=3))
def test_the_interval_of_two_or_three_values_is_their_whole_range(values):
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((min(values), max(values)), abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(VALUES, min_size=4, max_size=5))
def test_the_interval_is_that_of_all_ways_to_draw(values):
    means = sorted(math.fsum(chosen) / len(values) for chosen in itertools.product(values, repeat=len(values)))
    place = math.ceil(0.025 * len(means)) - 1
    assert bootstrap_interval(values) == pytest.approx((means[place], means[-1 - place]), abs=1e-12)


def test_many_values_are_drawn_from_and_always_alike():
    values = [math.sin(number) for number in range(30)]
    low, high = bootstrap_interval(values)
    assert bootstrap_interval(values) == (low, high)
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(30)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.05)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.05)


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (0.1234, "%", False, "12.3"),
        (0.1234, "%", True, "+12.3"),
        (-0.1234, "%", True, "-12.3"),
        (-0.00001, "%", True, "0.0"),
        (1.5, "", False, "1.500"),
        (None, "%", True, "n/a"),
    ],
)
def test_numbers_are_written_for_people(value, unit, signed, text):
    assert value_text(value, unit, signed=signed) == text
