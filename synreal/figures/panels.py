"""Predictions image by image, for pages that show single ones beside their words."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure as Page
from PIL import Image
from torch import Tensor

from synreal.figures.base import Figure, figures_of
from synreal.figures.page import Pixels
from synreal.measures.mistakes import Kind, Mistakes


@dataclass(frozen=True)
class Panel:
    """One picture of an image.

    Attributes:
        name: What it shows, e.g. ``"ground truth"``.
        pixels: uint8, (H, W, 3), sRGB; no larger than it is to be seen.
        says: What is to be seen, in words.
        exact: Whether colours stand for something, so that none may be mixed with its neighbours.
        legend: Classes that occur, and their colours as ``"#rrggbb"``.
    """

    name: str
    pixels: Pixels
    says: str
    exact: bool = False
    legend: tuple[tuple[str, str], ...] = ()


class Panels(Figure):
    """A figure of images with what is predicted for them, which can also show one image by itself.

    The page of a run shows mistakes with the first such figure of the task.

    Attributes:
        mistakes: What finds the mistakes that it shows.
        examples: How many images of each mistake a page shows, of the ``KEPT`` that are known.
    """

    mistakes: ClassVar[type[Mistakes]]
    examples: ClassVar[int] = 2

    @abstractmethod
    def panels(
        self, image: Tensor, target: Any, prediction: Any, classes: Sequence[str], kind: Kind | None = None
    ) -> list[Panel]:
        """Show one image.

        Args:
            image: uint8, (3, H, W), RGB.
            target: Its target, as the task's test loader gives it.
            prediction: What the task predicts for it.
            classes: Class names.
            kind: The mistake that it is an example of; None if it is shown for itself.
        """


def panels_of(names: Sequence[str], label: str) -> Panels | None:
    """Return the first of some figures that can show images one by one; None if none can."""
    return next((figure for figure in figures_of(names, label) if isinstance(figure, Panels)), None)


SIDE = 320
"""Pixels of the longer side of a panel, at most: twice what a page shows, for fine screens."""


def shrunk(pixels: Pixels, *, exact: bool = False, side: int = SIDE) -> Pixels:
    """Return a picture no larger than a panel; ``exact`` keeps colours apart."""
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return pixels
    size = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    method = Image.Resampling.NEAREST if exact else Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize(size, method))


def rendered(page: Page) -> Pixels:
    """Return a drawing as pixels."""
    file = io.BytesIO()
    page.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))
