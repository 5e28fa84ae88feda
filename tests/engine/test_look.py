"""Looking into networks: against a direct float64 computation, for each task, and from whatever a network comes."""

import json
import math
import signal

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

import synreal
from synreal import data
from synreal.engine import Plain, look_closely, preflight
from synreal.engine import look as look_into
from synreal.errors import CheckpointError, ConfigError, DataError, Interrupted, WeightsError
from synreal.locking import Lock
from synreal.measures.cka import FeatureProducts
from synreal.measures.match_rate import PhotometricView
from synreal.records import read_look, read_record
from synreal.tasks.classification import Classification
from synreal.views import derive_seed, seeded
from synreal.weights import imagenet_ids
from tests.engine import tiny
from tests.measures.test_lookers import naive_cka, naive_energy

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

SHORT = {"epochs": 1, "batch_size": 6, "max_steps": 2, "eval_every": 0, "regularizers": "none"}
QUICK = {"cls": {}, "seg": {"architecture": "fpn"}, "det": {"architecture": "fcos"}}
HERE = {"device": "cpu", "show_progress": False}
LAST = "blocks.4"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A file of weights with a classifier of ImageNet's classes that looks trained."""
    torch.manual_seed(7)
    network = timm.create_model("test_efficientnet", num_classes=1000)
    nn.init.normal_(network.classifier.bias)
    path = tmp_path_factory.mktemp("weights") / "pretrained.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def trained(whole, pretrained):
    """A run that began with them."""
    return whole(weights=str(pretrained), epochs=1, eval_every=0, lr=0.5, backbone_lr_scale=1.0)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """Images of three of ImageNet's classes."""
    folder = tmp_path_factory.mktemp("imagenet")
    for index, name in enumerate((imagenet_ids()[3], imagenet_ids()[500], imagenet_ids()[999])):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}_x.png")
    return folder


def network_of(path):
    network = timm.create_model("test_efficientnet", num_classes=len(load_file(path)["classifier.bias"]))
    network.load_state_dict(load_file(path))
    return network.double().eval()


def pooled(network, images, path=LAST):
    seen = []
    handle = network.get_submodule(path).register_forward_hook(lambda _m, _a, output: seen.append(output))
    with torch.no_grad():
        logits = network(images)
    handle.remove()
    return seen[0].mean((2, 3)), logits


def prepared(images, network):
    mean, std = (torch.tensor(network.pretrained_cfg[key]).double().view(3, 1, 1) for key in ("mean", "std"))
    return (torch.stack([image.double() for image in images]) / 255 - mean) / std


def test_a_look_agrees_with_a_direct_float64_computation(trained, pretrained):
    """The images are as large as the network takes them: the test preparation leaves them as they are."""
    found = look_into(trained, **HERE)
    own, frozen = network_of(trained / "model.safetensors"), network_of(pretrained)
    photos = tiny.load("mnist", "test")
    images, labels = zip(*(photos[index] for index in range(len(photos))), strict=True)
    plain = prepared(images, own)
    measures = found.sets["mnist"].measures
    features, logits = pooled(own, plain)
    for power in (0, 1, 2):
        assert measures[f"energy_{power}"].value == pytest.approx(naive_energy(features, power), rel=1e-4)
    assert list(measures["cka"].stages) == ["0", "1", "2", "3", "4"]
    for stage, path in zip("014", ("blocks.0", "blocks.1", "blocks.4"), strict=True):
        expected = naive_cka(pooled(own, plain, path)[0], pooled(frozen, plain, path)[0])
        assert measures["cka"].stages[stage] == pytest.approx(expected, rel=1e-4)
    assert measures["cka"].value == measures["cka"].stages["4"]
    assert measures["cka"].value < 0.999

    change, changed = PhotometricView().build(None), []
    for index, image in enumerate(images):
        with seeded(derive_seed("shift", index)):
            changed.append(change(image))
    again = pooled(own, prepared(changed, own))[1]
    same = (again.argmax(1) == logits.argmax(1)).double().mean()
    assert measures["match_rate"].value == pytest.approx(float(same))

    sure, said = logits.softmax(1).max(1)
    bins = [(sure > m / 15) & (sure <= (m + 1) / 15) for m in range(15)]
    right = (said == torch.tensor(labels)).double()
    expected = sum(abs(float((right[one] - sure[one]).sum())) for one in bins) / len(images)
    assert measures["ece"].value == pytest.approx(expected, rel=1e-4)

    now, then = (dict(network.named_parameters()) for network in (own, frozen))
    backbone = [name for name in now if not name.startswith("classifier")]
    moved = math.sqrt(sum(float((now[name] - then[name]).detach().square().sum()) for name in backbone))
    length = math.sqrt(sum(float(then[name].detach().square().sum()) for name in backbone))
    drift = found.measures["drift"]
    assert drift.value == pytest.approx(moved / length, rel=1e-6)
    assert list(drift.stages) == ["0", "1", "2", "3", "4", "after 4"]
    assert drift.value > 1e-4
    assert found.left_out == {"acc_in": "it needs a folder of ImageNet's images"}
    assert found.title.startswith("csg(")
    assert found.title.endswith("), seed 0")
    assert (found.checkpoint, found.backbone) == ("last", "test_efficientnet")
    assert found.weights["detail"] == pretrained.name
    assert found.sets["mnist"].fingerprint == read_record(trained).targets["mnist"].fingerprint


def test_accuracy_on_imagenet_is_of_the_trained_backbone_under_the_old_classifier(
    trained, pretrained, imagenet, monkeypatch
):
    seen = []
    from synreal.measures.imagenet import RightImages

    update = RightImages.update
    monkeypatch.setattr(
        RightImages,
        "update",
        lambda self, output, targets: (seen.append((output, targets)), update(self, output, targets)),
    )
    found = look_into(trained, ["acc_in"], imagenet=imagenet, keep=False, **HERE)
    assert list(found.sets) == ["imagenet"]
    ((output, targets),) = seen
    assert targets.tolist() == [3, 500, 999]
    mixed = {**load_file(pretrained)}
    mixed |= {k: v for k, v in load_file(trained / "model.safetensors").items() if not k.startswith("classifier")}
    network = timm.create_model("test_efficientnet", num_classes=1000).eval()
    network.load_state_dict(mixed)
    from synreal.views import evaluation_view

    view = evaluation_view(network, network.pretrained_cfg["input_size"][-1])
    images = [
        view(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)) for path in sorted(imagenet.iterdir())
    ]
    with torch.no_grad():
        torch.testing.assert_close(output, network(torch.stack(images)), rtol=1e-3, atol=1e-4)
    value = found.sets["imagenet"].measures["acc_in"].value
    assert value == pytest.approx(float((output.argmax(1) == targets).double().mean()))


@pytest.mark.parametrize("task", ["seg", "det"])
def test_each_task_is_looked_into(task, whole, imagenet):
    path = whole(task=task, **SHORT, **QUICK[task])
    before = read_record(path)
    insight = look_closely(path, draws=True, keep=False, **HERE)
    measures = insight.look.sets["mnist"].measures
    both = {"energy_0", "energy_1", "energy_2", "cka"}
    assert set(measures) == both | ({"confidence", "ece", "match_rate"} if task == "seg" else set())
    assert all(one.value is not None for one in measures.values())
    assert ("match_rate" in insight.look.left_out) == (task == "det")
    drawn = insight.looked["mnist"]
    assert len(drawn.features) == before.targets["mnist"].images == 11
    assert drawn.labels is None
    assert len(drawn.heat) == len(drawn.attention) == len(drawn.images) == len(drawn.predictions) == 8
    for heat, attention in zip(drawn.heat, drawn.attention, strict=True):
        assert heat.shape == attention.shape == (2, 2)
        assert float(attention.mean()) == pytest.approx(1, abs=1e-5)
        assert float(heat.max()) in (0, 1)
    with pytest.raises(ConfigError, match="bring no ImageNet classifier"):  # they are random
        look_into(path, ["acc_in"], imagenet=imagenet, keep=False, **HERE)


def test_heat_is_that_of_the_equation(trained):
    drawn = look_closely(trained, ["drift"], draws=True, keep=False, **HERE).looked["mnist"]
    assert drawn.labels.tolist() == [index % 10 for index in range(11)]
    own = network_of(trained / "model.safetensors")
    seen = []
    own.get_submodule(LAST).register_forward_hook(lambda _m, _a, output: seen.append(output))
    logits = own(prepared(drawn.images, own))
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), seen[0])
    heat = (gradient.mean((2, 3), keepdim=True) * seen[0]).sum(1).relu()
    for one, other in zip(drawn.heat, heat, strict=True):
        torch.testing.assert_close(one.double(), other / other.max().clamp_min(1e-30), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_is_looked_into_and_nothing_is_kept(finished):
    path = finished
    names = tiny.steps_saved(path)
    found = [look_into(path, ["drift"], checkpoint=name, **HERE) for name in names]
    assert not (path / "insight.json").exists()
    found.append(look_into(path, ["drift"], **HERE))
    assert [one.checkpoint for one in found] == [*names, "last"]
    assert found[0].title.endswith(f", seed 0, {names[0]}")
    values = [one.measures["drift"].value for one in found]
    assert values[1] == values[2] != values[0]
    assert read_look(path).checkpoint == "last"
    with pytest.raises(ConfigError, match=r"Unknown checkpoint or average of .* 'step-7'.*step-0000"):
        look_into(path, checkpoint="step-7", **HERE)


def test_what_is_found_is_kept_beside_what_was_found_earlier(finished):
    look_into(finished, ["drift"], **HERE)
    look_into(finished, ["energy_1"], targets=["uci"], **HERE)
    found = read_look(finished)
    assert list(found.sets) == ["uci"]
    assert list(found.measures) == ["drift"]
    lock = Lock(finished / "run.lock", "The run folder")
    lock.acquire()
    try:
        with pytest.warns(UserWarning, match=r"not kept in .*insight\.json: The run folder .* is in use"):
            look_into(finished, ["energy_2"], **HERE)
    finally:
        lock.release()
    assert read_look(finished) == found


def test_a_run_looks_by_itself_and_no_number_of_it_changes(whole, tmp_path):
    plain = whole()
    looking = tiny.run(tmp_path / "run", look=["cka", "drift"]).folder
    one, other = tiny.outcome(plain), tiny.outcome(looking)
    for each in (one, other):
        del each["result"]["config"]["testing"]["look"]
    assert one == other
    kept = read_look(looking)
    assert kept == look_into(looking, ["cka", "drift"], keep=False, **HERE)
    assert list(kept.sets) == ["mnist", "uci"]
    assert not (plain / "insight.json").exists()


@pytest.mark.parametrize(
    ("names", "task", "message"),
    [
        (["acc_in"], "cls", "'acc_in' needs a folder of ImageNet's images, which a run is not given"),
        (["match_rate"], "det", "'match_rate' compares classes or masks, but this task predicts boxes"),
        (["ap"], "cls", "'ap' compares boxes"),
        (["cka", "cka"], "cls", "each once"),
    ],
)
def test_what_a_run_cannot_look_at_is_refused_before_it_starts(names, task, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        preflight.check(tiny.make_config(tmp_path, task=task, look=names))


def test_pretrained_weights_of_another_run_are_no_comparison(finished, pretrained):
    facts = json.loads((finished / "run.json").read_text())
    facts["weights"] = {"source": "timm", "detail": "other", "sha256": "0" * 64}
    (finished / "run.json").write_text(json.dumps(facts))
    found = look_into(finished, keep=False, **HERE)
    assert "began with the weights 'other'" in found.left_out["cka"]
    assert found.left_out["cka"] == found.left_out["drift"]
    assert found.weights is None
    assert "energy_1" in found.sets["mnist"].measures
    with pytest.raises(CheckpointError, match="began with the weights 'other'"):
        look_into(finished, ["cka"], keep=False, **HERE)


# ------------------------------------------------------------------------------------ plain networks


def test_the_file_of_a_run_is_a_plain_network_too(trained, pretrained):
    plain = Plain(
        "mnist", backbone="test_efficientnet", weights=str(pretrained), image_size=32, batch_size=4, workers=0
    )
    found = look_into(trained / "model.safetensors", plain=plain, **HERE)
    run = look_into(trained, keep=False, **HERE)
    assert found.sets["mnist"] == run.sets["mnist"]
    assert found.measures["drift"].value == pytest.approx(run.measures["drift"].value)
    assert (found.title, found.checkpoint, found.sha256) == ("model", "model.safetensors", run.sha256)


def test_a_classifier_of_other_classes_has_features_alone(pretrained):
    plain = Plain("mnist", backbone="test_efficientnet", weights="none", image_size=32, workers=0)
    found = look_into(pretrained, plain=plain, **HERE)
    assert set(found.sets["mnist"].measures) == {"energy_0", "energy_1", "energy_2", "match_rate"}
    assert found.left_out["cka"] == "there are no pretrained weights to compare with (weights: none)"
    assert "is not one of the 10 classes" in found.left_out["ece"]


@pytest.mark.parametrize("task", ["seg(architecture='fpn')", "det(architecture='fcos')"])
def test_plain_segmenters_and_detectors_are_looked_into(task, whole):
    path = whole(task=task[:3], **SHORT, **QUICK[task[:3]])
    plain = Plain("mnist", task, "test_efficientnet", "none", image_size=64, batch_size=4, workers=0)
    found = look_into(path / "model.safetensors", ["energy_1"], plain=plain, **HERE)
    assert found.sets == look_into(path, ["energy_1"], keep=False, **HERE).sets


def test_networks_of_torchvision_and_in_memory(tmp_path):
    torch.manual_seed(0)
    network = models.shufflenet_v2_x0_5(num_classes=10)
    file = tmp_path / "shuffle.pth"
    torch.save({"state_dict": network.state_dict()}, file)
    plain = Plain("mnist", backbone="torchvision/shufflenet_v2_x0_5", weights=str(file), image_size=32, workers=0)
    network.train()
    in_memory = look_into(network, ["energy_1", "cka", "drift"], plain=plain, frozen=network, **HERE)
    assert network.training
    of_file = look_into(file, ["energy_1", "cka", "drift"], plain=plain, **HERE)
    for name, one in of_file.sets["mnist"].measures.items():
        assert in_memory.sets["mnist"].measures[name].value == pytest.approx(one.value, rel=1e-5)
    assert of_file.measures["drift"].value == 0
    assert of_file.sets["mnist"].measures["cka"].value == pytest.approx(1)
    with pytest.raises(ConfigError, match="there is nothing to compare with"):
        look_into(network, ["cka"], plain=plain, **HERE)
    assert synreal.look is look_into


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"backbone": None}, ConfigError, "say of which network with --backbone"),
        ({"backbone": "resnet5o"}, ConfigError, "Did you mean 'resnet50'"),
        ({"backbone": "torchvision/resnet81"}, ConfigError, "Unknown torchvision classifier"),
        ({"backbone": "torchvision/resnet18", "task": "seg"}, ConfigError, "is a classifier; for segmentation"),
        ({"backbone": "resnet18"}, WeightsError, "do not fit the network"),
        ({"data": "mnits"}, ConfigError, "Did you mean 'mnist'"),
        ({"task": "det", "data": "uci"}, ConfigError, "has no boxes"),
        ({"classes": ("cat", "dog")}, ConfigError, "share no class"),
        ({"weights": "nowhere.pt"}, WeightsError, "does not exist"),
    ],
)
def test_what_is_wrong_with_a_plain_network_is_said(settings, error, message, pretrained):
    given = {"data": "mnist", "backbone": "test_efficientnet", "weights": "none", "image_size": 32, **settings}
    with pytest.raises(error, match=message):
        look_into(pretrained, plain=Plain(**given), **HERE)


def test_measures_are_checked_before_anything_is_read(finished, monkeypatch, tmp_path):
    def read(*_, **__):
        raise AssertionError("read too early")

    monkeypatch.setattr(data, "load", read)
    monkeypatch.setattr(Classification, "build_student", read)
    for names, error, message in (
        (["ckaa"], ConfigError, "Did you mean 'cka'"),
        (["mean_iou"], ConfigError, "compares masks"),
        ([], ConfigError, "Expected one or more measures"),
        (["acc_in"], ConfigError, "needs images of ImageNet: name their folder with --imagenet"),
    ):
        with pytest.raises(error, match=message):
            look_into(finished, names, **HERE)
    with pytest.raises(DataError, match="does not exist"):
        look_into(finished, imagenet=tmp_path / "none", **HERE)
    with pytest.raises(ConfigError, match="is no file"):
        look_into(finished, plain=Plain("mnist"), **HERE)
    with pytest.raises(ConfigError, match="give --task, --backbone and --data"):
        look_into(finished / "model.safetensors", **HERE)


# ------------------------------------------------------------------------------------ being stopped


@pytest.fixture
def stopping(monkeypatch):
    """Ask the process to stop when it has seen its first batch of features."""
    see, seen = FeatureProducts.see, []

    def see_and_ask(self, glance):
        see(self, glance)
        seen.append(1)
        if len(seen) == 1:
            signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(FeatureProducts, "see", see_and_ask)


def test_a_look_is_stopped_after_the_batch_and_keeps_nothing(finished, stopping):
    with pytest.raises(Interrupted, match="Stopped while looking; nothing is written") as caught:
        look_into(finished, ["cka"], **HERE)
    assert caught.value.exit_code == 128 + signal.SIGUSR1
    assert not (finished / "insight.json").exists()


def test_a_run_that_is_stopped_while_it_looks_goes_on_with_that(tmp_path, whole, stopping):
    with pytest.raises(Interrupted, match="Stopped at step 8"):
        tiny.run(tmp_path / "run", look=["cka"])
    assert not (tmp_path / "run" / "result.json").exists()
    tiny.run(tmp_path / "run", look=["cka"], resume=True)
    found = read_look(tmp_path / "run")
    expected = look_into(whole(), ["cka"], keep=False, **HERE)
    assert {name: one.measures for name, one in found.sets.items()} == {
        name: one.measures for name, one in expected.sets.items()
    }
