import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.core.passes import STUDENT, Pass, Step
from synreal.errors import ConfigError
from synreal.functional import guidance
from synreal.regularizers import get
from tests.functional.test_pooling import PROPERTY, SHAPES, close, random_map, same_as_reference, value_and_gradient
from tests.reference import maths

POOLINGS = sorted(maths.POOLINGS)
# A sum of unlike signs has no digits to spare, so that a relative tolerance says nothing: signed maps are shifted.
CONTENTS = st.sampled_from(["shifted", "relu", "clustered"])


def naive(pooling):
    return lambda f, g: maths.guidance(f, g, pooling)


@pytest.mark.parametrize("pooling", POOLINGS)
@PROPERTY
@given(shape=SHAPES, content=CONTENTS, seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation_in_float64(pooling, shape, content, seed):
    maps = [random_map(shape, content, seed + index) for index in (0, 1)]
    got, gradients = value_and_gradient(lambda f, g: guidance(f, g, pooling, "none"), maps)
    want, want_gradients = value_and_gradient(naive(pooling), maps)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients, want_gradients, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("pooling", POOLINGS)
@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16))
def test_float32_keeps_the_digits(pooling, shape, seed):
    # Opposite directions: the difference of two unit vectors is not small, so it keeps its relative precision.
    # In float64: of nearly opposite directions the gradient vanishes, and float32 would compare rounding noise.
    student, teacher = (random_map(shape, "relu", seed + index).double() + 0.5 for index in (0, 1))
    teacher = -teacher
    same_as_reference(lambda f, g: guidance(f, g, pooling, "none"), naive(pooling), [student, teacher], 1e-6, 1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_clustered_maps_lose_no_more_than_rounding(pooling):
    maps = [random_map((2, 4, 3, 3), "clustered", 5, torch.float32), random_map((2, 4, 3, 3), "clustered", 5)]
    teacher = maps[1] + 1e-3 * random_map((2, 4, 3, 3), "signed", 6)
    want = maths.guidance(maps[0].double(), teacher.float().double(), pooling)
    got = guidance(maps[0], teacher.float(), pooling, "none")
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-12)
    assert float(want.max()) < 1e-5


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradient_passes_gradcheck(pooling):
    maps = [random_map((2, 3, 2, 3), "signed", seed).requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(lambda f, g: guidance(f, g, pooling), maps)


@PROPERTY
@given(shape=SHAPES, pooling=st.sampled_from(POOLINGS), seed=st.integers(0, 1 << 16))
def test_it_lies_between_zero_and_four(shape, pooling, seed):
    student, teacher = (random_map(shape, "signed", seed + index) for index in (0, 1))
    distances = guidance(student, teacher, pooling, "none")
    assert distances.shape == shape[:1]
    assert bool(((distances >= 0) & (distances <= 4 + 1e-12)).all())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_opposite_maps_are_at_distance_four_and_parallel_ones_at_zero(pooling):
    features = random_map((2, 3, 4, 4), "relu", 3, torch.float32)
    close(guidance(features, -features, pooling, "none"), torch.full((2,), 4.0, dtype=torch.float64), 1e-6)
    assert float(guidance(features, 8 * features, pooling).abs()) < 1e-12


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_maps_of_zeros_have_no_direction(pooling, which):
    maps = [random_map((2, 3, 2, 2), "relu", seed, torch.float32) for seed in (1, 2)]
    for index in which:
        maps[index] = torch.zeros_like(maps[index])
    maps[0].requires_grad_()
    distances = guidance(*maps, pooling, "none")
    assert distances.tolist() == pytest.approx([1.0 if len(which) == 1 else 0.0] * 2)
    distances.sum().backward()
    assert not maps[0].grad.any() if 0 in which else maps[0].grad.isfinite().all()


def test_one_sample_of_zeros_leaves_the_others_alone():
    student, teacher = (random_map((3, 3, 2, 2), "relu", seed, torch.float32) for seed in (1, 2))
    alone = guidance(student, teacher, reduction="none")
    student[1] = 0
    student.requires_grad_()
    distances = guidance(student, teacher, reduction="none")
    assert torch.equal(distances[[0, 2]], alone[[0, 2]])
    distances.sum().backward()
    assert not student.grad[1].any()
    assert student.grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(pooling, dtype):
    student, teacher = (random_map((2, 16, 7, 7), "relu", seed, torch.float32) for seed in (1, 2))
    student, teacher = (student * 20000).clamp(max=60000).to(dtype), teacher.to(dtype)
    got = guidance(student, teacher, pooling)
    assert got.dtype == torch.float32
    assert torch.equal(got, guidance(student.float(), teacher.float(), pooling))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(guidance(student, teacher, pooling), got)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("factor", [2.0**60, 2.0**-60])
def test_the_scale_of_a_map_does_not_matter(pooling, factor):
    student, teacher = (random_map((2, 3, 3, 3), "relu", seed, torch.float32) for seed in (1, 2))
    assert torch.equal(guidance(student * factor, teacher, pooling), guidance(student, teacher, pooling))


def test_one_position_is_pooled_to_itself():
    student, teacher = (random_map((1, 4, 1, 1), "signed", seed) for seed in (1, 2))
    want = maths.guidance(student, teacher, "none")
    for pooling in ("none", "gap", "attentional"):
        torch.testing.assert_close(guidance(student, teacher, pooling, "none"), want)


def test_reductions_and_the_default_pooling():
    student, teacher = (random_map((3, 4, 3, 2), "relu", seed) for seed in (1, 2))
    each = guidance(student, teacher, "attentional", "none")
    torch.testing.assert_close(guidance(student, teacher), each.mean())
    torch.testing.assert_close(guidance(student, teacher, reduction="sum"), each.sum())
    assert float(guidance(student, teacher, "gap")) != float(guidance(student, teacher))


def test_maps_may_differ_in_size_where_the_pooling_forgets_it():
    student, teacher = random_map((2, 3, 2, 2), "relu", 1), random_map((2, 3, 4, 3), "relu", 2)
    for pooling in ("gap", "attentional"):
        want = maths.guidance(student, teacher, pooling)
        torch.testing.assert_close(guidance(student, teacher, pooling, "none"), want)
    for pooling in ("none", "channel", "spatial"):
        with pytest.raises(ConfigError, match=r"'gap' and 'attentional' need equal channels only"):
            guidance(student, teacher, pooling)


def test_wrong_settings_are_named():
    features = torch.ones(1, 2, 2, 2)
    with pytest.raises(ConfigError, match="reduction must be"):
        guidance(features, features, reduction="median")
    with pytest.raises(ConfigError, match="Did you mean 'gap'"):
        guidance(features, features, "gop")


@pytest.mark.parametrize("pooling", POOLINGS)
@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16))
def test_the_batch_norm_is_the_root_of_the_sum(pooling, shape, seed):
    """The spec's norm="batch": one Frobenius norm over the batch, in each stage."""
    # In float64: of nearly opposite directions the gradient vanishes, and float32 would compare rounding noise.
    student, teacher = (random_map(shape, "relu", seed + index).double() + 0.5 for index in (0, 1))
    teacher = -teacher
    term = get("guidance")(stages=4, pooling=pooling, norm="batch").build(_Site())

    def frobenius(f, g):
        return term(Step({STUDENT: {"4": f}, Pass("reference", 0): {"4": g}}))

    def naive_norm(f, g):
        return maths.guidance(f, g, pooling).sum().sqrt()

    same_as_reference(frobenius, naive_norm, [student, teacher], 1e-12, 1e-9)


def test_the_batch_norm_of_equal_maps_passes_no_nan():
    features = random_map((2, 3, 2, 2), "relu", 1, torch.float32).requires_grad_()
    term = get("guidance")(stages=4, norm="batch").build(_Site())
    distance = term(Step({STUDENT: {"4": features}, Pass("reference", 0): {"4": features.detach()}}))
    distance.backward()
    assert float(distance.detach()) == 0
    assert not features.grad.any()


class _Stage:
    name, key, channels, stride = "4", "4", 4, 32


class _Site:
    """A site of one stage, as far as guidance without an adapter looks at it."""

    def __init__(self):
        self.reference_stages = {"4": _Stage}

    def same_width(self, wanted, term):
        return [_Stage]
