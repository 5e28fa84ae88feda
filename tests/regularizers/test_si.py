import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import synreal
from synreal.functional import path_importance
from tests.functional.test_pooling import PROPERTY, same_as_reference
from tests.reference import maths
from tests.regularizers.contract import Toy, batch, optimizer_of, tiny


@PROPERTY
@given(
    shape=st.lists(st.integers(1, 4), max_size=3),
    damping=st.sampled_from([1e-3, 0.1, 1.0]),
    spread=st.sampled_from([1e-4, 1.0, 1e3]),
    seed=st.integers(0, 1 << 16),
)
def test_importance_agrees_with_the_equation(shape, damping, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    path, displacement = (torch.randn(shape, generator=generator) * factor for factor in (spread, 0.3))
    same_as_reference(
        lambda p, d: path_importance(p, d, damping),
        lambda p, d: maths.path_importance(p, d, damping),
        [path, displacement],
        1e-6,
        1e-5,
    )


def test_a_weight_that_did_harm_has_no_importance():
    path = torch.tensor([-5.0, 0.0, 5.0])
    assert path_importance(path, torch.tensor([0.1, 0.0, 0.0]), 0.5).tolist() == [0.0, 0.0, 10.0]


def test_a_weight_that_did_not_move_is_bounded_by_the_damping():
    assert float(path_importance(torch.tensor(1e-3), torch.tensor(0.0), 1e-3)) == pytest.approx(1.0)


class NaiveSI:
    """Synaptic Intelligence of one network, number by number, from the gradients and weights that a loop saw."""

    def __init__(self, weights, interval, damping):
        self.interval, self.damping = interval, damping
        self.anchor = {name: list(values) for name, values in weights.items()}
        self.start = {name: list(values) for name, values in weights.items()}
        self.path = {name: [0.0] * len(values) for name, values in weights.items()}
        self.omega = {name: [1.0] * len(values) for name, values in weights.items()}
        self.steps = 0

    def penalty(self, weights):
        return sum(
            self.omega[name][i] * (value - self.anchor[name][i]) ** 2
            for name, values in weights.items()
            for i, value in enumerate(values)
        )

    def step(self, gradients, before, after):
        self.steps += 1
        for name, values in after.items():
            for i, value in enumerate(values):
                self.path[name][i] += -gradients[name][i] * (value - before[name][i])
        if self.steps % self.interval:
            return
        for name, values in after.items():
            for i, value in enumerate(values):
                found = max(self.path[name][i], 0.0) / ((value - self.start[name][i]) ** 2 + self.damping)
                self.omega[name][i] = found if self.steps == self.interval else self.omega[name][i] + found
                self.path[name][i] = 0.0
                self.start[name][i] = value


def numbers(model, gradients=False):
    """The backbone's weights or gradients as plain numbers."""
    named = [(name, value) for name, value in model.student.named_parameters() if "fc" not in name]
    return {name: (value.grad if gradients else value.detach()).double().flatten().tolist() for name, value in named}


@pytest.mark.parametrize(("interval", "lr"), [(1, 0.05), (2, 0.05), (2, 0.5), (3, 0.05)])
def test_training_agrees_with_a_simulation(interval, lr):
    """Seven steps: the first consolidation takes the place of the ones, later ones are added, the anchor stays."""
    model = synreal.attach(Toy(widths=(4, 4, 4, 4, 4)), tiny("si", weight=0.7, interval=interval, damping=1e-2)).train()
    optimizer = optimizer_of(model, lr=lr)
    naive = NaiveSI(numbers(model), interval, 1e-2)
    harmful = 0
    for step in range(7):
        image, _, target = batch(step, rows=2)
        output = model(image)
        before = numbers(model)
        assert float(output["penalty"].detach()) == pytest.approx(0.7 * naive.penalty(before), rel=1e-5, abs=1e-9)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        gradients = numbers(model, gradients=True)
        optimizer.step()
        optimizer.zero_grad()
        naive.step(gradients, before, numbers(model))
        harmful += sum(value < 0 for values in naive.path.values() for value in values)
    state = model.state_dict()
    for kind, want in (("omega", naive.omega), ("path", naive.path), ("anchor", naive.anchor), ("start", naive.start)):
        for name, values in want.items():
            held = state[f"terms.si.{kind}.{name.replace('.', '/')}"].flatten().double()
            torch.testing.assert_close(held, torch.tensor(values, dtype=torch.float64), rtol=1e-4, atol=1e-7)
    if lr > 0.1:
        assert harmful > 0  # momentum carried some weights uphill, so that the floor at 0 was tried
    assert int(state["terms.si.steps"]) == 7


def test_gradients_are_those_that_a_scaler_has_unscaled():
    models = []
    for scaled in (False, True):
        torch.manual_seed(3)
        model = synreal.attach(Toy(), tiny("si", interval=3)).train()
        optimizer = optimizer_of(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for step in range(3):
            image, _, target = batch(step)
            output = model(image)
            scaler.scale(F.cross_entropy(output["output"], target) + output["penalty"]).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        models.append(model)
    first, second = (model.state_dict() for model in models)
    for key in first:
        if "omega" in key:
            torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-6)


def test_weights_without_gradient_take_no_part():
    model = synreal.attach(Toy(), tiny("si", interval=1)).train()
    optimizer = optimizer_of(model)
    output = model(batch(0)[0])
    F.cross_entropy(output["output"], batch(0)[2]).backward()
    model.student.blocks[0][0].weight.grad = None
    optimizer.step()
    omega = model.state_dict()["terms.si.omega.blocks/0/0/weight"]
    assert not omega.any()
    assert model.state_dict()["terms.si.omega.blocks/1/0/weight"].any()


def test_the_interval_is_an_epoch_where_nobody_says():
    spec = tiny("si", interval=None)
    assert spec.scheduled(37, 74).interval == 37
    assert tiny("si", interval=5).scheduled(37, 74).interval == 5
    assert synreal.attach(Toy(), spec).terms["si"].interval == 500


def test_a_fused_optimizer_is_refused():
    model = synreal.attach(Toy(), tiny("si")).train()
    with pytest.raises(synreal.SynrealError, match="fused=False"):
        model.bind(torch.optim.SGD(model.parameters(), lr=0.1, fused=True))
