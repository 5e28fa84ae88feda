"""What each transform draws and does with it, and where it is put."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision

from synreal.core.noise import noise_of
from synreal.core.stages import find_stages
from synreal.errors import ConfigError, StageError
from synreal.functional import (
    match_distributions,
    mix_statistics,
    perturb_statistics,
    relative_spread,
    shift_statistics,
)
from synreal.transforms import DSU, TRANSFORMS, EFDMix, MixStyle, NormalizationPerturbation
from synreal.transforms.places import find_places
from tests.regularizers.contract import Toy, batch

KEY = torch.tensor([3, 4])
MAPS = torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 6)[None, :, None, None]


def noise(spec):
    (found, *_) = [spec.noise(place, 0) for place in find_places(Toy(), (1,))]
    return found


@pytest.mark.parametrize(("spec", "maths"), [(MixStyle(), mix_statistics), (EFDMix(), match_distributions)])
def test_pairs_are_of_the_batch_and_shares_of_beta(spec, maths):
    hook = noise(spec)
    partner, share = hook.pairs(6, KEY)
    assert sorted(partner.tolist()) == list(range(6))
    assert torch.equal(hook.disturb(MAPS, KEY), maths(MAPS, partner, share))
    shares = hook.pairs(4000, KEY)[1]
    assert float(((shares < 0.05) | (shares > 0.95)).float().mean()) > 0.7  # Beta(0.1, 0.1)
    even = noise(type(spec)(alpha=50)).pairs(4000, KEY)[1]
    assert float((even - 0.5).abs().mean()) < 0.06


def drawn(function, images=400):
    """What statistics of many images become: mean and deviation of each channel, before and after."""
    generator = torch.Generator().manual_seed(1)
    level = torch.tensor([0.0, 1.0, 4.0]) * torch.randn(images, 3, generator=generator)
    maps = torch.randn(images, 3, 8, 8, generator=generator, dtype=torch.float64) + level[:, :, None, None] + 3
    after = function(maps)
    return (maps.mean((2, 3)), maps.std((2, 3))), (after.mean((2, 3)), after.std((2, 3)))


def test_dsu_draws_as_widely_as_the_batch_varies():
    (mean, deviation), (new_mean, new_deviation) = drawn(lambda maps: noise(DSU()).disturb(maps, KEY))
    torch.testing.assert_close((new_mean - mean).std(0), mean.std(0), rtol=0.15, atol=0)
    torch.testing.assert_close((new_deviation - deviation).std(0), deviation.std(0), rtol=0.15, atol=0)
    assert abs(torch.corrcoef(torch.stack([(new_mean - mean)[:, 2], (new_deviation - deviation)[:, 2]]))[0, 1]) < 0.2
    numbers = torch.tensor([[1.0, -1.0]]).expand(4, 2)
    assert shift_statistics(torch.rand(4, 2, 3, 3), numbers, numbers).shape == (4, 2, 3, 3)


def test_np_scales_mean_and_deviation():
    (mean, deviation), (new_mean, new_deviation) = drawn(
        lambda maps: noise(NormalizationPerturbation()).disturb(maps, KEY)
    )
    factors = new_mean / mean
    torch.testing.assert_close(factors.mean(0), torch.ones(3).double(), rtol=0, atol=0.15)
    torch.testing.assert_close(factors.std(0), torch.full((3,), 0.75).double(), rtol=0.12, atol=0)
    squares = (new_deviation / deviation).square().mean(0)
    torch.testing.assert_close(squares, torch.full((3,), 1 + 0.75**2).double(), rtol=0.2, atol=0)
    narrow = noise(NormalizationPerturbation(std=1e-9)).disturb(MAPS.double(), KEY)
    torch.testing.assert_close(narrow, MAPS.double())


def test_np_plus_scales_means_as_widely_as_they_differ():
    hook = noise(NormalizationPerturbation(plus=True))
    (mean, _), (new_mean, _) = drawn(lambda maps: hook.disturb(maps, KEY))
    spread = mean.std(0) / mean.std(0).max()
    torch.testing.assert_close((new_mean / mean).std(0), 0.75 * 1.5 * spread, rtol=0.15, atol=0)
    assert relative_spread(MAPS).max() == 1
    assert torch.equal(perturb_statistics(MAPS, *[torch.ones(6, 5)] * 2), MAPS)


@pytest.mark.parametrize(
    ("build", "conv", "stem"),
    [
        (lambda: timm.create_model("resnet18"), "conv1", "maxpool"),
        (lambda: timm.create_model("resnet26t"), "conv1.0", "maxpool"),
        (lambda: timm.create_model("efficientnet_lite0"), "conv_stem", "blocks.0"),
        (lambda: torchvision.models.resnet18(weights=None), "conv1", "maxpool"),
        (lambda: torchvision.models.efficientnet_b0(weights=None), "features.0.0", "features.1"),
        (lambda: smp.Unet("resnet18", encoder_weights=None), "encoder.conv1", "encoder.maxpool"),
    ],
)
def test_the_papers_places_are_found(build, conv, stem):
    model = build()
    stages = find_stages(model)
    DSU().apply(model)
    assert {path for path, _, _ in noise_of(model)} == {conv, stem, *(stages[n].path for n in "1234")}
    assert sorted(hook.number for _, _, hook in noise_of(model)) == list(range(6))
    assert sorted(hook.stage.name for _, _, hook in noise_of(model)) == ["1", "2", "3", "4", "conv", "stem"]


def test_places_that_are_not_there_are_named():
    model = timm.create_model("test_convnext")
    with pytest.raises(StageError, match=r"ConvNeXt has no stage 0, so no 'stem'\. It has: 1 \(stages\.0"):
        DSU().apply(model)
    with pytest.raises(StageError, match=r"ConvNeXt has no stage 0\. It has: 1"):
        MixStyle(stages=(0,)).apply(model)
    with pytest.raises(StageError, match=r"no module 'stages\.8'\. Nearest: stages"):
        MixStyle(stages=("stages.8",)).apply(model)
    with pytest.raises(StageError, match=r"2 and stages\.1 are one place in ConvNeXt|stages\.1 and 2 are one place"):
        MixStyle(stages=("2", "stages.1")).apply(model)
    assert noise_of(model) == []
    MixStyle(stages=("stages.0", 2)).apply(model)
    assert [path for path, _, _ in noise_of(model)] == ["stages.0", "stages.1"]


@pytest.mark.parametrize("spec", [MixStyle(stages=(4,)), EFDMix(stages=(1, 4)), MixStyle(stages=("blocks.4",))])
def test_the_last_stage_is_not_mixed(spec):
    with pytest.raises(ConfigError, match=rf"{spec.name} at the last stage \(blocks\.4\) would take away"):
        spec.apply(Toy())


def test_twice_on_one_place_is_refused_and_changes_nothing():
    model = Toy()
    MixStyle(stages=(2,)).apply(model)
    with pytest.raises(ConfigError, match=r"mixstyle is on stage 2 \(blocks\.2\) already"):
        MixStyle(stages=(1, 2)).apply(model)
    assert [path for path, _, _ in noise_of(model)] == ["blocks.2"]
    EFDMix(stages=(1, 2)).apply(model)
    assert model.train()(batch(0)[0]).isfinite().all()


def test_the_seed_is_torchs():
    def seeds(number):
        torch.manual_seed(number)
        model = Toy()
        MixStyle().apply(model)
        return {int(module.mixstyle_draws[0]) for _, module, _ in noise_of(model)}

    assert seeds(1) == seeds(1) != seeds(2)
    assert len(seeds(1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixstyle(p=0)", "p"),
        ("mixstyle(p=1.5)", "p"),
        ("mixstyle(alpha=0)", "alpha"),
        ("efdmix(stages=5)", "a place is a number from 0 to 4, 'conv', 'stem' or a module path"),
        ("dsu(stages=(1, 1))", "a place is named twice"),
        ("np(std=-1)", "std"),
        ("np(plus=maybe)", "plus"),
        ("mixstyle(alhpa=1)", "Did you mean 'alpha'"),
    ],
)
def test_settings_are_checked(text, message):
    with pytest.raises(ConfigError, match=message):
        TRANSFORMS.spec(text)


def test_the_fewest_images():
    assert [TRANSFORMS.spec(text).least_images for text in ("mixstyle", "dsu", "np", "np(plus=true)", "ibn")] == [
        2, 2, 1, 2, 1,
    ]  # fmt: skip
    model = Toy().train()
    NormalizationPerturbation(p=1, stages=(1,)).apply(model)
    MixStyle(p=1, stages=(2,)).apply(model)
    model(batch(0)[0][:1])
    assert [module.get_buffer(hook.buffer)[2].item() for _, module, hook in noise_of(model)] == [0, 1]
