"""What other people's loops do to a model: every kind of step, copy, wrapper and teacher."""

import copy

import lightning
import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
import torch._dynamo
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

import synreal
from synreal.core.queues import FeatureQueue
from synreal.core.teachers import AveragedNetwork, EmaTeacher
from synreal.errors import ConfigError, DataError, StageError, TrainingError
from tests.regularizers.contract import Toy, attached, batch, bits, hooks, network, optimizer_of, same_bits, tiny, train

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

NAMES = synreal.list_regularizers()
QUEUED = ["csg", "info_nce", "causal_invariance", "gcisg"]


def backward(model, step, rows=4, scale=lambda loss: loss):
    view0, view1, target = batch(step, rows)
    output = model(view0, view1, targets=target)
    scale(F.cross_entropy(output["output"], target) + output["penalty"]).backward()
    return output


def queues(model):
    return [module for module in model.modules() if isinstance(module, FeatureQueue)]


def learnable(model):
    return [p for p in model.parameters() if p.requires_grad]


def trained(name="test_resnet", seed=0, **settings):
    """A timm network whose statistics look trained."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **settings).train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.rand(4, 3, 64, 64))
    return model


# Steps


@pytest.mark.parametrize("name", NAMES)
def test_state_moves_once_for_the_batches_of_a_step(name):
    model, optimizer = attached(name, Toy(), steps=1)
    filled = [int(queue.count) for queue in queues(model)]
    averages = [module.network for module in model.modules() if isinstance(module, AveragedNetwork)]
    averages = [(average, model.student, 0.9) for average in averages]
    owners = {key: module for key, module in model.terms.named_modules()}
    for key, module in owners.items():
        if isinstance(module, EmaTeacher):
            averages.append((module.average, owners[key.rpartition(".")[0]].head, module.decay))
    before = [bits(average) for average, _, _ in averages]
    terms = bits(model.terms)
    backward(model, 1, rows=3)
    backward(model, 2, rows=2)
    assert same_bits(bits(model.terms), terms)
    assert all(same_bits(bits(average), old) for (average, _, _), old in zip(averages, before, strict=True))
    optimizer.step()
    assert [int(queue.count) for queue in queues(model)] == [min(count + 5, 12) for count in filled]
    for (average, source, decay), old in zip(averages, before, strict=True):
        for key, value in average.state_dict().items():
            torch.testing.assert_close(value, decay * old[key] + (1 - decay) * source.state_dict()[key])
    if name == "si":
        assert int(model.get_buffer("terms.si.steps")) == 2
    assert bool(queues(model)) == (name in QUEUED)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_clipped_together(name):
    model, optimizer = attached(name, steps=1)
    backward(model, 1)
    before = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01) == before
    after = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(after, torch.tensor(0.01), rtol=1e-3, atol=0)
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_a_scaler_skips_is_no_step(name):
    model, optimizer = attached(name, Toy(), steps=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # the gradient overflows, the maps do not
    before = bits(model)
    backward(model, 1, scale=lambda loss: scaler.scale(loss * 1e6))
    scaler.step(optimizer)
    scaler.update(2.0**4)
    optimizer.zero_grad()
    assert same_bits(bits(model), before)
    backward(model, 2, scale=scaler.scale)
    scaler.step(optimizer)
    scaler.update()
    assert not same_bits(bits(model), before)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(int(queue.count) == 12 for queue in queues(model))


@pytest.mark.parametrize("name", QUEUED)
def test_keys_that_are_not_finite_never_enter_a_queue(name):
    model, optimizer = attached(name, Toy(), steps=1)
    filled = [int(queue.count) for queue in queues(model)]
    view0, view1, _ = batch(1)
    broken = view1.clone()
    broken[1] = torch.nan
    model(view0, broken)  # of a step that a GradScaler skipped, the keys wait for the next one
    backward(model, 2, rows=3)
    optimizer.step()
    assert [int(queue.count) for queue in queues(model)] == [count + len(view1) - 1 + 3 for count in filled]
    assert all(queue.bank.isfinite().all() for queue in queues(model))


def si_and_optimizer(kind=torch.optim.SGD, **settings):
    torch.manual_seed(0)
    model = synreal.attach(Toy(), tiny("si", interval=100)).train()
    optimizer = kind(learnable(model), **settings)
    model.bind(optimizer)
    return model, optimizer


def path_of(model):
    return dict(model.get_submodule("terms.si.path").state_dict())


def clipped_path(model, lr):
    """Minus the gradient that the optimizer sees, times the step of SGD."""
    return {
        name.replace(".", "/"): lr * p.grad.square()
        for name, p in model.student.named_parameters()
        if not name.startswith("fc.")
    }


@pytest.mark.parametrize("scaled", [False, True])
def test_si_reads_the_gradients_that_the_optimizer_sees(scaled):
    model, optimizer = si_and_optimizer(lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=scaled)
    backward(model, 0, scale=scaler.scale)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    scaler.step(optimizer)
    want = clipped_path(model, 0.1)
    assert want
    for name, value in path_of(model).items():
        assert value.any(), name
        torch.testing.assert_close(value, want[name], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("way", ["positional", "keyword"])
def test_si_reads_the_gradients_of_a_closure(way):
    # Lightning hands the optimizer a closure: the gradients come about inside step().
    models = []
    for closed in (False, True):
        model, optimizer = si_and_optimizer(lr=0.1)
        for step in range(3):

            def closure(model=model, optimizer=optimizer, step=step):
                optimizer.zero_grad()
                return backward(model, step)["penalty"]

            if not closed:
                closure()
                optimizer.step()
            elif way == "keyword":
                optimizer.step(closure=closure)
            else:
                assert optimizer.step(closure).isfinite()
        models.append(model)
    assert any(value.any() for value in path_of(models[0]).values())
    assert same_bits(bits(models[0]), bits(models[1]))


def test_si_refuses_fused_optimizers():
    model = synreal.attach(Toy(), tiny("si"))
    fused = torch.optim.SGD(learnable(model), lr=0.1, fused=True)
    with pytest.raises(ConfigError, match=r"si reads gradients before each step.*fused=False"):
        model.bind(fused)
    assert not model.bound
    synreal.attach(model.detach(), tiny("csg", stages=(4,)))


class Polite(torch.optim.SGD):
    """Calls the step of its parent, so that torch runs the hooks of both."""

    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("name", ["causal_invariance", "si", "spd"])
def test_a_step_that_calls_its_parents_is_one_step(name):
    ended = []
    for kind in (torch.optim.SGD, Polite):
        torch.manual_seed(0)
        model = synreal.attach(Toy(), tiny(name)).train()
        optimizer = kind(learnable(model), lr=0.05, momentum=0.9)
        model.bind(optimizer)
        train(model, optimizer, 3)
        ended.append(bits(model))
    assert same_bits(*ended)


# Wrappers and copies


def with_statistics():
    """Toy, normalised with running statistics."""
    torch.manual_seed(0)
    student = Toy().train()
    for block in student.blocks:
        block[1] = nn.BatchNorm2d(block[1].num_channels)
    with torch.no_grad():
        student(torch.rand(8, 3, 64, 64))
    return student


@pytest.mark.parametrize("name", ["csg", "gcisg"])
def test_a_compiled_model_with_statistics_trains_like_an_eager_one(name):
    student = with_statistics()
    ended = []
    for compiled in (False, True):
        torch.manual_seed(1)
        model, optimizer = attached(name, copy.deepcopy(student))
        torch._dynamo.reset()
        if compiled:
            model.compile(backend="eager", fullgraph=True)
        train(model, optimizer, 2)
        ended.append((bits(model), model.eval()(batch(5)[0])["output"]))
    torch._dynamo.reset()
    assert list(ended[0][0]) == list(ended[1][0])
    for key, value in ended[0][0].items():
        torch.testing.assert_close(ended[1][0][key], value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ended[0][1], ended[1][1], rtol=1e-4, atol=1e-4)


@pytest.fixture(params=[False, True], ids=["plain", "reentrant"])
def reentrant(request):
    before = timm.layers.config.use_reentrant_ckpt()
    timm.layers.config.set_reentrant_ckpt(request.param)
    yield request.param
    timm.layers.config.set_reentrant_ckpt(before)


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext", "test_nfnet", "test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("name", ["gcisg", "kl"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_checkpointing_gives_the_same_gradient_or_is_refused(backbone, name, when, reentrant):
    torch.manual_seed(0)
    student = timm.create_model(backbone, num_classes=3).train()
    size = student.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        student(torch.rand(4, 3, size, size))
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(1)
        one = copy.deepcopy(student)
        # Their stages are called block by block under checkpointing, so nothing runs that a hook could hear.
        # kl reads what the classifier is given, which is there all the same.
        refused = checkpointed and name != "kl" and backbone in ("test_resnet", "test_efficientnet")
        one.set_grad_checkpointing(checkpointed and when == "before")
        if refused and when == "before":
            with pytest.raises(StageError, match=r"No hook fired at stage .*set_grad_checkpointing"):
                synreal.attach(one, tiny(name))
            assert hooks(one) == 0
            return
        model = synreal.attach(one, tiny(name)).train()
        with torch.no_grad():
            for p in one.parameters():
                p.mul_(1.05)
        one.set_grad_checkpointing(checkpointed)
        view0, view1, target = batch(0, rows=2, size=size)
        if refused:
            with pytest.raises(StageError, match=r"did not run .*Gradient checkpointing"):
                model(view0, view1)
            return
        output = model(view0, view1)
        (F.cross_entropy(output["output"], target) + output["penalty"]).backward()
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    assert sum(value is not None and bool(value.any()) for value in gradients[0].values()) > 10
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-5, atol=1e-7, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_an_average_of_a_hooked_student_is_apart(name):
    model, optimizer = attached(name, steps=1)
    average = torch.optim.swa_utils.AveragedModel(
        model.student, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    modern = timm.utils.ModelEmaV3(model.student, decay=0.9)
    images = batch(3)[0]
    if model.tap is not None:
        with model.tap.record() as maps:
            want = model.student(images)
            average.module(images * 0)  # while the original records
        model.tap.take_input()
        for name_of_stage, value in maps.items():
            assert value.requires_grad, name_of_stage
        assert want.shape == (4, 3)
    before = bits(average.module)
    train(model, optimizer, 1, first=1)
    assert same_bits(bits(average.module), before)
    average.update_parameters(model.student)
    average.update_parameters(model.student)
    modern.update(model.student)
    assert list(average.module.state_dict()) == list(model.student.state_dict()) == list(modern.module.state_dict())
    modern.module.eval()(images)
    train(model, optimizer, 1, first=2)
    assert all(p.isfinite().all() for p in average.module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_survives_safetensors_and_a_strict_load(name, tmp_path):
    keys = list(network().state_dict())
    model, _ = attached(name, steps=2)
    assert list(model.student.state_dict()) == keys
    safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(7)
    fresh = synreal.attach(network(), tiny(name))
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), strict=True)
    assert same_bits(bits(fresh), bits(model))
    plain = network(seed=3)
    plain.load_state_dict(model.student.state_dict(), strict=True)
    assert same_bits(bits(plain), bits(model.student))


# Teachers of another kind


@pytest.mark.parametrize("name", ["guidance", "kl", "gcisg"])
def test_a_reference_of_another_shape_is_reached_through_adapters(name):
    student, reference = trained(num_classes=3), trained("test_efficientnet", seed=1)
    with pytest.raises(StageError, match=r"\d+ channels .*adapter=True"):
        synreal.attach(student, tiny(name), reference=reference)
    assert hooks(student) == 0
    model = synreal.attach(student, tiny(name, adapter=True), reference=reference).train()
    adapters = {key: p for key, p in model.terms.named_parameters() if "adapter" in key}
    assert adapters
    before = {key: p.detach().clone() for key, p in adapters.items()}
    student_before = student.conv1[0].weight.detach().clone()
    optimizer = optimizer_of(model)
    assert train(model, optimizer, 1)["penalty"] > 0
    for key, parameter in adapters.items():
        assert not torch.equal(parameter, before[key]), key
    assert not torch.equal(student.conv1[0].weight, student_before)
    assert same_bits(bits(model.reference.network), bits(reference))


@pytest.mark.parametrize("name", ["csg", "feature_l2", "info_nce"])
def test_a_reference_of_another_width_needs_a_term_that_can_adapt(name):
    student = trained(num_classes=3)
    with pytest.raises(StageError, match=rf"{name} compares stage \d .*adapter=True"):
        synreal.attach(student, tiny(name), reference=trained("test_efficientnet", seed=1))
    assert hooks(student) == 0


def test_kl_reads_each_position_of_a_segmentation_students_last_map():
    student = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4), classes=5).train()
    reference = trained("resnet18", seed=1, num_classes=7)
    with torch.no_grad():
        student(torch.rand(4, 3, 64, 64))
    spec = synreal.KLDistillation(weight=2.0, temperature=3.0)
    model = synreal.attach(student, spec, reference=reference).train()
    images = batch(0, rows=2)[0]
    images.requires_grad_()
    penalty = model(images)["penalty"]
    gradient = torch.autograd.grad(penalty, student.encoder.conv1.weight)[0]

    mapped = copy.deepcopy(student).encoder
    with torch.no_grad():
        expected = reference.eval().forward_features(images)
    found = mapped(images)[-1]
    assert found.shape == expected.shape == (2, 512, 2, 2)
    total = torch.zeros(())
    for n in range(2):
        for i in range(2):
            for j in range(2):
                p = (reference.fc(expected[n, :, i, j]) / 3.0).softmax(0).detach()
                log_q = (reference.fc(found[n, :, i, j]) / 3.0).log_softmax(0)
                total = total + (p * (p.log() - log_q)).sum()
    want = 2.0 * 9.0 * total / 8
    torch.testing.assert_close(penalty, want, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(want, mapped.conv1.weight)[0], rtol=1e-3, atol=1e-6)


def test_kl_reads_a_classifiers_input():
    student, reference = trained(num_classes=3), trained(seed=1, num_classes=7)
    model = synreal.attach(student, synreal.KLDistillation(weight=1.0), reference=reference).train()
    images = batch(0)[0]
    other = copy.deepcopy(student)
    pooled = other.forward_head(other.forward_features(images), pre_logits=True)
    want = reference.eval()(images).softmax(1)
    log_q = reference.fc(pooled).log_softmax(1)
    torch.testing.assert_close(
        model(images)["penalty"], (want * (want.log() - log_q)).sum(1).mean().detach(), rtol=1e-4, atol=1e-6,
        check_stride=False,
    )  # fmt: skip


def test_images_are_renormalised_for_a_reference_that_saw_others():
    student, reference = trained(num_classes=3), trained(seed=1, num_classes=3)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    student.pretrained_cfg = {**student.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    reference.pretrained_cfg = {**reference.pretrained_cfg, "mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
    model = synreal.attach(student, tiny("feature_l2", stages=(4,)), reference=reference).train()
    pixels = batch(0)[0]
    own = (pixels - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    theirs = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(model.reference.adapt(own), theirs)
    with torch.no_grad():
        expected = reference.eval().forward_features(theirs)
        found = copy.deepcopy(student).forward_features(own)
    penalty = model(own)["penalty"].detach()
    torch.testing.assert_close(penalty, (found - expected).square().sum(1).mean(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected, reference.forward_features(own))
    alike = synreal.attach(trained(num_classes=3), tiny("feature_l2"), reference=trained(seed=1))
    assert torch.equal(alike.reference.adapt(own), own)


# Importance of weights that is measured before training


class Narrow(nn.Module):
    """Small enough that a Fisher matrix is worked out by hand: 12 weights and a classifier."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1, bias=False)
        self.fc = nn.Linear(4, 3)

    def forward(self, images):
        return self.fc(torch.tanh(self.body(images)).mean((2, 3)))


def test_the_fisher_information_is_the_mean_squared_gradient_of_the_own_prediction():
    torch.manual_seed(0)
    student = Narrow()
    model = synreal.attach(student, "weight_l2(weight=2, importance=fisher, fisher_samples=5)").train()
    images = torch.rand(8, 3, 4, 4)
    with pytest.raises(TrainingError, match=r"weight_l2 must see images before the first step: .*calibrate"):
        model(images)
    with pytest.raises(DataError, match="no image"):
        model.calibrate([])
    model.calibrate([images[:3], images[3:]])

    weight, total = student.body.weight.detach().view(4, 3), torch.zeros(4, 3)
    for image in images[:5]:  # as many as were asked for
        hidden = torch.tanh(torch.einsum("oc,chw->ohw", weight, image))
        logits = student.fc(hidden.mean((1, 2)))
        chosen = F.one_hot(logits.argmax(), 3)
        outer = (student.fc.weight * (chosen - logits.softmax(0))[:, None]).sum(0)  # d log p / d pooled
        total += torch.einsum("o,ohw,chw->oc", outer, (1 - hidden**2) / 16, image).square().detach()
    fisher = model.get_buffer("terms.weight_l2.fisher.body/weight")
    torch.testing.assert_close(fisher.view(4, 3), total / 5, rtol=1e-4, atol=1e-9)
    assert all(p.grad is None for p in student.parameters())

    with torch.no_grad():
        student.body.weight += 0.5
    torch.testing.assert_close(model(images)["penalty"].detach(), 2 * 0.25 * fisher.sum())
    train(model, optimizer_of(model), 1)


def test_the_fisher_information_is_saved():
    torch.manual_seed(0)
    student = Toy()
    spec = "weight_l2(importance=fisher, fisher_samples=3)"
    model = synreal.attach(copy.deepcopy(student), spec).train()
    model.calibrate([batch(0)[0]])
    fresh = synreal.attach(student, spec).train()
    fresh.load_state_dict(model.state_dict())
    again = copy.deepcopy(fresh)
    for one in (model, fresh, again):
        train(one, optimizer_of(one), 2)
    assert same_bits(bits(fresh), bits(model))
    assert same_bits(bits(again), bits(model))
    seen = []
    fresh.calibrate(seen.append(image) for image in batch(0)[0])  # measured once
    assert not seen


def test_a_fisher_reference_of_another_architecture_is_refused():
    with pytest.raises(ConfigError, match=r"needs a reference of the student's architecture: it has no parameter"):
        synreal.attach(Toy(), "weight_l2(importance=fisher)", reference=Toy(widths=(4, 8, 8, 12, 6)))


# Trainers: a run that stopped and went on ends like one that did not, and like your own loop

SPECS = [tiny("gcisg"), tiny("csg"), tiny("si", interval=3), tiny("masked_feature_l2", things=(0, 2))]
ROWS = [row for step in range(4) for row in zip(*batch(step, rows=2), strict=True)]


def regularized():
    torch.manual_seed(0)
    return synreal.attach(Toy(), SPECS).train()


def own_loop(steps):
    """Steps of two batches each, clipped; an epoch has two."""
    model = regularized()
    optimizer = optimizer_of(model)
    for step in range(steps):
        for index in (2 * step, 2 * step + 1):
            backward(model, index % 4, rows=2, scale=lambda loss: loss / 2)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    return bits(model)


def close(first, second):
    assert list(first) == list(second)
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-6, msg=key)


class Lit(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = regularized()

    def on_train_start(self):
        self.begun = bits(self.model)

    def training_step(self, rows, index):
        view0, view1, target = rows
        output = self.model(view0, view1, targets=target)
        return F.cross_entropy(output["output"], target) + output["penalty"]

    def configure_optimizers(self):
        return optimizer_of(self.model)


def fit(module, steps, folder, **settings):
    saving = lightning.pytorch.callbacks.ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_epochs=1)
    trainer = lightning.Trainer(
        max_steps=steps, accumulate_grad_batches=2, gradient_clip_val=0.5, default_root_dir=folder, accelerator="cpu",
        logger=False, callbacks=[saving], enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(ROWS, 2), **settings)


def test_lightning_trains_like_an_own_loop_and_resumes(tmp_path):
    whole, again = Lit(), Lit()
    fit(whole, 4, tmp_path)
    close(own_loop(4), bits(whole.model))
    half = torch.load(tmp_path / "step=2.ckpt", weights_only=True)["state_dict"]
    half = {key.removeprefix("model."): value for key, value in half.items()}
    close(own_loop(2), half)
    # Only where it goes on: which batches of an epoch Lightning repeats after that is its own affair.
    fit(again, 4, tmp_path, ckpt_path=tmp_path / "step=2.ckpt", weights_only=True)
    assert same_bits(again.begun, half)
    assert not same_bits(bits(again.model), half)
    assert int(again.model.get_buffer("terms.si.steps")) == 4


class ForTrainer(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = regularized()

    def forward(self, view0, view1, labels):
        output = self.model(view0, view1, targets=labels)
        loss = F.cross_entropy(output["output"], labels) + output.get("penalty", 0.0)
        return {"loss": loss, "logits": output["output"]}


class Bind(TrainerCallback):
    def on_train_begin(self, args, state, control, model, optimizer, **kwargs):
        model.model.bind(optimizer)


def collate(rows):
    view0, view1, labels = (torch.stack(part) for part in zip(*rows, strict=True))
    return {"view0": view0, "view1": view1, "labels": labels}


def trainer_of(steps, folder, **settings):
    arguments = TrainingArguments(
        str(folder), max_steps=steps, save_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        max_grad_norm=0.5, learning_rate=0.02, lr_scheduler_type="constant", remove_unused_columns=False,
        report_to="none", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
        **{"optim": "sgd", "optim_args": "momentum=0.9", **settings},
    )  # fmt: skip
    return InOrder(
        ForTrainer(), arguments, train_dataset=ROWS, eval_dataset=ROWS, data_collator=collate, callbacks=[Bind()]
    )


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return None


def test_transformers_trains_like_an_own_loop_saves_and_resumes(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    whole = trainer_of(4, tmp_path)
    whole.train()
    ended = bits(whole.model.model)
    close(own_loop(4), ended)
    second = trainer_of(4, tmp_path)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same_bits(bits(second.model.model), ended)
    scores = whole.evaluate()
    assert same_bits(bits(whole.model.model), ended)
    with torch.no_grad():
        want = F.cross_entropy(
            whole.model.model.student(torch.stack([row[0] for row in ROWS])), collate(ROWS)["labels"]
        )
    assert scores["eval_loss"] == pytest.approx(float(want), rel=1e-4)


def test_transformers_default_optimizer_is_refused_where_gradients_are_read(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ConfigError, match=r"si reads gradients .*fused=False"):
        trainer_of(1, tmp_path, optim="adamw_torch_fused", optim_args=None).train()


def test_accelerate_saves_and_loads_the_whole_state(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = regularized()
    prepared, optimizer = accelerator.prepare(model, optimizer_of(model))
    model.bind(optimizer)
    for index in range(8):
        with accelerator.accumulate(prepared):
            view0, view1, target = batch(index % 4, rows=2)
            output = prepared(view0, view1, targets=target)
            accelerator.backward(F.cross_entropy(output["output"], target) + output["penalty"])
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(prepared.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    close(own_loop(4), bits(model))
    ended = bits(model)
    accelerator.save_state(tmp_path)
    train(model, optimizer, 2)
    assert not same_bits(bits(model), ended)
    accelerator.load_state(tmp_path)
    assert same_bits(bits(model), ended)
    AcceleratorState._reset_state(reset_partial_state=True)
