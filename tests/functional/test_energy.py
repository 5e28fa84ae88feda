import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synreal.errors import DataError
from synreal.functional import energy, energy_of_tiles, energy_tiles, hyperspherical_energy
from tests.functional.real_features import real_features

POWERS = (0, 0.5, 1, 2, 3)


def naive(features, powers=POWERS):
    """The equation over all pairs, with differences of vectors in extended precision."""
    rows = features.double().numpy().astype(np.longdouble)
    rows = rows / np.sqrt((rows**2).sum(1, keepdims=True))
    total, pairs = [np.longdouble(0)] * len(powers), 0
    for i in range(len(rows) - 1):
        distances = np.sqrt(((rows[i] - rows[i + 1 :]) ** 2).sum(1))
        pairs += len(distances)
        total = [
            sum_ + (np.log(1 / distances) if power == 0 else distances**-power).sum()
            for sum_, power in zip(total, powers, strict=True)
        ]
    return [float(sum_ / pairs) for sum_ in total]


def features(rows, width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 100 + 0.01
    return torch.randn(rows, width, generator=generator, dtype=torch.float64) * lengths


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(energy, "_TILE", 16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [2, 3, 15, 16, 17, 100])
def test_energies_are_those_of_all_pairs(rows, dtype, small_tiles):
    values = features(rows).to(dtype)
    found = hyperspherical_energy(values, POWERS)
    assert found.values.dtype == torch.float64
    assert found.values.tolist() == pytest.approx(naive(values), rel=1e-12, abs=1e-13)
    assert (found.pairs, found.coincident) == (rows * (rows - 1) // 2, 0)


def test_energies_of_full_tiles_and_of_real_features():
    values = features(1500, width=40)
    distances = pdist(values.numpy() / np.linalg.norm(values.numpy(), axis=1, keepdims=True))
    expected = [-np.log(distances).mean(), (1 / distances).mean(), (1 / distances**2).mean()]
    assert hyperspherical_energy(values).values.tolist() == pytest.approx(expected, rel=1e-12)
    for real in real_features():
        assert hyperspherical_energy(real, POWERS).values.tolist() == pytest.approx(naive(real), rel=1e-12)


def test_points_near_each_other_keep_their_digits(small_tiles):
    """Products of vectors alone would lose half of them."""
    centers = features(4).repeat_interleave(10, 0)
    values = centers / centers.norm(dim=1, keepdim=True) + 1e-5 * features(40, seed=1) / 100
    found = hyperspherical_energy(values, POWERS, closest=0)
    assert found.values.tolist() == pytest.approx(naive(values), rel=1e-9)
    assert found.coincident == 0


def test_pairs_that_coincide_are_counted_and_left_out(small_tiles):
    values = features(50)
    copies = torch.cat([values, 3 * values[:2], values[:1].float().double()])
    found = hyperspherical_energy(copies, POWERS)
    kept = pdist(copies.numpy() / np.linalg.norm(copies.numpy(), axis=1, keepdims=True))
    kept = kept[kept > 1e-6]
    assert found.coincident == 4  # one row is there three times, with rounding in between, and another twice
    assert found.pairs == 53 * 52 // 2 == len(kept) + 4
    assert found.values[2].item() == pytest.approx((1 / kept).mean(), rel=1e-12)
    near = hyperspherical_energy(copies, POWERS, closest=0)
    assert near.coincident <= 2
    assert near.values[3] > 1e3 * found.values[3]


@pytest.mark.parametrize("factor", [1, 1 + 1e-9])
def test_features_that_all_coincide_have_an_infinite_energy(factor, small_tiles):
    values = features(1).repeat(40, 1)
    values[::2] *= factor
    found = hyperspherical_energy(values)
    assert found.values.tolist() == [math.inf] * 3
    assert found.coincident == found.pairs == 780


@pytest.mark.parametrize("case", ["none", "one", "zero", "nan", "inf"])
def test_what_has_no_energy_is_nan(case):
    values = {"none": features(0), "one": features(1)}.get(case, features(5))
    if len(values) == 5:
        values[3] = 0 if case == "zero" else values[3]
        values[3, 2] = {"nan": math.nan, "inf": math.inf}.get(case, values[3, 2])
    assert all(map(math.isnan, hyperspherical_energy(values).values.tolist()))


def test_lengths_that_have_no_square_do_not_matter():
    values = features(9)
    expected = hyperspherical_energy(values).values.tolist()
    for factor in (1e-300, 1e300):
        assert hyperspherical_energy(values * factor).values.tolist() == pytest.approx(expected, rel=1e-12)


def test_neither_the_order_of_rows_nor_the_parts_change_a_bit(small_tiles):
    values = features(150).float()
    whole = hyperspherical_energy(values, POWERS).values
    for seed in range(3):
        order = torch.randperm(150, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(hyperspherical_energy(values[order], POWERS).values, whole)
    for parts in (2, 3, 99):
        tables = [energy_tiles(values, POWERS, part=part, parts=parts) for part in range(parts)]
        assert torch.equal(energy_of_tiles(sum(tables)).values, whole)
    first, second = (energy_tiles(values, POWERS, part=part, parts=2) for part in (0, 1))
    assert not (first * second).any()


@pytest.mark.parametrize("spread", [1, 1e-5], ids=["apart", "in clusters"])
def test_no_tensor_grows_with_the_square_of_the_rows(spread):
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max([largest, *(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))])
            return out

    values = features(4000)
    values = features(3)[torch.arange(4000) % 3] + spread * values
    with Watch():
        assert hyperspherical_energy(values).pairs == 4000 * 3999 // 2
    assert largest <= 2 * energy._TILE**2


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((3, 4, 5), {}, r"Features must be a matrix, \(N, D\), got \(3, 4, 5\)"),
        ((3, 4), {"powers": (1, -1)}, r"powers of at least 0.*got \[1, -1\]"),
        ((3, 4), {"closest": 2}, "closest distance"),
    ],
)
def test_what_cannot_be_computed_is_refused(shape, changes, message):
    with pytest.raises(DataError, match=message):
        hyperspherical_energy(torch.randn(shape), **changes)
