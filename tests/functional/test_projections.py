import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.functional import displacement, next_radius, project_rows, radius_slope, row_norms, spd_share
from tests.functional.test_pooling import PROPERTY
from tests.reference import projections

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def drawn(shape, seed, count):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16), weight=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_spd_agrees_with_the_equation(shape, seed, weight):
    anchor, before, after, gradient = drawn(shape, seed, 4)
    way, way_before = displacement(after, anchor), displacement(before, anchor)
    share = spd_share((gradient * way_before).sum(), way_before.norm(), way.norm(), weight)
    naive = projections.SPD({"w": anchor.numpy()}, weight)
    want = naive.move("w", before.numpy(), gradient.numpy(), after.numpy())
    np.testing.assert_allclose((after - share * way).numpy(), want, rtol=1e-12, atol=1e-14)
    if weight == 1.0 and float(share) > 0:
        assert float((after - share * way - anchor).norm()) == pytest.approx(float(way_before.norm()), rel=1e-12)


def test_spd_on_the_anchor_gives_nothing_back():
    zero, one = torch.zeros(1), torch.ones(1)
    assert spd_share(one, zero, zero).tolist() == [0.0]
    assert spd_share(zero, zero, one).tolist() == [0.0]  # the first step: there is no way yet
    assert spd_share(one, one, zero).tolist() == [0.0]  # the step led back by itself
    assert spd_share(-one, zero, one).tolist() == [0.0]
    assert spd_share(one, zero, one, 2.0).tolist() == [2.0]


@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16), size=st.sampled_from([0.0, 0.3, 1.0, 100.0]))
def test_rows_are_projected_into_their_ball(shape, seed, size):
    anchor, weight, gradient = drawn(shape, seed, 3)
    way, radius = displacement(weight, anchor), torch.tensor(size, dtype=torch.float64)
    projected = project_rows(weight, anchor, radius)
    norms, moved = row_norms(way), row_norms(displacement(projected, anchor))
    assert norms.shape == (shape[:1] if len(shape) > 1 else ())
    assert (moved <= norms.clamp(max=size + 1e-7)).all()
    inside = norms <= radius
    assert torch.equal(projected[inside] if len(shape) > 1 else projected[()][inside.expand(shape)],
                       weight[inside] if len(shape) > 1 else weight[inside.expand(shape)])  # fmt: skip
    rows = (lambda v: v.reshape(len(v), -1)) if len(shape) > 1 else (lambda v: v.reshape(1, -1))
    want = sum(float(g @ c) / (float(c.abs().sum()) + 1e-8) for g, c in zip(rows(gradient), rows(way), strict=True))
    assert float(radius_slope(gradient, way)) == pytest.approx(want, rel=1e-12, abs=1e-14)
    half = project_rows(weight, anchor, radius, 0.5)
    torch.testing.assert_close(half, (weight + projected) / 2, rtol=1e-12, atol=1e-14)


def test_the_radius_is_learnt_by_adam():
    generator = torch.Generator().manual_seed(3)
    radius, mean, square = (torch.zeros(2, dtype=torch.float64) for _ in range(3))
    first, second, want = [0.0, 0.0], [0.0, 0.0], [1e-8, 1e-8]
    for step in range(1, 30):
        slope = torch.randn(2, generator=generator, dtype=torch.float64)
        largest = torch.rand(2, generator=generator, dtype=torch.float64) * 0.05
        steps = torch.tensor([step, step])
        radius, mean, square = next_radius(radius, mean, square, slope, steps, largest, rate=0.02, annealing=0.5)
        for index, value in enumerate(slope.tolist() if step > 1 else ()):
            value = value * 0.5 if value > 0 else value
            first[index] = 0.9 * first[index] + 0.1 * value
            second[index] = 0.999 * second[index] + 0.001 * value**2
            spread = (second[index] / (1 - 0.999**step)) ** 0.5 + 1e-8
            want[index] = want[index] - 0.02 * first[index] / (1 - 0.9**step) / spread
            want[index] = min(max(want[index], 1e-8), float(largest[index]))
        assert radius.tolist() == pytest.approx(want, rel=1e-9)
    assert float(radius.max()) > 1e-8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    anchor, weight = torch.full((2, 3000), 300.0, dtype=dtype), torch.full((2, 3000), 340.0, dtype=dtype)
    way = displacement(weight, anchor)
    assert way.dtype == torch.float32
    assert row_norms(way).tolist() == [120000.0, 120000.0]  # beyond fp16
    assert float(radius_slope(torch.ones_like(weight), way)) == 2.0
    projected = project_rows(weight, anchor, torch.tensor(60000.0))
    assert projected.dtype == dtype
    assert torch.equal(projected, torch.full_like(weight, 320.0))
