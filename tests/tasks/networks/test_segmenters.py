import pytest
import segmentation_models_pytorch as smp
import torch

import synreal
from synreal.core.parts import find_entry, find_head
from synreal.core.stages import find_stages
from synreal.errors import ConfigError, WeightsError
from synreal.tasks.architectures import SEGMENTERS
from synreal.tasks.networks import check_segmenter, create_segmenter, encoder_stride, segmenter_recipe, segmenters
from synreal.weights import WeightsOrigin, create_backbone, normalization
from tests.tasks.networks.builds import LITE, SWIN, TINY, built, first, segmenter, trained


def test_every_architecture_of_smp_is_offered():
    assert set(SEGMENTERS) == set(smp.MODEL_ARCHITECTURES_MAPPING)


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


# --- smp's own encoders ---


@pytest.fixture
def smp_hub(monkeypatch):
    """Note what is asked of smp's hub instead of asking it."""
    asked = []

    def load(encoder, repo, *, revision, weights):
        asked.append((type(encoder).__name__, repo, len(revision), weights))
        return WeightsOrigin("smp", repo, None)

    monkeypatch.setattr(segmenters, "load_smp_encoder", load)
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
