"""Entry, head and classifier of a network."""

import pytest
import timm
import torchvision
from torch import nn
from torch.nn import functional as F

from synreal.core.parts import class_counts, find_classifier, find_entry, find_head, input_statistics
from synreal.core.stages import find_stages
from tests.core.networks import NETWORKS, Numbered, detector, halve, swin, timm_model


@pytest.mark.parametrize(
    ("build", "classifier", "head"),
    [
        (NETWORKS["timm resnet18"][0], "fc", {"fc.weight", "fc.bias"}),
        (NETWORKS["timm mobilenet"][0], "classifier", {"classifier.weight", "classifier.bias"}),
        (swin, "head.fc", {"head.fc.weight", "head.fc.bias"}),
        (
            timm_model("deit_tiny_distilled_patch16_224"),
            "head",
            {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"},
        ),
        (NETWORKS["torchvision resnet18"][0], "fc", {"fc.weight", "fc.bias"}),
        (NETWORKS["torchvision efficientnet"][0], "classifier", {"classifier.1.weight", "classifier.1.bias"}),
        (NETWORKS["torchvision densenet"][0], "classifier", {"classifier.weight", "classifier.bias"}),
        (lambda: torchvision.models.swin_t(weights=None), "head", {"head.weight", "head.bias"}),
        (
            lambda: torchvision.models.vit_b_16(weights=None, image_size=32),
            "heads",
            {"heads.head.weight", "heads.head.bias"},
        ),
        (lambda: timm.create_model("test_resnet", num_classes=0), "", set()),
        (lambda: timm.create_model("test_convnext", num_classes=0), "", set()),
        (lambda: timm.create_model("test_resnet", features_only=True), "", set()),
        (lambda: Numbered(lambda self, x: F.relu(self.body(x)), body=nn.Conv2d(3, 3, 1)), "", set()),
    ],
)
def test_the_classifier_and_the_head(build, classifier, head):
    model = build()
    assert find_classifier(model) == classifier
    assert find_head(model) == head
    if classifier:
        assert isinstance(model.get_submodule(classifier), (nn.Linear, nn.Sequential))


@pytest.mark.parametrize(
    "build",
    [
        NETWORKS["smp unet"][0],
        detector,
        lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None),
    ],
)
def test_the_head_is_all_that_lies_outside_the_entry(build):
    model = build()
    assert find_classifier(model) == ""
    entry = model.get_submodule(find_entry(model))
    names = find_head(model)
    assert len(names) == len(list(model.parameters())) - len(list(entry.parameters()))
    inside = {id(parameter) for parameter in entry.parameters()}
    assert not any(id(parameter) in inside for name, parameter in model.named_parameters() if name in names)


def test_the_entry_of_a_detector_with_a_plain_backbone():
    backbone = nn.Sequential(halve(3, 4), halve(4, 8))
    backbone.out_channels = 8
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(((32,),), ((1.0,),))
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], output_size=3, sampling_ratio=1)
    model = torchvision.models.detection.FasterRCNN(backbone, 2, rpn_anchor_generator=anchors, box_roi_pool=pool)
    assert find_entry(model) == "backbone"
    assert {name: s.path for name, s in find_stages(model).items()} == {"0": "backbone.0", "1": "backbone.1"}


def test_a_classifier_whose_body_is_called_backbone_is_its_own_entry():
    parts = {"backbone": nn.Sequential(halve(3, 4), halve(4, 4)), "fc": nn.Linear(4, 2)}
    model = Numbered(lambda self, x: self.fc(self.backbone(x).mean((2, 3))), **parts)
    assert find_entry(model) == ""
    assert find_classifier(model) == "fc"


@pytest.mark.parametrize(
    ("build", "counts"),
    [
        (timm_model("test_resnet"), (3, 1000)),
        (lambda: torchvision.models.resnet18(weights=None), (None, None)),
        (lambda: Numbered(lambda self, x: x, fc=nn.Linear(3, 2)), (None, None)),
    ],
)
def test_how_many_classes_a_network_says_that_it_has(build, counts):
    assert class_counts(build()) == counts


def test_the_images_that_a_network_was_made_for():
    assert input_statistics(timm_model("test_resnet")()) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert input_statistics(detector()) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert input_statistics(nn.Linear(3, 3)) is None
