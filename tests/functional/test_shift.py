import math

import pytest
import torch

from synreal.errors import DataError
from synreal.functional import agreement, thresholded_confidence


def naive(sure, right, elsewhere):
    """Eq. 1 and 2: of all thresholds at which as many are less sure as are wrong, the least."""
    wrong = right.count(False)
    fitting = [t for t in (*sorted(sure), math.inf) if sum(s < t for s in sure) == wrong]
    return sum(s >= min(fitting) for s in elsewhere) / len(elsewhere)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_the_estimate_is_the_equation_s(share, dtype):
    generator = torch.Generator().manual_seed(1)
    sure, elsewhere = torch.rand(200, generator=generator, dtype=dtype), torch.rand(77, generator=generator).sqrt()
    right = torch.rand(200, generator=generator) < share
    wanted = naive(sure.tolist(), right.tolist(), elsewhere.tolist())
    assert thresholded_confidence(sure, right, elsewhere) == pytest.approx(wanted, abs=1e-15)


def test_where_confidence_means_the_same_the_estimate_is_the_truth():
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(20_000, generator=generator)
    right = torch.rand(20_000, generator=generator) < sure
    shifted = sure[:10_000] ** 2  # less sure, and right as often as it says
    truth = float(shifted.mean())
    assert thresholded_confidence(sure, right, sure[10_000:]) == pytest.approx(float(right.float().mean()), abs=0.01)
    assert abs(thresholded_confidence(sure, right, shifted) - truth) < abs(float(right.float().mean()) - truth)


def test_as_many_are_above_the_threshold_as_are_right_on_the_labelled_images():
    sure = torch.tensor([0.9, 0.4, 0.8, 0.6])
    assert thresholded_confidence(sure, torch.tensor([True, False, True, True]), sure) == 0.75


@pytest.mark.parametrize("shapes", [((0,), (0,), (3,)), ((3,), (3,), (0,)), ((3,), (2,), (3,)), ((3, 1), (3, 1), (3,))])
def test_nothing_to_compare_is_refused(shapes):
    sure, right, elsewhere = (torch.ones(shape) for shape in shapes)
    with pytest.raises(DataError, match="none empty"):
        thresholded_confidence(sure, right.bool(), elsewhere)


def test_agreement_is_the_share_of_equal_predictions():
    assert agreement(torch.tensor([1, 2, 3, 3]), torch.tensor([1, 2, 0, 3])) == 0.75
    with pytest.raises(DataError, match="as many class ids"):
        agreement(torch.tensor([1]), torch.tensor([1, 2]))
    with pytest.raises(DataError, match="as many class ids"):
        agreement(torch.tensor([]), torch.tensor([]))
