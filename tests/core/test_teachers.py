import copy
import hashlib
import warnings

import pytest
import timm
import torch
from torch import nn

from synreal.core.norm_stats import freeze_norm_stats, norm_layers
from synreal.core.stages import Stage, find_stages
from synreal.core.teachers import (
    Average,
    AveragedNetwork,
    EmaTeacher,
    Reference,
    UntrainedTeacherWarning,
    state_sha256,
)
from synreal.errors import CheckpointError, ConfigError, StageError
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


def test_images_are_adapted_channel_by_channel():
    model = network()
    scale, shift = torch.tensor([2.0, 0.5, 1.0]), torch.tensor([0.1, -0.2, 0.3])
    teacher = reference(model, renormalize=(scale, shift))
    adapted = teacher.adapt(IMAGES)
    for channel in range(3):
        torch.testing.assert_close(adapted[:, channel], IMAGES[:, channel] * scale[channel] + shift[channel])
    assert torch.equal(teacher(IMAGES)["4"], reference(model)(adapted)["4"])
    assert teacher.adapt(IMAGES.double()).dtype == torch.float64
    assert reference(model).adapt(IMAGES) is IMAGES


class Positions(nn.Module):
    """A network whose last map has one layout, and whose classifier normalises and pools what it is given."""

    def __init__(self, layout):
        super().__init__()
        self.layout = layout
        self.trunk = nn.Conv2d(3, 6, 32, stride=32)
        self.end = nn.Identity()
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, images):
        values = self.trunk(images)
        if self.layout == "nhwc":
            values = values.permute(0, 2, 3, 1)
        elif self.layout == "tokens":
            values = values.flatten(2).transpose(1, 2)
        values = self.end(values)
        if self.layout == "nchw":
            values = values.flatten(2).transpose(1, 2)
        return self.fc(self.norm(values.flatten(1, -2)).mean(1))


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "tokens"])
def test_the_tail_reads_each_position_as_if_it_were_the_map(layout):
    model = Positions(layout)
    stage = Stage("4", "end", 6, 32, layout)
    teacher = Reference(model, [stage])
    vectors = torch.randn(5, 6, requires_grad=True)
    logits = teacher.tail(vectors, stage)
    torch.testing.assert_close(logits, model.fc(model.norm(vectors)))
    (gradient,) = torch.autograd.grad(logits.square().sum(), vectors)
    (want,) = torch.autograd.grad(model.fc(model.norm(vectors)).square().sum(), vectors)
    torch.testing.assert_close(gradient, want)
    # The hook is gone: the network runs as before.
    with torch.no_grad():
        assert torch.equal(teacher.network(IMAGES), model(IMAGES))
    assert not any(parameter.grad is not None for parameter in teacher.network.parameters())


def test_the_tail_of_a_resnet_is_its_classifier():
    model = network()
    teacher = reference(model)
    stage = teacher.tap.stages[-1]
    vectors = torch.randn(3, stage.channels)
    torch.testing.assert_close(teacher.tail(vectors, stage), model.fc(vectors))


def test_the_tail_finds_an_image_that_the_trunk_takes():
    class Even(Positions):
        """A trunk that takes multiples of 64 alone, as windowed attention does."""

        def forward(self, images):
            if images.shape[3] % 64:
                raise ValueError("not a multiple of the window")
            return super().forward(images)

    model = Even("nchw")
    vectors = torch.randn(2, 6)
    logits = Reference(model, []).tail(vectors, Stage("4", "end", 6, 32, "nchw"))
    torch.testing.assert_close(logits, model.fc(model.norm(vectors)))


def test_a_tail_that_cannot_work_is_refused():
    model = Positions("tokens")
    stage = Stage("4", "end", 6, 32, "tokens", prefix_tokens=1)
    with pytest.raises(StageError, match=r"stage 4 \(end\) reads class tokens.*pools its last map"):
        Reference(model, []).tail(torch.randn(2, 6), stage)
    headless = timm.create_model("test_resnet", num_classes=0, global_pool="")
    with pytest.warns(UntrainedTeacherWarning):
        teacher = reference(headless)
    with pytest.raises(StageError, match=r"gave \(2, \d+, 1, 1\) for 2 positions.*pretrained classifier"):
        teacher.tail(torch.randn(2, teacher.tap.stages[-1].channels), teacher.tap.stages[-1])
    with torch.no_grad():
        assert teacher.network(IMAGES).shape[0] == len(IMAGES)  # the hook is gone


def averaged(model, norm="own", decay=0.75):
    return AveragedNetwork(model, list(find_stages(model).values())[-2:], Average(decay, norm))


@pytest.mark.parametrize("norm", ["own", "averaged"])
def test_an_averaged_network_follows_the_formula(norm):
    model = network()
    average = averaged(model, norm)
    layers = {f"network.{name}" for name, layer in model.named_modules() if layer in norm_layers(model)}
    before, other = bits(average), changed_network(model)
    average.update(other)
    current = other.state_dict()
    for key, value in average.state_dict().items():
        student = current[key.removeprefix("network.")]
        statistic = key.rpartition(".")[0] in layers and "running" in key
        if not value.is_floating_point():
            assert torch.equal(value, before[key] if norm == "own" else student)
        elif statistic and norm == "own":
            assert torch.equal(value, before[key])
        else:
            want = 0.75 * before[key].double() + 0.25 * student.double()
            torch.testing.assert_close(value.double(), want, rtol=1e-6, atol=1e-6)
            assert not torch.equal(value, before[key])


def changed_network(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for value in other.state_dict().values():
            value.add_(torch.rand(value.shape) if value.is_floating_point() else 3)
    return other


@pytest.mark.parametrize("norm", ["own", "averaged"])
@pytest.mark.parametrize("training", [False, True])
def test_an_averaged_network_normalises_as_it_is_told(norm, training):
    model = network()
    average = averaged(model, norm)
    average.train()
    assert not any(module.training for module in average.modules())
    plain = copy.deepcopy(model).eval()
    if norm == "own" and training:
        for layer in norm_layers(plain):
            layer.train()
    model.train(training)
    before = bits(average)
    with torch.no_grad():
        want = plain.forward_features(IMAGES)
    maps = average(IMAGES, model)
    assert list(maps) == ["3", "4"]
    assert torch.equal(maps["4"], want)
    assert not maps["4"].requires_grad
    assert equal(bits(average.network), bits(plain))
    assert equal(bits(average), before) == (norm == "averaged" or not training)


def test_an_averaged_network_follows_a_student_that_freezes_some_layers():
    model = network().train()
    average = averaged(model)
    norm_layers(model)[0].eval()
    average(IMAGES, model)
    modes = [layer.training for layer in norm_layers(average.network)]
    assert modes == [False] + [True] * (len(modes) - 1)
    freeze_norm_stats(model)
    average(IMAGES, model)
    assert not any(layer.training for layer in norm_layers(average.network))


def test_an_averaged_network_takes_no_gradient_and_is_saved():
    model = network()
    average = averaged(model)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    average.update(changed_network(model))
    fresh = averaged(network())
    fresh.load_state_dict(average.state_dict())
    assert equal(bits(fresh), bits(average))
    before = bits(average)
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert equal(bits(average), before)


def test_state_sha256_tells_states_apart():
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.zeros(0, 2)}
    same = {
        "c": torch.zeros(0, 2),
        "b": torch.tensor(3),
        "a": torch.arange(6.0).reshape(3, 2).T.contiguous().T.reshape(2, 3),
    }
    transposed_in_memory = {**base, "a": base["a"].T.contiguous().T.requires_grad_()}
    assert state_sha256(base) == state_sha256(same) == state_sha256(transposed_in_memory)
    others = [
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "a": base["a"].view(torch.int32)},
        {**base, "a": base["a"].nextafter(torch.tensor(9.0))},
        {**base, "b": torch.tensor([3])},
        {**base, "c": torch.zeros(2, 0)},
        {"a": base["a"], "b": base["b"]},
        {"a2": base["a"], "b": base["b"], "c": base["c"]},
        {},
    ]
    assert len({state_sha256(state) for state in [base, *others]}) == len(others) + 1
    for dtype in (torch.bfloat16, torch.bool, torch.float64, torch.uint8):
        assert len(state_sha256({"a": torch.ones(3, dtype=dtype)})) == 64


def test_state_sha256_is_the_same_on_every_machine():
    state = {"w": torch.tensor([1.0, -2.0]), "n": torch.tensor(5)}
    stream = b"'n' torch.int64 () 8\n" + (5).to_bytes(8, "little")
    stream += b"'w' torch.float32 (2,) 8\n" + bytes.fromhex("0000803f000000c0")
    assert state_sha256(state) == hashlib.sha256(stream).hexdigest()
