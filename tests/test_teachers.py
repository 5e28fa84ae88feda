import copy
import warnings

import pytest
import timm
import torch
from torch import nn

from synreal.errors import CheckpointError, ConfigError
from synreal.stages import find_stages
from synreal.teachers import EmaTeacher, Reference, UntrainedTeacherWarning
from tests.reference import maths

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def network():
    """A small network whose statistics look trained."""
    model = timm.create_model("test_resnet", num_classes=3).train()
    with torch.no_grad():
        model(IMAGES)
    return model


def reference(model, **settings):
    return Reference(model, list(find_stages(model).values())[-2:], **settings)


def bits(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(before, after):
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_reference_shows_no_parameters_and_saves_a_fingerprint_alone():
    teacher = reference(network())
    assert not list(teacher.parameters())
    assert not list(teacher.buffers())
    assert list(teacher.state_dict()) == ["_extra_state"]
    assert teacher.state_dict()["_extra_state"].shape == (32,)


def test_a_reference_gives_the_maps_of_the_network_in_eval_mode():
    model = network()
    teacher = reference(model)
    maps = teacher(IMAGES)
    model.eval()
    with torch.no_grad():
        assert torch.equal(maps["4"], model.forward_features(IMAGES))
    assert list(maps) == ["3", "4"]
    assert not any(value.requires_grad for value in maps.values())


def test_a_reference_never_changes():
    model = network()
    teacher = reference(model)
    before, maps = bits(teacher.network), teacher(IMAGES)
    parent = nn.ModuleDict({"student": model, "teacher": teacher}).train()
    optimizer = torch.optim.SGD(parent.parameters(), lr=0.1)
    for _ in range(3):
        parent.train()
        (model(IMAGES).sum() + sum(value.sum() for value in teacher(IMAGES * 2).values())).backward()
        optimizer.step()
    assert not equal(bits(model), before)
    assert not any(module.training for module in [teacher, *teacher.network.modules()])
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.network.parameters())
    assert equal(bits(teacher.network), before)
    assert torch.equal(teacher(IMAGES)["4"], maps["4"])


def test_a_reference_moves_with_the_model():
    teacher = reference(network())
    nn.ModuleList([teacher]).to(torch.float64)
    assert next(teacher.network.parameters()).dtype == torch.float64
    assert teacher(IMAGES.double())["4"].dtype == torch.float64


def test_the_same_weights_have_the_same_fingerprint():
    model = network()
    teacher = reference(model)
    again = reference(copy.deepcopy(model).to(memory_format=torch.channels_last))
    again.load_state_dict(teacher.state_dict())


@pytest.mark.parametrize("change", ["weight", "statistic"])
def test_a_checkpoint_of_another_teacher_is_refused(change):
    model = network()
    teacher = reference(model)
    with torch.no_grad():
        if change == "weight":
            model.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-6
        else:
            model.bn1.running_var[0] += 1e-6
    with pytest.raises(CheckpointError, match=r"another teacher .*same pretrained weights"):
        reference(model).load_state_dict(teacher.state_dict())


def test_the_fingerprint_sees_single_numbers():
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            nn.init.ones_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, x):
            return self.conv(x) * self.factor

    assert Reference(Scaled(1.0), []).fingerprint != Reference(Scaled(2.0), []).fingerprint


def test_a_fresh_classifier_is_no_part_of_the_fingerprint():
    model = network()
    other = copy.deepcopy(model)
    other.reset_classifier(7)
    head = frozenset({"fc.weight", "fc.bias"})
    assert reference(model, ignore=head).fingerprint == reference(other, ignore=head).fingerprint
    assert reference(model).fingerprint != reference(other).fingerprint


def test_a_reference_survives_deepcopy_on_its_own():
    teacher = reference(network())
    copied = copy.deepcopy(teacher)
    assert copied.network is not teacher.network
    assert torch.equal(copied(IMAGES)["4"], teacher(IMAGES)["4"])
    with torch.no_grad():
        next(copied.network.parameters()).zero_()
    assert not torch.equal(copied(IMAGES)["4"], teacher(IMAGES)["4"])


def test_an_untrained_teacher_is_warned_about():
    with pytest.warns(UntrainedTeacherWarning, match="randomly initialised"):
        reference(timm.create_model("test_resnet"))


@pytest.mark.parametrize("build", [network, lambda: timm.create_model("test_convnext")])
def test_a_trained_teacher_and_one_without_statistics_are_not(build):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reference(build())


class Mixed(nn.Module):
    """A module with parameters, float buffers and integer buffers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, x):
        return self.norm(self.layer(x))


def changed(module):
    other = copy.deepcopy(module)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else ~value)
    return other


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999, 1.0])
def test_an_average_follows_the_formula(decay):
    module = Mixed()
    teacher = EmaTeacher(module, decay)
    assert equal(bits(teacher.average), bits(module))
    want = {name: value.double() if value.is_floating_point() else value for name, value in bits(module).items()}
    for _ in range(3):
        module = changed(module)
        teacher.update(module)
        for name, value in module.state_dict().items():
            floating = value.is_floating_point()
            want[name] = maths.moving_average(want[name], value.double(), decay) if floating else value.clone()
    for name, value in teacher.average.state_dict().items():
        torch.testing.assert_close(value.to(want[name].dtype), want[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("decay", "follows"), [(0.0, True), (1.0, False)])
def test_the_ends_of_the_range_are_exact(decay, follows):
    module = Mixed()
    teacher, other = EmaTeacher(module, decay), changed(module)
    teacher.update(other)
    for name, value in teacher.average.named_parameters():
        assert torch.equal(value, (other if follows else module).get_parameter(name))


def test_an_average_takes_no_gradient_and_is_saved():
    module = Mixed()
    teacher = EmaTeacher(module, 0.5)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    teacher.update(changed(module))
    fresh = EmaTeacher(Mixed(), 0.5)
    fresh.load_state_dict(teacher.state_dict())
    assert equal(bits(fresh), bits(teacher))
    assert not teacher(torch.rand(4, 2)).requires_grad


def test_an_average_is_apart_from_what_it_follows():
    module = Mixed()
    teacher = EmaTeacher(module, 0.5)
    before = bits(teacher)
    with torch.no_grad():
        module.layer.weight.zero_()
    assert equal(bits(teacher), before)
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_lies_between_zero_and_one(decay):
    with pytest.raises(ConfigError, match=r"in \[0, 1\], got"):
        EmaTeacher(Mixed(), decay)
