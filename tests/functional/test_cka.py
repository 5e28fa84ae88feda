import math

import numpy as np
import pytest
import torch

from synreal.errors import DataError
from synreal.functional import cka, cka_numbers, cka_of_sums, cka_sums, linear_cka, pilot_mean
from tests.functional.real_features import real_features

SHAPES = [(40, 5, 7), (40, 30, 39), (12, 30, 20), (12, 3, 30), (4, 2, 2), (4, 9, 3), (5, 1, 1)]
EITHER = pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])


def naive(x, y, unbiased):
    """Eq. 4 with n x n matrices: centred by H on both sides, or without diagonals, summed term by term."""
    x, y = (side.double().numpy() for side in (x, y))
    n = len(x)

    def hsic(k, l):  # noqa: E741
        if not unbiased:
            h = np.eye(n) - np.ones((n, n)) / n
            return np.trace(k @ h @ l @ h) / (n - 1) ** 2
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        one = np.ones(n)
        middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        return (np.trace(k @ l) + middle - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))

    k, l = x @ x.T, y @ y.T  # noqa: E741
    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def sides(n, d_x, d_y, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (d_x, d_y))
    shared = min(d_x, d_y)
    y[:, :shared] += x[:, :shared]
    return x + 2, y - 1


def streamed(x, y, pilots, batch, *, unbiased, order=None):
    total = torch.zeros(cka_numbers(x.shape[1], y.shape[1]), dtype=torch.float64)
    for rows in (torch.arange(len(x)) if order is None else order).split(batch):
        total += cka_sums(x[rows], y[rows], *pilots)
    return cka_of_sums(total, x.shape[1], y.shape[1], unbiased=unbiased)


@EITHER
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_ways_are_the_equation_s(shape, unbiased, monkeypatch):
    x, y = sides(*shape)
    expected = naive(x, y, unbiased)
    for numbers in (cka._NUMBERS, 64):  # in one piece, and in several
        monkeypatch.setattr(cka, "_NUMBERS", numbers)
        found = linear_cka(x, y, unbiased=unbiased)
        assert found.dtype == torch.float64
        assert found.shape == ()
        assert found.item() == pytest.approx(expected, rel=1e-11)
    assert linear_cka(y, x, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-11)


@EITHER
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_sums_of_batches_are_the_equation_s(shape, batch, unbiased):
    x, y = sides(*shape)
    expected = naive(x, y, unbiased)
    for pilots in ((torch.zeros(shape[1]), torch.zeros(shape[2])), (x[0], y[0]), (pilot_mean(x), pilot_mean(y))):
        assert streamed(x, y, pilots, batch, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-10)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    other = streamed(x, y, (x[0], y[0]), batch, unbiased=unbiased, order=order)
    assert other.item() == pytest.approx(expected, rel=1e-10)


@EITHER
def test_real_features(unbiased):
    x, y = real_features()
    for a, b in ((x, y), (x[:, :50], y[:, :60]), (x[:, :50], y)):
        expected = naive(a, b, unbiased)
        assert 0.1 < expected < 1
        assert linear_cka(a, b, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-11)
        pilots = pilot_mean(a[:10]), pilot_mean(b[:10])
        assert streamed(a, b, pilots, 32, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-11)


@EITHER
@pytest.mark.parametrize("n", [12, 60])
def test_a_side_may_be_turned_scaled_and_moved(n, unbiased):
    x, y = sides(n, 20, 20)
    turn = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    expected = naive(x, y, unbiased)
    assert linear_cka(3 * x @ turn + 5, y - 1000, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-9)
    assert linear_cka(x, 3 * x @ turn + 5, unbiased=unbiased).item() == pytest.approx(1, rel=1e-12)


@EITHER
def test_features_far_from_zero_keep_their_digits_about_a_pilot(unbiased):
    x, y = sides(40, 5, 7)
    expected = naive(x, y, unbiased)
    far, off = x + 1e6, y + 1e6
    about = streamed(far, off, (pilot_mean(far[:4]), pilot_mean(off[:4])), 8, unbiased=unbiased).item()
    assert about == pytest.approx(expected, rel=1e-8)
    lost = streamed(far, off, (torch.zeros(5), torch.zeros(7)), 8, unbiased=unbiased).item()
    assert lost != pytest.approx(expected, rel=1e-5)
    assert linear_cka(far, off, unbiased=unbiased).item() == pytest.approx(expected, rel=1e-8)


def test_unrelated_sides_of_few_images_look_alike_to_the_biased_one_alone():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randn(2, 20, 100, generator=generator) for _ in range(20)]
    assert min(float(linear_cka(x, y)) for x, y in pairs) > 0.7
    assert abs(sum(float(linear_cka(x, y, unbiased=True)) for x, y in pairs)) / 20 < 0.05


@pytest.mark.parametrize("width", [3, 50], ids=["features", "images"])
def test_what_has_no_cka_is_nan(width):
    x, y = sides(20, width, width)
    constant = torch.full_like(x, 0.1)
    for unbiased in (False, True):
        few = 3 if unbiased else 1
        for a, b in ((x[:0], y[:0]), (x[:few], y[:few]), (constant, y), (x, constant), (x * math.nan, y)):
            assert math.isnan(linear_cka(a, b, unbiased=unbiased))
            if len(a):
                assert math.isnan(streamed(a, b, (a[0] * 0, b[0] * 0), 7, unbiased=unbiased))
    assert torch.equal(pilot_mean(constant), constant[0])
    assert not pilot_mean(x[:0]).any()


@pytest.mark.parametrize("shapes", [((3, 4), (4, 4)), ((3, 4, 5), (3, 4)), ((3,), (3,))])
def test_sides_that_do_not_fit_are_refused(shapes):
    x, y = map(torch.zeros, shapes)
    for call in (linear_cka, lambda x, y: cka_sums(x, y, x[0], y[0])):
        with pytest.raises(DataError, match="two matrices with a row for each image"):
            call(x, y)
