"""Colour spaces and moments against float64 NumPy."""

import numpy as np
import pytest
import torch

from synreal.functional import lab_to_rgb, match_moments, rgb_to_lab, spread_and_mean

# sRGB and CIE Lab (D65) of the primaries, as published.
KNOWN = [
    ((1, 1, 1), (100, 0, 0)),
    ((0, 0, 0), (0, 0, 0)),
    ((1, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 1, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 1), (32.30, 79.19, -107.86)),
    ((0.5, 0.5, 0.5), (53.39, 0, 0)),
]


def pixel(values):
    return torch.tensor(values, dtype=torch.float64).view(3, 1, 1)


@pytest.mark.parametrize(("rgb", "lab"), KNOWN)
def test_known_colours(rgb, lab):
    np.testing.assert_allclose(rgb_to_lab(pixel(rgb)).flatten(), lab, atol=0.05)
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(pixel(rgb))).flatten(), rgb, atol=1e-6)


def test_all_bytes_come_back():
    levels = torch.arange(256)
    grey = levels.expand(3, 1, -1)
    random = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    for image in (grey, random):
        back = (255 * lab_to_rgb(rgb_to_lab(image.float() / 255))).round()
        assert torch.equal(back, image.float())
    assert rgb_to_lab(grey / 255)[1:].abs().max() < 1e-3


def images(seed=0):
    return torch.rand(2, 3, 11, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_spread_is_that_of_all_pixels():
    std, mean = spread_and_mean(images())
    np.testing.assert_allclose(std.squeeze(), images().numpy().std((2, 3)), rtol=1e-12)
    np.testing.assert_allclose(mean.squeeze(), images().numpy().mean((2, 3)), rtol=1e-12)
    assert std.shape == mean.shape == (2, 3, 1, 1)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_moments_are_matched(share):
    x, style = images(), 0.5 * images(1) + 0.1
    got = match_moments(x, *spread_and_mean(style), share).numpy()
    for n in range(2):
        for c in range(3):
            one, other = x[n, c].numpy(), style[n, c].numpy()
            moved = (one - one.mean()) * other.std() / one.std() + other.mean()
            np.testing.assert_allclose(got[n, c], (1 - share) * one + share * moved, atol=1e-12)
    if share == 1:
        np.testing.assert_allclose(got.mean((2, 3)), style.mean((2, 3)), atol=1e-12)
        np.testing.assert_allclose(got.std((2, 3)), style.numpy().std((2, 3)), atol=1e-12)
    if share == 0:
        assert np.array_equal(got, x)


def test_a_flat_channel_is_shifted_and_not_stretched():
    flat = torch.full((3, 4, 4), 0.2)
    flat[0, 0, 0] += 1e-3  # spreads by less than 0.001
    got = match_moments(flat, torch.full((3, 1, 1), 0.3), torch.full((3, 1, 1), 0.7))
    torch.testing.assert_close(got - got.mean((1, 2), keepdim=True), flat - flat.mean((1, 2), keepdim=True))
    torch.testing.assert_close(got.mean((1, 2)), torch.full((3,), 0.7))
