import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synreal import functional
from synreal.errors import ConfigError
from synreal.functional import patches, unit
from tests.reference import maths

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
PROPERTY = settings(max_examples=15, deadline=None, derandomize=True)


def random_map(shape, kind, seed, dtype=torch.float64):
    """A map of one kind; its values are exact in float32."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    if kind == "relu":
        values = values.relu() + 0.01
    elif kind == "clustered":
        values = torch.randn(shape[0], shape[1], 1, 1, generator=generator).abs() + 0.5 + 0.01 * values
    elif kind == "shifted":
        values = values + 2
    return values.to(dtype)


def close(got, want, tolerance):
    assert got.shape == want.shape
    assert got.isfinite().all()
    scale = want.abs().max().clamp(min=1e-30)
    assert float((got.double() - want.double()).abs().max() / scale) <= tolerance


def value_and_gradient(function, inputs, cotangent=None):
    """Result and the gradients of all inputs for a fixed, uneven cotangent."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    result = function(*leaves)
    if cotangent is None:
        cotangent = torch.linspace(0.5, 1.5, result.numel(), dtype=torch.float64).reshape(result.shape)
    return result.detach(), torch.autograd.grad((result * cotangent.to(result.dtype)).sum(), leaves)


def same_as_reference(function, naive, inputs, value_tolerance, gradient_tolerance):
    got, got_gradients = value_and_gradient(function, inputs)
    want, want_gradients = value_and_gradient(naive, [value.double() for value in inputs])
    close(got, want, value_tolerance)
    for got_gradient, want_gradient in zip(got_gradients, want_gradients, strict=True):
        if want_gradient.abs().max() > 1e-9:  # where the gradient is zero, only rounding noise is left to compare
            close(got_gradient, want_gradient, gradient_tolerance)
        else:
            assert float(got_gradient.abs().max()) <= 1e-5


@pytest.mark.parametrize("kind", sorted(maths.POOLINGS))
@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["relu", "clustered", "shifted"]), seed=st.integers(0, 1 << 16))
def test_pool_agrees_with_the_equations_in_float32(kind, shape, content, seed):
    features = random_map(shape, content, seed, torch.float32)
    same_as_reference(lambda v: functional.pool(v, kind), maths.POOLINGS[kind], [features], 1e-6, 1e-5)


@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["signed", "relu", "clustered"]), seed=st.integers(0, 1 << 16))
def test_attention_agrees_with_the_equations_in_float64(shape, content, seed):
    features = random_map(shape, content, seed)
    same_as_reference(functional.attentional_pool, maths.attentional_pool, [features], 1e-9, 1e-8)
    same_as_reference(functional.attention_weights, maths.attention, [features], 1e-9, 1e-8)


@PROPERTY
@given(shape=SHAPES, channels=st.integers(1, 5), seed=st.integers(0, 1 << 16))
def test_attention_may_come_from_another_map(shape, channels, seed):
    features = random_map(shape, "shifted", seed, torch.float32)
    source = random_map((shape[0], channels, *shape[2:]), "relu", seed + 1, torch.float32)
    same_as_reference(functional.attentional_pool, maths.attentional_pool, [features, source], 1e-6, 1e-5)
    own = functional.attentional_pool(features)
    assert shape[2] * shape[3] == 1 or not torch.equal(functional.attentional_pool(features, source), own)


@PROPERTY
@given(shape=SHAPES, cells=st.integers(1, 4), seed=st.integers(0, 1 << 16))
def test_grid_average_cuts_as_documented(shape, cells, seed):
    features = random_map(shape, "shifted", seed, torch.float32)
    naive = [lambda v: functional.grid_average(v, cells), lambda v: maths.grid_average(v, cells)]
    same_as_reference(*naive, [features], 1e-6, 1e-5)


def test_gradient_passes_gradcheck():
    features = random_map((2, 3, 2, 3), "signed", 1).requires_grad_()
    source = random_map((2, 2, 2, 3), "signed", 2).requires_grad_()
    assert torch.autograd.gradcheck(functional.attentional_pool, (features,))
    assert torch.autograd.gradcheck(functional.attentional_pool, (features, source))


@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["relu", "signed"]), seed=st.integers(0, 1 << 16))
def test_attention_is_a_distribution_over_positions(shape, content, seed):
    weights = functional.attention_weights(random_map(shape, content, seed))
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(shape[0], dtype=torch.float64), rtol=0, atol=1e-9)
    if content == "relu":
        assert (weights >= 0).all()


def test_signed_features_may_give_negative_weights():
    features = torch.tensor([[[[3.0, -1.0]]]])
    assert functional.attention_weights(features).flatten().tolist() == pytest.approx([1.5, -0.5])


@PROPERTY
@given(shape=SHAPES, exponent=st.integers(-30, 30), seed=st.integers(0, 1 << 16))
def test_attention_does_not_depend_on_the_scale(shape, exponent, seed):
    features = random_map(shape, "relu", seed, torch.float32)
    factor = 2.0**exponent  # a power of two rounds nothing
    assert torch.equal(functional.attention_weights(features * factor), functional.attention_weights(features))
    assert torch.equal(functional.attentional_pool(features * factor), functional.attentional_pool(features) * factor)


@PROPERTY
@given(shape=SHAPES, seed=st.integers(0, 1 << 16))
def test_pooling_does_not_depend_on_the_order_of_positions(shape, seed):
    features = random_map(shape, "signed", seed)
    order = torch.randperm(shape[2] * shape[3], generator=torch.Generator().manual_seed(seed))
    shuffled = features.flatten(2)[:, :, order].reshape(shape)
    torch.testing.assert_close(functional.attentional_pool(shuffled), functional.attentional_pool(features))
    weights = functional.attention_weights(features).flatten(1)[:, order]
    torch.testing.assert_close(functional.attention_weights(shuffled).flatten(1), weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_map_of_zeros_is_pooled_evenly(dtype):
    features = torch.zeros(2, 3, 2, 4, dtype=dtype, requires_grad=True)
    weights = functional.attention_weights(features)
    assert torch.equal(weights, torch.full_like(weights, 1 / 8))
    functional.attentional_pool(features).sum().backward()
    assert torch.equal(features.grad, torch.full_like(features, 1 / 8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_of_mean_zero_is_pooled_evenly(dtype):
    values = torch.tensor([1.0, -1.0, 0.3, -0.3], dtype=dtype).reshape(1, 1, 2, 2).repeat(1, 3, 1, 1)
    features = values.requires_grad_()
    assert torch.equal(functional.attention_weights(features), torch.full((1, 2, 2), 0.25, dtype=dtype))
    close(functional.attention_weights(features).detach(), maths.attention(features.detach().double()), 0)
    pooled = functional.attentional_pool(features)
    assert float(pooled.detach().abs().max()) < 1e-6
    pooled.sum().backward()
    assert features.grad.isfinite().all()


def test_a_mean_of_rounding_noise_is_pooled_evenly():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 4, 7, 7, generator=generator)
    features = features - features.mean((2, 3), keepdim=True)
    weights = functional.attention_weights(features)
    assert torch.equal(weights, torch.full_like(weights, 1 / 49))


def test_one_position_has_all_the_attention():
    features = torch.tensor([[2.0, -3.0], [0.0, 0.0]]).reshape(2, 2, 1, 1)
    assert torch.equal(functional.attention_weights(features), torch.ones(2, 1, 1))
    assert torch.equal(functional.attentional_pool(features), features.flatten(1))


@pytest.mark.parametrize("kind", sorted(maths.POOLINGS))
def test_a_batch_pools_like_its_samples_alone(kind):
    features = random_map((3, 4, 3, 2), "shifted", 5)
    alone = torch.cat([functional.pool(sample[None], kind) for sample in features])
    torch.testing.assert_close(functional.pool(features, kind), alone)


@pytest.mark.parametrize("value", [24.0, 60000.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", sorted(maths.POOLINGS))
def test_large_half_precision_maps_do_not_overflow(kind, dtype, value):
    features = torch.full((1, 256, 7, 7), value, dtype=dtype)
    pooled = functional.pool(features, kind)
    assert pooled.dtype == torch.float32
    assert pooled.isfinite().all()
    assert torch.equal(pooled, functional.pool(features.float(), kind))
    torch.testing.assert_close(pooled, torch.full_like(pooled, float(features[0, 0, 0, 0])), rtol=1e-5, atol=0)


def test_huge_and_tiny_float32_maps_keep_their_attention():
    features = random_map((1, 4, 3, 3), "relu", 3, torch.float32)
    for factor in (2.0**100, 2.0**-100):
        assert torch.equal(functional.attention_weights(features * factor), functional.attention_weights(features))


@pytest.mark.parametrize("kind", [*sorted(maths.POOLINGS), "attend_from"])
def test_autocast_changes_nothing(kind):
    features = random_map((2, 16, 4, 4), "signed", 7, torch.float32)
    source = random_map((2, 16, 4, 4), "relu", 8, torch.float32)

    def pooled():
        return (
            functional.attentional_pool(features, source) if kind == "attend_from" else functional.pool(features, kind)
        )

    want = pooled()
    with torch.autocast("cpu", torch.bfloat16):
        got = pooled()
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_mixed_precisions_are_computed_in_float32():
    features, source = random_map((1, 2, 2, 2), "relu", 1), random_map((1, 2, 2, 2), "relu", 2)
    mixed = functional.attentional_pool(features.bfloat16(), source.half())
    assert torch.equal(mixed, functional.attentional_pool(features.bfloat16().float(), source.half().float()))


def test_a_nan_is_never_hidden():
    features = torch.ones(1, 2, 2, 2)
    features[0, 1, 0, 0] = torch.nan
    assert functional.attentional_pool(features).isnan().any()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("kind", sorted(maths.POOLINGS))
def test_a_wrong_shape_is_named(kind, shape):
    with pytest.raises(ConfigError, match=r"\(N, C, H, W\), got \(" + ", ".join(map(str, shape))):
        functional.pool(torch.zeros(shape), kind)


@pytest.mark.parametrize("other", [(1, 3, 4, 4), (2, 3, 4, 5), (2, 3, 2, 2)])
def test_maps_that_do_not_match_are_named(other):
    with pytest.raises(ConfigError, match=r"attend_from \(.*features \(2, 3, 4, 4\)"):
        functional.attentional_pool(torch.zeros(2, 3, 4, 4), torch.zeros(other))


def test_a_source_that_is_no_map_is_named():
    with pytest.raises(ConfigError, match="attend_from must be a map"):
        functional.attentional_pool(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3))


def test_an_unknown_pooling_suggests_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'spatial'"):
        functional.pool(torch.zeros(1, 1, 1, 1), "spatail")


@pytest.mark.parametrize(("size", "n"), [((8, 8), 8), ((8, 12), 4), ((6, 4), 2), ((5, 7), 1)])
def test_patches_are_slices_ordered_by_sample_row_and_column(size, n):
    maps = torch.rand(3, 2, *size)
    cut = patches(maps, n)
    rows, columns = size[0] // n, size[1] // n
    expected = [
        maps[sample, :, r * rows : (r + 1) * rows, c * columns : (c + 1) * columns]
        for sample in range(3)
        for r in range(n)
        for c in range(n)
    ]
    assert torch.equal(cut, torch.stack(expected))


@pytest.mark.parametrize(("size", "shape"), [((9, 10), (2, 2)), ((3, 3), (1, 1)), ((7, 4), (1, 1))])
def test_patches_of_sizes_that_n_does_not_divide_cover_the_whole_map(size, shape):
    maps = torch.full((2, 3, *size), 5.0)
    maps[:, :, -1, -1] = 50.0
    cut = patches(maps, 4)
    assert cut.shape == (2 * 16, 3, *shape)
    assert cut[15].max() > 5  # the last cell is in the last patch of its sample
    assert cut.min() == 5


def test_patches_refuse_what_cannot_be_cut():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        patches(torch.rand(1, 1, 4, 4), 0)
    with pytest.raises(ConfigError, match=r"\(N, C, H, W\)"):
        patches(torch.rand(1, 4, 4), 2)


@PROPERTY
@given(
    rows=st.integers(1, 4),
    length=st.integers(1, 6),
    exponent=st.sampled_from([-60, -20, 0, 20, 60]),
    content=st.sampled_from(["signed", "relu", "clustered"]),
    seed=st.integers(0, 1 << 16),
)
def test_unit_vectors_agree_with_the_equation(rows, length, exponent, content, seed):
    vectors = random_map((rows, length, 1, 1), content, seed, torch.float32).flatten(1)
    same_as_reference(unit, maths.unit, [vectors.double()], 1e-12, 1e-9)
    # Without the factor: a gradient divides by it, and the tolerance of zero gradients is absolute.
    got, (gradient,) = value_and_gradient(lambda v: unit(v * 2.0**exponent), [vectors])
    want, (want_gradient,) = value_and_gradient(maths.unit, [vectors.double()])
    close(got, want, 1e-6)
    assert float((gradient.double() - want_gradient).abs().max()) <= 1e-5 * float(1 / vectors.norm(dim=1).min())


def test_the_gradient_of_unit_vectors_passes_gradcheck():
    vectors = random_map((3, 4, 1, 1), "signed", 2).flatten(1).requires_grad_()
    assert torch.autograd.gradcheck(unit, vectors)


def test_a_row_of_zeros_stays_zero_and_passes_no_gradient():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -5.0]], requires_grad=True)
    scaled = unit(vectors)
    assert scaled.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [0, -1]]
    scaled.sum().backward()
    assert vectors.grad.isfinite().all()
    assert not vectors.grad[1].any()
    assert vectors.grad[0].any()


@pytest.mark.parametrize("size", [1e-38, 1e38])
def test_the_largest_and_smallest_rows_have_length_one(size):
    torch.testing.assert_close(unit(torch.full((1, 4), size)), torch.full((1, 4), 0.5))


def test_a_nan_in_a_row_is_not_hidden_by_unit():
    assert unit(torch.tensor([[1.0, torch.nan]])).isnan().all()
