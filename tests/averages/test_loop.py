"""An average in other people's loops."""

import copy

import lightning
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

import synreal
from synreal.averages import WeightAverage
from synreal.errors import CheckpointError, ConfigError
from tests.regularizers.contract import tiny

STEPS = 6


class Net(nn.Module):
    """A classifier whose statistics learn."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, images):
        return self.fc(self.norm(self.conv(images)).relu().mean((2, 3)))


def images(step):
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(step))


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def mean(way):
    return torch.stack([state["conv.weight"].double() for state in way]).mean(0)


def train(network, optimizer, steps=STEPS, scaler=None, broken=()):
    """Train, and give the weights at the start and after each real step."""
    way = [copied(network)]
    for step in range(steps):
        loss = network(images(step)).square().mean() * (float("inf") if step in broken else 1)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
        if step not in broken:
            way.append(copied(network))
    return way


def test_the_average_of_a_plain_loop_and_how_it_is_tested():
    network = Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    average = WeightAverage(network, "ema").bind(optimizer)
    way = train(network, optimizer)
    assert average.step == STEPS
    torch.testing.assert_close(average.weights()["conv.weight"].double(), mean(way))
    with average.applied() as averaged:
        assert averaged is network
        assert all(torch.equal(value, average.weights()[name]) for name, value in averaged.state_dict().items())
    assert all(torch.equal(value, way[-1][name]) for name, value in network.state_dict().items())
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert all(torch.equal(value, way[-1][name]) for name, value in network.state_dict().items())


def test_statistics_of_an_average_are_those_that_torch_computes():
    network = Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    average = WeightAverage(network, "ema").bind(optimizer)
    train(network, optimizer)
    theirs = copy.deepcopy(network)
    theirs.load_state_dict(average.weights())
    batches = [images(step) for step in range(20, 24)]
    update_bn(batches, theirs)
    network.eval()
    with average.applied((batch, 0) for batch in batches):
        ours = copied(network)
        assert not network.training
        assert network.norm.momentum == 0.1
    assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    assert not torch.equal(ours["norm.running_mean"], average.weights()["norm.running_mean"])


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_of_an_attached_model_the_student_is_averaged_and_frozen_statistics_stay():
    import timm

    student = timm.create_model("test_resnet", num_classes=3)
    synreal.zero_head(student)
    model = synreal.attach(student, tiny("none")).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.bind(optimizer)
    average = WeightAverage(model, "ema").bind(optimizer)
    before = copied(student)
    for _ in range(3):
        out = model(torch.rand(4, 3, 64, 64))
        (F.cross_entropy(out["output"], torch.arange(4) % 3) + out["penalty"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert average.network is student
    with average.applied([torch.rand(4, 3, 64, 64)]):
        found = copied(student)
    frozen = [name for name in before if "running" in name or "tracked" in name]
    assert frozen
    assert all(torch.equal(found[name], before[name]) for name in frozen)
    assert not torch.equal(found["fc.weight"], before["fc.weight"])
    assert average.weights().keys() == model.detach().state_dict().keys()


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_scaler_skips_is_none(fused):
    network = Net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=fused)
    average = WeightAverage(network, "ema").bind(optimizer)
    way = train(network, optimizer, scaler=torch.amp.GradScaler("cpu", init_scale=4.0), broken=(2, 3))
    assert average.step == STEPS - 2 == len(way) - 1
    torch.testing.assert_close(average.weights()["conv.weight"].double(), mean(way))


def test_another_optimizer_takes_the_place_of_the_first():
    network = Net()
    first, second = (torch.optim.SGD(network.parameters(), lr=0.1) for _ in range(2))
    average = WeightAverage(network, "ema").bind(first).bind(second)
    train(network, first, steps=2)
    assert average.step == 0
    train(network, second, steps=2)
    assert average.step == 2
    with pytest.raises(ConfigError, match="takes an optimizer, got Net"):
        average.bind(network)


@pytest.mark.parametrize("spec", ["ema(decay=0.7)", "swa(start=0, every=2)", "swad(segment=1, n_start=1)", "wise_ft"])
def test_a_loop_that_goes_on_gives_the_same_bits(spec, tmp_path):
    def make():
        torch.manual_seed(0)
        network = Net()
        losses = iter([3.0, 2.0, 2.5, 2.2, 2.4, 2.1])
        average = WeightAverage(network, spec, steps=STEPS, epoch=2, loss=lambda: next(losses))
        return network, average

    whole, wanted = make()
    train(whole, _bound(whole, wanted))
    network, average = make()
    train(network, _bound(network, average), steps=3)
    torch.save([network.state_dict(), average.state_dict()], tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt")
    network.load_state_dict(states[0])
    losses = iter([2.2, 2.4, 2.1])
    again = WeightAverage(network, spec, steps=STEPS, epoch=2, loss=lambda: next(losses))
    again.load_state_dict(states[1])
    optimizer = _bound(network, again)
    for step in range(3, STEPS):
        network(images(step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(again.weights()[name], value) for name, value in wanted.weights().items())
    assert again.describe() == wanted.describe()


def _bound(network, average):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    average.bind(optimizer)
    return optimizer


def test_what_does_not_fit_is_told():
    network = Net()
    with pytest.raises(ConfigError, match="swad asks for a loss on held-out images"):
        WeightAverage(network, "swad")
    with pytest.raises(ConfigError, match=r"Unknown average 'emma'\. Did you mean 'ema'"):
        WeightAverage(network, "emma")
    with pytest.raises(CheckpointError, match=r"wise_ft\(0.5\) does not fit: it has no start of conv.weight"):
        WeightAverage(network, "wise_ft").load_state_dict(WeightAverage(network, "ema").state_dict())


def test_accelerate_steps_it_and_saves_it(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)
    network, optimizer = accelerator.prepare(Net(), torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))
    optimizer.optimizer.add_param_group({"params": list(network.parameters())})
    average = WeightAverage(accelerator.unwrap_model(network), "ema").bind(optimizer)
    accelerator.register_for_checkpointing(average)
    way = train(network, optimizer)
    torch.testing.assert_close(average.weights()["conv.weight"].double(), mean(way))
    kept = average.weights()
    accelerator.save_state(tmp_path)
    train(network, optimizer, steps=1)
    assert average.step == STEPS + 1
    accelerator.load_state(tmp_path)
    assert average.step == STEPS
    assert all(torch.equal(average.weights()[name], value) for name, value in kept.items())


@pytest.mark.filterwarnings("ignore")
def test_lightning_steps_it(tmp_path):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = Net()
            self.way = [copied(self.network)]

        def training_step(self, batch, index):
            return self.network(batch).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
            self.average = WeightAverage(self.network, "ema").bind(optimizer)
            return optimizer

        def on_train_batch_end(self, *_):
            self.way.append(copied(self.network))

    module = Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, default_root_dir=tmp_path, **quiet
    )
    trainer.fit(module, DataLoader(torch.rand(32, 3, 8, 8), 8))
    assert module.average.step == 4
    torch.testing.assert_close(module.average.weights()["conv.weight"].double(), mean(module.way))
