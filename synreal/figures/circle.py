"""Features on the unit circle, with the density of their angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from synreal.errors import ConfigError, DataError
from synreal.figures.base import FIGURES, Looked, Study, first_of
from synreal.figures.layout import spread
from synreal.figures.page import DARK, GREY, as_array, fitting, save_drawing
from synreal.figures.plots import SMALL, Space, new_plots
from synreal.figures.series import Style, style
from synreal.functional.circle import angle_density, plane_angles, principal_plane, variance_in_plane
from synreal.terminal import printable

_MOST_CLASSES = 12  # beyond which colours and rings cannot be told apart
_MOST_POINTS = 1500  # of a panel; the density is of all
_INNER = 0.42  # radius of the innermost ring
_OUTER = 0.45  # how far the highest density stands out of the circle
_EDGE = 1.06 + _OUTER
_FINE = 361  # points of the curve


@FIGURES.register
class Circle(Study):
    """Features of one or several networks on the unit circle."""

    name = "circle"
    summary = "features on the unit circle, with the density of their angles"

    def draw(self, looks: Sequence[Looked], path: Path) -> Path:
        """Draw; classes are coloured where each image has one."""
        first = first_of(looks)
        features = {look.title: look.features for look in looks}
        figure = feature_circle(features, labels=first.labels, classes=first.classes)
        return save_drawing(figure, path)


def feature_circle(
    features: dict[str, Tensor],
    *,
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    title: str = "Features on the circle",
) -> Figure:
    """Draw where the features of networks lie on a circle, and a Gaussian KDE of their angles.

    The projection: features are divided by their length, and the plane is that of the first two principal components
    of the *first* network's, about their mean. An angle is seen from that mean. All networks are drawn in this one
    plane, so that places and densities of the panels compare: networks that started from the same weights still share
    their axes, and of one that has left them less variance lies in the plane, which each panel says. Where the widths
    of the features differ there is no common plane: each network then has its own, and the page says so. A plane shows
    a small part of many dimensions; how diverse features are is measured by hyperspherical energy, not read off here.

    The density is scipy's ``gaussian_kde`` with Scott's bandwidth, wrapped around the circle, on one scale for all
    panels. A class has a ring, a marker and a colour of its own, the first class outermost.

    Args:
        features: By the name of each network, the frozen one first where there is one: pooled features, float (N, D),
            of the same N images; at least 3. Long sets are thinned to 1,500 points, their density is of all.
        labels: Class of each image, integer (N,); None draws all alike, as more than 12 classes are.
        classes: Their names.
        title: Heading.

    Returns:
        The figure: the page, then one panel for each network.

    Raises:
        ConfigError: If there is no network.
        DataError: If there are fewer than three images, the numbers differ, a value is not finite, a label is no class,
            or all features of a network have one direction.
    """
    if not features:
        raise ConfigError("A circle needs the features of a network at least; got none.")
    names = list(features)
    number = len(features[names[0]])
    for name, one in features.items():
        if one.ndim != 2 or len(one) != number:
            raise DataError(f"Features of {name} of shape {tuple(one.shape)}, expected ({number}, D) as of {names[0]}.")
        if not bool(torch.isfinite(one).all()):
            raise DataError(f"Features of {name} hold a value that is not finite.")
    groups = _groups(number, labels, classes)
    common = len({one.shape[1] for one in features.values()}) == 1
    first = principal_plane(features[names[0]])
    at = torch.linspace(-math.pi, math.pi, _FINE, dtype=torch.float64)
    drawn = []
    for name, one in features.items():
        mean, plane = first if common else principal_plane(one)
        angles = plane_angles(one, mean, plane)
        density = angle_density(angles, at).numpy()
        drawn.append((name, angles.cpu().numpy(), density, variance_in_plane(one, plane)))
    highest = max(float(density.max()) for _, _, density, _ in drawn)

    whose = f"of {names[0]}" if common else "of each network by itself: their widths differ"
    facts = (
        f"L2-normalised features of {number:,} images, in the plane of the first two principal components {whose}. "
        f"Outside: Gaussian KDE of their angles, Scott's bandwidth, one scale; the highest is {highest:.2f} per "
        f"radian; of features spread evenly it would be {1 / (2 * math.pi):.2f}."
    )
    if len(groups) > 1:
        facts += " Inside: a ring for each class, in the order of the legend from the outside."
    figure, panels = new_plots(
        len(drawn),
        title=title,
        facts=facts,
        across=2,
        size=(2.7, 2.7),
        space=Space(left=0.1, right=0.1, top=0.3, bottom=0.3),
        square=True,
        legend=[(f"{name} ({len(images)})", look) for name, look, images in groups if name],
    )
    shown = sorted(spread(number, _MOST_POINTS))
    for axes, (name, places, density, share) in zip(panels, drawn, strict=True):
        _draw_panel(axes, places, density / highest * _OUTER, groups, shown)
        shown_name = printable(fitting(name, 2.8, 9, bold=True))
        axes.set_title(shown_name, size=9, weight="bold", color=DARK, pad=4, parse_math=False)
        share_text = f"the plane holds {share:.0%} of its variance"
        axes.text(0, -_EDGE - 0.04, share_text, size=SMALL, color=GREY, ha="center", va="top")
    return figure


def _groups(number: int, labels: Tensor | None, classes: Sequence[str]) -> list[tuple[str, Style, NDArray[np.int64]]]:
    """Return name, look and images of each class that occurs; all images as one where classes are not told apart."""
    alike = [("", style(0), np.arange(number))]
    if labels is None:
        return alike
    ids = as_array(labels)
    if ids.shape != (number,) or ids.dtype.kind not in "iu":
        raise DataError(f"Labels of {ids.dtype} {ids.shape}, expected {number} integers.")
    if number and not 0 <= ids.min() <= ids.max() < len(classes):
        raise DataError(f"Labels span {ids.min()}..{ids.max()}, expected 0..{len(classes) - 1}.")
    seen = np.unique(ids)
    if not 1 < len(seen) <= _MOST_CLASSES:
        return alike
    return [(classes[label], style(i), np.flatnonzero(ids == label)) for i, label in enumerate(seen)]


def _draw_panel(
    axes: Axes,
    angles: NDArray[np.float64],
    heights: NDArray[np.float64],
    groups: Sequence[tuple[str, Style, NDArray[np.int64]]],
    shown: Sequence[int],
) -> None:
    turn = np.linspace(-math.pi, math.pi, _FINE)
    outline = 1.06 + heights
    ring = np.full(_FINE, 1.06)
    axes.fill(
        np.concatenate([outline * np.cos(turn), (ring * np.cos(turn))[::-1]]),
        np.concatenate([outline * np.sin(turn), (ring * np.sin(turn))[::-1]]),
        facecolor="#c9d1d9",
        linewidth=0,
    )
    axes.plot(outline * np.cos(turn), outline * np.sin(turn), color=DARK, linewidth=1.2, label="density")
    axes.plot(np.cos(turn) * 1.06, np.sin(turn) * 1.06, color=GREY, linewidth=0.8, label="_circle")
    radii = [1.0] if len(groups) == 1 else np.linspace(1.0, _INNER if len(groups) > 4 else 0.7, len(groups))
    kept = np.zeros(len(angles), bool)
    kept[list(shown)] = True
    for radius, (name, look, images) in zip(radii, groups, strict=True):
        axes.plot(radius * np.cos(turn), radius * np.sin(turn), color="#e6eaee", linewidth=0.5, zorder=1, label="_ring")
        own = angles[images[kept[images]]]
        axes.scatter(
            radius * np.cos(own),
            radius * np.sin(own),
            s=11,
            marker=look.marker,
            facecolor=look.colour,
            edgecolor="white",
            linewidth=0.25,
            alpha=0.8,
            zorder=2,
            label=name or "_images",
        )
    axes.set(xlim=(-_EDGE - 0.02, _EDGE + 0.02), ylim=(-_EDGE - 0.02, _EDGE + 0.02))
