"""Features on a circle: the plane that shows most of them, their angles in it, and how dense these are."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synreal.errors import DataError
from synreal.functional.pooling import unit

_ROWS = 4096  # rows that are held in float64 at a time
_LEAST = 3  # angles below which a density says nothing


def principal_plane(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the plane of the first two principal components of L2-normalised features.

    Args:
        features: float, (N, D), N at least 3, D at least 2; each row is divided by its length first.

    Returns:
        The mean of the normalised features, float64 (D,), and the two directions, float64 (2, D), orthonormal. Of a
        direction and its opposite the one is taken whose largest component is positive.

    Raises:
        DataError: If the features have another shape, or are too few.
    """
    if features.ndim != 2 or features.shape[0] < _LEAST or features.shape[1] < 2:
        raise DataError(
            f"A plane needs features (N, D) of at least {_LEAST} images and 2 dimensions; got {tuple(features.shape)}."
        )
    number, width = features.shape
    total = torch.zeros(width, dtype=torch.float64, device=features.device)
    for rows in features.split(_ROWS):
        total += unit(rows.double()).sum(0)
    mean = total / number
    products = torch.zeros(width, width, dtype=torch.float64, device=features.device)
    for rows in features.split(_ROWS):
        centred = unit(rows.double()) - mean
        products += centred.T @ centred
    axes = torch.linalg.eigh(products).eigenvectors[:, -2:].T.flip(0)
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return mean, axes * largest.sign()


def plane_angles(features: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Return the angle of each feature in a plane, as seen from the plane's centre.

    Args:
        features: float, (N, D); each row is divided by its length first.
        mean: The centre, (D,).
        axes: Two orthonormal directions, (2, D).

    Returns:
        float64, (N,), in [-pi, pi].
    """
    parts = [(unit(rows.double()) - mean) @ axes.T for rows in features.split(_ROWS)]
    across, up = torch.cat(parts).T
    return torch.atan2(up, across)


def variance_in_plane(features: Tensor, axes: Tensor) -> float:
    """Return which share of the variance of L2-normalised features lies in a plane, in [0, 1].

    Args:
        features: float, (N, D); the variance is about their own mean.
        axes: Two orthonormal directions, (2, D).
    """
    mean = torch.stack([unit(rows.double()).sum(0) for rows in features.split(_ROWS)]).sum(0) / len(features)
    inside = whole = 0.0
    for rows in features.split(_ROWS):
        centred = unit(rows.double()) - mean
        inside += float((centred @ axes.T).square().sum())
        whole += float(centred.square().sum())
    return inside / whole if whole else 0.0


def angle_density(angles: Tensor, at: Tensor) -> Tensor:
    """Estimate the density of angles by a Gaussian kernel with Scott's bandwidth, wrapped around the circle.

    Angles are counted from their mean direction, so that the bandwidth, N^(-1/5) times their standard deviation
    (Scott, 1992), does not depend on where a turn begins, as long as there is a mean direction.

    Args:
        angles: float, (N,), radians; at least three, and not all equal.
        at: Where the density is wanted, float, (M,), radians.

    Returns:
        float64, (M,), per radian; its integral over the circle is 1.

    Raises:
        DataError: If there are fewer than three angles, or all are the same.
    """
    from scipy.stats import gaussian_kde

    if len(angles) < _LEAST:
        raise DataError(
            f"A density of angles needs the features of at least {_LEAST} images; got {len(angles)}. Give more images."
        )
    given: NDArray[np.float64] = angles.double().cpu().numpy()
    middle = np.arctan2(np.sin(given).mean(), np.cos(given).mean())
    spread = _wrapped(given - middle)
    if np.ptp(spread) < 1e-6:
        raise DataError(
            f"All {len(angles)} features have the same direction in the plane: there is no density to draw."
        )
    kernel = gaussian_kde(spread)  # Scott's rule is its default
    wanted = _wrapped(at.double().cpu().numpy() - middle)
    # Scott's bandwidth of angles is below a turn: further turns add less than a rounding error.
    turns = 2 * math.pi * np.arange(-3, 4)
    return torch.from_numpy(sum(kernel(wanted + turn) for turn in turns))


def _wrapped(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles within half a turn of 0."""
    return np.asarray(np.arctan2(np.sin(angles), np.cos(angles)))
