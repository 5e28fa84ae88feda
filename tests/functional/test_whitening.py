"""Whitening losses against float64, and clusters against all ways to cut."""

import itertools

import numpy as np
import pytest
import torch

from synreal.functional.whitening import (
    covariance_variance,
    instance_covariance,
    lowest_cluster,
    sensitive_entries,
    whitening_loss,
)


def covariance64(maps):
    found = []
    for image in maps.double():
        flat = image.flatten(1)
        entries = [[float((one * other).sum()) / (flat.shape[1] - 1) for other in flat] for one in flat]
        found.append(torch.tensor(entries, dtype=torch.float64) + 1e-5 * torch.eye(len(flat), dtype=torch.float64))
    return torch.stack(found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_covariance_of_each_image(dtype):
    maps = torch.randn(3, 4, 5, 6).to(dtype)
    found = instance_covariance(maps)
    assert found.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), covariance64(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_the_loss_of_some_entries(margin):
    maps = torch.randn(3, 4, 5, 6, requires_grad=True)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 1] = mask[0, 3] = mask[2, 3] = True
    found = whitening_loss(instance_covariance(maps), mask, margin)
    sums = [abs(one[0, 1]) + abs(one[0, 3]) + abs(one[2, 3]) for one in covariance64(maps.detach())]
    want = sum(max(0.0, float(value) - margin) / 3 for value in sums) / 3
    assert want > 0 or margin
    assert float(found.detach()) == pytest.approx(want, rel=1e-5, abs=1e-7)
    (gradient,) = torch.autograd.grad(found, maps)
    assert gradient.isfinite().all()


def test_no_entries_cost_nothing():
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = whitening_loss(instance_covariance(maps), torch.zeros(3, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_the_variance_of_two_values_is_unbiased():
    first, second = torch.randn(5, 3, 3), torch.randn(5, 3, 3)
    want = torch.stack([first, second]).double().var(0, correction=1).sum(0)
    torch.testing.assert_close(covariance_variance(first, second).double(), want, rtol=1e-5, atol=1e-6)


def every_way(values, counts, clusters):
    """The lowest cluster of the best of all cuts."""
    best = None
    for cuts in itertools.combinations(range(1, len(values)), min(clusters, len(values)) - 1):
        cost = 0.0
        for start, stop in itertools.pairwise([0, *cuts, len(values)]):
            part = np.repeat(values[start:stop], counts[start:stop])
            cost += ((part - part.mean()) ** 2).sum()
        if best is None or cost < best[0]:
            best = cost, (*cuts, len(values))[0]
    return best[1]


def test_clusters_are_the_best_ones():
    draws = np.random.default_rng(0)
    for _ in range(200):
        values = np.unique(draws.normal(size=draws.integers(1, 10)))
        counts, clusters = draws.integers(1, 5, len(values)), int(draws.integers(1, 6))
        assert lowest_cluster(values, counts, clusters) == every_way(values, counts, clusters)


def test_zeros_below_the_diagonal_take_part():
    variance = torch.zeros(4, 4)
    variance[0, 1:] = torch.tensor([0.1, 1.0, 9.0])
    variance[1, 2] = 10.0
    variance[3, 0] = 50.0  # below: not looked at
    # 0 (of the 12 other places) and 0.1 and 1.0 against 9 and 10.
    assert sensitive_entries(variance, 2).nonzero().tolist() == [[0, 3], [1, 2]]
    assert sensitive_entries(variance, 3).nonzero().tolist() == [[0, 2], [0, 3], [1, 2]]
    assert not sensitive_entries(torch.zeros(4, 4), 3).any()
    assert not sensitive_entries(torch.ones(1, 1), 3).any()
