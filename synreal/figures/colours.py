"""Colours of classes."""

from __future__ import annotations

import functools
import itertools

import matplotlib
import numpy as np
from numpy.typing import NDArray

from synreal.errors import ConfigError
from synreal.figures.page import DARK, Pixels

BACKGROUND, WHITE = (43, 48, 54), (255, 255, 255)


def palette(num_classes: int) -> NDArray[np.uint8]:
    """Return one colour for each class, far from one another and from white.

    Class 0, mostly the background, is dark grey; the next nine are matplotlib's ``tab10`` without its grey; each
    further one is the colour farthest in CIELAB from those before it. So the first colours do not depend on how many
    follow. They repeat from 1,000 on.

    Args:
        num_classes: C, 1 or more.

    Returns:
        sRGB, (C, 3).

    Raises:
        ConfigError: If there is no class.
    """
    if num_classes < 1:
        raise ConfigError(f"A palette needs at least one class; got num_classes={num_classes}.")
    return np.resize(_distinct_colours(min(num_classes, 1_000)), (num_classes, 3))


def box_palette(num_classes: int) -> Pixels:
    """Leave out the background's colour, so that classes look as in the masks beside a background class."""
    return palette(num_classes + 1)[1:]


@functools.cache
def _distinct_colours(number: int) -> Pixels:
    from skimage.color import rgb2lab

    def lab(colours: Pixels) -> NDArray[np.float64]:
        return np.asarray(rgb2lab(colours[None] / 255.0)[0])

    axis = range(0, 256, 15)
    grid = np.array(list(itertools.product(axis, axis, axis)), np.uint8)
    lightness, *chroma = lab(grid).T
    grid = grid[(lightness > 40) & (lightness < 88) & (np.hypot(*chroma) > 30) & (np.hypot(*chroma) < 70)]
    tab10 = np.rint(np.array(matplotlib.color_sequences["tab10"]) * 255).astype(np.uint8)
    chosen = [np.array(BACKGROUND, np.uint8), *np.delete(tab10, 7, axis=0)]
    places = lab(grid)

    def distances(colours: Pixels) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(places[:, None] - lab(colours), axis=-1).min(1))

    nearest = distances(np.array([*chosen, WHITE], np.uint8))
    while len(chosen) < number:
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, distances(chosen[-1][None]))
    return np.array(chosen[:number])


def ink_on(colour: Pixels) -> str:
    """Return what is readable on a colour."""
    return DARK if colour @ (0.299, 0.587, 0.114) > 140 else "white"
