"""Whose running statistics move in training, in every kind of loop."""

import copy
import pickle

import lightning
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from transformers import Trainer, TrainingArguments

import synreal
from synreal.core.norm_stats import (
    freeze_norm_stats,
    frozen,
    gathered_norm_stats,
    learning_norm_layers,
    norm_layers,
    pretrained_norm_layers,
    release_norm_stats,
)
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.errors import ConfigError, StageError, TrainingError
from synreal.regularizers import get
from synreal.tasks.networks import create_detector
from tests.engine import tiny as tiny_runs
from tests.regularizers.contract import bits, tiny

NAMES = synreal.list_regularizers()
STEPS = 2


class Headed(nn.Module):
    """A pretrained network whose fresh head has statistics of its own."""

    def __init__(self, name):
        super().__init__()
        self.network = timm.create_model(name, num_classes=0)
        self.feature_info = [{**info, "module": f"network.{info['module']}"} for info in self.network.feature_info]
        self.fc = nn.Sequential(nn.Linear(self.network.num_features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, images):
        return self.fc(self.network(images))


def detector():
    """A Faster R-CNN whose fresh pyramid has BatchNorm."""
    model, _ = create_detector("fasterrcnn", "test_efficientnet", num_classes=2, weights="none", image_size=64)
    channels, wide = model.backbone.body.feature_info.channels(), model.backbone.out_channels
    model.backbone.fpn = FeaturePyramidNetwork(channels, wide, LastLevelMaxPool(), nn.BatchNorm2d)
    return model


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    tiny_runs.narrow(monkeypatch.setattr)


# A network, the prefix of what is pretrained in it, and of what is fresh and has statistics.
NETWORKS = {
    "resnet": (lambda: Headed("test_resnet"), "network.", "fc."),
    "efficientnet": (lambda: Headed("test_efficientnet"), "network.", "fc."),
    "convnext": (lambda: Headed("test_convnext"), "network.", "fc."),
    "deeplabv3plus": (
        lambda: smp.DeepLabV3Plus("tu-test_resnet", encoder_weights=None, decoder_channels=16, classes=3),
        "encoder.",
        "decoder.",
    ),
    "fasterrcnn": (detector, "backbone.body.", "backbone.fpn."),
}


def trained(model):
    """Let statistics look trained."""
    for layer in norm_layers(model):
        nn.init.uniform_(layer.running_mean, -0.1, 0.1)
        nn.init.uniform_(layer.running_var, 0.5, 2)
    return model


def build(name):
    torch.manual_seed(0)
    return trained(NETWORKS[name][0]().train())


def classifier_of(name, student):
    """A teacher with a classifier and with maps of the student's size."""
    build = {
        "deeplabv3plus": lambda: timm.create_model("resnet18", output_stride=16),
        "fasterrcnn": lambda: timm.create_model("test_efficientnet"),
    }
    return trained(build[name]()) if name in build else copy.deepcopy(student)


def inputs(name, step, rows=2):
    """Arguments of the model, and what makes a loss of its output."""
    generator = torch.Generator().manual_seed(step)
    views = [torch.rand(rows, 3, 64, 64, generator=generator) for _ in range(2)]
    if name == "fasterrcnn":
        target = {"boxes": torch.tensor([[8.0, 8, 40, 48]]), "labels": torch.tensor([1])}
        views = [list(view) for view in views]
        return views, {"targets": [target] * rows}, lambda output: sum(output.values())
    labels = torch.arange(rows) % 3
    if name == "deeplabv3plus":
        labels = labels.view(-1, 1, 1).expand(-1, 64, 64)
    return views, {"targets": labels}, lambda output: F.cross_entropy(output, labels)


def loss_of(name, call, step):
    views, more, task = inputs(name, step)
    out = call(*views, **more)
    return task(out["output"]) + out["penalty"]


def optimizer_of(model):
    return torch.optim.SGD(synreal.parameter_groups(model, lr=1e-3), momentum=0.9)


def go(name, model, call, opt, steps=STEPS, backward=torch.Tensor.backward):
    for step in range(steps):
        backward(loss_of(name, call, step))
        opt.step()
        opt.zero_grad()


# Kinds of loops: each trains ``model`` on ``name``'s batches.


def plain(name, model, tmp_path):
    opt = optimizer_of(model)
    go(name, model.bind(opt), model, opt)


def switching(name, model, tmp_path):
    """Tests between steps, and somebody who calls ``train()`` on this and that."""
    opt = optimizer_of(model)
    model.bind(opt)
    entry = model.student.get_submodule(NETWORKS[name][1][:-1])
    modules = [model, model.student, entry, *norm_layers(entry)[:2]]
    for module in modules:
        model.eval()
        assert not any(layer.training for layer in norm_layers(model.student))
        module.train()
        model.training = True
        model.student.train()
        module.train()
        go(name, model, model, opt, 1)


def compiled(name, model, tmp_path):
    call = torch.compile(model, backend="eager")
    opt = optimizer_of(model)
    model.bind(opt)
    call.train()
    go(name, model, call, opt)


def ddp(name, model, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        call = DistributedDataParallel(model, broadcast_buffers=False, find_unused_parameters=True).train()
        opt = optimizer_of(call)
        model.bind(opt)
        go(name, model, call, opt)
    finally:
        dist.destroy_process_group()


def accelerated(name, model, tmp_path):
    try:
        accelerator = Accelerator(cpu=True)
        call, opt = accelerator.prepare(model, optimizer_of(model))
        model.bind(opt)
        call.train()
        go(name, model, call, opt, backward=accelerator.backward)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


class Module(lightning.LightningModule):
    def __init__(self, name, model):
        super().__init__()
        self.kind, self.model = name, model

    def training_step(self, step, _):
        return loss_of(self.kind, self.model, int(step))

    def validation_step(self, step, _):
        assert not self.model.training

    def configure_optimizers(self):
        opt = optimizer_of(self.model)
        self.model.bind(opt)
        return opt


def in_lightning(name, model, tmp_path):
    trainer = lightning.Trainer(
        default_root_dir=tmp_path, max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    steps = DataLoader(range(STEPS), collate_fn=lambda rows: rows[0])
    trainer.fit(Module(name, model), steps, steps)


class ForTrainer(nn.Module):
    def __init__(self, name, model):
        super().__init__()
        self.name, self.model = name, model

    def forward(self, step):
        return {"loss": loss_of(self.name, self.model, step)}


def in_trainer(name, model, tmp_path):
    arguments = TrainingArguments(
        str(tmp_path), max_steps=STEPS, use_cpu=True, remove_unused_columns=False, report_to="none",
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    opt = optimizer_of(model)
    model.bind(opt)
    schedule = synreal.warmup_poly_schedule(opt, STEPS, warmup=0)
    trainer = Trainer(
        ForTrainer(name, model), arguments, train_dataset=list(range(STEPS)), optimizers=(opt, schedule),
        data_collator=lambda rows: {"step": rows[0]},
    )  # fmt: skip
    trainer.train()


LOOPS = [plain, switching, compiled, ddp, accelerated, in_lightning, in_trainer]


def statistics(student):
    return {key: value.clone() for key, value in student.named_buffers() if "running" in key or "num_batches" in key}


def moved(student, before):
    return {key for key, value in statistics(student).items() if not torch.equal(value, before[key])}


def check(name, model, before):
    """The pretrained network's statistics are as they were, those of fresh layers are not."""
    _, pretrained, fresh = NETWORKS[name]
    assert {key for key in before if key.startswith(fresh)} == moved(model.student, before)
    assert any(key.startswith(pretrained) for key in before) == (name != "convnext")
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.student.parameters())


@pytest.mark.parametrize(
    ("loop", "name"),
    [
        pytest.param(loop, name, id=f"{loop.__name__}-{name}")
        for loop in LOOPS
        for name in NETWORKS
        # Tracing takes long, and a classifier and a segmenter show it.
        if loop is not compiled or name in ("efficientnet", "deeplabv3plus")
    ],
)
def test_pretrained_statistics_stand_still_and_fresh_ones_learn(loop, name, tmp_path):
    model = synreal.attach(build(name), tiny("csg"))
    before = statistics(model.student)
    weights = bits(model.student)
    loop(name, model, tmp_path)
    check(name, model, before)
    moved_weights = {key for key, value in model.student.named_parameters() if not torch.equal(value, weights[key])}
    scales = {key.replace("running_mean", "weight") for key in before if key.startswith(NETWORKS[name][1])}
    assert bool(scales & moved_weights) == (name != "convnext")


@pytest.mark.parametrize("name", ["efficientnet", "fasterrcnn"])  # the others with csg, above
@pytest.mark.parametrize("regularizer", NAMES)
def test_every_regularizer_leaves_them_alone(regularizer, name, tmp_path):
    student = build(name)
    reference = classifier_of(name, student) if get(regularizer)().needs_classifier else None
    model = synreal.attach(student, tiny(regularizer), reference=reference)
    before = statistics(model.student)
    switching(name, model, tmp_path)
    check(name, model, before)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("loop", [plain, switching], ids=lambda loop: loop.__name__)
def test_norm_train_lets_all_of_them_move(loop, name, tmp_path):
    model = synreal.attach(build(name), tiny("csg"), norm="train")
    assert model.frozen_layers == []
    before = statistics(model.student)
    loop(name, model, tmp_path)
    assert moved(model.student, before) == set(before)


@pytest.mark.parametrize("training", [True, False])
def test_detach_gives_each_layer_the_mode_that_it_was_asked_for(training):
    student = build("resnet").train(training)
    student.network.bn1.train(not training)
    asked = {path: module.training for path, module in student.named_modules()}
    model = synreal.attach(student, "none")
    assert model.training == training
    assert not any(layer.training for layer in pretrained_norm_layers(student))
    assert {path: module.training for path, module in model.detach().named_modules()} == asked
    model = synreal.attach(student, "none")
    model.train(not training)
    model.detach()
    assert all(module.training != training for module in student.modules())
    assert not any({"train", "reset_running_stats"} & set(layer.__dict__) for layer in student.modules())


def test_what_a_layer_contains_follows_the_mode():
    student = timm.create_model("test_efficientnet", num_classes=3)
    layer = norm_layers(student)[0]
    layer.drop = nn.Dropout(0.5)
    freeze_norm_stats(student)
    student.train()
    assert not layer.training
    assert layer.drop.training
    assert not student.eval().get_submodule("conv_stem").training
    assert not layer.drop.training


def test_somebodys_own_freezing_outlives_the_model():
    student = build("resnet")
    own = freeze_norm_stats(student.network.bn1)
    assert own == [student.network.bn1]
    assert freeze_norm_stats(student.network.bn1) == []
    synreal.attach(student, "none").train().detach()
    assert frozen(student.network.bn1)
    assert not frozen(student.network.layer1[0].bn1)
    release_norm_stats(student)
    assert student.network.bn1.training


def test_a_reset_that_nothing_would_make_good_is_refused():
    model = synreal.attach(build("resnet"), "none")
    averaged = torch.optim.swa_utils.AveragedModel(model.student)
    before = statistics(averaged.module)
    loader = DataLoader(torch.rand(4, 3, 64, 64), 2)
    with pytest.raises(TrainingError, match=r"update_bn does that.*norm='train'"):
        torch.optim.swa_utils.update_bn(loader, averaged)
    assert not moved(averaged.module, before)
    student = model.detach()
    torch.optim.swa_utils.update_bn(loader, torch.optim.swa_utils.AveragedModel(student))


def test_layers_that_are_exchanged_after_attach_are_frozen_too():
    model = synreal.attach(build("resnet"), "none")
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    layers = norm_layers(model.student.network)
    assert all(isinstance(layer, nn.SyncBatchNorm) and not layer.training for layer in layers)
    model.student.train()
    assert not any(layer.training for layer in layers)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_freezes_its_own_layers(copied):
    model = synreal.attach(build("resnet"), tiny("csg"))
    other = copied(model)
    model.detach().train()
    assert all(layer.training for layer in norm_layers(model.student))
    other.train()
    assert other.frozen_layers == pretrained_norm_layers(other.student)
    assert not any(layer.training for layer in other.frozen_layers)
    student = other.detach().train()
    assert all(layer.training for layer in norm_layers(student))


def test_a_failed_attach_freezes_nothing():
    student = build("resnet")
    with pytest.raises(ConfigError, match=r"norm is 'freeze'; expected 'frozen' or 'train'"):
        synreal.attach(student, "none", norm="freeze")
    with pytest.raises(StageError):
        synreal.attach(student, ["oracle", "feature_l2"], reference=build("convnext"))  # of other widths
    assert all(layer.training for layer in norm_layers(student))


def test_statistics_that_were_never_trained_are_not_kept_without_a_word():
    def fresh():
        return timm.create_model("test_resnet", num_classes=3)

    for settings in ({}, {"reference": build("resnet")}):
        name = "guidance" if settings else "none"
        with pytest.warns(UntrainedTeacherWarning, match=r"norm='frozen' keeps .* never trained") as told:
            synreal.attach(fresh(), tiny(name), **settings)
        assert [one.filename for one in told] == [__file__]
    with pytest.warns(UntrainedTeacherWarning, match="reference network's") as told:
        synreal.attach(fresh(), tiny("guidance"))
    assert len(told) == 1


@pytest.mark.filterwarnings("error::synreal.core.teachers.UntrainedTeacherWarning")
def test_there_is_nothing_to_say_of_other_networks():
    synreal.attach(timm.create_model("test_convnext", num_classes=3), "none")
    synreal.attach(timm.create_model("test_resnet", num_classes=3), "none", norm="train")
    synreal.attach(build("resnet"), "none")


# ------------------------------------------------------------------------------------------------ computed anew


class Branched(nn.Module):
    """A network with a frozen layer, two that learn, and one that no batch reaches."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.aside = nn.BatchNorm2d(4)

    def forward(self, images):
        return self.norm(self.body(images))


def test_statistics_are_computed_anew_as_torch_does_but_for_frozen_and_unreached_layers():
    network = Branched()
    network(torch.rand(4, 3, 9, 9))
    network.aside.running_mean.fill_(7)
    freeze_norm_stats(network.body[1])
    assert learning_norm_layers(network) == [network.body[3], network.norm, network.aside]
    theirs = copy.deepcopy(network)
    release_norm_stats(theirs)
    frozen_layer = bits(network.body[1])
    theirs.body[1].forward = lambda images: network.body[1](images)
    batches = [torch.rand(size, 3, 9, 9) for size in (4, 2, 3)]
    network.eval()
    network.norm.train()
    with torch.no_grad(), gathered_norm_stats(network):
        for batch in batches:
            network(batch)
    theirs.body[1].reset_running_stats = lambda: None
    update_bn(batches, theirs)
    for ours, other in ((network.body[3], theirs.body[3]), (network.norm, theirs.norm)):
        assert torch.equal(ours.running_mean, other.running_mean)
        assert torch.equal(ours.running_var, other.running_var)
        assert int(ours.num_batches_tracked) == 3
    assert all(torch.equal(bits(network.body[1])[name], value) for name, value in frozen_layer.items())
    assert float(network.aside.running_mean[0]) == 7
    assert (network.norm.momentum, network.aside.momentum) == (0.3, 0.1)
    assert [m.training for m in (network, network.body[1], network.body[3], network.norm)] == [False] * 3 + [True]
    release_norm_stats(network)
    assert network.body[1].training is False  # as it was asked for last


def test_without_a_batch_statistics_stay():
    network = Branched()
    network(torch.rand(4, 3, 9, 9))
    before = bits(network)
    with gathered_norm_stats(network):
        pass
    assert all(torch.equal(bits(network)[name], value) for name, value in before.items())
