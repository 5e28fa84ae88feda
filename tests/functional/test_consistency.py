import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.errors import ConfigError
from synreal.functional import pyramid_consistency
from tests.functional.test_pooling import PROPERTY, SHAPES, random_map, same_as_reference
from tests.reference import maths


@pytest.mark.parametrize("count", [2, 3])
@PROPERTY
@given(shape=SHAPES, sizes=st.sampled_from([(1,), (1, 2), (4, 1)]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation(count, shape, sizes, seed):
    views = [random_map(shape, "signed", seed + index).requires_grad_() for index in range(count)]
    same_as_reference(
        lambda *v: pyramid_consistency(v, sizes), lambda *v: maths.pyramid_consistency(v, sizes), views, 1e-12, 1e-12
    )


def test_equal_views_agree():
    features = random_map((2, 3, 5, 4), "signed", 3, torch.float32).requires_grad_()
    distance = pyramid_consistency([features, features.detach()])
    distance.backward()
    assert float(distance.detach()) == 0
    assert not features.grad.any()


def test_only_sizes_above_one_see_where_things_are():
    features = random_map((1, 3, 4, 4), "signed", 4)
    assert float(pyramid_consistency([features, features.flip(3)], (1,))) < 1e-15
    assert float(pyramid_consistency([features, features.flip(3)], (1, 2))) > 0.01


def test_the_views_meet_at_their_mean():
    views = [random_map((1, 3, 2, 2), "signed", seed).requires_grad_() for seed in (1, 2)]
    pyramid_consistency(views, (2,)).backward()
    torch.testing.assert_close(views[0].grad, -views[1].grad)
    assert views[0].grad.abs().min() > 0


def test_half_precision_is_computed_in_float32():
    views = [(random_map((2, 3, 7, 7), "relu", seed, torch.float32) * 20000).to(torch.float16) for seed in (1, 2)]
    got = pyramid_consistency(views)
    assert torch.equal(got, pyramid_consistency([view.float() for view in views]))
    assert got.isfinite()


@pytest.mark.parametrize("shapes", [[(1, 2, 3, 3)], [(1, 2, 3, 3), (1, 2, 3, 4)]])
def test_wrong_views_are_named(shapes):
    with pytest.raises(ConfigError, match=r"two or more maps of one shape \(N, C, H, W\), got \["):
        pyramid_consistency([torch.zeros(shape) for shape in shapes])


@pytest.mark.parametrize("sizes", [(), (0, 2)])
def test_wrong_sizes_are_named(sizes):
    with pytest.raises(ConfigError, match="at least 1 each, got"):
        pyramid_consistency([torch.zeros(1, 2, 3, 3)] * 2, sizes)
