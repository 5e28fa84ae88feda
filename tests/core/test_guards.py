"""Loops that leave something out, and loops that only look as if they did."""

import copy
import warnings

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.guards import UnboundWarning
from synreal.core.queues import FeatureQueue
from synreal.errors import TrainingError
from tests.regularizers.contract import PENALTY_FREE, Toy, batch, bits, optimizer_of, same_bits, tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

NAMES = synreal.list_regularizers()
STATEFUL = ["csg", "info_nce", "causal_invariance", "gcisg", "isw", "si", "spd", "ftp"]
LEARNING = [name for name in NAMES if name not in PENALTY_FREE]


def attached(name="csg", **settings):
    torch.manual_seed(0)
    return synreal.attach(Toy(), tiny(name, **settings)).train()


def learnable(model):
    return [p for p in model.parameters() if p.requires_grad]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def step(model, optimizer, number=0, *, call=None, penalty=True, scale=lambda loss: loss, act=None):
    """One step as people write it, without the penalty if told."""
    view0, view1, target = batch(number, rows=2)
    output = (call or model)(view0, view1, targets=target)
    loss = F.cross_entropy(output["output"], target)
    scale(loss + output["penalty"] if penalty else loss).backward()
    (act or optimizer.step)()
    optimizer.zero_grad()


def failing_step(match, model, optimizer, **how):
    """The number of the step that is refused, from 1."""
    for number in range(1, 5):
        try:
            step(model, optimizer, number, **how)
        except TrainingError as error:
            assert match in str(error)  # noqa: PT017
            return number
    return None


# An optimizer that the model is not told of


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_never_bound_is_refused_at_the_second_step(name):
    model = attached(name)
    optimizer = sgd(learnable(model))
    said = "the model is not told of its steps: queues and moving"
    assert failing_step(said, model, optimizer) == (2 if name in STATEFUL else None)


def test_a_compiled_model_that_was_never_bound_is_refused_at_the_second_step():
    model = attached("si")
    torch._dynamo.reset()
    model.compile(backend="eager", fullgraph=True)
    assert failing_step("SGD steps this model's parameters", model, sgd(learnable(model))) == 2
    torch._dynamo.reset()


def test_an_optimizer_other_than_the_bound_one_is_refused():
    model = attached()
    optimizer_of(model)
    assert failing_step("SGD, which is not the one that was bound, steps", model, sgd(learnable(model))) == 2
    later = attached()
    bound = optimizer_of(later)
    for number in range(3):
        step(later, bound, number)
    assert failing_step("which is not the one that was bound", later, sgd(learnable(later))) == 2  # after an unfreezing


def test_an_optimizer_that_is_not_torchs_is_told_of_once():
    model = attached()
    other = sgd([nn.Parameter(torch.zeros(1))])
    step(model, other, act=lambda: None)
    with pytest.warns(UnboundWarning, match=r"told of no optimizer: .*model\.bind\(optimizer\).*model\.after_step\(\)"):
        step(model, other, act=lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(model, other, act=lambda: None)


def test_a_loop_that_tells_of_its_steps_itself_need_not_bind():
    model = attached()
    optimizer = sgd(learnable(model))

    def act():
        optimizer.step()
        model.after_step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            step(model, optimizer, number, act=act)
    assert all(queue.count == 8 for queue in model.modules() if isinstance(queue, FeatureQueue))


def test_looking_at_penalties_is_no_training():
    model = attached()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            model(*batch(number, rows=2)[:2])


# Parameters of something else


@pytest.mark.parametrize("name", ["none", "weight_l2", "si"])
def test_binding_an_optimizer_of_another_network_is_refused(name):
    model = attached(name)
    with pytest.raises(TrainingError, match="The bound SGD steps none of this model's parameters that learn"):
        model.bind(sgd(learnable(copy.deepcopy(model))))
    assert not model.bound


def test_parameters_that_were_exchanged_since_are_missed_at_the_second_step():
    model = attached("weight_l2")
    optimizer = optimizer_of(model)
    for module in list(model.student.modules()):
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[key] = nn.Parameter(parameter.detach().clone())
    assert failing_step("steps none of this model's parameters", model, optimizer) == 2


# A penalty that is not in the loss


@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_that_the_loop_forgot_is_missed_at_the_second_step(name):
    model = attached(name)
    optimizer = optimizer_of(model)
    said = "No backward went through the penalty, so the regularizers teach nothing"
    assert failing_step(said, model, optimizer, penalty=False) == (2 if name in LEARNING else None)


def test_a_penalty_that_the_loop_forgot_is_missed_without_binding_too():
    model = attached("weight_l2")
    assert failing_step("No backward went through", model, sgd(learnable(model)), penalty=False) == 2


def test_a_compiled_models_forgotten_penalty_shows_by_its_heads():
    model = attached("info_nce")
    optimizer = optimizer_of(model)
    torch._dynamo.reset()
    model.compile(backend="eager", fullgraph=True)
    assert failing_step("No backward went through", model, optimizer, penalty=False) == 2
    torch._dynamo.reset()


def alternating(model, optimizer, number):
    """As in adversarial training: a step of another network on the student's output, then the student's own."""
    critic = nn.Linear(3, 1)
    other = sgd(critic.parameters())
    critic(model(*batch(number, rows=2)[:2])["output"].detach()).sum().backward()
    other.step()
    step(model, optimizer, number)


def accumulated(model, optimizer, number):
    for part in range(3):
        view0, view1, target = batch(3 * number + part, rows=2)
        output = model(view0, view1)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
    optimizer.step()
    optimizer.zero_grad()


def predicting_between(model, optimizer, number):
    step(model, optimizer, number)
    model.eval()
    with torch.no_grad():
        model(batch(number)[0])
    model.train()


def scaled(model, optimizer, number):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127 if number == 0 else 2.0**4)

    def act():
        scaler.step(optimizer)
        scaler.update()

    step(model, optimizer, number, scale=lambda loss: scaler.scale(loss * (1e6 if number == 0 else 1)), act=act)


def through_autograd_grad(model, optimizer, number):
    view0, view1, target = batch(number, rows=2)
    output = model(view0, view1)
    loss = F.cross_entropy(output["output"], target) + output["penalty"]
    for parameter, gradient in zip(
        learnable(model), torch.autograd.grad(loss, learnable(model), allow_unused=True), strict=True
    ):
        parameter.grad = gradient
    optimizer.step()


def by_closure(model, optimizer, number):
    def closure():
        optimizer.zero_grad()
        step(model, optimizer, number, act=lambda: None)
        return torch.zeros(())

    optimizer.step(closure)


def two_optimizers(model, optimizer, number):
    head = sgd(model.student.fc.parameters())
    step(model, optimizer, number, act=lambda: (head.step(), optimizer.step()))


SOUND = [alternating, accumulated, predicting_between, scaled, through_autograd_grad, by_closure, two_optimizers]


@pytest.mark.parametrize("loop", SOUND)
@pytest.mark.parametrize("name", ["csg", "weight_l2"])
def test_sound_loops_are_left_alone(loop, name):
    model = attached(name)
    optimizer = optimizer_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            loop(model, optimizer, number)


def test_a_penalty_may_be_multiplied_by_zero_at_first():
    model = attached()
    optimizer = optimizer_of(model)
    for number in range(4):
        view0, view1, target = batch(number, rows=2)
        output = model(view0, view1)
        (F.cross_entropy(output["output"], target) + (number > 2) * output["penalty"]).backward()
        optimizer.step()
    frozen = attached(weight=0.0)
    assert failing_step("", frozen, optimizer_of(frozen), penalty=False) is None


def test_guards_change_no_bit(monkeypatch):
    ended = []
    for watched in (True, False):
        if not watched:
            monkeypatch.setattr("synreal.core.guards.LoopGuard.note", lambda self, penalty: None)
        model = attached("gcisg")
        optimizer = optimizer_of(model)
        for number in range(3):
            step(model, optimizer, number)
        ended.append(bits(model))
    assert same_bits(*ended)


def test_a_copy_is_watched_apart():
    model = attached()
    step(model, optimizer_of(model))
    twin = copy.deepcopy(model)
    assert failing_step("is not told of its steps", twin, sgd(learnable(twin))) == 2
    student = model.detach()
    for number in range(3):
        student(batch(number)[0]).sum().backward()
        sgd(student.parameters()).step()


# A batch that is too small


def test_a_batch_of_one_names_the_layer_and_what_to_do():
    torch.manual_seed(0)
    student = Toy()
    student.fc = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model = synreal.attach(student, "feature_l2", norm="train").train()
    with pytest.raises(TrainingError, match=r"too small: layer fc\.1 normalises .* one value .*drop_last=True"):
        model(batch(0, rows=1)[0])
    model(batch(0, rows=2)[0])


def test_it_is_said_where_the_model_predicts_and_a_layer_trains():
    """So phases train that leave penalties out: the model in eval mode, its student in train mode."""
    network = Toy()
    network.fc = nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    model = synreal.attach(network, "none").eval()
    network.train()
    with pytest.raises(TrainingError, match=r"too small: layer fc\.1 normalises"):
        model(torch.rand(1, 3, 64, 64))
