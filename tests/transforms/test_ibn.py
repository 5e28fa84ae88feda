"""Which layers IBN exchanges, and with what, against the networks that they were."""

import copy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.ops.misc import FrozenBatchNorm2d

from synreal.core.whitening import InstanceNorm, whitening_layers
from synreal.errors import ConfigError, StageError
from synreal.transforms import IBN, TRANSFORMS, InstanceWhitening
from synreal.transforms.ibn import SplitNorm
from synreal.transforms.normalization import Fused, Sites, SummedNorm
from tests.regularizers.contract import Toy, network, same_bits


def by_image(maps, weight=1.0, bias=0.0, eps=1e-5):
    """(x - mu) / sqrt(var + eps) * gamma + beta, the variance over H W; in float64."""
    wide = maps.double()
    mean = wide.mean((2, 3), keepdim=True)
    deviation = ((wide - mean).square().mean((2, 3), keepdim=True) + eps).sqrt()
    weight, bias = (v.double().view(1, -1, 1, 1) if isinstance(v, torch.Tensor) else v for v in (weight, bias))
    return (wide - mean) / deviation * weight + bias


def by_batch(maps, layer, channels):
    """The stored statistics of some channels; in float64."""
    mean, var, weight, bias = (
        getattr(layer, name)[channels].double().view(1, -1, 1, 1)
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps.double() - mean) / (var + layer.eps).sqrt() * weight + bias


def lively(model):
    """Give each BatchNorm parameters and statistics of its own."""
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if hasattr(module, "running_var"):
            with torch.no_grad():
                for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.2), ("running_var", 0.3)):
                    value = getattr(module, name)
                    value.copy_(low + torch.rand(value.shape, generator=generator))
    return model.eval()


def plain_chain():
    """A network with BatchNorm and without residual blocks."""
    model = Toy()
    for block in model.blocks:
        block[1] = nn.BatchNorm2d(block[1].num_channels)
    return model


def splits(model):
    return {path: module for path, module in model.named_modules() if isinstance(module, SplitNorm)}


def exchanged_resnet():
    model = lively(network())
    return model, copy.deepcopy(model)


def test_a_splits_the_first_norm_of_each_block_of_stages_1_to_3():
    model = timm.create_model("resnet50", num_classes=3).eval()
    IBN().apply(model)
    blocks = {1: 3, 2: 4, 3: 6}
    assert list(splits(model)) == [f"layer{n}.{i}.bn1" for n, count in blocks.items() for i in range(count)]


def test_each_half_has_the_parameters_that_it_had():
    model, plain = exchanged_resnet()
    IBN().apply(model)
    maps = torch.randn(2, 32, 6, 7)
    layer, was = model.layer1[0].bn1, plain.layer1[0].bn1
    assert layer.IN.num_features == layer.BN.num_features == 16
    want = torch.cat(
        [by_image(maps[:, :16], was.weight[:16], was.bias[:16]), by_batch(maps[:, 16:], was, slice(16, 32))], 1
    )
    torch.testing.assert_close(layer(maps).double(), want, rtol=1e-4, atol=1e-5)
    assert {"layer1.0.bn1.IN.weight", "layer1.0.bn1.BN.running_mean"} <= set(model.state_dict())
    # What moves with training mode is the part that BatchNorm is.
    layer.train()(maps)
    assert not torch.equal(layer.BN.running_mean, was.running_mean[16:])
    assert layer.IN.running_mean is None


def test_the_gradient_of_a_split_norm():
    layer = SplitNorm(InstanceNorm(2, affine=True), nn.BatchNorm2d(3).eval(), instance_first=True)
    maps = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.double(), maps)


def test_the_whole_network_is_what_its_layers_say():
    model, plain = exchanged_resnet()
    IBN().apply(model)

    def split(layer, maps):
        half = layer.num_features // 2
        image = by_image(maps[:, :half], layer.weight[:half], layer.bias[:half])
        return torch.cat([image, by_batch(maps[:, half:], layer, slice(half, None))], 1).float()

    for stage in (plain.layer1, plain.layer2, plain.layer3):
        for block in stage:
            block.bn1.register_forward_hook(lambda layer, args, _: split(layer, args[0]))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(images), plain(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("build", "stem", "last"),
    [
        (network, "bn1", ("layer1.0.act2", "layer2.0.act2")),
        (lambda: torchvision.models.resnet18(weights=None, num_classes=3), "bn1", ("layer1.1.relu", "layer2.1.relu")),
    ],
    ids=["timm", "torchvision"],
)
def test_b_normalises_the_stem_and_two_sums(build, stem, last):
    model = lively(build())
    plain = copy.deepcopy(model)
    IBN(variant="b").apply(model)
    was = plain.get_submodule(stem)
    maps = torch.randn(2, was.num_features, 6, 7)
    torch.testing.assert_close(
        model.get_submodule(stem)(maps).double(), by_image(maps, was.weight, was.bias), rtol=1e-4, atol=1e-5
    )
    assert tuple(p for p, m in model.named_modules() if isinstance(m, SummedNorm)) == last
    assert [k for k in model.state_dict() if ".IN." in k] == [f"{p}.IN.{w}" for p in last for w in ("weight", "bias")]

    # The sum before the activation, from the block's own layers.
    seen = {}
    for path in last:
        block = path.rpartition(".")[0]
        model.get_submodule(block).register_forward_hook(
            lambda _m, a, out, block=block: seen.update({block: (a[0], out)})
        )
    images = torch.rand(2, 3, 64, 64)
    for _ in range(2):
        model(images)
    for block, (given, output) in seen.items():
        own = plain.get_submodule(block)
        inner = own.bn2(own.conv2(F.relu(own.bn1(own.conv1(given)))))
        skip = given if own.downsample is None else own.downsample(given)
        torch.testing.assert_close(output, F.relu(by_image(inner + skip).float()), rtol=1e-3, atol=1e-4)


def test_an_activation_that_a_block_calls_three_times_is_normalised_once_also_after_an_error():
    model = lively(torchvision.models.resnet50(weights=None, num_classes=3))
    IBN(variant="b").apply(model)
    images = torch.rand(1, 3, 64, 64)
    want = model(images)
    handle = model.layer1[2].bn2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(images)
    handle.remove()
    assert torch.equal(model(images), want)
    assert [m.calls for m in model.modules() if isinstance(m, SummedNorm)] == [3, 3]


def test_fused_norms_keep_their_activation():
    model = lively(timm.create_model("efficientnet_lite0", num_classes=3))
    plain = copy.deepcopy(model)
    IBN().apply(model)
    found = [path.removesuffix(".norm") for path in splits(model)]
    assert found == [f"blocks.{s}.{i}.bn1" for s, count in ((1, 2), (2, 2), (3, 3), (4, 3)) for i in range(count)]
    layer, was = model.blocks[1][0].bn1, plain.blocks[1][0].bn1
    assert isinstance(layer, Fused)
    half = was.num_features // 2
    maps = torch.randn(2, was.num_features, 5, 4)
    image = by_image(maps[:, :half], was.weight[:half], was.bias[:half], eps=was.eps)
    want = torch.cat([image, by_batch(maps[:, half:], was, slice(half, None))], 1).clamp(0, 6)
    torch.testing.assert_close(layer(maps).double(), want, rtol=1e-4, atol=1e-5)

    added = copy.deepcopy(plain)
    IBN(variant="b").apply(added)
    assert isinstance(added.bn1, Fused)
    assert [k for k in added.state_dict() if "IN" in k] == [
        f"blocks.{p}.1.IN.{w}" for p in (1, 2) for w in ("weight", "bias")
    ]
    given = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(added.blocks[1](given).double(), by_image(plain.blocks[1](given)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [timm.create_model, torchvision.models.get_model], ids=["timm", "torchvision"])
def test_dense_layers_keep_the_first_60_percent(build):
    model = lively(build("densenet121"))
    plain = copy.deepcopy(model)
    IBN().apply(model)
    found = [path.removesuffix(".norm") for path in splits(model)]
    counts = {1: 6, 2: 12, 3: 24}
    assert found == [
        f"features.denseblock{b}.denselayer{i}.norm1" for b, count in counts.items() for i in range(1, count + 1, 3)
    ]
    layer, was = (one.get_submodule(found[1]) for one in (model, plain))
    width, maps = was.num_features, torch.randn(2, was.num_features, 5, 4)
    cut = int(0.6 * width)
    image = by_image(maps[:, cut:], was.weight[cut:], was.bias[cut:])
    want = torch.cat([by_batch(maps[:, :cut], was, slice(0, cut)), image], 1)
    want = want.relu() if isinstance(layer, Fused) else want
    torch.testing.assert_close(layer(maps).double(), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="ibn needs residual sums, which DenseNet does not have"):
        IBN(variant="b").apply(plain)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("seresnext26d_32x4d", "layer1.0.bn1", "layer1.1.act3"),
        ("ecaresnet26t", "layer1.0.bn1", "layer1.1.act3"),
        ("resnest14d", "layer1.0.bn1", "layer1.0.act3"),
        ("res2net50_14w_8s", "layer1.0.bn1", "layer1.2.relu"),
        ("resnext26ts", "stages.0.0.conv1_1x1.bn", "stages.0.1.act"),
        ("regnetx_002", "s1.b1.conv1.bn", "s1.b1.act3"),
        ("tu-resnet18", "encoder.model.layer1.0.bn1", "encoder.model.layer1.1.act2"),
        ("smp/resnet18", "encoder.layer1.0.bn1", "encoder.layer1.1.relu"),
    ],
)
def test_other_networks(name, first, last):
    if name.startswith(("tu-", "smp/")):
        model = smp.Unet(name.removeprefix("smp/"), encoder_weights=None)
    else:
        model = timm.create_model(name, num_classes=3)
    sites = Sites(model, "ibn")
    assert sites.first_norms("1")[0][0] == first
    assert sites.sums(["1"])["1"][0] == last


@pytest.mark.parametrize("kind", [FrozenBatchNorm2d, nn.SyncBatchNorm])
def test_other_kinds_of_batch_norm_are_split(kind):
    model = lively(torchvision.models.resnet18(weights=None, norm_layer=kind))
    IBN().apply(model)
    assert {type(split.BN) for split in splits(model).values()} == {kind}
    if kind is FrozenBatchNorm2d:
        model(torch.rand(1, 3, 64, 64))
        assert not any(split.IN.weight.requires_grad for split in splits(model).values())


def test_what_learns_stays_what_learns():
    model = network()
    model.layer1.requires_grad_(False)
    model.layer2.eval()
    IBN().apply(model)
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert all(p.requires_grad for p in model.layer2.parameters())
    assert not any(m.training for m in model.layer2.modules())
    assert all(m.training for m in model.layer3.modules())


@pytest.mark.parametrize("transform", [IBN(), IBN(variant="b"), InstanceWhitening()], ids=["a", "b", "whitening"])
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: timm.create_model("test_vit"), r"VisionTransformer has none; it has LayerNorm.*Use a network with"),
        (lambda: timm.create_model("test_convnext"), r"ConvNeXt has none; it has LayerNorm, LayerNorm2d\. Use"),
        (Toy, r"Toy has none; it has GroupNorm"),
        (plain_chain, "finds no"),
    ],
)
def test_networks_that_it_does_not_fit_are_refused_and_stay_as_they_are(transform, build, message):
    model = build()
    before, kinds = dict(model.state_dict()), [type(module) for module in model.modules()]
    with pytest.raises((ConfigError, StageError), match=message):
        transform.apply(model)
    assert same_bits(before, dict(model.state_dict()))
    assert kinds == [type(module) for module in model.modules()]


def test_one_position_is_refused():
    model = network().eval()
    IBN().apply(model)
    with pytest.raises(StageError, match="InstanceNorm gets a map of one position"):
        model(torch.rand(2, 3, 8, 8))


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="variant"):
        TRANSFORMS.spec("ibn(variant=c)")


def test_whitening_exchanges_two_norms_of_a_deep_stem_and_one_of_another():
    deep, plain = network(), torchvision.models.resnet18(weights=None)
    for model in (deep, plain):
        InstanceWhitening().apply(model)
    assert list(whitening_layers(deep)) == [
        "conv1.1", "conv1.4", "layer1.0.act2.IN", "layer2.0.act2.IN",
    ]  # fmt: skip
    assert list(whitening_layers(plain)) == ["bn1", "layer1.1.relu.IN", "layer2.1.relu.IN"]
    assert not any("IN" in key for key in plain.state_dict())
