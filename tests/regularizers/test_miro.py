import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import synreal
from synreal.core.passes import STUDENT, Pass
from synreal.errors import ConfigError
from synreal.functional import miro
from synreal.regularizers import REGULARIZERS
from tests.functional.test_pooling import PROPERTY, SHAPES, random_map, same_as_reference
from tests.reference import maths
from tests.regularizers.contract import Toy, attached, batch, call, captured, optimizer_of, train


@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["signed", "relu", "clustered"]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation(shape, content, seed):
    maps = [random_map(shape, content, seed + index) for index in (0, 1)]
    variance = 0.05 + random_map((1, shape[1], 1, 1), "signed", seed + 2).abs().flatten()
    same_as_reference(miro, maths.miro, [*maps, variance], 1e-9, 1e-9)


def test_the_smallest_published_variance_stays_finite_in_half_precision():
    student, teacher = (random_map((2, 3, 4, 4), "signed", seed, torch.float16) for seed in (1, 2))
    variance = torch.full((3,), 1e-5)
    distance = miro(student, teacher, variance)
    assert distance.dtype == torch.float32
    assert torch.equal(distance, miro(student.float(), teacher.float(), variance))
    assert float(distance) > 1e4  # more than float16 keeps of the sum's parts


def test_equal_maps_are_worth_the_log_of_the_variance():
    features = random_map((2, 3, 4, 4), "signed", 1)
    variance = torch.tensor([0.1, 0.2, 2.0])
    assert float(miro(features, features, variance)) == pytest.approx(sum(map(math.log, [0.1, 0.2, 2.0])) / 6)


@pytest.mark.parametrize("shapes", [((1, 2, 3, 3), (1, 2, 3, 4), (2,)), ((1, 2, 3, 3), (1, 2, 3, 3), (3,))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ConfigError, match=r"a variance for each channel \(C,\), got \("):
        miro(*(torch.ones(shape) for shape in shapes))


@pytest.mark.parametrize("floor", [1e-5, 1e-3, 0.05])
def test_variances_start_where_published_code_starts_them(floor):
    model = synreal.attach(Toy(), f"miro(stages=[0, 4], floor={floor})")
    term = model.terms["miro"]
    for key, channels in (("stage_0", 4), ("stage_4", 16)):
        torch.testing.assert_close(term.variance(key), torch.full((channels,), 0.1), rtol=1e-5, atol=0)
    with torch.no_grad():
        term.raw["stage_0"].fill_(-1e4)
    torch.testing.assert_close(term.variance("stage_0"), torch.full((4,), floor))


def test_a_floor_above_the_start_is_refused():
    with pytest.raises(ConfigError, match="floor"):
        REGULARIZERS.spec("miro(floor=0.1)")


def test_the_term_is_the_sum_over_stages():
    model, _ = attached("miro", Toy(), steps=2, stages=(1, 3), weight=0.5)
    steps = captured(model)
    penalty = model(batch(2)[0])["penalty"]
    student, teacher = steps[0].maps[STUDENT], steps[0].maps[Pass("reference", 0)]
    variances = {stage: model.terms["miro"].variance(f"stage_{stage}") for stage in ("1", "3")}
    want = sum(miro(student[stage], teacher[stage], variances[stage]) for stage in variances)
    assert float(penalty.detach()) == pytest.approx(0.5 * float(want.detach()), rel=1e-5)


@pytest.mark.parametrize("moved", [False, True])
def test_variances_follow_what_moves(moved):
    """They sink where student and teacher are equal, and a channel that moved away is held less than the others."""
    model = synreal.attach(Toy(), "miro(stages=4, weight=1)").train()
    optimizer = optimizer_of(model, lr=0.1)
    with torch.no_grad():
        model.student.blocks[4][1].bias[0] += 3 * moved
    for _ in range(8):
        call(model, 0)["penalty"].backward()
        optimizer.step()
        optimizer.zero_grad()
    variance = model.terms["miro"].variance("stage_4").detach()
    if moved:
        assert int(variance.argmax()) == 0
        assert variance[0] > 0.15
    else:
        assert variance.max() < 0.1


def test_weight_decay_does_not_reach_the_variances():
    model = synreal.attach(Toy(), "miro(stages=4, weight=0)").train()
    groups = synreal.parameter_groups(model, lr=0.1)
    assert [group.get("weight_decay") for group in groups] == [None, None, 0.0]
    optimizer = torch.optim.SGD(groups, weight_decay=0.5)
    model.bind(optimizer)
    before = model.terms["miro"].variance("stage_4").detach()
    fresh = model.student.fc.weight.detach().clone()
    train(model, optimizer, 2)
    assert torch.equal(model.terms["miro"].variance("stage_4"), before)
    assert not torch.equal(model.student.fc.weight, fresh)
