import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.errors import ConfigError
from synreal.functional import feature_l2
from tests.functional.test_pooling import PROPERTY, SHAPES, random_map, same_as_reference
from tests.reference import maths


@pytest.mark.parametrize("spatial", [False, True])
@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["signed", "relu", "clustered"]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation(spatial, shape, content, seed):
    maps = [random_map(shape, content, seed + index, torch.float32) for index in (0, 1)]
    same_as_reference(
        lambda f, g: feature_l2(f, g, spatial=spatial), lambda f, g: maths.feature_l2(f, g, spatial), maps, 1e-6, 1e-5
    )


def test_gradient_passes_gradcheck():
    maps = [random_map((2, 2, 4, 3), "signed", seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(feature_l2, maps)
    assert torch.autograd.gradcheck(lambda f, g: feature_l2(f, g, spatial=True), maps)


@pytest.mark.parametrize("spatial", [False, True])
def test_equal_maps_are_at_distance_zero(spatial):
    features = random_map((2, 3, 5, 4), "signed", 3, torch.float32).requires_grad_()
    distance = feature_l2(features, features.detach(), spatial=spatial)
    assert float(distance.detach()) == 0
    distance.backward()
    assert not features.grad.any()


def test_only_the_spatial_form_lets_content_move_within_a_cell():
    features = random_map((1, 2, 6, 6), "signed", 4)
    within_cells = features.reshape(1, 2, 3, 2, 3, 2).flip(3, 5).reshape(1, 2, 6, 6)
    assert float(feature_l2(within_cells, features)) > 0.1
    assert float(feature_l2(within_cells, features, spatial=True)) < 1e-20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spatial", [False, True])
def test_half_precision_is_computed_in_float32(dtype, spatial):
    student = torch.full((2, 64, 4, 4), 60000.0, dtype=dtype)
    teacher = -student
    distance = feature_l2(student, teacher, spatial=spatial)
    assert distance.dtype == torch.float32
    assert distance.isfinite()
    assert torch.equal(distance, feature_l2(student.float(), teacher.float(), spatial=spatial))


@pytest.mark.parametrize("shapes", [((1, 2, 3, 3), (1, 2, 3, 4)), ((1, 2, 3, 3), (1, 1, 3, 3)), ((2, 3), (2, 3))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ConfigError, match=r"one shape \(N, C, H, W\), got \("):
        feature_l2(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
