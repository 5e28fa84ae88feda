"""SPD and FTP: what they do to the weights of a loop, against NumPy."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import synreal
from synreal.errors import ConfigError, TrainingError
from tests.reference import projections
from tests.regularizers.contract import Toy, attached, batch, bits, optimizer_of, same_bits, tiny, train

NAMES = ["spd", "ftp"]
BASES = {
    "sgd": (torch.optim.SGD, projections.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adamw": (torch.optim.AdamW, projections.AdamW, {"lr": 0.01}),
}
DECAY = 0.05
HIDDEN = "blocks.2.0.weight"  # has no gradient in two of the steps


def narrow():
    torch.manual_seed(5)
    return Toy(widths=(4, 4, 4, 4, 4)).double()


def is_head(name):
    return name.startswith("fc.")


def gradients(model, step):
    """Make gradients of one step, some of them by hand None."""
    image, _, target = batch(step, rows=2, size=32)
    output = model(image.double())
    (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
    if step in (1, 4):
        model.student.get_parameter(HIDDEN).grad = None


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("spd", {}),
        ("spd", {"weight": 0.4}),
        ("spd", {"weight": 2.5}),
        ("ftp", {}),
        ("ftp", {"weight": 0.7, "radius_lr": 0.1, "annealing": 0.3}),
    ],
)
def test_training_agrees_with_numpy(base, name, settings):
    make, naive, options = BASES[base]
    model = synreal.attach(narrow(), synreal.regularizers.get(name)(**settings)).train()
    groups = synreal.parameter_groups(model, lr=options["lr"], backbone_lr_scale=1.0)
    optimizer = make(groups, weight_decay=DECAY, **{k: v for k, v in options.items() if k != "lr"})
    model.bind(optimizer)
    weights = {key: value.detach().numpy().copy() for key, value in model.student.named_parameters()}
    anchors = {key: value for key, value in weights.items() if not is_head(key)}
    method = projections.SPD(anchors, **settings) if name == "spd" else projections.FTP(
        anchors, **{{"radius_lr": "rate"}.get(key, key): value for key, value in settings.items()})  # fmt: skip
    plain, decayed = naive(**options), naive(**options, weight_decay=DECAY)
    for step in range(9):
        gradients(model, step)
        for key, parameter in model.student.named_parameters():
            if parameter.grad is None:
                continue
            gradient, before = parameter.grad.numpy().copy(), weights[key]
            if is_head(key):
                weights[key] = decayed.step(key, before, gradient)
                continue
            after = (plain if name == "spd" else decayed).step(key, before, gradient)
            weights[key] = method.move(key, before, gradient, after)
        optimizer.step()
        optimizer.zero_grad()
        for key, parameter in model.student.named_parameters():
            np.testing.assert_allclose(parameter.detach().numpy(), weights[key], rtol=1e-6, atol=1e-9, err_msg=key)
    assert all(group["weight_decay"] == DECAY for group in optimizer.param_groups)
    if name == "spd":
        assert 0 < sum(share > 0 for share in method.shares) < len(method.shares)
    else:
        state = model.state_dict()
        radii = {key: held[0] for key, held in method.held.items()}
        assert state["terms.ftp.radius"].tolist() == pytest.approx([radii[key] for key in anchors], rel=1e-5)
        assert state["terms.ftp.steps"].tolist() == [7 if key == HIDDEN else 9 for key in anchors]
        assert max(radii.values()) > 1e-3


def test_the_first_step_of_ftp_is_undone():
    model, optimizer = attached("ftp", Toy())
    before = copy.deepcopy(dict(model.student.named_parameters()))
    train(model, optimizer, 1)
    for key, value in model.student.named_parameters():
        if is_head(key):
            assert not torch.equal(value, before[key]), key
        else:
            torch.testing.assert_close(value, before[key], rtol=1e-6, atol=1e-7, msg=key)
    train(model, optimizer, 4, first=1)
    moved = [
        (value - before[key]).detach().abs().max()
        for key, value in model.student.named_parameters()
        if not is_head(key)
    ]
    assert float(max(moved)) > 1e-4


def test_spd_in_place_of_weight_decay():
    """The optimizer decays nothing that SPD holds, in a step, whoever sets the decay, and decays again without it."""
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["weight_decay"] for group in self.param_groups])
            return super().step(closure)

    model = synreal.attach(Toy(), "spd").train()
    optimizer = Spy(synreal.parameter_groups(model, lr=0.02), weight_decay=0.3)
    model.bind(optimizer)
    train(model, optimizer, 1)
    assert optimizer.state_dict()["param_groups"][0]["weight_decay"] == 0.3
    optimizer.param_groups[0]["weight_decay"] = 0.2  # as a schedule of the decay does
    optimizer.param_groups[1]["weight_decay"] = 0.1
    train(model, optimizer, 1, first=1)
    with pytest.raises(RuntimeError, match="in the step"):
        optimizer.step(lambda: exec('raise RuntimeError("in the step")'))
    train(model, optimizer, 1, first=2)
    student = model.detach()
    F.cross_entropy(student(batch(3)[0]), batch(3)[2]).backward()
    optimizer.step()
    assert seen == [[0.0, 0.3], [0.0, 0.1], [0.0, 0.1], [0.0, 0.1], [0.2, 0.1]]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.1]


def test_a_group_that_mixes_what_is_decayed_is_refused():
    model = synreal.attach(Toy(), "spd").train()
    mixed = torch.optim.SGD(model.parameters(), lr=0.02, weight_decay=0.1)
    with pytest.raises(
        ConfigError, match=r"spd has parameters that must not be decayed.* 20 of them and 2 others.*parameter_gr"
    ):
        model.bind(mixed)
    assert not model.bound
    model.bind(torch.optim.SGD(model.parameters(), lr=0.02))
    off = synreal.attach(Toy(), ["spd(weight=0)", "ftp"]).train()
    off.bind(torch.optim.SGD(off.parameters(), lr=0.02, weight_decay=0.1))


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_zero_leaves_training_alone(name):
    ended = []
    for spec in ("none", tiny(name, weight=0.0), tiny(name)):
        torch.manual_seed(0)
        model = synreal.attach(Toy(), spec).train()
        optimizer = torch.optim.SGD(synreal.parameter_groups(model, lr=0.2), momentum=0.9, weight_decay=0.1)
        model.bind(optimizer)
        train(model, optimizer, 5)
        ended.append(bits(model.student))
    assert same_bits(ended[0], ended[1])
    assert not same_bits(ended[0], ended[2])


@pytest.mark.parametrize("name", NAMES)
def test_it_acts_on_unscaled_and_clipped_gradients_and_not_in_a_skipped_step(name):
    ended = []
    for scaled in (False, True):
        torch.manual_seed(3)
        model = synreal.attach(Toy(), tiny(name)).train()
        optimizer = optimizer_of(model, lr=0.2)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
        for step in range(6):
            image, _, target = batch(step)
            output = model(image * (torch.inf if scaled and step == 2 else 1))
            if step == 2 and not scaled:
                continue
            before = bits(model)
            scaler.scale(F.cross_entropy(output["output"], target) + output["penalty"]).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update(1024.0 if scaled else None)
            optimizer.zero_grad()
            assert same_bits(before, bits(model)) == (step == 2)
        ended.append(bits(model))
    assert same_bits(*ended)


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_makes_the_same_step(name):
    """Lightning hands the optimizer a closure: gradients come about inside of the step."""
    ended = []
    for closed in (False, True):
        torch.manual_seed(0)
        model = synreal.attach(Toy(), tiny(name)).train()
        optimizer = torch.optim.AdamW(synreal.parameter_groups(model, lr=0.02), weight_decay=0.5)
        model.bind(optimizer)
        for step in range(5):

            def closure(model=model, optimizer=optimizer, step=step):
                optimizer.zero_grad()
                image, _, target = batch(step)
                output = model(image)
                loss = F.cross_entropy(output["output"], target) + output["penalty"]
                loss.backward()
                return loss

            if not closed:
                closure()
            optimizer.step(closure if closed else None)
        ended.append(bits(model))
    assert same_bits(*ended)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_weights_are_held_too(name, dtype):
    model = synreal.attach(Toy(), tiny(name)).train().to(dtype)
    anchors = {key: value.detach().clone() for key, value in model.student.named_parameters()}
    if name == "ftp":
        assert model.get_buffer("terms.ftp.radius").dtype == torch.float32  # 1e-8 is nothing in fp16
    optimizer = optimizer_of(model, lr=0.5)
    generator = torch.Generator().manual_seed(0)
    way = {key: torch.randn(value.shape, generator=generator).to(dtype) for key, value in anchors.items()}
    for step in range(6):
        for key, parameter in model.student.named_parameters():
            parameter.grad = way[key] * (0.1 if step < 4 else -0.1)  # forth, and then uphill while momentum carries on
        optimizer.step()
        for key, parameter in model.student.named_parameters():
            assert parameter.dtype == dtype
            assert parameter.isfinite().all(), key
            if name == "ftp" and not is_head(key):
                norms = (parameter.detach().float() - anchors[key].float()).flatten(1 if parameter.ndim > 1 else 0)
                limit = 1e-2 * 1.2 * (step + 1) + 0.02 * float(anchors[key].abs().max()) * norms.shape[-1] / 2
                assert float(norms.abs().sum(-1).max()) <= limit, key
    free = synreal.attach(Toy(), "none").train().to(dtype)
    free.student.load_state_dict(anchors)
    other = optimizer_of(free, lr=0.5)
    for step in range(6):
        for key, parameter in free.student.named_parameters():
            parameter.grad = way[key] * (0.1 if step < 4 else -0.1)
        other.step()
    moved, at_will = (
        float((network.get_parameter(HIDDEN).float() - anchors[HIDDEN].float()).norm().detach())
        for network in (model.student, free.student)
    )
    assert moved < 0.95 * at_will


def test_averages_and_importances_see_the_projected_weights():
    model = synreal.attach(Toy(), [tiny("causal_invariance"), tiny("si", interval=1), tiny("ftp")]).train()
    optimizer = optimizer_of(model, lr=0.5)
    train(model, optimizer, 1)
    (average,) = model.averages.values()
    for key, value in average.network.named_parameters():
        if not is_head(key):
            torch.testing.assert_close(value, model.student.get_parameter(key).detach(), rtol=1e-5, atol=1e-6)
    start = model.state_dict()["terms.si.start.blocks/2/0/weight"]
    assert torch.equal(start, model.student.get_parameter(HIDDEN))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_was_not_announced_is_an_error(name):
    model = synreal.attach(Toy(), tiny(name)).train()
    with pytest.raises(TrainingError, match=rf"{name} was not told that a step begins.*before_step"):
        model.after_step()
    with pytest.raises(TrainingError, match="the model is not told of its steps"):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    with pytest.raises(ConfigError, match="fused=False"):
        model.bind(torch.optim.SGD(model.parameters(), lr=0.1, fused=True))
