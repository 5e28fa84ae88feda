"""Amplitude spectra against float64 NumPy, with its full transforms."""

import numpy as np
import pytest
import torch

from synreal.functional import amplitude_deviation, mix_amplitude, perturb_amplitude

SIZES = [(8, 8), (9, 6), (6, 9), (7, 5), (1, 1), (1, 6), (16, 3)]


def frequencies(size):
    return np.array([index if index <= (size - 1) // 2 else index - size for index in range(size)], dtype=float)


def radii(height, width):
    return np.sqrt(frequencies(height)[:, None] ** 2 + frequencies(width)[None] ** 2)


def images(*size, seed=0, dtype=torch.float64):
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("alpha", "k", "beta"), [(10, 1, 0.5), (3, 2, 0.25), (0, 1, 0)])
def test_deviation_grows_with_the_exact_frequency(size, alpha, k, beta):
    radius = radii(*size)
    wanted = (alpha * radius / max(radius.max(), 1e-300)) ** k + beta
    got = amplitude_deviation(*size, alpha, k, beta)
    np.testing.assert_allclose(got, wanted[:, : size[1] // 2 + 1], rtol=1e-6)
    assert got[0, 0] == pytest.approx(beta)


@pytest.mark.parametrize("size", [size for size in SIZES if size != (1, 1)])
def test_perturbing_the_half_spectrum_is_the_real_part_of_the_whole_with_the_halved_variance(size):
    """Of each frequency and of its opposite, whose mean counts, the same normal draws."""
    height, width = size
    x, half = images(*size).numpy(), width // 2 + 1
    noise = np.random.default_rng(1).standard_normal((3, height, half))
    deviation = amplitude_deviation(*size, 3, 2, 0.25).double().numpy()
    whole = np.zeros((3, height, width))
    for row in range(height):
        for column in range(width):
            for u, v in ((row, column), (-row % height, -column % width)):
                if v >= half:
                    continue
                draw = noise[:, u, v] * deviation[u, v]
                if -v % width < half:  # both of a pair are drawn: their mean is left
                    whole[:, row, column] += draw / 2
                else:  # one is drawn for both
                    whole[:, row, column] += draw / np.sqrt(2)
    spectrum = np.fft.fft2(x)
    wanted = np.fft.ifft2(np.abs(spectrum) * (1 + whole) * np.exp(1j * np.angle(spectrum)))
    assert np.abs(wanted.imag).max() < 1e-12
    got = perturb_amplitude(torch.from_numpy(x), torch.from_numpy(deviation), torch.from_numpy(noise))
    np.testing.assert_allclose(got, wanted.real, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_spread_of_each_frequency_is_that_of_the_real_part_of_the_full_transform(size):
    """Over many draws: sigma at frequencies that are opposite to themselves, sigma over root 2 at the others."""
    height, width = size
    draws = 20_000
    x = images(*size)[:1]
    deviation = amplitude_deviation(*size, 0.4, 1, 0.1)
    noise = torch.randn(draws, 1, height, width // 2 + 1, generator=torch.Generator().manual_seed(2))
    got = np.fft.fft2(perturb_amplitude(x.expand(draws, 1, *size), deviation.double(), noise.double()).numpy()[:, 0])
    ratio = got / np.fft.fft2(x[0].numpy())
    assert np.abs(ratio.imag).max() < 1e-9  # phases stay
    sigma = 0.4 * radii(*size) / radii(*size).max() + 0.1
    alone = np.array(
        [[(-row % height, -column % width) == (row, column) for column in range(width)] for row in range(height)]
    )
    assert alone.sum() == (4 if height % 2 == 0 else 1)
    np.testing.assert_allclose(ratio.real.std(0), np.where(alone, sigma, sigma / np.sqrt(2)), rtol=0.03)
    np.testing.assert_allclose(ratio.real.mean(0), 1, atol=0.02)
    # Opposite frequencies move together, all others apart.
    one, opposite, other = ratio.real[:, 1, 2], ratio.real[:, -1, -2], ratio.real[:, 2, 1]
    assert np.corrcoef(one, opposite)[0, 1] > 0.999
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_a_flat_channel_stays_flat():
    flat = torch.full((3, 8, 8), 0.5)
    deviation = amplitude_deviation(8, 8, 10, 1, 0.5)
    noise = torch.randn(3, *deviation.shape)
    got = perturb_amplitude(flat, deviation, noise)
    torch.testing.assert_close(got, (0.5 * (1 + noise[:, :1, :1] * 0.5)).expand(3, 8, 8))


def mixed(x, style, share, reach):
    """What is asked for, from full transforms; the window holds both signs of each frequency."""
    height, width = x.shape[-2:]
    spectrum = np.fft.fft2(x)
    own, theirs = np.abs(spectrum), np.abs(np.fft.fft2(style))
    low = np.maximum(abs(frequencies(height))[:, None], abs(frequencies(width))[None]) <= reach
    amplitude = np.where(low, (1 - share) * own + share * theirs, own)
    return np.fft.ifft2(amplitude * np.exp(1j * np.angle(spectrum)))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reach", [None, 0, 1, 3])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_amplitudes_are_mixed_and_the_image_stays_real(size, reach, share):
    x, style = images(*size), images(*size, seed=1)
    wanted = mixed(x.numpy(), style.numpy(), share, 99 if reach is None else reach)
    assert np.abs(wanted.imag).max() < 1e-12
    got = mix_amplitude(x, style, share, reach)
    np.testing.assert_allclose(got, wanted.real, atol=1e-12)
    if share == 0:
        torch.testing.assert_close(got, x)


def test_reach_0_exchanges_the_mean_alone():
    x, style = images(9, 8), images(9, 8, seed=1)
    got = mix_amplitude(x, style, 1.0, 0)
    torch.testing.assert_close(got, x - x.mean((1, 2), keepdim=True) + style.mean((1, 2), keepdim=True))
