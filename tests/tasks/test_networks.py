import inspect
import itertools

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
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
from synreal.core.stages import find_entry, find_head, find_stages
from synreal.errors import ConfigError, WeightsError
from synreal.tasks import architectures, networks
from synreal.tasks.networks import (
    anchor_sizes,
    check_detector,
    check_segmenter,
    create_detector,
    create_segmenter,
    detector_recipe,
    encoder_stride,
    proposals,
    segmenter_recipe,
)
from synreal.weights import WeightsOrigin, create_backbone, normalization

LITE = "tf_efficientnet_lite0"
TINY = "test_efficientnet"
SEGMENTERS = architectures("segmentation")
DETECTORS = architectures("detection")
SWIN = "swin_tiny_patch4_window7_224"


def segmenter(architecture, backbone=TINY, **settings):
    torch.manual_seed(0)
    return create_segmenter(architecture, backbone, **{"num_classes": 3, "weights": "none", **settings})[0]


def detector(architecture, backbone=TINY, **settings):
    torch.manual_seed(0)
    settings = {"num_classes": 3, "weights": "none", "image_size": 64, **settings}
    return create_detector(architecture, backbone, **settings)[0]


def built(recipe):
    """Run a recipe where nothing of synreal is known."""
    assert "synreal" not in recipe["build"]
    names = {}
    exec(recipe["build"], names)
    return names["model"]


def batch(size=2):
    images = [torch.rand(3, 64, 64 + 16 * i, generator=torch.Generator().manual_seed(i)) for i in range(size)]
    targets = [
        {"boxes": torch.tensor([[8.0, 8, 40, 48], [20, 10, 60, 60]]), "labels": torch.tensor([3, 1])}
        for _ in range(size)
    ]
    return images, targets


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def trained(model):
    """Give BatchNorm statistics as of trained weights, so that eval mode has something to show."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


# --- segmenters ---


def test_every_architecture_of_smp_is_offered():
    assert set(SEGMENTERS) == set(smp.MODEL_ARCHITECTURES_MAPPING)
    assert set(DETECTORS) == set(networks._PYRAMID_STRIDES)


@pytest.mark.parametrize("architecture", SEGMENTERS)
def test_a_segmenter_is_a_plain_model_that_learns_and_takes_regularizers(architecture):
    side = 128 if architecture == "pan" else 64
    model = segmenter(architecture)
    assert type(model) is smp.MODEL_ARCHITECTURES_MAPPING[architecture]
    assert model.training
    stages = find_stages(model)
    last = encoder_stride(architecture)
    assert find_entry(model) == "encoder"
    assert [stages[name].stride for name in "1234"] == [4, 8, min(16, last), last]
    assert not [name for name in find_head(model) if name.startswith("encoder.")]
    # With frozen statistics the student would still be its own teacher, and the penalty zero.
    regularized = synreal.attach(trained(model), "gcisg", norm="train")
    views = torch.randn(2, 2, 3, side, side + 32)
    out = regularized(*views)
    assert out["output"].shape == (2, 3, side, side + 32)
    out["penalty"].backward()
    assert 0 < out["penalty"] < 100
    assert all(p.grad.isfinite().all() for p in model.encoder.parameters() if p.grad is not None)
    assert model.get_submodule(stages["3"].path).get_parameter(first(model, stages["3"].path)).grad.abs().sum() > 0
    regularized.detach()
    twin = built(segmenter_recipe(architecture, TINY, num_classes=3))
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(views[0]), twin.eval()(views[0]))


def first(model, path):
    return next(name for name, _ in model.get_submodule(path).named_parameters())


@pytest.mark.parametrize(
    ("architecture", "stride"), [("deeplabv3plus", 8), ("deeplabv3", 16), ("pan", 32), ("pspnet", 16), ("pspnet", 32)]
)
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "smp/resnet18"])
def test_a_segmenter_of_another_stride(architecture, stride, backbone):
    model = segmenter(architecture, backbone, output_stride=stride)
    stages = find_stages(model)
    assert [stages[name].stride for name in "1234"] == [4, 8, min(16, stride), stride]
    side = 256 if architecture == "pan" else 64
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, side, side)).shape == (1, 3, side, side)
    twin = built(segmenter_recipe(architecture, backbone, num_classes=3, output_stride=stride))
    twin.load_state_dict(model.state_dict())
    assert find_stages(twin) == stages


@pytest.mark.parametrize("architecture", ["deeplabv3plus", "deeplabv3", "unet", "fpn", "dpt"])
def test_the_encoder_is_the_pretrained_network(architecture):
    model, origin = create_segmenter(architecture, LITE, num_classes=11, weights="packaged")
    # Where maps keep their stride, so must the network that they are compared with.
    whole, expected = create_backbone(LITE, num_classes=0, output_stride=encoder_stride(architecture))
    assert origin == expected
    state = whole.state_dict()
    body = model.encoder.model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in body.items())
    assert {key.split(".")[0] for key in state.keys() - body.keys()} <= {"conv_head", "bn2"}
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        found = model.eval().encoder(image)
        maps = whole.eval().forward_intermediates(image, intermediates_only=True)
    if architecture == "dpt":  # it reads four maps of its own choice, and prefix tokens
        found, maps = found[0][-1:], maps[-1:]
    else:
        found = found[1:]  # after the image
    assert all(torch.equal(a, b) for a, b in zip(found, maps, strict=True))
    assert normalization(model) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_classifier_is_a_reference_for_a_dilated_segmenter():
    model = segmenter("deeplabv3", "test_resnet")
    stride = encoder_stride("deeplabv3")
    reference, _ = create_backbone("test_resnet", num_classes=1000, weights="none", output_stride=stride)
    regularized = synreal.attach(trained(model), synreal.KLDistillation(weight=1), reference=trained(reference))
    penalty = regularized(torch.randn(2, 3, 64, 64))["penalty"]
    penalty.backward()
    assert 0 < penalty < 100
    assert model.encoder.model.layer4[-1].bn2.weight.grad.abs().sum() > 0
    assert (stride, encoder_stride("unet"), encoder_stride("pan", 32)) == (8, 32, 32)


@pytest.mark.parametrize("build", [segmenter, detector], ids=["segmenter", "detector"])
def test_what_is_fresh_depends_on_the_seed_alone(tmp_path, build):
    torch.manual_seed(1)
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    file = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(state, file)
    architecture = "fpn" if build is segmenter else "retinanet"
    random, loaded = (build(architecture, "test_resnet", weights=way) for way in ("none", str(file)))
    head = find_head(random)
    a, b = random.state_dict(), loaded.state_dict()
    assert head
    assert all(torch.equal(a[key], b[key]) for key in head)
    entry = "encoder.model." if build is segmenter else "backbone.body."
    pretrained = {key.removeprefix(entry): tensor for key, tensor in b.items() if key.startswith(entry)}
    assert same(pretrained, {key: state[key] for key in state if not key.startswith("fc.")})
    create = create_segmenter if build is segmenter else create_detector
    size = {} if build is segmenter else {"image_size": 64}
    origin = create(architecture, "test_resnet", num_classes=3, weights=str(file), **size)[1]
    assert (origin.source, origin.detail) == ("file", "mine.safetensors")
    del state["layer2.0.conv1.weight"]
    safetensors.torch.save_file(state, file)
    with pytest.raises(WeightsError, match=r"1 missing: layer2\.0\.conv1\.weight"):
        build(architecture, "test_resnet", weights=str(file))


@pytest.mark.parametrize(("architecture", "backbone"), [("upernet", SWIN), ("dpt", "test_vit"), ("unet", "smp/mit_b0")])
def test_transformers_take_images_of_any_size(architecture, backbone):
    model = segmenter(architecture, backbone).eval()
    with torch.no_grad():
        for size in ((64, 96), (96, 64)):
            assert model(torch.rand(1, 3, *size)).shape == (1, 3, *size)
    assert set("1234") <= find_stages(model).keys()
    assert (
        built(segmenter_recipe(architecture, backbone, num_classes=3)).state_dict().keys() == model.state_dict().keys()
    )
    assert not [key for key in model.encoder.state_dict() if key.startswith("model.head.")]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": "unett"}, "Unknown architecture 'unett'. Did you mean 'unet'"),
        ({"backbone": "resnet19"}, "Unknown backbone 'resnet19'"),
        ({"backbone": "smp/mit_b9"}, r"Unknown encoder of smp 'mit_b9'\. Did you mean 'mit_b"),
        ({"backbone": "smp/timm-resnest14d"}, "Unknown encoder of smp"),
        ({"architecture": "unet", "output_stride": 16}, "output_stride is 16, but unet does not dilate its encoder"),
        ({"output_stride": 32}, "output_stride is 32, but deeplabv3plus knows 16, 8"),
        ({"backbone": SWIN}, r"cannot build deeplabv3plus around 'swin_.*output_stride.*try fpn or upernet"),
        ({"architecture": "unet", "backbone": "test_vit"}, "cannot build unet around 'test_vit': ValueError"),
        ({"architecture": "dpt", "backbone": "smp/resnet18"}, "cannot build dpt around 'resnet18'"),
        ({"architecture": "pspnet", "backbone": "smp/vgg11"}, "cannot build pspnet around 'vgg11'"),
    ],
)
def test_segmenters_that_cannot_be(changes, complaint):
    settings = {"architecture": "deeplabv3plus", "backbone": TINY, "weights": "none", **changes}
    state = torch.get_rng_state()
    with pytest.raises(ConfigError, match=complaint):
        check_segmenter(**settings)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match=complaint):
        create_segmenter(**settings, num_classes=3)


@pytest.mark.parametrize("backbone", [TINY, SWIN, "smp/mit_b0"])
def test_checking_a_segmenter_draws_nothing(backbone):
    state = torch.get_rng_state()
    check_segmenter("fpn", backbone, weights="none")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_classes", [0, -1, True, 2.0])
def test_classes_are_counted_in_whole_numbers(num_classes):
    with pytest.raises(ConfigError, match="num_classes is"):
        segmenter("unet", num_classes=num_classes)
    with pytest.raises(ConfigError, match="num_classes is"):
        detector("fcos", num_classes=num_classes)


# --- smp's own encoders ---


@pytest.fixture
def smp_hub(monkeypatch):
    """Note what is asked of smp's hub instead of asking it."""
    asked = []

    def load(encoder, repo, *, revision, weights):
        asked.append((type(encoder).__name__, repo, len(revision), weights))
        return WeightsOrigin("smp", repo, None)

    monkeypatch.setattr(networks, "load_smp_encoder", load)
    return asked


@pytest.mark.parametrize(
    ("name", "weights", "repo", "way"),
    [
        ("mit_b0", "auto", "smp-hub/mit_b0.imagenet", "auto"),
        ("resnet18", "ssl", "smp-hub/resnet18.ssl", "auto"),
        ("resnext101_32x4d", "auto", "smp-hub/resnext101_32x4d.ssl", "auto"),
        ("resnet18", "none", "smp-hub/resnet18.imagenet", "none"),
    ],
)
def test_which_weights_an_encoder_of_smp_gets(smp_hub, name, weights, repo, way):
    check_segmenter("fpn", f"smp/{name}", weights=weights)
    model, origin = create_segmenter("fpn", f"smp/{name}", num_classes=3, weights=weights)
    assert smp_hub == [(type(model.encoder).__name__, repo, 40, way)]
    assert origin.detail == repo


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ("timm", "'smp/resnet18' is an encoder of smp's own, for which timm has no weights"),
        ("packaged", "Choose auto, imagenet, ssl, swsl, none or the path"),
        ("missing.pth", "does not exist"),
        ("advprop", "neither"),
    ],
)
def test_weights_that_smp_has_not(weights, complaint):
    for settings in ({}, {"num_classes": 3}):
        with pytest.raises(WeightsError, match=complaint):
            (create_segmenter if settings else check_segmenter)("fpn", "smp/resnet18", weights=weights, **settings)


# --- detectors ---

PLAIN = {"fasterrcnn": detection.FasterRCNN, "retinanet": detection.RetinaNet, "fcos": detection.FCOS}


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


def test_a_network_that_gives_no_features(monkeypatch):
    def refuse(name, **settings):
        raise RuntimeError("features_only not implemented for it")

    networks._maps.cache_clear()
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ConfigError, match="timm's 'test_resnet' gives no maps: RuntimeError: features_only"):
        check_detector("fcos", "test_resnet", weights="none")


@pytest.mark.parametrize("image_size", [0, 64.0, True])
def test_an_image_size_is_a_number_of_pixels(image_size):
    with pytest.raises(ConfigError, match="image_size is"):
        detector("fcos", image_size=image_size)
