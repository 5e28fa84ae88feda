import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.errors import ConfigError
from synreal.functional import gram, gram_distance, gram_generalization
from tests.functional.test_pooling import PROPERTY, SHAPES, random_map, same_as_reference, value_and_gradient
from tests.reference import maths


@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["signed", "relu", "clustered"]), seed=st.integers(0, 1 << 16))
def test_distances_agree_with_the_equation_in_float64(shape, content, seed):
    maps = [random_map(shape, content, seed + index) for index in (0, 1)]
    got = value_and_gradient(lambda f, g: gram_distance(f, g, "none"), maps)
    torch.testing.assert_close(got, value_and_gradient(maths.gram_distance, maps), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gram(maps[0]), maths.gram(maps[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 9, 2, 2), (2, 8, 2, 2), (1, 3, 1, 1)], ids=["positions", "channels", "one"])
def test_both_ways_to_a_distance_are_one_in_float32(shape):
    """Nine channels and four positions are compared by position, eight by channel."""
    maps = [random_map(shape, "relu", seed, torch.float32) for seed in (1, 2)]
    same_as_reference(lambda f, g: gram_distance(f, g, "none"), maths.gram_distance, maps, 1e-5, 1e-5)


@pytest.mark.parametrize("step", [1e-2, 1e-4])
def test_small_changes_of_many_channels_lose_no_digits(step):
    student = random_map((2, 32, 2, 3), "relu", 1)
    maps = [student.float(), (student + step * random_map((2, 32, 2, 3), "signed", 2)).float()]
    want = maths.gram_distance(*(value.double() for value in maps))
    torch.testing.assert_close(gram_distance(*maps, "none").double(), want, rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(2, 9, 2, 2), (2, 4, 3, 3)])
def test_equal_maps_are_at_distance_zero_without_a_gradient(shape):
    features = random_map(shape, "relu", 3, torch.float32).requires_grad_()
    distance = gram_distance(features, features.detach())
    distance.backward()
    assert float(distance.detach()) == 0
    assert not features.grad.any()


def test_a_texture_does_not_know_where_things_are():
    features = random_map((1, 9, 2, 2), "relu", 4, torch.float32)
    moved = features.flip(2, 3).requires_grad_()
    distance = gram_distance(moved, features)
    distance.backward()
    assert float(distance.detach()) < 1e-6
    assert moved.grad.abs().max() < 10
    assert gram_distance(features, random_map((1, 9, 3, 5), "relu", 4, torch.float32)).isfinite()


def test_one_sample_does_not_weigh_on_another():
    maps = [random_map((3, 9, 2, 2), "relu", seed) for seed in (1, 2)]
    each = gram_distance(*maps, "none")
    torch.testing.assert_close(gram_distance(*maps), each.mean())
    torch.testing.assert_close(each[1:2], gram_distance(maps[0][1:2], maps[1][1:2], "none"))


@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16))
def test_styles_agree_with_the_equation_in_float64(shape, seed):
    maps = [random_map(shape, "signed", seed + index) for index in range(3)]
    maps[2] = maps[2] / 2  # so that stylisation brings much in
    got = value_and_gradient(lambda s, x_s: gram_generalization(s, x_s, maps[2], 0.1, "none"), maps[:2])
    want = value_and_gradient(lambda s, x_s: maths.gram_generalization(s, x_s, maps[2], 0.1), maps[:2])
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def test_where_a_style_brought_nothing_in_there_is_nothing_to_compare():
    style, features = (random_map((2, 3, 2, 2), "relu", seed).requires_grad_() for seed in (1, 2))
    distance = gram_generalization(style, features, features)
    distance.backward()
    assert float(distance.detach()) == 0
    assert not style.grad.any()
    assert not features.grad.any()


@pytest.mark.parametrize("shape", [(2, 9, 2, 2), (2, 4, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(shape, dtype):
    maps = [(random_map(shape, "relu", seed, torch.float32) * 2000).to(dtype) for seed in (1, 2, 3)]
    wide = [value.float() for value in maps]
    with torch.autocast("cpu", torch.bfloat16):
        got, styles = gram_distance(*maps[:2]), gram_generalization(*maps)
    assert torch.equal(got, gram_distance(*wide[:2]))
    assert torch.equal(styles, gram_generalization(*wide))
    assert got.isfinite()


def test_maps_that_cannot_be_compared_are_named():
    features = torch.ones(2, 3, 2, 2)
    with pytest.raises(ConfigError, match=r"as many samples and channels, got \(2, 3, 2, 2\) and \(2, 4, 2, 2\)"):
        gram_distance(features, torch.ones(2, 4, 2, 2))
    with pytest.raises(ConfigError, match="as many samples and channels"):
        gram_generalization(features, features, torch.ones(1, 3, 2, 2))
    with pytest.raises(ConfigError, match=r"a map of shape \(N, C, H, W\), got \(2, 3\)"):
        gram(torch.ones(2, 3))
