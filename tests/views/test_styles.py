"""The views that change style alone, each against its equation in float64."""

import math

import pytest
import torch

from synreal.errors import ConfigError
from synreal.views import VIEWS, seeded
from tests.views.images import noise

STYLES = ("blur", "noise", "recolour", "stylise")


def changed(text, image, seed=3):
    with seeded(seed):
        return VIEWS.spec(text).build(None)(image)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 31, 50), (3, 2, 2)])
def test_any_size_keeps_its_size(name, shape):
    image = noise(*shape)
    got = changed(name, image)
    assert (got.shape, got.dtype) == (image.shape, torch.uint8)


@pytest.mark.parametrize(
    ("text", "most"), [("blur(sigma=(0, 0))", 0), ("noise(std=(0, 0))", 0), ("recolour(amount=(0, 0))", 1)]
)
def test_nothing_is_nothing(text, most):
    image = noise(3, 20, 30)
    assert (changed(text, image).int() - image.int()).abs().max() <= most


def test_blur_is_a_gaussian_as_wide_as_a_share_of_the_image():
    image = torch.zeros(3, 100, 140, dtype=torch.uint8)
    image[:, 50, 70] = 255
    got = changed("blur(sigma=(0.02, 0.02))", image)[0].double()
    rows = torch.arange(100, dtype=torch.float64) - 50
    kernel = (-(rows**2) / (2 * 2.0**2)).exp()
    kernel[rows.abs() > 6] = 0
    kernel /= kernel.sum()
    columns = torch.zeros(140, dtype=torch.float64)
    columns[70 - 6 : 70 + 7] = kernel[44:57]
    assert (got - 255 * kernel[:, None] * columns[None]).abs().max() <= 0.51


def test_noise_has_the_spread_that_was_asked_for():
    image = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    got = changed("noise(std=(0.1, 0.1))", image).double()
    assert float(got.mean()) == pytest.approx(128, abs=0.5)
    assert float(got.std()) == pytest.approx(25.5, rel=0.02)
    assert float((got[0] - 128).flatten() @ (got[1] - 128).flatten()) / got[0].numel() < 10  # channels apart


def test_recolour_mixes_channels_and_bends_brightness():
    image = noise(3, 16, 16)
    got = changed("recolour(amount=(0.6, 0.6))", image, seed=5)
    with seeded(5):
        torch.rand(())
        weights = torch.rand(3, 3).double()
        powers = 2 ** (0.6 * (2 * torch.rand(3, 1, 1).double() - 1))
    mix = 0.4 * torch.eye(3, dtype=torch.float64) + 0.6 * weights / weights.sum(1, keepdim=True)
    wanted = 255 * torch.stack([(mix[o, :, None, None] * image.double() / 255).sum(0) for o in range(3)]) ** powers
    assert (got.double() - wanted).abs().max() <= 0.51


def test_stylise_takes_the_palette_that_it_draws():
    image = noise(3, 112, 112)
    got = changed("stylise(mean=(0.4, 0.4), std=(0.1, 0.1))", image).double() / 255
    for channel in got:
        assert float(channel.mean()) == pytest.approx(0.4, abs=0.01)
        assert float(channel.std()) == pytest.approx(0.1, abs=0.01)
        assert len(channel.unique()) <= 6
    flat = changed("stylise(mean=(0.4, 0.4))", torch.full((3, 8, 8), 9, dtype=torch.uint8))
    assert flat.unique().tolist() == [round(0.4 * 255)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("blur(sigma=(0.02, 0.01))", "0 <= low <= high <= 0.25"),
        ("noise(std=(-1, 0.1))", "low <= high"),
        ("recolour(amount=(0, 2))", "high <= 1"),
        ("stylise(levels=1)", "greater than or equal to 2"),
        (f"stylise(mean=(0, {math.pi}))", "high <= 1"),
    ],
)
def test_ranges_that_are_none(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        VIEWS.spec(text)
