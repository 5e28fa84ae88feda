"""PASTA: the amplitude spectrum of an image perturbed, high frequencies most."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.functional.spectrum import amplitude_deviation, perturb_amplitude
from synreal.views.base import VIEWS, FurtherView, ImageChange


@VIEWS.register
class PastaView(FurtherView):
    """Perturb the amplitude spectrum of each view, and keep its phase (PASTA, Chattopadhyay et al., ICCV 2023).

    The amplitude at each frequency of each channel is multiplied by ``1 + e``, e normal with a standard deviation of
    ``(alpha r / r_max)^k + beta`` (``synreal.functional.amplitude_deviation``); the image is clipped and is uint8
    again. Synthetic images differ from real ones most in high frequencies, so these are perturbed most. Defaults are
    the paper's for VisDA-17; in segmentation and detection they are its alpha 3, k 2, beta 0.25.

    Attributes:
        alpha: How fast the perturbation grows with the frequency, >= 0.
        k: Exponent of the growth, > 0.
        beta: Perturbation at frequency 0, the mean of a channel, >= 0; alpha 0 and beta 0 change nothing.
    """

    name: ClassVar[str] = "pasta"
    summary: ClassVar[str] = "amplitude spectrum perturbed, high frequencies most (PASTA)"
    moves: ClassVar[bool] = False

    alpha: float = Field(default=10.0, ge=0)
    k: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.5, ge=0)

    def dense(self) -> Self:
        """Return the view with the paper's defaults for segmentation and detection."""
        return self.with_defaults(alpha=3.0, k=2.0, beta=0.25)

    def build(self, size: int | None) -> ImageChange:
        """Build the change; it keeps the image's size."""
        return _Pasta(self.alpha, self.k, self.beta)


@dataclass(frozen=True)
class _Pasta:
    alpha: float
    k: float
    beta: float

    def __call__(self, image: Tensor) -> Tensor:
        deviation = _deviation(*image.shape[-2:], self.alpha, self.k, self.beta)
        changed = perturb_amplitude(image / 255, deviation, torch.randn(3, *deviation.shape))
        return (255 * changed).round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=8)
def _deviation(height: int, width: int, alpha: float, k: float, beta: float) -> Tensor:
    """Compute the standard deviations once for the few sizes that images of a data set have."""
    return amplitude_deviation(height, width, alpha, k, beta)
