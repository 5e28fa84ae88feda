import math
import warnings

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import synreal
from synreal.core.task_heads import WildHeadWarning, excess_over_chance, is_fresh, last_layers
from synreal.errors import ConfigError
from synreal.weights import create_backbone
from tests.regularizers.contract import batch, bits, network, optimizer_of, tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

LITE = "tf_efficientnet_lite0"


class Headed(nn.Module):
    """A classifier whose head has a hidden layer with statistics of its own."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3)
        self.fc = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4), nn.Dropout(0.1))

    def forward(self, images):
        return self.fc(self.features(images).mean((2, 3)))


NETWORKS = {
    "resnet": (lambda: timm.create_model("resnet18", num_classes=7), ["fc"]),
    "efficientnet": (lambda: timm.create_model("test_efficientnet", num_classes=7), ["classifier"]),
    "convnext": (lambda: timm.create_model("test_convnext", num_classes=7), ["head.fc"]),
    "vit": (lambda: timm.create_model("test_vit", num_classes=7), ["head"]),
    "two heads": (lambda: timm.create_model("levit_128s", num_classes=7), ["head.linear", "head_dist.linear"]),
    "mobilenet": (lambda: torchvision.models.mobilenet_v3_small(num_classes=7), ["classifier.3"]),
    "hidden layer": (Headed, ["fc.3"]),
    "head_width": (
        lambda: create_backbone("test_resnet", num_classes=7, weights="none", head_width=16)[0],
        ["fc.2"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_fresh_layer_alone_is_zeroed(name):
    build, paths = NETWORKS[name]
    student = build()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    names = synreal.zero_head(student)
    assert list(names) == [f"{path}.{kind}" for path in paths for kind in ("weight", "bias")]
    for key, value in student.state_dict().items():
        assert not value.any() if key in names else torch.equal(value, before[key])
    assert synreal.zero_head(student) == names  # what is at zero is fresh


@pytest.mark.parametrize("name", ["resnet", "efficientnet", "convnext", "hidden layer", "mobilenet"])
def test_a_head_that_one_step_has_trained_is_refused(name):
    student = NETWORKS[name][0]().train()
    F.cross_entropy(student(torch.rand(4, 3, 64, 64)), torch.tensor([0, 1, 2, 3])).backward()
    torch.optim.SGD(student.parameters(), lr=0.05).step()
    path = NETWORKS[name][1][0]
    before = student.get_parameter(f"{path}.weight").clone()
    with pytest.raises(ConfigError, match=rf"{path} of \w+ looks trained.*force=True"):
        synreal.zero_head(student)
    assert torch.equal(student.get_parameter(f"{path}.weight"), before)
    assert f"{path}.weight" in synreal.zero_head(student, force=True)
    assert not student.get_parameter(f"{path}.weight").any()


def test_the_imagenet_classifier_is_refused():
    student, _ = create_backbone(LITE, num_classes=1000)
    with pytest.raises(ConfigError, match="classifier of EfficientNet looks trained"):
        synreal.zero_head(student)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", [nn.Linear(40, 7), nn.Linear(40, 7, bias=False), nn.Conv2d(8, 5, 3)])
def test_pytorchs_own_start_is_fresh_and_what_decay_or_steps_change_is_not(layer, dtype):
    layer = layer.to(dtype)
    assert is_fresh(layer)
    weight = layer.weight.detach().clone()
    for factor in (0.5, 1.1):
        layer.weight.data = weight * factor
        assert not is_fresh(layer)
    layer.weight.data = weight


def test_what_has_no_classifier_is_refused_in_words():
    with pytest.raises(ConfigError, match=r"found no classifier in Sequential.*Zero the last layer yourself"):
        synreal.zero_head(nn.Sequential(nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: smp.Unet("resnet18", encoder_weights=None, classes=7, aux_params={"classes": 3}),
        lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
        lambda: torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None),
    ],
    ids=["smp", "torchvision segmenter", "detector"],
)
def test_segmenters_and_detectors_keep_their_heads(build):
    student = build()
    before = bits(student)
    assert last_layers(student) == {}
    for force in (False, True):
        with pytest.raises(ConfigError, match=r"is for classifiers, and .* Leave its heads as they are"):
            synreal.zero_head(student, force=force)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_the_excess_is_the_expected_loss_on_random_labels_above_chance():
    logits = torch.randn(6, 5, dtype=torch.float64) * 3
    every = [F.cross_entropy(logits, torch.full((6,), label)) for label in range(5)]
    assert float(excess_over_chance(logits)) == pytest.approx(float(sum(every)) / 5 - math.log(5), rel=1e-5)
    assert float(excess_over_chance(torch.zeros(3, 4))) == pytest.approx(0, abs=1e-6)


def wild(scale=40.0, **settings):
    """A small network whose fresh classifier is drawn too wide, as timm draws EfficientNet's."""
    student = network()
    with torch.no_grad():
        student.fc.weight.uniform_(-scale, scale)
        student.fc.bias.zero_()
    return synreal.attach(student, tiny("csg"), **settings).train()


def step(model, call, optimizer, number=0):
    view0, view1, target = batch(number)
    out = call(view0, view1)
    (F.cross_entropy(out["output"], target) + out["penalty"]).backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_wild_classifier_is_told_once_with_its_figure(compiled):
    model = wild()
    with torch.no_grad():
        logits = model.student(batch(0)[0])
    optimizer = optimizer_of(model)
    call = torch.compile(model, backend="eager", fullgraph=True) if compiled else model
    loss = float(excess_over_chance(logits)) + math.log(3)
    assert loss > 2.1
    figures = rf"\(fc\) starts far from chance: .* would be {loss:.1f}, where guessing costs 1.1.*zero_head"
    with pytest.warns(WildHeadWarning, match=figures) as told:
        step(model, call, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WildHeadWarning)
        step(model, call, optimizer, 1)
    assert len([one for one in told if one.category is WildHeadWarning]) == 1
    if not compiled:
        assert told[0].filename == __file__


@pytest.mark.filterwarnings("error::synreal.core.task_heads.WildHeadWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_calm_or_a_trained_classifier_is_not(compiled):
    calm = wild()
    synreal.zero_head(calm.student)
    usual = synreal.attach(network(), tiny("csg")).train()
    resumed = wild(0.1)
    other = wild()
    other.student.fc.bias.data.fill_(0.3)  # a checkpoint's, so no fresh one
    resumed.load_state_dict(other.state_dict())
    for model in (calm, usual, resumed):
        optimizer = optimizer_of(model)
        step(model, torch.compile(model, backend="eager") if compiled else model, optimizer)
    with torch.no_grad():
        wild().eval()(batch(0)[0])  # nobody trains


def test_a_fresh_classifier_of_timms_efficientnet_is_wild_and_one_at_zero_is_not():
    images = torch.randn(8, 3, 64, 64)
    student, _ = create_backbone(LITE, num_classes=7)
    with pytest.warns(WildHeadWarning, match="zero_head"):
        synreal.attach(student, "none")(2 * images)
