import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from synreal.core.queues import FeatureQueue
from synreal.errors import ConfigError
from synreal.functional import causal_invariance, contrast, info_nce, queue_logsumexp
from tests.functional.test_pooling import PROPERTY, close, same_as_reference
from tests.reference import maths

KINDS = ["random", "clustered", "equal", "zeros"]
SIZES = {
    "rows": st.integers(1, 4),
    "dim": st.integers(2, 6),
    "keys": st.integers(1, 9),
    "seed": st.integers(0, 1 << 16),
}


def embeddings(rows, dim, keys, seed, kind="random", dtype=torch.float32):
    """Anchors, positives and queue on the unit sphere; rounded to float32 first, so that all dtypes see one input."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2 * rows + keys, dim, generator=generator)
    if kind == "clustered":
        values = 0.05 * values + torch.randn(1, dim, generator=generator)
    if kind == "equal":
        values = values[:1].expand_as(values)
    if kind == "zeros":
        values = values * (torch.arange(len(values)) % 2).unsqueeze(1)
    unit = F.normalize(values, dim=1).to(dtype)
    return unit[:rows], unit[rows : 2 * rows], unit[2 * rows :]


@PROPERTY
@given(kind=st.sampled_from(KINDS), temperature=st.sampled_from([0.07, 0.5, 2.0]), **SIZES)
def test_value_and_gradient_agree_with_the_equation(kind, temperature, rows, dim, keys, seed):
    anchor, positive, queue = embeddings(rows, dim, keys, seed, kind)
    for dtype, value_tolerance, gradient_tolerance in ((torch.float32, 1e-5, 1e-4), (torch.float64, 1e-10, 1e-8)):
        same_as_reference(
            lambda z, p: info_nce(z, p, queue, temperature, "none"),
            lambda z, p: maths.info_nce(z, p, queue.double(), temperature),
            [anchor.to(dtype), positive.to(dtype)],
            value_tolerance,
            gradient_tolerance,
        )
    same_as_reference(
        lambda z: queue_logsumexp(z, queue.double(), temperature),
        lambda z: maths.queue_logsumexp(z, queue.double(), temperature),
        [anchor.double()],
        1e-12,
        1e-10,
    )


@PROPERTY
@given(**SIZES)
def test_float32_at_temperature_one_is_exact_to_1e_6(rows, dim, keys, seed):
    anchor, positive, queue = embeddings(rows, dim, keys, seed)
    same_as_reference(
        lambda z, p: info_nce(z, p, queue, 1.0, "none"),
        lambda z, p: maths.info_nce(z, p, queue.double(), 1.0),
        [anchor, positive],
        1e-6,
        1e-5,
    )


def test_gradient_passes_gradcheck():
    anchor, positive, queue = embeddings(3, 4, 7, 0, dtype=torch.float64)
    inputs = (anchor.requires_grad_(), positive.requires_grad_())
    assert torch.autograd.gradcheck(lambda z, p: info_nce(z, p, queue, 0.3), inputs)


def test_a_second_derivative_is_right_or_refused():
    anchor, positive, queue = embeddings(3, 4, 7, 0, dtype=torch.float64)
    anchor.requires_grad_()

    def second(loss):
        (first,) = torch.autograd.grad(loss, anchor, create_graph=True)
        return torch.autograd.grad(first.square().sum(), anchor)[0]

    want = second(maths.info_nce(anchor, positive, queue, 0.3).mean())
    try:
        got = second(info_nce(anchor, positive, queue, 0.3))
    except RuntimeError:
        return
    torch.testing.assert_close(got, want)


@PROPERTY
@given(piece=st.integers(1, 40), loss=st.sampled_from([info_nce, causal_invariance]), **SIZES)
def test_the_size_of_a_piece_does_not_matter(piece, loss, rows, dim, keys, seed):
    anchor, positive, queue = embeddings(rows, dim, keys, seed, dtype=torch.float64)
    anchor.requires_grad_()
    whole = loss(anchor, positive, queue, 0.07)
    (want,) = torch.autograd.grad(whole, anchor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "_flash_works", lambda: False)
        patch.setattr(contrast, "_PIECE_ELEMENTS", piece)
        cut = loss(anchor, positive, queue, 0.07)
    torch.testing.assert_close(cut, whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.autograd.grad(cut, anchor)[0], want, rtol=1e-10, atol=1e-13)


@PROPERTY
@given(piece=st.integers(1, 40), count=st.integers(0, 10), **SIZES)
def test_a_count_on_a_device_hides_what_a_slice_cuts_off(piece, count, rows, dim, keys, seed):
    anchor, _, queue = embeddings(rows, dim, keys, seed, dtype=torch.float64)
    queue[count:] = torch.nan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "_PIECE_ELEMENTS", piece)
        want = contrast._in_pieces(anchor * 30, queue[:count])
        got = contrast._in_pieces(anchor * 30, queue, torch.tensor(count))
    if not count:
        assert want[0].isneginf().all()
        assert not want[1].any()
    for value, expected in zip(got, want, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keys", [1, 1000, 2048, 5003])
@pytest.mark.parametrize("rows", [1, 70, 300])
@pytest.mark.parametrize("flash", [True, False])
def test_sizes_of_every_shape_agree_with_softmax_in_float64(monkeypatch, flash, rows, keys, dtype):
    anchor, positive, queue = embeddings(rows, 24, keys, 0, dtype=torch.float64)
    wants = {
        info_nce: F.cross_entropy(
            torch.cat([(anchor * positive).sum(1, keepdim=True), anchor @ queue.T], 1) / 0.07,
            torch.zeros(rows, dtype=torch.int64),
            reduction="none",
        ),
        causal_invariance: -((positive @ queue.T / 0.04).softmax(1) * (anchor @ queue.T / 0.12).log_softmax(1)).sum(1),
    }
    monkeypatch.setattr(contrast, "_flash_works", lambda: flash)
    monkeypatch.setattr(contrast, "_PIECE_ELEMENTS", 1 << 14)
    for loss, want in wants.items():
        got = loss(anchor.to(dtype), positive.to(dtype), queue.to(dtype), reduction="none")
        torch.testing.assert_close(
            got.double(), want, rtol=1e-6 if dtype is torch.float32 else 1e-12, atol=2e-6 if keys == 1 else 1e-12
        )


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("loss", [info_nce, causal_invariance])
def test_what_is_not_finite_is_not_hidden(monkeypatch, loss, value, flash):
    monkeypatch.setattr(contrast, "_flash_works", lambda: flash)
    first, second, queue = embeddings(40, 8, 100, 0)
    first[3, 2] = value
    losses = loss(first, second, queue, reduction="none")
    assert losses.isfinite().tolist() == [row != 3 for row in range(40)]
    first, second, queue = embeddings(40, 8, 100, 0)
    queue[70, 2] = torch.nan
    assert loss(first, second, queue, reduction="none").isnan().all()


@pytest.mark.parametrize("count", [None, torch.tensor(5)])
def test_the_operator_keeps_torchs_rules(count):
    anchor, _, queue = embeddings(3, 4, 9, 0)
    torch.library.opcheck(contrast._attend, (anchor.requires_grad_(), queue, count))


@PROPERTY
@given(scale=st.sampled_from([0.1, 10.0, 1000.0]), dtype=st.sampled_from([torch.float32, torch.float64]), **SIZES)
def test_the_fast_kernel_and_pieces_agree(scale, dtype, rows, dim, keys, seed):
    anchor, _, queue = embeddings(rows, dim, keys, seed, dtype=dtype)
    assert contrast._flash_works()
    for fast, plain in zip(
        contrast._flash(anchor * scale, queue), contrast._in_pieces(anchor * scale, queue), strict=True
    ):
        assert fast.shape == plain.shape
        assert fast.is_contiguous()
        torch.testing.assert_close(fast, plain, rtol=1e-5, atol=2e-5 if dtype is torch.float32 else 1e-9)


@pytest.mark.parametrize("broken", [AttributeError("no such kernel"), None], ids=["absent", "wrong"])
def test_a_kernel_that_is_absent_or_wrong_is_not_used(monkeypatch, broken):
    def flash(scaled, keys):
        if broken:
            raise broken
        lse, attended = contrast._in_pieces(scaled, keys)
        return lse + 1e-3, attended

    values = embeddings(4, 6, 9, 0)
    want = info_nce(*values)
    monkeypatch.setattr(contrast, "_flash", flash)
    contrast._flash_works.cache_clear()
    try:
        assert not contrast._flash_works()
        torch.testing.assert_close(info_nce(*values), want)
    finally:
        contrast._flash_works.cache_clear()


def test_pieces_are_rescaled_when_a_higher_score_comes_later(monkeypatch):
    monkeypatch.setattr(contrast, "_flash_works", lambda: False)
    monkeypatch.setattr(contrast, "_PIECE_ELEMENTS", 2)
    queue = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    anchor = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        close(queue_logsumexp(anchor, queue[order], 1e-3), maths.queue_logsumexp(anchor, queue, 1e-3), 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_queue_costs_nothing(reduction, dtype):
    anchor, positive, _ = embeddings(3, 4, 0, 1, dtype=dtype)
    anchor.requires_grad_()
    positive.requires_grad_()
    loss = info_nce(anchor, positive, torch.zeros(0, 4, dtype=dtype), reduction=reduction)
    assert not loss.any()
    assert queue_logsumexp(anchor, torch.zeros(0, 4, dtype=dtype), 0.07).isneginf().all()
    loss.sum().backward()
    assert not anchor.grad.any()
    assert not positive.grad.any()


def test_a_queue_may_be_smaller_than_the_batch():
    anchor, positive, queue = embeddings(8, 4, 2, 2)
    losses = info_nce(anchor, positive, queue, 0.5, "none")
    close(losses, maths.info_nce(anchor.double(), positive.double(), queue.double(), 0.5), 1e-6)


@pytest.mark.parametrize("temperature", [1e-4, 1e4])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_extreme_temperatures_stay_finite(temperature, kind):
    anchor, positive, queue = embeddings(6, 8, 50, 3, kind)
    anchor.requires_grad_()
    losses = info_nce(anchor, positive, queue, temperature, "none")
    losses.sum().backward()
    assert anchor.grad.isfinite().all()
    want = maths.info_nce(anchor.detach().double(), positive.double(), queue.double(), temperature)
    # Scores of 1 / temperature leave an absolute error of as many rounding errors of a dot product.
    assert float((losses.detach().double() - want).abs().max()) < 1e-6 * max(1.0, 1 / temperature)


def test_tiny_losses_keep_their_digits():
    anchor = torch.tensor([[1.0, 0.0]]).repeat(3, 1)
    queue = torch.tensor([[-1.0, 0.0], [-0.5, 0.5]])
    for temperature in (0.04, 0.07, 0.1):
        losses = info_nce(anchor, anchor, queue, temperature, "none")
        want = maths.info_nce(anchor.double(), anchor.double(), queue.double(), temperature)
        assert 0 < float(want[0]) < 1e-6
        close(losses, want, 1e-5)


def test_large_losses_are_linear():
    anchor = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    loss = info_nce(anchor, -anchor, anchor, 1e-3)
    assert float(loss) == pytest.approx(2000, rel=1e-12)


def test_embeddings_of_zero_are_no_obstacle():
    zero = torch.zeros(2, 3, requires_grad=True)
    loss = info_nce(zero, torch.zeros(2, 3), torch.zeros(5, 3))
    assert float(loss.detach()) == pytest.approx(torch.tensor(6.0).log().item())
    loss.backward()
    assert zero.grad.isfinite().all()


def test_the_queue_takes_no_gradient():
    anchor, positive, queue = embeddings(2, 3, 4, 0)
    queue.requires_grad_()
    anchor.requires_grad_()
    info_nce(anchor, positive, queue).backward()
    assert queue.grad is None
    assert anchor.grad.any()


def test_the_queue_may_change_before_backward():
    anchor, positive, queue = embeddings(2, 3, 4, 0)
    anchor.requires_grad_()
    (want,) = torch.autograd.grad(info_nce(anchor, positive, queue), anchor)
    bank = queue.clone()
    loss = info_nce(anchor, positive, bank)
    bank.zero_()
    assert torch.equal(torch.autograd.grad(loss, anchor)[0], want)


def test_reductions():
    anchor, positive, queue = embeddings(3, 4, 5, 1)
    rows = info_nce(anchor, positive, queue, reduction="none")
    assert rows.shape == (3,)
    assert torch.equal(info_nce(anchor, positive, queue, reduction="sum"), rows.sum())
    assert torch.equal(info_nce(anchor, positive, queue), rows.mean())


def test_the_default_temperature_is_the_papers():
    anchor, positive, queue = embeddings(3, 4, 5, 1)
    assert torch.equal(info_nce(anchor, positive, queue), info_nce(anchor, positive, queue, 0.07))


def test_autocast_changes_nothing():
    anchor, positive, queue = embeddings(3, 8, 20, 4)
    want_leaf = anchor.clone().requires_grad_()
    want = info_nce(want_leaf, positive, queue)
    want.backward()
    leaf = anchor.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = info_nce(leaf, positive, queue)
        loss.backward()
    assert torch.equal(loss, want)
    assert torch.equal(leaf.grad, want_leaf.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    anchor, positive, queue = (value.to(dtype) for value in embeddings(3, 8, 20, 4))
    anchor.requires_grad_()
    loss = info_nce(anchor, positive, queue, 1e-3)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, info_nce(anchor.float(), positive.float(), queue.float(), 1e-3))
    loss.backward()
    assert anchor.grad.isfinite().all()


class Shapes(TorchDispatchMode):
    """Notes the shape of each tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


def test_no_tensor_of_batch_by_queue_is_ever_made():
    rows, keys, dim = 64, 40_000, 4
    anchor, positive, queue = embeddings(rows, dim, keys, 0)
    with Shapes() as inside:  # of the operator, which is one node to those who look from outside
        contrast._in_pieces(anchor, queue)
        contrast._in_pieces(anchor, queue, torch.tensor(keys - 1))
        contrast._flash(anchor, queue)
    anchor.requires_grad_()
    with Shapes() as outside:
        info_nce(anchor, positive, queue).backward()
        causal_invariance(anchor, positive, queue).backward()
    largest = max(torch.Size(shape).numel() for shape in inside.seen | outside.seen)
    assert largest <= max(contrast._PIECE_ELEMENTS, keys * dim) < rows * keys
    with Shapes() as naive:
        torch.logsumexp(anchor @ queue.T, 1).sum().backward()
    assert (rows, keys) in naive.seen


@PROPERTY
@given(
    kind=st.sampled_from([*KINDS, "same"]),
    temperatures=st.sampled_from([(0.12, 0.04), (0.5, 0.5), (1.0, 0.04), (0.04, 1.0)]),
    **SIZES,
)
def test_causal_invariance_agrees_with_the_equation(kind, temperatures, rows, dim, keys, seed):
    online, target, queue = embeddings(rows, dim, keys, seed, "random" if kind == "same" else kind)
    target = online if kind == "same" else target

    def naive(z):
        return maths.causal_invariance(z, target.double(), queue.double(), *temperatures)

    for dtype, tolerance, gradient_tolerance in ((torch.float32, 1e-6, 1e-5), (torch.float64, 1e-12, 1e-10)):
        leaf = online.to(dtype).requires_grad_()
        exact = online.double().requires_grad_()
        got, want = causal_invariance(leaf, target.to(dtype), queue.to(dtype), *temperatures, "none"), naive(exact)
        # Scores are of the order of 1 / temperature, and so is their rounding.
        scale = 1 / min(temperatures)
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * scale)
        (gradient,) = torch.autograd.grad(got.sum(), leaf)
        (want_gradient,) = torch.autograd.grad(want.sum(), exact)
        torch.testing.assert_close(
            gradient.double(), want_gradient, rtol=gradient_tolerance, atol=gradient_tolerance * scale
        )


def test_causal_invariance_passes_gradcheck():
    online, target, queue = embeddings(3, 4, 7, 5, dtype=torch.float64)
    online.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: causal_invariance(z, target, queue, 0.3, 0.2), [online])


def test_causal_invariance_of_one_key_or_none_is_zero():
    online, target, queue = embeddings(3, 4, 1, 1)
    online.requires_grad_()
    assert causal_invariance(online, target, queue, reduction="none").abs().max() < 1e-6
    loss = causal_invariance(online, target, queue[:0], reduction="none")
    assert torch.equal(loss, torch.zeros(3))
    loss.sum().backward()
    assert not online.grad.any()


def test_causal_invariance_is_least_where_both_sides_agree():
    online, _, queue = embeddings(4, 6, 20, 3, dtype=torch.float64)
    same = causal_invariance(online, online, queue, 0.1, 0.1, "none")
    scores = (online @ queue.T / 0.1).softmax(1)
    torch.testing.assert_close(same, torch.distributions.Categorical(scores).entropy())
    other = causal_invariance(online.roll(1, 0), online, queue, 0.1, 0.1, "none")
    assert (other > same).all()


def test_the_target_takes_no_gradient():
    online, target, queue = (value.requires_grad_() for value in embeddings(3, 4, 7, 5))
    causal_invariance(online, target, queue).backward()
    assert online.grad is not None
    assert target.grad is None
    assert queue.grad is None


def test_causal_invariance_has_the_papers_temperatures_and_reductions():
    online, target, queue = embeddings(5, 4, 9, 2)
    each = causal_invariance(online, target, queue, 0.12, 0.04, "none")
    assert each.shape == (5,)
    torch.testing.assert_close(causal_invariance(online, target, queue), each.mean())
    torch.testing.assert_close(causal_invariance(online, target, queue, reduction="sum"), each.sum())


@pytest.mark.parametrize("temperatures", [(1e-4, 1e-4), (1e-4, 1e4), (1e4, 1e-4)])
def test_causal_invariance_of_extreme_temperatures_is_finite(temperatures):
    online, target, queue = embeddings(4, 8, 30, 6)
    online.requires_grad_()
    loss = causal_invariance(online, target, queue, *temperatures)
    loss.backward()
    assert loss.isfinite()
    assert online.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_causal_invariance_of_half_precision_is_computed_in_float32(dtype):
    values = [value.to(dtype) for value in embeddings(3, 8, 20, 4)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = causal_invariance(*values)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, causal_invariance(*(value.float() for value in values)))


@pytest.mark.parametrize("name", ["temperature", "target_temperature"])
def test_both_temperatures_must_be_above_zero(name):
    with pytest.raises(ConfigError, match=rf"^{name} must be above 0, got 0"):
        causal_invariance(*embeddings(2, 3, 4, 0), **{name: 0})


def test_shapes_of_causal_invariance_are_named():
    with pytest.raises(ConfigError, match=r"online and target must both be \(N, d\), got \(2, 3\), \(3, 3\)"):
        causal_invariance(torch.zeros(2, 3), torch.zeros(3, 3), torch.zeros(4, 3))


@pytest.mark.parametrize("loss", [info_nce, causal_invariance])
@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_only_so_many_rows_of_a_bank_are_keys(loss, count):
    first, second, queue = embeddings(3, 4, 9, 7)
    poisoned = torch.cat([queue[:count], torch.full((9 - count, 4), torch.nan)])
    got = loss(first, second, poisoned, count=torch.tensor(count))
    assert torch.equal(got, loss(first, second, queue[:count]))


@pytest.mark.parametrize("loss", [info_nce, causal_invariance])
def test_one_compiled_graph_serves_a_queue_that_fills(loss):
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    queue = FeatureQueue(12, 4)
    graphs = []
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for step in range(5):
        first, second, keys = embeddings(4, 4, 4, step)
        leaves = [first.clone().requires_grad_() for _ in range(2)]
        got = compiled(leaves[0], second, queue.bank, count=queue.count)
        want = loss(leaves[1], second, queue.keys())
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)
        (got + want).backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-6, atol=1e-7)
        queue.push(keys)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs == [1] * 5
    torch._dynamo.reset()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_must_be_above_zero(temperature):
    with pytest.raises(ConfigError, match="temperature must be above 0, got"):
        info_nce(*embeddings(2, 3, 4, 0), temperature=temperature)


@pytest.mark.parametrize(
    ("anchor", "positive", "queue", "named"),
    [
        ((2, 3), (3, 3), (4, 3), r"\(2, 3\), \(3, 3\)"),
        ((2, 3), (2, 4), (4, 3), r"\(2, 3\), \(2, 4\)"),
        ((3,), (3,), (4, 3), r"\(3,\), \(3,\)"),
        ((2, 3), (2, 3), (4, 5), r"queue must be \(K, 3\), got \(4, 5\)"),
        ((2, 3), (2, 3), (3,), r"queue must be \(K, 3\), got \(3,\)"),
    ],
)
def test_wrong_shapes_are_named(anchor, positive, queue, named):
    with pytest.raises(ConfigError, match=named):
        info_nce(torch.zeros(anchor), torch.zeros(positive), torch.zeros(queue))


def test_an_unknown_reduction_is_named():
    with pytest.raises(ConfigError, match="'mean', 'sum' or 'none', got 'total'"):
        info_nce(*embeddings(2, 3, 4, 0), reduction="total")
