import inspect
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import synreal
from synreal.core.parts import find_entry, find_head
from synreal.core.stages import find_stages
from synreal.errors import ConfigError
from synreal.tasks.architectures import DETECTORS
from synreal.tasks.networks import (
    anchor_sizes,
    check_detector,
    create_detector,
    detector_recipe,
    detectors,
    proposals,
)
from synreal.weights import create_backbone, normalization
from tests.tasks.networks.builds import LITE, SWIN, TINY, built, detector, first, same, trained

PLAIN = {"fasterrcnn": detection.FasterRCNN, "retinanet": detection.RetinaNet, "fcos": detection.FCOS}


def batch(size=2):
    images = [torch.rand(3, 64, 64 + 16 * i, generator=torch.Generator().manual_seed(i)) for i in range(size)]
    targets = [
        {"boxes": torch.tensor([[8.0, 8, 40, 48], [20, 10, 60, 60]]), "labels": torch.tensor([3, 1])}
        for _ in range(size)
    ]
    return images, targets


def test_every_detector_is_offered():
    assert set(DETECTORS) == set(detectors._PYRAMID_STRIDES)


@pytest.mark.parametrize("architecture", DETECTORS)
def test_a_detector_is_torchvisions_and_learns_and_takes_regularizers(architecture):
    model = detector(architecture)
    assert type(model) is PLAIN[architecture]
    assert find_entry(model) == "backbone.body"
    stages = find_stages(model)
    assert [stages[name].stride for name in "1234"] == [4, 8, 16, 32]
    assert not [name for name in find_head(model) if name.startswith("backbone.body.")]
    images, targets = batch()
    # With frozen statistics the student would still be its own teacher, and the penalty zero.
    regularized = synreal.attach(trained(model), "gcisg", norm="train")
    out = regularized(images, [0.8 * image for image in images], targets=targets)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in out["output"].values())
    (sum(out["output"].values()) + out["penalty"]).backward()
    assert 0 < out["penalty"] < 100
    assert model.get_submodule(stages["3"].path).get_parameter(first(model, stages["3"].path)).grad.abs().sum() > 0
    student = regularized.detach()
    twin = built(detector_recipe(architecture, TINY, num_classes=3, image_size=64))
    twin.load_state_dict(student.state_dict())
    loud(student.eval())
    loud(twin.eval())
    with torch.no_grad():
        for a, b in zip(student(images), twin(images), strict=True):
            assert a.keys() == {"boxes", "scores", "labels"}
            assert len(a["boxes"]) > 0
            assert a["labels"].dtype == torch.int64
            assert same(a, b)


def loud(model):
    """Let an untrained detector report what it hardly believes."""
    holder = getattr(model, "roi_heads", model)
    holder.score_thresh = 1e-4
    return model


@pytest.mark.parametrize("architecture", DETECTORS)
def test_images_without_objects(architecture):
    model = detector(architecture)
    images, _ = batch()
    targets = [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)} for _ in images]
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


def torchvisions(architecture, num_classes, size, mean, std):
    """The same detector from torchvision's own parts."""
    levels = {} if architecture == "fasterrcnn" else {"returned_layers": [2, 3, 4]}
    extra = {} if architecture == "fasterrcnn" else {"extra_blocks": LastLevelP6P7(256, 256)}
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5, **levels, **extra
    )
    settings = {"min_size": size, "max_size": 2 * size, "image_mean": mean, "image_std": std}
    return PLAIN[architecture](backbone, num_classes + 1, **settings)


@pytest.mark.parametrize("architecture", DETECTORS)
def test_the_state_is_that_of_torchvisions_own_detector(architecture):
    model = detector(architecture, "resnet18", num_classes=2, image_size=800)
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    plain = torchvisions(architecture, 2, 800, mean, std)
    plain.load_state_dict(trained(model).state_dict())
    for one in (model, plain):
        loud(one.eval()).transform.min_size = (96,)  # 800, for the anchors, would take long
    images, targets = batch(1)
    with torch.no_grad():
        found, expected = model(images), plain(images)
        assert len(found[0]["boxes"]) > 0
        assert same(found[0], expected[0])
        losses = []
        for one in (model, plain):
            torch.manual_seed(0)
            losses.append(one.train()(images, [{**target, "labels": torch.tensor([1, 2])} for target in targets]))
    assert same(*losses)


@pytest.mark.parametrize("architecture", DETECTORS)
def test_names_and_shapes_are_those_of_torchvisions_resnet50(architecture):
    with torch.device("meta"):
        plain = getattr(detection, f"{architecture}_resnet50_fpn")(weights=None, weights_backbone=None, num_classes=91)
        model = detector(architecture, "resnet50", num_classes=90, image_size=800)
    shapes = [{key: tensor.shape for key, tensor in one.state_dict().items()} for one in (model, plain)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("architecture", ["retinanet", "fcos"])
def test_no_box_is_called_background(architecture):
    model = detector(architecture, num_classes=2)
    images, targets = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        optimizer.zero_grad()
        sum(model(images, [{**target, "labels": torch.tensor([2, 1])} for target in targets]).values()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    logits = model.head.classification_head.cls_logits
    assert (logits.bias[::3] < -19).all()
    with torch.no_grad():  # objects everywhere, of any class
        logits.bias[1::3] = logits.bias[2::3] = 0
        model.score_thresh = 1e-4
        for found in model.eval()(images):
            assert set(found["labels"].tolist()) == {1, 2}


def test_a_detector_around_the_packaged_weights():
    model, origin = create_detector("fasterrcnn", LITE, num_classes=10, image_size=128)
    whole, expected = create_backbone(LITE, num_classes=0)
    assert origin == expected
    assert origin.source == "packaged"
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = model.eval().backbone.body(image)
        maps = whole.eval().forward_intermediates(image, intermediates_only=True)
        pyramid = model.backbone(image)
    assert len(found) == 4
    assert all(torch.equal(a, b) for a, b in zip(found, maps[1:], strict=True))
    assert {level: tuple(one.shape[1:]) for level, one in pyramid.items()} == {
        "0": (256, 16, 24),
        "1": (256, 8, 12),
        "2": (256, 4, 6),
        "3": (256, 2, 3),
        "pool": (256, 1, 2),
    }
    assert normalization(model) == normalization(model.backbone.body) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (model.transform.min_size, model.transform.max_size) == ((128,), 256)


def test_a_detector_around_maps_with_channels_last():
    model = detector("retinanet", SWIN)
    images, targets = batch()
    assert all(loss.isfinite() for loss in model(images, targets).values())
    maps = model.backbone.body(torch.rand(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(1, 8, 12, 192), (1, 4, 6, 384), (1, 2, 3, 768)]
    assert [s.stride for name, s in find_stages(model).items() if name in "234"] == [8, 16, 32]
    twin = built(detector_recipe("retinanet", SWIN, num_classes=3, image_size=64))
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        a, b = (loud(one.eval())(images)[0] for one in (model, twin))
    assert len(a["boxes"]) > 0
    assert same(a, b)


def test_places_of_large_images_are_as_many_as_torchvisions():
    assert proposals(800) == proposals(2000)
    arguments = inspect.signature(detection.FasterRCNN).parameters
    assert proposals(800) == {name: arguments[name].default for name in proposals(800)}


@given(size=st.integers(1, 799))
def test_fewer_places_on_smaller_images(size):
    smaller, here, larger = (proposals(each) for each in (max(size - 1, 1), size, 800))
    assert all(1 <= smaller[name] <= here[name] <= larger[name] for name in here)
    assert here["rpn_post_nms_top_n_test"] >= 100
    assert here["rpn_post_nms_top_n_train"] <= here["rpn_pre_nms_top_n_train"]
    assert proposals(128)["box_batch_size_per_image"] < 100


def test_anchors_of_large_images_are_the_published_ones():
    with torch.device("meta"):
        rpn = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).rpn
        retinanet = detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    assert anchor_sizes(800) == rpn.anchor_generator.sizes
    assert anchor_sizes(800, 3) == retinanet.anchor_generator.sizes
    ours = detector("retinanet", image_size=800).anchor_generator
    assert ours.sizes == retinanet.anchor_generator.sizes
    assert ours.aspect_ratios == retinanet.anchor_generator.aspect_ratios
    assert (
        detector("fasterrcnn", image_size=800).rpn.anchor_generator.aspect_ratios == rpn.anchor_generator.aspect_ratios
    )


@given(size=st.integers(1, 4000), octaves=st.integers(1, 4))
def test_anchors_grow_with_the_image(size, octaves):
    sides = list(itertools.chain(*anchor_sizes(size, octaves)))
    assert len(sides) == 5 * octaves
    assert sides == sorted(sides)
    assert sides[0] >= 16
    assert sides[0] == 16 if size <= 400 else sides[0] == pytest.approx(size * 32 / 800, abs=1)
    assert all(b == pytest.approx(a * 2 ** (1 / octaves), abs=3) for a, b in itertools.pairwise(sides))


def test_small_objects_of_small_images_meet_anchors():
    generator = detector("fasterrcnn", image_size=128).rpn.anchor_generator
    assert generator.sizes == ((16,), (32,), (64,), (128,), (256,))
    maps = [torch.zeros(1, 1, 128 // stride, 128 // stride) for stride in (4, 8, 16, 32, 64)]
    anchors = generator(ImageList(torch.zeros(1, 3, 128, 128), [(128, 128)]), maps)[0]
    corner = torch.arange(0, 64, 7.0)
    for width, height in itertools.product((16, 24, 40, 64), repeat=2):
        if 0.5 <= height / width <= 2:
            at = torch.cartesian_prod(corner, corner)
            boxes = torch.cat([at, at + torch.tensor([width, height])], 1)
            assert (box_iou(boxes, anchors).amax(1) > 0.45).all()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": "faster"}, "Unknown architecture 'faster'. Did you mean 'fasterrcnn'"),
        ({"backbone": "resnet19"}, "Unknown backbone 'resnet19'"),
        ({"backbone": "test_vit"}, "needs maps of strides 4, 8, 16, 32, but 'test_vit' has 16"),
        (
            {"backbone": "resmlp_12_224", "architecture": "fcos"},
            "needs maps of strides 8, 16, 32, but 'resmlp_12_224' has",
        ),
        ({"backbone": "smp/resnet18"}, "Unknown backbone 'smp/resnet18'"),
    ],
)
def test_detectors_that_cannot_be(changes, complaint):
    settings = {"architecture": "fasterrcnn", "backbone": TINY, "weights": "none", **changes}
    with pytest.raises(ConfigError, match=complaint):
        check_detector(**settings)
    with pytest.raises(ConfigError, match=complaint):
        create_detector(**settings, num_classes=3, image_size=64)


@pytest.mark.parametrize("image_size", [0, 64.0, True])
def test_an_image_size_is_a_number_of_pixels(image_size):
    with pytest.raises(ConfigError, match="image_size is"):
        detector("fcos", image_size=image_size)
