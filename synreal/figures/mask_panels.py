"""Images beside the true and the predicted classes of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.figures.base import FIGURES, Outcome
from synreal.figures.colours import palette
from synreal.figures.layout import lay_panels, legend_entries
from synreal.figures.masks import class_ids, coloured, draw_mask
from synreal.figures.page import Frame, Pixels, as_pixels, check_counts, draw_picture, plural
from synreal.figures.panels import Panel, Panels, shrunk
from synreal.measures.mistakes import Kind, PixelMistakes
from synreal.records import percent


@FIGURES.register
class MaskPanels(Panels):
    """Images beside the true and the predicted classes of their pixels."""

    name = "mask_panels"
    summary = "images beside the true and the predicted classes of their pixels"
    labels = ("masks",)
    stem = "predictions"
    mistakes = PixelMistakes

    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw; targets and predictions are class ids, (H, W) each."""
        return mask_panels(
            path, outcome.images, outcome.targets, outcome.predictions, outcome.classes, title=outcome.title
        )

    def panels(
        self, image: Tensor, target: Tensor, prediction: Tensor, classes: Sequence[str], kind: Kind | None = None
    ) -> list[Panel]:
        """Show the image, its mask and the predicted one, and where in it a mistake is; all are (H, W)."""
        picture = as_pixels(image)
        colours = palette(len(classes))
        size = picture.shape[:2]
        ids = {
            "ground truth": class_ids(target, size, len(classes), "Truth"),
            "prediction": class_ids(prediction, size, len(classes), "Prediction"),
        }
        found = [Panel("image", shrunk(picture), "as it is tested")]
        for name, mask in ids.items():
            legend = tuple((classes[i], _hex(colours[i])) for i in np.unique(mask).tolist() if i != IGNORE)
            pixels = shrunk(coloured(mask, colours), exact=True)
            found.append(Panel(name, pixels, _shares(mask, classes), exact=True, legend=legend))
        if kind is not None:
            where = (ids["ground truth"] == kind.true) & (ids["prediction"] == kind.found)
            found.append(Panel("the mistake", shrunk(_lit(picture, where)), f"{int(where.sum()):,} pixels, in yellow"))
        return found


_MOST_SHARES = 3  # classes of a mask that are named


def _shares(mask: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Say which classes take most of a mask."""
    valid = mask[mask != IGNORE]
    counts = np.bincount(valid.ravel(), minlength=len(classes))
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    said = [f"{classes[i]} ({percent([counts[i] / valid.size])} %)" for i in order[:_MOST_SHARES]]
    more = [f"{len(order) - _MOST_SHARES} more"] if len(order) > _MOST_SHARES else []
    return ", ".join([*said, *more]) or "nothing counts"


def _hex(colour: Pixels) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour.tolist())


def _lit(picture: Pixels, where: NDArray[np.bool_]) -> Pixels:
    """Return a picture dark and grey but for some of its pixels, which are yellow and the lightest of it."""
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float64)[..., None] / 255
    shades = np.where(where[..., None], np.array([1.0, 0.85, 0.2]) * (0.75 + 0.25 * grey), 0.45 * grey)
    return np.asarray(np.rint(255 * shades), np.uint8)


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
