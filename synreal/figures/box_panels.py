"""Images beside their true and their predicted boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from torch import Tensor

from synreal.data.labels.boxes import Boxes
from synreal.figures.base import FIGURES, Outcome
from synreal.figures.colours import box_palette
from synreal.figures.layout import lay_panels, legend_entries
from synreal.figures.marks import Mark, draw_marks, found_marks, true_marks
from synreal.figures.page import Frame, Pixels, as_pixels, check_counts, draw_picture, new_page, picture_size, plural
from synreal.figures.panels import Panel, Panels, rendered
from synreal.measures.box_mistakes import LEAST_SCORE, BoxMistakes
from synreal.measures.mistakes import Kind


@FIGURES.register
class BoxPanels(Panels):
    """Images beside their true and their predicted boxes."""

    name = "box_panels"
    summary = "images beside their true and their predicted boxes"
    labels = ("boxes",)
    stem = "predictions"
    mistakes = BoxMistakes

    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw; targets are pairs of an index and ``Boxes``, predictions as ``box_panels`` takes them."""
        return box_panels(
            path,
            outcome.images,
            [objects for _, objects in outcome.targets],
            outcome.predictions,
            outcome.classes,
            title=outcome.title,
        )

    def panels(
        self,
        image: Tensor,
        target: tuple[int, Boxes],
        prediction: Mapping[str, Tensor],
        classes: Sequence[str],
        kind: Kind | None = None,
    ) -> list[Panel]:
        """Show the image with its objects, and with what was found."""
        picture = as_pixels(image)
        marks = {
            "ground truth": true_marks(target[1], classes, "Truth"),
            "prediction": found_marks(prediction, classes, LEAST_SCORE, "Prediction"),
        }
        return [Panel(name, _marked(picture, some, len(classes)), _named(some)) for name, some in marks.items()]


_SIDE = 2.4  # inches, of a square panel
_MOST_NAMED = 6  # boxes of a panel


def _marked(picture: Pixels, marks: Sequence[Mark], classes: int) -> Pixels:
    """Return a picture with boxes over it."""
    width, height = picture_size([picture], _SIDE)
    page, axes = new_page(width, height)
    frame = draw_picture(axes, picture, Frame(0, 0, width, height))
    draw_marks(axes, frame, picture.shape[1], marks, box_palette(classes))
    return rendered(page)


def _named(marks: Sequence[Mark]) -> str:
    """Name boxes as they are labelled."""
    names = Counter(mark.text for mark in marks)
    said = [name if count == 1 else f"{count} × {name}" for name, count in names.items()]
    more = [f"{len(said) - _MOST_NAMED} more"] if len(said) > _MOST_NAMED else []
    return ", ".join([*said[:_MOST_NAMED], *more]) or "no box"


def box_panels(
    path: str | Path,
    images: Sequence[Tensor],
    truths: Sequence[Boxes],
    predictions: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    *,
    title: str,
    threshold: float = LEAST_SCORE,
) -> Path:
    """Show images beside their true and their predicted boxes, with classes and scores.

    A label that would cover another one is left out; the colour tells the class. Crowds are dashed.

    Args:
        path: PNG file to write; missing folders are made.
        images: uint8, (3, H, W) RGB each; sizes may differ.
        truths: Objects of each image.
        predictions: ``boxes``, float (M, 4), as x0, y0, x1, y1 in pixels; ``labels``, integer (M,), indices into
            ``classes``; ``scores``, float (M,), in [0, 1].
        classes: Class names.
        title: Heading.
        threshold: Boxes of a lower score are not drawn.

    Returns:
        The path.

    Raises:
        ConfigError: If there is no image, the numbers differ, or the path is not a PNG.
        DataError: If an image or a box is not as described.
    """
    check_counts(images=images, truths=truths, predictions=predictions)
    pictures = [as_pixels(image) for image in images]
    colours = box_palette(len(classes))
    marks = [
        (
            true_marks(truth, classes, f"Truth of image {index}"),
            found_marks(found, classes, threshold, f"Prediction of image {index}"),
        )
        for index, (truth, found) in enumerate(zip(truths, predictions, strict=True))
    ]

    def draw(axes: Axes, index: int, cells: Sequence[Frame]) -> None:
        picture = pictures[index]
        draw_picture(axes, picture, cells[0])
        for cell, some in zip(cells[1:], marks[index], strict=True):
            draw_marks(axes, draw_picture(axes, picture, cell), picture.shape[1], some, colours)

    return lay_panels(
        path,
        pictures,
        draw,
        side=2.0,
        title=title,
        facts=" · ".join(
            (
                plural(len(images), "image"),
                plural(sum(len(truth) for truth, _ in marks), "object"),
                f"{plural(sum(len(found) for _, found in marks), 'prediction')} with a score of {threshold:g} or more",
            )
        ),
        columns=("input", "ground truth", "prediction"),
        legend=legend_entries({mark.label for pair in marks for some in pair for mark in some}, classes, colours),
    )
