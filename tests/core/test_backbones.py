"""Stages on every kind of backbone that synreal claims to know, against what the networks themselves return."""

import functools

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn

import synreal
from synreal.core.parts import find_entry
from synreal.core.stages import as_map, find_stages, probe, resolve
from synreal.core.taps import FeatureTap
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.errors import StageError

STRIDES = {"0": 2, "1": 4, "2": 8, "3": 16, "4": 32}


def in_timm(name, **settings):
    return functools.partial(timm.create_model, name, num_classes=3, **settings)


def in_torchvision(name, **settings):
    return functools.partial(torchvision.models.get_model, name, weights=None, **settings)


def detector(name):
    return in_torchvision(name, weights_backbone=None, num_classes=3)


def in_smp(kind, encoder, **settings):
    return functools.partial(kind, encoder, encoder_weights=None, **settings)


def pyramid(names, *channels):
    """The usual strides for the stages named."""
    return {name: (width, STRIDES[name]) for name, width in zip(names, channels, strict=True)}


def plain(width, stride):
    """A plain transformer: four stages of one stride."""
    return dict.fromkeys("1234", (width, stride))


def dilated(stride, *channels):
    """A pyramid that stops at a stride."""
    return {name: (width, min(s, stride)) for name, (width, s) in pyramid("01234", *channels).items()}


def small_vit():
    return torchvision.models.VisionTransformer(64, 16, num_layers=12, num_heads=2, hidden_dim=32, mlp_dim=64)


def small_maxvit():
    blocks = {"block_channels": [8, 16, 24, 32], "block_layers": [1, 1, 1, 1], "stochastic_depth_prob": 0.0}
    return torchvision.models.MaxVit((224, 224), stem_channels=8, partition_size=7, head_dim=8, **blocks)


SWIN = {"depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "embed_dim": 24, "img_size": (64, 96), "window_size": 2}

# name: (build, layout, channels and stride by stage, module of stage 4, other image size than the probe's)
BACKBONES = {
    # timm: convolutions
    "resnet": (in_timm("test_resnet"), "nchw", pyramid("01234", 32, 32, 48, 192, 96), "layer4", (64, 96)),
    "resnet18": (in_timm("resnet18"), "nchw", pyramid("01234", 64, 64, 128, 256, 512), "layer4", (64, 96)),
    "resnet, dilated": (
        in_timm("test_resnet", output_stride=8),
        "nchw",
        dilated(8, 32, 32, 48, 192, 96),
        "layer4",
        (64, 96),
    ),
    "resnext": (in_timm("resnext50_32x4d"), "nchw", pyramid("01234", 64, 256, 512, 1024, 2048), "layer4", (64, 96)),
    "efficientnet": (in_timm("test_efficientnet"), "nchw", pyramid("01234", 16, 24, 32, 48, 64), "blocks.4", (64, 96)),
    "efficientnet_lite0": (
        in_timm("tf_efficientnet_lite0"),
        "nchw",
        pyramid("01234", 16, 24, 40, 112, 320),
        "blocks.6",
        (64, 96),
    ),
    "mobilenetv3": (
        in_timm("mobilenetv3_small_050"),
        "nchw",
        pyramid("01234", 16, 8, 16, 24, 288),
        "blocks.5",
        (64, 96),
    ),
    "convnext": (in_timm("test_convnext"), "nchw", pyramid("1234", 24, 32, 48, 64), "stages.3", (64, 96)),
    "regnetx": (in_timm("regnetx_002"), "nchw", pyramid("01234", 32, 24, 56, 152, 368), "s4", (64, 96)),
    "regnety": (in_timm("regnety_002"), "nchw", pyramid("01234", 32, 24, 56, 152, 368), "s4", (64, 96)),
    "densenet": (
        in_timm("densenet121"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 1024),
        "features.norm5",
        (64, 96),
    ),
    "inception": (  # without padding, so its maps are smaller than input over stride
        in_timm("inception_v3"),
        "nchw",
        pyramid("01234", 64, 192, 288, 768, 2048),
        "Mixed_7c",
        None,
    ),
    "features_only": (
        functools.partial(timm.create_model, "test_convnext", features_only=True),
        "nchw",
        pyramid("1234", 24, 32, 48, 64),
        "stages_3",
        (64, 96),
    ),
    # timm: transformers with a pyramid
    "swin": (
        in_timm("swin_tiny_patch4_window7_224", **SWIN),
        "nhwc",
        pyramid("1234", 24, 48, 96, 192),
        "layers.3",
        (64, 96),
    ),
    "swinv2": (
        in_timm("swinv2_tiny_window8_256", **SWIN),
        "nhwc",
        pyramid("1234", 24, 48, 96, 192),
        "layers.3",
        (64, 96),
    ),
    "swinv2_cr": (
        in_timm("swinv2_cr_tiny_224", **SWIN),
        "nchw",
        pyramid("1234", 24, 48, 96, 192),
        "stages.3",
        (64, 96),
    ),
    "maxvit": (in_timm("test_maxvit"), "nchw", pyramid("01234", 32, 32, 64, 96, 128), "stages.3", (160, 160)),
    "mambaout": (in_timm("test_mambaout"), "nhwc", pyramid("1234", 16, 32, 48, 64), "stages.3", (64, 96)),
    "pvt": (in_timm("pvt_v2_b0"), "nchw", pyramid("1234", 32, 64, 160, 256), "stages.3", (64, 96)),
    # timm: plain transformers
    "vit": (in_timm("test_vit", img_size=(64, 96)), "tokens", plain(64, 16), "blocks.5", (64, 96)),
    "vit, any size": (in_timm("test_vit", dynamic_img_size=True), "tokens", plain(64, 16), "blocks.5", (64, 96)),
    "vit, pooled": (in_timm("test_vit_relpos"), "tokens", plain(96, 16), "blocks.8", (160, 160)),
    "vit, registers": (
        in_timm("test_vit", reg_tokens=4, img_size=(64, 96)),
        "tokens",
        plain(64, 16),
        "blocks.5",
        (64, 96),
    ),
    "vit, register alone": (in_timm("test_vit2", img_size=(96, 64)), "tokens", plain(64, 16), "blocks.7", (96, 64)),
    "deit": (in_timm("deit_tiny_patch16_224"), "tokens", plain(192, 16), "blocks.11", (224, 224)),
    "deit, distilled": (
        in_timm("deit_tiny_distilled_patch16_224", img_size=(64, 96)),
        "tokens",
        plain(192, 16),
        "blocks.11",
        (64, 96),
    ),
    "dinov2": (
        in_timm("vit_small_patch14_dinov2", img_size=(56, 84), dynamic_img_size=True),
        "tokens",
        plain(384, 14),
        "blocks.11",
        (84, 42),
    ),
    "dinov2, registers": (
        in_timm("vit_small_patch14_reg4_dinov2", img_size=(56, 84), dynamic_img_size=True),
        "tokens",
        plain(384, 14),
        "blocks.11",
        (84, 42),
    ),
    "class token joins late": (in_timm("cait_xxs24_224"), "tokens", plain(192, 16), "blocks.23", (224, 224)),
    "mixer": (in_timm("gmlp_ti16_224"), "tokens", plain(128, 16), "blocks.29", (224, 224)),
    # torchvision: classifiers
    "tv resnet": (in_torchvision("resnet18"), "nchw", pyramid("01234", 64, 64, 128, 256, 512), "layer4", (64, 96)),
    "tv resnext": (
        in_torchvision("resnext50_32x4d"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 2048),
        "layer4",
        (64, 96),
    ),
    "tv densenet": (
        in_torchvision("densenet121"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 1024),
        "features.denseblock4",
        (64, 96),
    ),
    "tv convnext": (in_torchvision("convnext_tiny"), "nchw", pyramid("1234", 96, 192, 384, 768), "features", (64, 96)),
    "tv swin": (in_torchvision("swin_t"), None, pyramid("1234", 96, 192, 384, 768), "permute", (64, 96)),
    "tv swinv2": (in_torchvision("swin_v2_t"), None, pyramid("1234", 96, 192, 384, 768), "permute", (64, 96)),
    "tv maxvit": (small_maxvit, "nchw", pyramid("01234", 8, 8, 16, 24, 32), "blocks.3", (224, 224)),
    "tv mobilenetv3": (
        in_torchvision("mobilenet_v3_small"),
        "nchw",
        pyramid("01234", 16, 16, 24, 48, 576),
        "features",
        (64, 96),
    ),
    "tv efficientnet": (
        in_torchvision("efficientnet_b0"),
        "nchw",
        pyramid("01234", 16, 24, 40, 112, 1280),
        "features",
        (64, 96),
    ),
    "tv regnet": (
        in_torchvision("regnet_x_400mf"),
        "nchw",
        pyramid("01234", 32, 32, 64, 160, 400),
        "trunk_output",
        (64, 96),
    ),
    "tv vgg": (in_torchvision("vgg11"), "nchw", pyramid("01234", 128, 256, 512, 512, 512), "features", (64, 96)),
    "tv vit": (small_vit, "tokens", plain(32, 16), "encoder.layers.encoder_layer_11", (64, 64)),
    # smp
    "unet resnet": (
        in_smp(smp.Unet, "resnet18"),
        "nchw",
        pyramid("01234", 64, 64, 128, 256, 512),
        "encoder.layer4",
        (64, 96),
    ),
    "unet timm-": (
        in_smp(smp.Unet, "timm-mobilenetv3_small_075"),
        "nchw",
        pyramid("01234", 16, 16, 24, 40, 432),
        "encoder.model.blocks.5",
        (64, 96),
    ),
    "unet tu-": (
        in_smp(smp.Unet, "tu-test_convnext"),
        "nchw",
        pyramid("1234", 24, 32, 48, 64),
        "encoder.model.stages_3",
        (64, 96),
    ),
    "unet tu-swin": (
        in_smp(smp.Unet, "tu-swin_tiny_patch4_window7_224", **SWIN),
        "nhwc",
        pyramid("1234", 24, 48, 96, 192),
        "encoder.model.layers_3",
        (64, 96),
    ),
    "unet mit": (
        in_smp(smp.Unet, "mit_b0"),
        "nchw",
        pyramid("1234", 32, 64, 160, 256),
        "encoder.norm4",
        (64, 96),
    ),
    "deeplab resnet": (
        in_smp(smp.DeepLabV3Plus, "resnet18"),
        "nchw",
        dilated(16, 64, 64, 128, 256, 512),
        "encoder.layer4",
        (64, 96),
    ),
    "deeplab tu-": (
        in_smp(smp.DeepLabV3Plus, "tu-test_resnet"),
        "nchw",
        dilated(16, 32, 32, 48, 192, 96),
        "encoder.model.layer4",
        (64, 96),
    ),
    "deeplab mit": (
        in_smp(smp.DeepLabV3Plus, "mit_b0"),
        "nchw",
        {"1": (32, 4), "2": (64, 8), "3": (160, 16), "4": (256, 16)},
        "encoder.norm4",
        (64, 96),
    ),
    "deeplab efficientnet": (
        in_smp(smp.DeepLabV3Plus, "efficientnet-b0"),
        "nchw",
        dilated(16, 32, 24, 40, 112, 320),
        "encoder._blocks.15",
        (64, 96),
    ),
    "dpt": (
        in_smp(smp.DPT, "tu-test_vit", dynamic_img_size=True),
        "tokens",
        plain(64, 16),
        "encoder.model.blocks.5",
        (64, 96),
    ),
    # torchvision: detectors and segmentation
    "fasterrcnn": (
        detector("fasterrcnn_resnet50_fpn"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 2048),
        "backbone.body.layer4",
        (64, 96),
    ),
    "fasterrcnn mobilenet": (
        detector("fasterrcnn_mobilenet_v3_large_320_fpn"),
        "nchw",
        pyramid("01234", 16, 24, 40, 112, 960),
        "backbone.body.16",
        (64, 96),
    ),
    "retinanet": (
        detector("retinanet_resnet50_fpn"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 2048),
        "backbone.body.layer4",
        (64, 96),
    ),
    "fcos": (
        detector("fcos_resnet50_fpn"),
        "nchw",
        pyramid("01234", 64, 256, 512, 1024, 2048),
        "backbone.body.layer4",
        (64, 96),
    ),
    "ssdlite": (
        detector("ssdlite320_mobilenet_v3_large"),
        "nchw",
        pyramid("01234", 16, 24, 40, 672, 480),
        "backbone.features.1",
        (64, 96),
    ),
    "fcn": (
        detector("fcn_resnet50"),
        "nchw",
        dilated(8, 64, 256, 512, 1024, 2048),
        "backbone.layer4",
        (64, 96),
    ),
    "deeplabv3 mobilenet": (
        detector("deeplabv3_mobilenet_v3_large"),
        "nchw",
        dilated(16, 16, 24, 40, 112, 960),
        "backbone.16",
        (64, 96),
    ),
}


def snapshot(model):
    """What a search for stages must leave as it was."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        {name: module.training for name, module in model.named_modules()},
        {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        {name: (len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in model.named_modules()},
        torch.get_rng_state(),
    )


def same(before, after):
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    return torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after


def read(model, images):
    """The maps of all stages, and what the entry returned."""
    entry = find_entry(model)
    tap = FeatureTap(model, list(find_stages(model).values()), entry=entry)
    with torch.no_grad(), tap.record() as maps:
        returned = model.get_submodule(entry)(images)
    tap.remove()
    return maps, returned


def theirs(model, images, returned):
    """The maps (N, C, H, W) that a network itself gives out, if any."""
    if isinstance(returned, dict):
        return list(returned.values())
    if isinstance(returned, (list, tuple)):
        return [m for m in returned if isinstance(m, torch.Tensor)]
    if hasattr(model, "forward_intermediates"):
        with torch.no_grad():
            return model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
    return []


@pytest.mark.parametrize("name", BACKBONES)
def test_stages(name):
    build, layout, table, last, size = BACKBONES[name]
    model = build().train()
    next(m for m in model.modules() if not list(m.children())).eval()
    before = snapshot(model)
    stages = find_stages(model)
    assert all(map(same, before, snapshot(model)))
    assert {name: (stage.channels, stage.stride) for name, stage in stages.items()} == table
    assert stages["4"].path == last
    assert layout is None or {stage.layout for stage in stages.values()} == {layout}
    if size is None:
        return
    model.eval()
    images = torch.rand(2, 3, *size)
    maps, returned = read(model, images)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        name: (2, channels, size[0] // stride, size[1] // stride) for name, (channels, stride) in table.items()
    }
    known = theirs(model, images, returned)
    if known:
        found = [stage for stage, value in maps.items() if any(torch.equal(value, m) for m in known if m.numel())]
        assert found == [stage for stage, value in maps.items() if value.shape in {m.shape for m in known}]
        assert "4" in found


@pytest.mark.parametrize(
    "name",
    [
        "vit",
        "vit, any size",
        "vit, registers",
        "vit, register alone",
        "deit, distilled",
        "dinov2, registers",
        "tv vit",
        "swin",
        "tv swin",
        "unet mit",
        "dpt",
    ],
)
def test_a_cell_of_the_map_is_the_patch_at_the_same_place(name):
    build, _, table, _, size = BACKBONES[name]
    torch.manual_seed(0)
    model = build().eval()
    first = next(iter(table))
    stride = table[first][1]
    images = torch.rand(1, 3, *size)
    rows, columns = size[0] // stride, size[1] // stride
    for row, column in [(0, columns - 1), (rows - 1, 0), (1, 2)]:
        changed = images.clone()
        changed[:, :, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] += 1
        difference = (read(model, changed)[0][first] - read(model, images)[0][first]).abs().sum(1)[0]
        assert divmod(int(difference.argmax()), columns) == (row, column)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (50, 70), (16, 40)])
def test_tokens_of_an_image_padded_to_whole_patches(size):
    model = timm.create_model("test_vit", dynamic_img_size=True, dynamic_img_pad=True).eval()
    images = torch.rand(2, 3, *size)
    maps, _ = read(model, images)
    assert maps["4"].shape == (2, 64, -(-size[0] // 16), -(-size[1] // 16))
    with torch.no_grad():
        theirs = model.forward_intermediates(images, indices=[5], intermediates_only=True)
    assert torch.equal(maps["4"], theirs[0])


def test_an_image_of_another_size_than_the_tokens_is_refused():
    stage = find_stages(timm.create_model("test_vit"))["4"]
    with pytest.raises(StageError, match=r"expected 1 \+ 5 x 10 tokens of 64 channels for an input of 80 x 160 pixels"):
        as_map(torch.zeros(2, 1 + 100, 64), stage, (80, 160))


def test_tokens_dropped_in_training_are_refused():
    model = timm.create_model("test_vit", patch_drop_rate=0.5).train()
    tap = FeatureTap(model, list(resolve(model, [4]).values()))
    with (
        pytest.raises(StageError, match=r"Stage 4 \(blocks\.5\) gave \(2, 51, 64\); expected 1 \+ 10 x 10"),
        tap.record(),
    ):
        model(torch.rand(2, 3, 160, 160))


def test_patches_that_are_not_square_are_refused():
    # 4 x 8 patches; 8 x 4 square ones of 16 pixels would be as many.
    model = timm.create_model("test_vit", img_size=(128, 64), patch_size=(32, 8))
    with pytest.raises(StageError, match=r"No 2-D map at stage 1 \(blocks\.1\): the module gave \(1, 33, 64\)"):
        find_stages(model)
    with pytest.raises(StageError, match=r"No 2-D map at stage mlp \(blocks\.2\.mlp\)"):
        probe(model, {"mlp": "blocks.2.mlp"})


def test_tokens_in_an_order_of_their_own_are_refused():
    model = timm.create_model("hiera_tiny_224", embed_dim=24, num_heads=1, stages=(1, 1, 1, 1))
    with pytest.raises(StageError, match=r"Stage 1 \(blocks\.0\) gives tokens in an order of the network's own"):
        find_stages(model)


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(4, [0, 1, 2, 3]), (5, [1, 2, 3, 4]), (6, [1, 2, 4, 5]), (9, [2, 4, 6, 8]), (12, [2, 5, 8, 11])],
)
def test_the_quarters_of_a_plain_transformers_depth(depth, blocks):
    model = timm.create_model("test_vit", depth=depth, img_size=32)
    assert [stage.path for stage in find_stages(model).values()] == [f"blocks.{index}" for index in blocks]


def test_modules_inside_a_channels_last_network_are_read_right():
    model = BACKBONES["swin"][0]()
    stages = probe(model, {"embed": "patch_embed.proj", "block": "layers.2.blocks.0"})
    assert [(s.layout, s.channels, s.stride) for s in stages.values()] == [("nchw", 24, 4), ("nhwc", 96, 16)]


def test_modules_inside_a_plain_transformer_are_read_right():
    stage = probe(BACKBONES["vit, registers"][0](), {"mlp": "blocks.2.mlp"})["mlp"]
    assert (stage.layout, stage.channels, stage.stride, stage.prefix_tokens) == ("tokens", 64, 16, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coat_tiny", r"No hook fired at stage 1 \(serial_blocks1\)"),
        ("efficientvim_m1", r"No 2-D map at stage 3 \(stages\.0\): the module gave tuple"),
        ("mvitv2_tiny", "What MultiScaleVit declares in feature_info does not tell its stages"),
    ],
)
def test_what_cannot_be_read_is_refused(name, message):
    with pytest.raises(StageError, match=message):
        find_stages(timm.create_model(name))


def test_a_map_finished_in_place_by_the_next_module_is_read_there():
    stages = find_stages(BACKBONES["unet timm-"][0]())
    assert stages["0"].path == "encoder.model.act1"  # timm declares bn1, before the activation


def trained(model):
    """Leave a network with weights and statistics that are not those of its teacher."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.filterwarnings(f"ignore::{UntrainedTeacherWarning.__module__}.{UntrainedTeacherWarning.__name__}")
@pytest.mark.parametrize(
    "name",
    [
        "resnet",
        "swin",
        "vit",
        "vit, registers",
        "dinov2, registers",
        "tv swin",
        "tv vit",
        "unet tu-",
        "deeplab resnet",
        "fasterrcnn mobilenet",
    ],
)
def test_a_penalty_reaches_the_first_layer(name):
    build, _, table, _, size = BACKBONES[name]
    torch.manual_seed(0)
    student = build()
    model = synreal.attach(student, f"feature_l2(stages=({','.join(table)}))").train()
    trained(student)
    if "rcnn" in name:
        images = [torch.rand(3, *size), torch.rand(3, *size)]
        boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]])
        result = model(images, targets=[{"boxes": boxes, "labels": torch.tensor([1])}] * 2)
        assert set(result["output"]) > {"loss_classifier"}
    else:
        result = model(torch.rand(2, 3, *size))
    assert torch.isfinite(result["penalty"])
    assert result["penalty"] > 0
    result["penalty"].backward()
    first = next(m for m in student.get_submodule(find_entry(student)).modules() if isinstance(m, nn.Conv2d))
    assert torch.isfinite(first.weight.grad).all()
    assert first.weight.grad.any()
