"""What holds weights: those of the pretrained backbone, all of them, and nothing fresh."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.anchors import Bank
from synreal.errors import ConfigError
from synreal.regularizers import get
from tests.core.networks import Numbered, halve
from tests.regularizers.contract import Toy, batch, optimizer_of, tiny

HOLDING = ["weight_l2", "si", "spd", "ftp"]


def anchors(model, name):
    """The parameters that have an anchor, by name."""
    bank = next(module for module in model.terms[name].modules() if isinstance(module, Bank))
    return {key.replace("/", "."): value for key, value in zip(bank.keys, bank.tensors(), strict=True)}


@pytest.mark.parametrize("name", HOLDING)
def test_a_fresh_head_of_any_name_is_not_held(name):
    body = nn.Sequential(halve(3, 4), halve(4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    student = Numbered(lambda self, x: self.cls(self.body(x)), body=body, cls=nn.Linear(4, 3))
    model = synreal.attach(student, tiny(name))
    assert anchors(model, name).keys() == {key for key, _ in student.named_parameters() if key.startswith("body.")}


@pytest.mark.parametrize("name", HOLDING)
def test_where_a_fresh_layer_may_be_held_it_is_an_error(name):
    student = nn.Sequential(halve(3, 4), nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 1))
    with pytest.raises(ConfigError, match=r"No head was found in Sequential, and its last layer, 2, looks.*entry="):
        synreal.attach(student, tiny(name))
    assert synreal.attach(student, tiny(name), entry="0").detach() is student
    assert len(anchors(synreal.attach(student, tiny(name), entry=""), name)) == 4


@pytest.mark.parametrize("name", HOLDING)
def test_layers_that_learn_later_are_held(name):
    torch.manual_seed(0)
    student = Toy()
    student.blocks[:4].requires_grad_(False)
    model = synreal.attach(student, tiny(name, weight=1.0, interval=2, damping=0.1)).train()
    start = {key: value.detach().clone() for key, value in student.named_parameters() if not key.startswith("fc.")}
    held = anchors(model, name)
    assert held.keys() == start.keys()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model.bind(optimizer)
    free = Toy()
    free.load_state_dict(student.state_dict())
    plain = torch.optim.SGD(free.parameters(), lr=0.05)
    for step in range(6):
        if step == 3:  # in the middle of an interval of si
            student.requires_grad_(True)
        free.blocks[:4].requires_grad_(step >= 3)
        image, view, target = batch(step)
        output = model(image, view)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        F.cross_entropy(free(image), target).backward()
        for one in (optimizer, plain):
            one.step()
            one.zero_grad()
        moved = [not torch.equal(student.get_parameter(key), start[key]) for key in start]
        assert any(moved[:16]) == (step >= 3) or (name == "ftp" and step == 3)  # ftp takes a first step back
    assert all(torch.equal(held[key], start[key]) for key in start)

    if get(name).penalizes:
        assert bool(torch.autograd.grad(model(*batch(0)[:2])["penalty"], student.blocks[0][0].weight)[0].any())
        return

    def way(network):
        return sum(float((network.get_parameter(key) - start[key]).detach().square().sum()) for key in list(start)[:16])

    assert way(student) < way(free)


@pytest.mark.parametrize("name", HOLDING)
def test_a_backbone_that_does_not_learn_has_nothing_to_hold(name):
    student = Toy()
    student.blocks.requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameters that learn"):
        synreal.attach(student, tiny(name))


def test_importance_waits_for_layers_to_learn():
    student = Toy()
    student.blocks[0].requires_grad_(False)
    model = synreal.attach(student, tiny("si", interval=1)).train()
    optimizer = optimizer_of(model)
    optimizer.add_param_group({"params": list(student.blocks[0].parameters())})
    for step in range(2):
        student.blocks[0].requires_grad_(step == 1)
        image, view, target = batch(step)
        output = model(image, view)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        omega = dict(zip(model.terms["si"].omega.keys, model.terms["si"].omega.tensors(), strict=True))
        assert bool((omega["blocks/0/0/weight"] == 1).all()) == (step == 0)
    path = dict(zip(model.terms["si"].start.keys, model.terms["si"].start.tensors(), strict=True))
    assert torch.equal(path["blocks/0/0/weight"], student.blocks[0][0].weight)
