import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import synreal
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.errors import ConfigError, StageError
from synreal.functional import distillation_kl
from tests.functional.test_pooling import PROPERTY, close, same_as_reference, value_and_gradient
from tests.reference import maths
from tests.regularizers.contract import Toy, batch, bits, network, optimizer_of, same_bits, tiny, train

SHAPES = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(2, 5)),
    st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(1, 3), st.integers(1, 3)),
)
TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0])


def logits(shape, seed, spread=2.0, dtype=torch.float64):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread).to(dtype)


@PROPERTY
@given(shape=SHAPES, temperature=TEMPERATURES, spread=st.sampled_from([0.01, 2.0, 30.0]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation_in_float64(shape, temperature, spread, seed):
    student, teacher = (logits(shape, seed + index, spread) for index in (0, 1))
    got, got_gradient = value_and_gradient(lambda s: distillation_kl(s, teacher, temperature), [student])
    want, want_gradient = value_and_gradient(lambda s: maths.distillation_kl(s, teacher, temperature), [student])
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(got_gradient, want_gradient, rtol=1e-8, atol=1e-12)


@PROPERTY
@given(shape=SHAPES, temperature=TEMPERATURES, seed=st.integers(0, 1 << 16))
def test_float32_keeps_the_digits(shape, temperature, seed):
    # The first class of the one is the last of the other, so that nothing cancels.
    student, teacher = (logits(shape, seed + index, 0.3, torch.float32) for index in (0, 1))
    student[:, 0] += 3
    teacher[:, -1] += 3
    same_as_reference(
        lambda s: distillation_kl(s, teacher, temperature),
        lambda s: maths.distillation_kl(s, teacher.double(), temperature),
        [student],
        1e-6,
        1e-5,
    )


def test_gradient_passes_gradcheck():
    student, teacher = logits((2, 3, 2, 2), 2).requires_grad_(), logits((2, 3, 2, 2), 1)
    assert torch.autograd.gradcheck(lambda s: distillation_kl(s, teacher, 2.0), student)


def test_the_direction_is_from_the_teacher():
    """KL(teacher || student): the teacher's probabilities weigh, so a class that it excludes may be anything."""
    teacher = torch.tensor([[0.0, 0.0, -60.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(distillation_kl(student, teacher)) == pytest.approx(math.log(3) - math.log(2))
    assert float(distillation_kl(teacher, student)) > 19


@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_a_high_temperature_leaves_the_size_of_the_gradient(temperature):
    """With T^2 the gradient tends to a constant as T grows (the reason the factor is there)."""
    student = logits((4, 3), 1, 0.1).requires_grad_()
    distillation_kl(student, logits((4, 3), 2, 0.1), temperature).backward()
    assert 0.001 < float(student.grad.abs().max()) < 0.1


def test_equal_logits_cost_nothing_and_a_shift_neither():
    student = logits((3, 4), 1, dtype=torch.float32).requires_grad_()
    divergence = distillation_kl(student, student.detach() + 5)
    divergence.backward()
    assert float(divergence.detach()) == pytest.approx(0, abs=1e-6)
    assert float(student.grad.abs().max()) < 1e-6


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_logits_stay_finite(size):
    student, teacher = torch.tensor([[size, 0.0, -size]]).requires_grad_(), torch.tensor([[size, -size, 0.0]])
    divergence = distillation_kl(student, teacher)
    divergence.backward()
    assert float(divergence.detach()) == 0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures_stay_right(temperature):
    student, teacher = logits((2, 3), 1, dtype=torch.float32), logits((2, 3), 2, dtype=torch.float32)
    want = maths.distillation_kl(student.double(), teacher.double(), temperature)
    assert float(distillation_kl(student.double(), teacher.double(), temperature)) == pytest.approx(float(want), 1e-9)
    assert float(distillation_kl(student, teacher, temperature)) == pytest.approx(float(want), rel=0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = (logits((2, 5, 3, 3), seed, 10, dtype) for seed in (1, 2))
    divergence = distillation_kl(student, teacher, 0.5)
    assert divergence.dtype == torch.float32
    assert torch.equal(divergence, distillation_kl(student.float(), teacher.float(), 0.5))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distillation_kl(student, teacher, 0.5), divergence)


def test_the_mean_is_over_samples_and_positions():
    student, teacher = (logits((2, 3, 2, 4), seed) for seed in (1, 2))
    rows = [value.movedim(1, -1).reshape(-1, 3) for value in (student, teacher)]
    torch.testing.assert_close(distillation_kl(student, teacher), distillation_kl(*rows))
    each = [distillation_kl(s[None], t[None]) for s, t in zip(*rows, strict=True)]
    close(distillation_kl(student, teacher), torch.stack(each).mean(), 1e-12)


def test_the_teacher_takes_no_gradient():
    student, teacher = (logits((2, 3), seed).requires_grad_() for seed in (1, 2))
    distillation_kl(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.any()


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (2, 3, 1, 1)), ((3,), (3,))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ConfigError, match=r"one shape \(N, C, \.\.\.\), got \("):
        distillation_kl(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_above_zero(temperature):
    with pytest.raises(ConfigError, match="temperature must be above 0, got"):
        distillation_kl(torch.zeros(1, 2), torch.zeros(1, 2), temperature)


def test_a_fresh_classifier_is_warned_about_and_a_pretrained_reference_is_not(recwarn):
    with pytest.warns(UntrainedTeacherWarning, match=r"kl reads .* 3 classes where the pretrained weights have 1000"):
        synreal.attach(network(), tiny("kl"))
    student = network()
    reference = network()
    reference.reset_classifier(1000)
    recwarn.clear()
    synreal.attach(student, tiny("kl"), reference=reference)
    assert not recwarn.list


class Bare(Toy):
    """A network that ends with its last map."""

    def __init__(self):
        super().__init__()
        del self.fc

    def forward(self, images):
        return self.blocks(images)


def test_a_network_without_a_classifier_cannot_be_the_reference():
    bare = Bare()
    with pytest.raises(ConfigError, match=r"kl reads the reference's own classifier, but Bare has none.*reference="):
        synreal.attach(bare, tiny("kl"))
    model = synreal.attach(bare, tiny("kl"), reference=Toy()).train()
    assert float(model(batch(0)[0])["penalty"].detach()) > 0  # position by position


def test_another_width_needs_an_adapter():
    wide = Toy(widths=(4, 8, 8, 12, 24))
    with pytest.raises(StageError, match=r"16 channels and it reads 24.*adapter=True"):
        synreal.attach(Toy(), tiny("kl"), reference=wide)
    model = synreal.attach(Toy(), tiny("kl", adapter=True), reference=wide).train()
    optimizer = optimizer_of(model)
    before = bits(model.terms)
    train(model, optimizer, 1)
    assert not same_bits(bits(model.terms), before)


def test_a_student_of_another_task_hears_the_references_classes():
    """The student's own classifier is not part of the term: only what it is given counts."""
    reference = Toy(num_classes=7)
    model = synreal.attach(Toy(), tiny("kl"), reference=reference).train()
    first = model(*batch(0)[:1])["penalty"].detach()
    with torch.no_grad():
        model.student.fc.weight.mul_(3)
    assert torch.equal(model(*batch(0)[:1])["penalty"].detach(), first)
    assert float(first) > 0
