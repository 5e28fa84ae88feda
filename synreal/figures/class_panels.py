"""Images with what a network takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from synreal.errors import DataError
from synreal.figures.base import FIGURES, Outcome
from synreal.figures.page import (
    MARGIN,
    RIGHT,
    WRONG,
    Frame,
    as_pixels,
    check_counts,
    draw_head,
    draw_picture,
    fitting,
    new_page,
    page_width,
    picture_size,
    rectangle,
    save,
    text_width,
    write,
)
from synreal.figures.panels import Panel, Panels, shrunk
from synreal.measures.mistakes import ClassMistakes, Kind


@FIGURES.register
class ClassPanels(Panels):
    """Images with their class and the one that a network takes them for."""

    name = "class_panels"
    summary = "images with their class and the one that the network takes them for"
    labels = ("classes",)
    stem = "predictions"
    mistakes = ClassMistakes
    examples = 4

    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw; predictions are scores, (C,) each."""
        return class_panels(
            path,
            outcome.images,
            [int(label) for label in outcome.targets],
            [int(scores.argmax()) for scores in outcome.predictions],
            outcome.classes,
            title=outcome.title,
        )

    def panels(
        self, image: Tensor, target: Any, prediction: Tensor, classes: Sequence[str], kind: Kind | None = None
    ) -> list[Panel]:
        """Show the image with its class."""
        return [Panel("image", shrunk(as_pixels(image)), classes[int(target)])]


def class_panels(
    path: str | Path,
    images: Sequence[Tensor],
    labels: Sequence[int],
    predictions: Sequence[int],
    classes: Sequence[str],
    *,
    title: str,
) -> Path:
    """Show images with their class and the one that a network takes them for; mistakes are red, in a dashed frame.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        labels: True classes, in ``[0, len(classes))``.
        predictions: Predicted classes.
        classes: Class names.
        title: Heading.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is not a PNG.
        DataError: If an image or a class is not as described.
    """
    check_counts(images=images, labels=labels, predictions=predictions)
    pictures = [as_pixels(image) for image in images]
    for kind, ids in (("Label", labels), ("Prediction", predictions)):
        for index, label in enumerate(ids):
            if not 0 <= label < len(classes):
                raise DataError(f"{kind} {label} of image {index}, expected 0..{len(classes) - 1}.")
    across = min(len(images), 4)
    lines = -(-len(images) // across)
    wide, high = picture_size(pictures, side=1.6)
    gap, caption, top = 0.15, 0.3, 0.62
    width = page_width(across * (wide + gap) - gap + 2 * MARGIN, title)
    figure, axes = new_page(width, top + lines * (high + caption) + 0.05)
    right = sum(label == prediction for label, prediction in zip(labels, predictions, strict=True))
    facts = f"true → predicted class · {right} of {len(images)} right"
    draw_head(axes, width, title, facts if right == len(images) else f"{facts}, the others in a dashed frame")
    for index, pair in enumerate(zip(labels, predictions, strict=True)):
        row, column = divmod(index, across)
        cell = Frame(MARGIN + column * (wide + gap), top + row * (high + caption), wide, high)
        frame = draw_picture(axes, pictures[index], cell)
        colour, line = (RIGHT, "solid") if pair[0] == pair[1] else (WRONG, "dashed")
        axes.add_patch(rectangle(frame, edgecolor=colour, fill=False, linewidth=2, linestyle=line))
        text = " → ".join(classes[label] for label in pair)
        if text_width(text, 8, bold=True) > wide:
            text = " → ".join(fitting(classes[label], wide / 2 - 0.12, 8, bold=True) for label in pair)
        x, y = frame.left + frame.width / 2, frame.top + frame.height + 0.05
        write(axes, x, y, text, size=8, weight="bold", color=colour, ha="center", va="top")
    return save(figure, path)
