"""Images beside the true and the predicted classes of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.figures.base import FIGURES, Figure, Outcome
from synreal.figures.colours import palette
from synreal.figures.layout import lay_panels, legend_entries
from synreal.figures.masks import class_ids, coloured, draw_mask
from synreal.figures.page import Frame, Pixels, as_pixels, check_counts, draw_picture, plural


@FIGURES.register
class MaskPanels(Figure):
    """Images beside the true and the predicted classes of their pixels."""

    name = "mask_panels"
    summary = "images beside the true and the predicted classes of their pixels"
    labels = ("masks",)
    stem = "predictions"

    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw; targets and predictions are class ids, (H, W) each."""
        return mask_panels(
            path, outcome.images, outcome.targets, outcome.predictions, outcome.classes, title=outcome.title
        )


def mask_panels(
    path: str | Path,
    images: Sequence[Tensor],
    truths: Sequence[Tensor],
    predictions: Sequence[Tensor],
    classes: Sequence[str],
    *,
    title: str,
) -> Path:
    """Show images beside the true and the predicted classes of their pixels.

    The legend names the classes that occur; ignored pixels are white.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        truths: Class ids, integer (H, W) each; 255 is ignored.
        predictions: Class ids, integer (H, W) each.
        classes: Class names, 255 at most.
        title: Heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is not a PNG.
        DataError: If an image or a mask is not as described.
    """
    check_counts(images=images, truths=truths, predictions=predictions)
    pictures = [as_pixels(image) for image in images]
    colours = palette(len(classes))
    seen: set[int] = set()
    masks: list[list[Pixels]] = []
    for index, (picture, *pair) in enumerate(zip(pictures, truths, predictions, strict=True)):
        ids = [
            class_ids(mask, picture.shape[:2], len(classes), f"{kind} of image {index}")
            for kind, mask in zip(("Truth", "Prediction"), pair, strict=True)
        ]
        seen.update(*(np.unique(mask).tolist() for mask in ids))
        masks.append([coloured(mask, colours) for mask in ids])

    def draw(axes: Axes, index: int, cells: Sequence[Frame]) -> None:
        draw_picture(axes, pictures[index], cells[0])
        for cell, mask in zip(cells[1:], masks[index], strict=True):
            draw_mask(axes, mask, cell)

    return lay_panels(
        path,
        pictures,
        draw,
        side=1.7,
        title=title,
        facts=plural(len(images), "image"),
        columns=("input", "ground truth", "prediction"),
        legend=legend_entries(seen - {IGNORE}, classes, colours, ignored=IGNORE in seen),
    )
