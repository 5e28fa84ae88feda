"""Where in a map a network sees what speaks for a class."""

from __future__ import annotations

from torch import Tensor

from synreal.errors import ConfigError


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Compute Grad-CAM from a stage's maps and the gradients of a class's score (Selvaraju et al., ICCV 2017).

    A channel's weight is the mean of the gradients over positions (eq. 1); the heat at a position is the weighted sum
    of the channels, negative sums cut to 0 (eq. 2). Each image's heat is then divided by its largest, which the paper
    leaves open: heats of two images, or of two networks, tell where, not how much.

    Args:
        maps: A in the paper, float (N, C, H, W).
        gradients: Of each image's score y, before the softmax, with respect to its map; float (N, C, H, W).

    Returns:
        float64, (N, H, W), in [0, 1]. The largest is 1, or all are 0 where nothing in the map speaks for the class.

    Raises:
        ConfigError: If the two are not maps of one shape.
    """
    if maps.ndim != 4 or maps.shape != gradients.shape:
        raise ConfigError(
            f"Grad-CAM takes maps and gradients of one shape (N, C, H, W); got {tuple(maps.shape)} and "
            f"{tuple(gradients.shape)}."
        )
    weights = gradients.double().mean((2, 3), keepdim=True)
    heat = (weights * maps.double()).sum(1).relu()
    largest = heat.amax((1, 2), keepdim=True)
    return heat / largest.where(largest > 0, 1)
