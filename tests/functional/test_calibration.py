import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from synreal.errors import DataError
from synreal.functional import calibration_bins, calibration_error


def naive(confidences, right, bins):
    """Eq. 3, bin by bin."""
    total = 0.0
    for m in range(1, bins + 1):
        held = [
            (c, r)
            for c, r in zip(confidences, right, strict=True)
            if (m - 1) / bins < c <= m / bins or (c == 0 and m == 1)
        ]
        if held:
            accuracy, confidence = (sum(column) / len(held) for column in zip(*held, strict=True))
            total += len(held) / len(confidences) * abs(accuracy - confidence)
    return total


def some(number, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    probabilities = (2 * torch.randn(number, classes, generator=generator)).softmax(1)
    return probabilities, torch.randint(classes, (number,), generator=generator)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_the_error_is_the_equation_s_and_torchmetrics(bins):
    probabilities, targets = some(500)
    sure, said = probabilities.max(1)
    found = calibration_error(calibration_bins(sure, said == targets, bins))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(naive(sure.double().tolist(), (said == targets).tolist(), bins), abs=1e-13)
    theirs = multiclass_calibration_error(probabilities, targets, 4, n_bins=bins, norm="l1")  # in float32
    assert found.item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("bins", [3, 7, 15])
def test_a_confidence_at_the_edge_falls_into_the_lower_bin(bins):
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    counts = calibration_bins(edges, torch.ones(bins + 1, dtype=torch.bool), bins)[0].tolist()
    assert counts == [2.0, *[1.0] * (bins - 1)]  # 0 and 1/M share the first
    above = edges[:-1].nextafter(torch.tensor(2.0, dtype=torch.float64))
    assert calibration_bins(above, above > 0, bins)[0].tolist() == [1.0] * bins


def test_bins_hold_numbers_hits_and_confidences_and_add_up():
    sure = torch.tensor([[0.1, 0.9], [0.95, 0.4]])
    right = torch.tensor([[True, False], [True, True]])
    table = calibration_bins(sure, right, 2)
    assert table.tolist() == [[2, 2], [2, 1], [pytest.approx(0.5), pytest.approx(1.85)]]
    assert torch.equal(sum(calibration_bins(s, r, 2) for s, r in zip(sure, right, strict=True)), table)
    assert calibration_error(table).item() == pytest.approx((1.5 + 0.85) / 4)


def test_nothing_has_no_error_and_nan_is_not_hidden():
    nothing = torch.zeros(0)
    assert math.isnan(calibration_error(calibration_bins(nothing, nothing.bool())))
    sure = torch.tensor([0.5, math.nan])
    assert math.isnan(calibration_error(calibration_bins(sure, sure > 0)))


def test_what_is_no_probability_is_refused():
    right = torch.ones(2, dtype=torch.bool)
    for wrong, span in ((torch.tensor([0.5, 1.5]), r"0\.5\.\.1\.5"), (torch.tensor([-0.1, 1.0]), r"-0\.1\.\.1")):
        with pytest.raises(DataError, match=rf"Confidences span {span}, expected probabilities.*softmax"):
            calibration_bins(wrong, right)
    with pytest.raises(DataError, match="one confidence per prediction"):
        calibration_bins(torch.ones(3), right)
    with pytest.raises(DataError, match="0 bins"):
        calibration_bins(torch.ones(2), right, 0)
    assert calibration_bins(torch.tensor([1.0, 1 + 1e-7]), right, 3)[0].tolist() == [0, 0, 2]  # rounding of float32
