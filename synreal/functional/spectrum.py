"""Changes of an image's amplitude spectrum, its phase being kept: PASTA, and what a style image lends."""

from __future__ import annotations

import torch
from torch import Tensor


def amplitude_deviation(height: int, width: int, alpha: float, k: float, beta: float) -> Tensor:
    """Compute how far PASTA moves the amplitude at each frequency, relative to itself.

    ``(alpha r / r_max)^k + beta``, ``r = sqrt(u^2 + v^2)`` with the whole-numbered frequencies of the discrete Fourier
    transform, ``r_max`` their largest radius (Chattopadhyay et al., ICCV 2023). The authors' code counts
    frequencies from a centre that is off by one; these are exact: the mean has r = 0.

    Args:
        height: Rows of the image.
        width: Columns.
        alpha: Growth with the frequency, >= 0.
        k: Exponent of the growth, > 0.
        beta: Deviation at frequency 0, >= 0.

    Returns:
        Standard deviations, float32, (H, W // 2 + 1): the half spectrum of ``torch.fft.rfft2``.
    """
    radius = torch.hypot(_frequencies(height)[:, None], torch.arange(width // 2 + 1, dtype=torch.float64))
    largest = float(radius.max())
    return ((alpha * radius / largest if largest else radius) ** k + beta).float()


def perturb_amplitude(images: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """Multiply an image's amplitudes by ``1 + e``, ``e ~ N(0, deviation^2)`` for each frequency of each channel.

    ``Re IFFT(A (1 + e) exp(i phase))`` (Chattopadhyay et al., ICCV 2023). Taking the real part replaces e by the
    mean of its values at a frequency and at the opposite one, so that what remains has a standard deviation of
    ``deviation / sqrt(2)``, except where the two are one (0 and, of even sizes, the highest). The half spectrum is
    computed alone: there e is divided by ``sqrt(2)``, and averaged where both frequencies are in it.

    Args:
        images: Real, (..., H, W).
        deviation: As of ``amplitude_deviation``, (H, W // 2 + 1).
        noise: Standard normal, (..., H, W // 2 + 1).

    Returns:
        The images, of the same shape; a channel of one brightness keeps one.
    """
    width = images.shape[-1]
    change = noise * deviation
    # Columns that are opposite to themselves hold both frequencies of each pair.
    paired = [0, width // 2] if width % 2 == 0 else [0]
    both = change[..., paired]
    opposite = both.flip(-2).roll(1, -2)
    change = change * 0.5**0.5
    change[..., paired] = (both + opposite) / 2
    changed: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * (1 + change), s=images.shape[-2:])
    return changed


def mix_amplitude(images: Tensor, styles: Tensor, share: float | Tensor = 1.0, reach: int | None = None) -> Tensor:
    """Give images some of the amplitude spectrum of others, and keep their phase.

    ``A = (1 - share) A_image + share A_style``: with the whole spectrum, the amplitude mix of FACT (Xu et al., CVPR
    2021); of low frequencies alone with share 1, FDA (Yang and Soatto, CVPR 2020). The window takes in both signs of
    each frequency, so that the result is real.

    Args:
        images: Real, (..., H, W).
        styles: Of the same shape.
        share: In [0, 1]; 0 changes nothing.
        reach: The highest whole-numbered frequency of either axis that takes part, >= 0, 0 being the mean alone; None
            takes the whole spectrum.

    Returns:
        The images, of the same shape.
    """
    height, width = images.shape[-2:]
    spectrum = torch.fft.rfft2(images)
    own, theirs = spectrum.abs(), torch.fft.rfft2(styles).abs()
    amplitude = own.lerp(theirs, torch.as_tensor(share, dtype=own.dtype))
    if reach is not None:
        low = _frequencies(height).abs()[:, None].maximum(torch.arange(width // 2 + 1)) <= reach
        amplitude = torch.where(low, amplitude, own)
    # exp(i phase), in a third of the time that angles take; the phase of nothing is 0.
    phase = torch.where(own > 0, spectrum / own.clamp_min(torch.finfo(own.dtype).tiny), 1)
    mixed: Tensor = torch.fft.irfft2(amplitude * phase, s=(height, width))
    return mixed


def _frequencies(size: int) -> Tensor:
    """Return the whole-numbered frequencies of an axis, float64, in the order of a discrete Fourier transform."""
    frequencies: Tensor = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64).round()
    return frequencies
