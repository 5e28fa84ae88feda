import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from synreal import functional
from synreal.errors import DataError
from synreal.metrics import expected_calibration_error, hyperspherical_energy, linear_cka, match_rate


def test_energy_and_cka_are_those_of_the_functions():
    features, others = torch.randn(2, 60, 5, generator=torch.Generator().manual_seed(0))
    energies = functional.hyperspherical_energy(features).values.tolist()
    assert [hyperspherical_energy(features, s) for s in (0, 1, 2)] == energies
    assert hyperspherical_energy(features) == energies[1]
    for unbiased in (False, True):
        assert linear_cka(features, others, unbiased) == float(
            functional.linear_cka(features, others, unbiased=unbiased)
        )


def test_energy_tells_of_pairs_that_were_left_out():
    features = torch.eye(4)[[0, 1, 2, 2]]
    with pytest.warns(UserWarning, match="1 of 6 pairs of features coincide"):
        assert hyperspherical_energy(features) == pytest.approx(2**-0.5)
    assert hyperspherical_energy(features[2:]) == math.inf


def test_match_rate_is_the_share_of_equal_predictions():
    first, second = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[0, 1, 9], [9, 4, 9]])
    assert match_rate(first, second) == 0.5
    assert match_rate(first.to(torch.uint8), second) == 0.5
    assert match_rate(first, second, valid=first != 5) == pytest.approx(3 / 5)
    assert math.isnan(match_rate(first[:0], second[:0]))
    for wrong in ((first, second[0]), (first.float(), second), (first, second.float())):
        with pytest.raises(DataError, match="integer class ids of one shape"):
            match_rate(*wrong)
    with pytest.raises(DataError, match="one shape"):
        match_rate(first, second, valid=first[0] > 0)


def test_calibration_error_takes_probabilities_of_any_samples():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.randn(3, 4, 5, 6, generator=generator).softmax(1)
    targets = torch.randint(4, (3, 5, 6), generator=generator)
    for bins in (15, 7):
        theirs = multiclass_calibration_error(probabilities, targets, 4, n_bins=bins, norm="l1")
        assert expected_calibration_error(probabilities, targets, bins) == pytest.approx(float(theirs), abs=1e-6)
    theirs = multiclass_calibration_error(probabilities, targets, 4, n_bins=15, norm="l1", ignore_index=2)
    assert expected_calibration_error(probabilities, targets, ignore_index=2) == pytest.approx(float(theirs), abs=1e-6)
    assert math.isnan(expected_calibration_error(probabilities, targets * 0, ignore_index=0))
    for wrong in (targets[:2], targets[..., :1], targets[0]):
        with pytest.raises(DataError, match=r"probabilities of the classes, \(N, C, ...\)"):
            expected_calibration_error(probabilities, wrong)
    with pytest.raises(DataError, match=r"expected probabilities, 0\.\.1: take the softmax"):
        expected_calibration_error(probabilities * 9, targets)
