"""When noise is active, what it draws, and what becomes of its state."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import synreal
from synreal import distributed
from synreal.core.noise import FeatureNoise, load_noise_state, noise_of, noise_state, remove_noise
from synreal.core.stages import find_stages
from synreal.errors import CheckpointError, ConfigError, StageError, TrainingError
from synreal.functional import uniform
from tests.regularizers.contract import Toy, batch, bits, network, optimizer_of, same_bits, tiny, train

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


class Shifted(FeatureNoise):
    """Adds one number to each channel."""

    def disturb(self, maps, key):
        assert maps.dtype in (torch.float32, torch.float64)
        assert not torch.is_autocast_enabled("cpu")
        self.key = key
        return maps + uniform(key, maps.shape[:2]).view(*maps.shape[:2], *[1] * (maps.ndim - 2)).to(maps.dtype)


def noisy(student=None, stage="2", seed=5, **settings):
    student = Toy() if student is None else student
    noise = Shifted("shifted", find_stages(student)[stage], 0, **{"chance": 1.0, "least": 2, **settings})
    noise.put_on(student, seed)
    return student, noise


def state(student):
    (found,) = noise_state(student).values()
    return found.tolist()


def test_it_is_active_in_training_with_gradient_alone():
    student, _ = noisy()
    images = batch(0)[0]
    plain = copy.deepcopy(student)
    assert remove_noise(plain) == ["blocks.2"]
    want = plain(images)
    assert not torch.equal(student.train()(images), want)
    assert state(student) == [5, 1, 0]
    with torch.no_grad():
        assert torch.equal(student(images), want)
    with torch.inference_mode():
        assert torch.equal(student(images), want)
    assert torch.equal(student.eval()(images), want)
    assert state(student) == [5, 1, 0]
    student.train()
    student.blocks[2].eval()
    assert torch.equal(student(images), want)


def test_each_pass_each_site_each_seed_and_each_process_draws_something_else(monkeypatch):
    images = batch(0)[0]
    student, _ = noisy()
    found = [student(images), student(images)]
    for settings, rank in (({}, 1), ({"seed": 6}, 0)):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        other = Toy()
        other.load_state_dict(student.state_dict())
        found.append(noisy(other, **settings)[0](images))
    monkeypatch.undo()
    other = copy.deepcopy(student)
    remove_noise(other)
    number = Shifted("shifted", find_stages(other)["2"], 1, chance=1.0, least=2)
    number.put_on(other, 5)
    found.append(other(images))
    assert all(not torch.equal(one, other) for index, one in enumerate(found) for other in found[:index])
    again = copy.deepcopy(student)
    remove_noise(again)
    noisy(again)
    assert torch.equal(again(images), found[0])


def test_the_state_is_equal_in_all_processes(monkeypatch):
    student, _ = noisy()
    student(batch(0)[0])
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    other, _ = noisy()
    other(batch(0)[0])
    assert state(student) == state(other)


def test_the_chance_is_a_coin_of_each_batch():
    student, noise = noisy(chance=0.3)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        want = student(images)
    changed = 0
    for _ in range(60):
        with torch.enable_grad():
            output = student(images)
        changed += not torch.equal(output, want)
    assert 6 <= changed <= 32
    assert state(student) == [5, 60, 0]
    assert noise.ran


def test_a_batch_that_is_too_small_stays_as_it_is_and_is_counted():
    student, _ = noisy(least=2)
    images = batch(0)[0]
    plain = copy.deepcopy(student)
    remove_noise(plain)
    assert torch.equal(student(images[:1]), plain(images[:1]))
    assert state(student) == [5, 1, 1]  # the pass counts, as it does in a process whose batch is larger
    student(images)
    assert state(student) == [5, 2, 1]
    model = synreal.attach(student, "none")
    assert model.noise.left_out == 1


def test_a_map_of_one_position_is_refused():
    student, _ = noisy(stage="4")
    with pytest.raises(TrainingError, match=r"shifted at stage 4 \(blocks.4\) gets a map of one position.*larger"):
        student(torch.rand(2, 3, 32, 32))


def test_statistics_are_wide_under_autocast_and_the_map_keeps_its_type():
    student, _ = noisy()
    seen = []
    student.blocks[2].register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.autocast("cpu", torch.bfloat16):
        student.blocks[2][1] = nn.Identity()
        student(batch(0)[0]).float().sum().backward()
    assert seen[0].dtype == torch.bfloat16
    assert student.double()(batch(0)[0].double()).dtype == torch.float64


@pytest.mark.parametrize("name", ["test_mambaout", "test_vit"])
def test_maps_with_channels_last_and_tokens(name):
    student = timm.create_model(name, num_classes=3).train()
    stage = find_stages(student)["2"]
    student, noise = noisy(student)
    module, seen = student.get_submodule(stage.path), []
    module.register_forward_hook(lambda _m, args, out: seen.append(out))
    size = student.pretrained_cfg["input_size"][-1]
    images = torch.rand(2, 3, size, size)
    noise.held = True
    student(images)
    noise.held = False
    student(images)
    change = seen[1] - seen[0]
    shift = uniform(noise.key, (2, stage.channels))
    if stage.layout == "nhwc":
        want = shift[:, None, None].expand_as(change)
    else:
        patches = shift[:, None].expand(-1, change.shape[1] - stage.prefix_tokens, -1)
        want = torch.cat([torch.zeros(2, stage.prefix_tokens, stage.channels), patches], 1)
    torch.testing.assert_close(change, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gcisg", "csg", "causal_invariance(moves_stats=true, average_norm=averaged)"])
def test_further_passes_of_a_model_run_without_noise(name):
    student, noise = noisy(network(), stage="1")
    model = synreal.attach(student, tiny(name)).train()
    heard = []
    student.layer1.register_forward_hook(lambda *_: heard.append(noise.held))
    train(model, optimizer_of(model), 2)
    assert heard.count(False) == 2  # the task's own
    assert heard.count(True) == 2 * sum(run.shared.net == "student" for run in model.extra_runs)
    assert state(student) == [5, 2, 0]
    average = [network for network in model.averages.values()]
    assert all(int(hook[1].get_buffer("shifted_draws")[1]) <= 2 for one in average for hook in noise_of(one))


def test_a_model_saves_it_and_goes_on_from_it():
    torch.manual_seed(0)
    student, _ = noisy(network(), stage="1")
    model = synreal.attach(student, tiny("csg")).train()
    optimizer = optimizer_of(model)
    train(model, optimizer, 2)
    saved, steps = bits(model), bits(optimizer)
    assert saved["noise._extra_state"].tolist() == [[5, 2, 0]]
    assert not any("draws" in key for key in saved)
    twin = copy.deepcopy(model)
    third = optimizer_of(twin)
    third.load_state_dict(copy.deepcopy(steps))
    train(model, optimizer, 1, first=2)
    train(twin, third, 1, first=2)
    assert same_bits(bits(twin), bits(model))

    other, _ = noisy(network(seed=1), stage="1", seed=77)
    again = synreal.attach(other, tiny("csg"), reference=network()).train()
    second = optimizer_of(again)
    again.load_state_dict(saved)
    second.load_state_dict(copy.deepcopy(steps))
    train(again, second, 1, first=2)
    assert same_bits(bits(again), bits(model))

    twice, _ = noisy(network(), stage="1")
    noisy(twice, stage="2")
    with pytest.raises(CheckpointError, match=r"The saved noise is of site 0; this network has it at layer1.*layer2"):
        synreal.attach(twice, tiny("csg")).load_state_dict(saved)
    with pytest.raises(RuntimeError, match=r"noise\._extra_state"):
        synreal.attach(network(), tiny("csg")).load_state_dict(saved)
    with pytest.raises(CheckpointError, match=r"The saved noise is of no site; this network has it at blocks\.2"):
        load_noise_state(noisy()[0], {})


def test_a_model_without_noise_has_no_state_of_it():
    model = synreal.attach(network(), tiny("csg"))
    assert model.noise is None
    assert not any("noise" in key for key in model.state_dict())


def test_noise_that_does_not_run_is_an_error():
    student, _ = noisy(timm.create_model("test_resnet", num_classes=3).train(), stage="2")
    model = synreal.attach(student, "none").train()
    student.set_grad_checkpointing(True)
    with pytest.raises(StageError, match=r"shifted at 2 \(layer2\) did not run.*Gradient checkpointing"):
        model(batch(0)[0])
    student.set_grad_checkpointing(False)
    model(batch(0)[0])
    student.layer2.eval()  # on purpose
    model(batch(0)[0])


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_second_pass_within_backward_is_refused(reentrant):
    student, _ = noisy()

    class Checkpointed(nn.Module):
        def forward(self, images):
            given = images.requires_grad_()
            return checkpoint(student.blocks, given, use_reentrant=reentrant).sum()

    with pytest.raises(TrainingError, match="runs within a backward pass: gradient checkpointing"):
        Checkpointed()(batch(0)[0]).backward()


def test_one_place_is_used_once():
    student, noise = noisy()
    with pytest.raises(ConfigError, match=r"shifted is on stage 2 \(blocks.2\) already"):
        noise.check(student)


def test_it_follows_the_network_to_a_device():
    student, _ = noisy()
    student.to("meta")
    assert student.blocks[2].shifted_draws.device.type == "meta"
    assert "shifted_draws" not in str(list(student.state_dict()))
