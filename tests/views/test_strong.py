import math
import re

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from synreal.errors import ConfigError
from synreal.views import VIEWS, seeded
from synreal.views.strong import StrongView, erased
from tests.views.images import noise

NOTHING = "jitter=0, grey=0, blur=0, erase=(0, 0, 0)"


def changed(text, image, seed=3):
    with seeded(seed):
        return VIEWS.spec(text).build(None)(image)


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 1, 9), (3, 31, 50), (3, 2, 2)])
def test_any_size_keeps_its_size(shape):
    for seed in range(8):
        got = changed("strong", noise(*shape), seed)
        assert (got.shape, got.dtype) == (shape, torch.uint8)


def test_nothing_is_the_image():
    image = noise()
    assert torch.equal(changed(f"strong({NOTHING})", image), image)
    assert torch.equal(changed("strong(grey=0, blur=0, strength=0, erase=(0, 0, 0))", image), image)


def share(settings, happened, draws=1500):
    image = torch.full((3, 24, 24), 100, dtype=torch.uint8)
    image[0, 8:16, 8:16] = 30
    image[2, :, 12:] = 200
    change = VIEWS.spec(f"strong({settings})").build(None)
    with seeded(1):
        return sum(happened(image, change(image)) for _ in range(draws)) / draws


def other(image, got):
    return not torch.equal(image, got)


def grey(image, got):
    return bool((got[0] == got[1]).all() and (got[1] == got[2]).all())


@pytest.mark.parametrize(
    ("left", "often", "happened"),
    [
        ("grey=0, blur=0, erase=(0, 0, 0)", 0.8, other),
        ("jitter=0, blur=0, erase=(0, 0, 0)", 0.2, grey),
        ("jitter=0, grey=0, erase=(0, 0, 0), sigma=(1, 2)", 0.5, other),
        ("jitter=0, grey=0, blur=0, erase=(0.7, 0, 0)", 0.7, other),
        ("jitter=0, grey=0, blur=0, erase=(0, 0.5, 0)", 0.5, other),
        ("jitter=0, grey=0, blur=0, erase=(0, 0, 0.3)", 0.3, other),
    ],
)
def test_probabilities_are_the_published_ones(left, often, happened):
    assert share(left, happened) == pytest.approx(often, abs=4 * math.sqrt(often * (1 - often) / 1500))


def test_defaults_are_aldis():
    spec = StrongView()
    assert (spec.jitter, spec.strength, spec.hue, spec.grey, spec.blur) == (0.8, 0.4, 0, 0.2, 0.5)
    assert (spec.sigma, spec.erase) == ((0.1, 2.0), (0.7, 0.5, 0.3))


def test_dacs_as_its_docstring_writes_it():
    spec = VIEWS.spec(re.search(r"``(strong\(.*?\))``", StrongView.__doc__)[1])
    assert (spec.jitter, spec.strength, spec.hue, spec.grey, spec.blur) == (0.8, 0.2, 0.2, 0, 0.5)
    assert (spec.sigma, spec.erase) == ((0.15, 1.15), (0, 0, 0))


def test_jitter_is_contrast_then_brightness_then_saturation_then_hue():
    image = noise(3, 16, 16)
    got = changed("strong(jitter=1, strength=0.4, hue=0.1, grey=0, blur=0, erase=(0, 0, 0))", image, seed=7)
    with seeded(7):
        torch.rand(6)
        contrast, brightness, saturation = (0.6 + 0.8 * torch.rand(3)).tolist()
        hue = float(-0.1 + 0.2 * torch.rand(()))
    x = image.double().numpy()
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    mean = (weights * x).sum(0).mean()
    x = (contrast * x + (1 - contrast) * mean).clip(0, 255)
    x = (brightness * x).clip(0, 255)
    x = (saturation * x + (1 - saturation) * (weights * x).sum(0)).clip(0, 255)
    without = changed("strong(jitter=1, strength=0.4, grey=0, blur=0, erase=(0, 0, 0))", image, seed=7)
    assert np.abs(without.double().numpy() - x).max() <= 4  # each step cuts to whole numbers
    assert torch.equal(got, F.adjust_hue(without, hue))


def test_blur_is_a_gaussian_in_pixels_that_leaves_channels_apart():
    image = torch.zeros(3, 41, 41, dtype=torch.uint8)
    image[1, 20, 20] = 255
    got = changed("strong(jitter=0, grey=0, blur=1, sigma=(1.5, 1.5), erase=(0, 0, 0))", image)
    distance = np.arange(41) - 20.0
    kernel = np.where(abs(distance) <= 4, np.exp(-(distance**2) / (2 * 1.5**2)), 0)
    kernel /= kernel.sum()
    assert np.abs(got[1].numpy() - 255 * kernel[:, None] * kernel).max() <= 0.51
    assert got[[0, 2]].max() == 0


@pytest.mark.parametrize(
    ("areas", "aspects"), [((0.05, 0.2), (0.3, 3.3)), ((0.02, 0.2), (0.1, 6.0)), ((0.02, 0.2), (0.05, 8.0))]
)
def test_erased_rectangles_are_within_their_ranges(areas, aspects):
    image = torch.full((3, 80, 120), 7, dtype=torch.uint8)
    found, values = [], []
    with seeded(2):
        for _ in range(200):
            got = erased(image, areas, aspects)
            there = (got != 7).any(0)
            rows, columns = there.any(1).nonzero().flatten(), there.any(0).nonzero().flatten()
            height, width = len(rows), len(columns)
            assert (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1) == (height, width)  # one rectangle
            found.append((height, width))
            values.append(got[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten().double())
    for height, width in found:  # sides are whole pixels
        assert (height - 0.5) * (width - 0.5) / 9600 <= areas[1]
        assert (height + 0.5) * (width + 0.5) / 9600 >= areas[0]
        assert (height - 0.5) / (width + 0.5) <= aspects[1]
        assert (height + 0.5) / (width - 0.5) >= aspects[0]
    covered = np.array([height * width / 9600 for height, width in found])
    assert covered.min() < areas[0] + 0.03
    assert covered.max() > areas[1] - 0.03
    drawn = torch.cat(values)
    assert float(drawn.mean()) == pytest.approx(127.5, abs=0.5)
    assert float(drawn.std()) == pytest.approx(math.sqrt((256**2 - 1) / 12), abs=0.5)
    assert int(image.unique()) == 7


def test_the_published_ranges_are_the_ones_that_are_used(monkeypatch):
    seen = []
    monkeypatch.setattr("synreal.views.strong.erased", lambda image, *ranges: seen.append(ranges) or image)
    changed("strong(erase=(1, 1, 1))", noise())
    assert seen == [((0.05, 0.2), (0.3, 3.3)), ((0.02, 0.2), (0.1, 6)), ((0.02, 0.2), (0.05, 8))]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("strong(jitter=1.1)", "less than or equal to 1"),
        ("strong(sigma=(2, 1))", "0 <= low <= high"),
        ("strong(hue=0.6)", "less than or equal to 0.5"),
        ("strong(erase=(0.5, 0.5))", "erase"),
        ("strong(erase=(0.5, 0.5, -1))", "erase"),
    ],
)
def test_settings_that_are_none(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        VIEWS.spec(text)
