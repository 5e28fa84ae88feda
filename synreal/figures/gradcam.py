"""Where networks see what speaks for the class that they predict, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from synreal.errors import ConfigError, DataError
from synreal.figures.base import FIGURES, Looked, Study, first_of
from synreal.figures.heat import Map, Scale, checked, lay_heat
from synreal.figures.page import (
    RIGHT,
    WRONG,
    Frame,
    Pixels,
    draw_picture,
    fitting,
    new_page,
    picture_size,
    rectangle,
    save_drawing,
    write,
)
from synreal.figures.panels import rendered
from synreal.figures.plots import SMALL

_SCALE = Scale(
    0.0,
    1.0,
    (0.0, 0.5, 1.0),
    "Share of the image's largest heat; above over dark parts of the image, below over bright ones. "
    "The line is drawn at half of it.",
)


@FIGURES.register
class GradCam(Study):
    """Grad-CAM of networks on the same images."""

    name = "gradcam"
    summary = "where networks see what speaks for the class that they predict (Grad-CAM), side by side"

    def draw(self, looks: Sequence[Looked], path: Path) -> Path:
        """Draw; of images with one class each, predictions are scores, (C,) each, and both are named."""
        first = first_of(looks)
        named = first.labels is not None
        guesses = {look.title: [int(one.argmax()) for one in look.predictions] for look in looks} if named else None
        figure = gradcam_panels(
            first.images,
            {look.title: look.heat for look in looks},
            labels=[int(label) for label in first.targets] if named else None,
            predictions=guesses,
            classes=first.classes,
        )
        return save_drawing(figure, path)


def gradcam_panels(
    images: Sequence[Tensor],
    heat: Mapping[str, Sequence[Tensor]],
    *,
    labels: Sequence[int] | None = None,
    predictions: Mapping[str, Sequence[int]] | None = None,
    classes: Sequence[str] = (),
    title: str = "Where the networks look (Grad-CAM)",
) -> Figure:
    """Draw Grad-CAM of networks over the same images: a row an image, a column a network.

    The heat (Selvaraju et al., ICCV 2017, eq. 1 and 2; ``synreal.functional.grad_cam``) is enlarged linearly to the
    image, which is shown in greys beneath it. Each image has a scale of its own: colours tell where a network looks,
    not how sure it is. A wrong prediction has a cross and a dashed frame, a right one a tick and a solid frame.

    Args:
        images: uint8, (3, H, W) RGB each; sizes may differ.
        heat: By the name of each network, a map of each image, float (h, w), in [0, 1].
        labels: True class of each image; None where an image has no single class.
        predictions: By the name of each network, the class that it predicts for each image.
        classes: Class names.
        title: Heading.

    Returns:
        The figure, all on one page.

    Raises:
        ConfigError: If there is no image or no network, or not as many of each.
        DataError: If an image, a map or a class is not as described.
    """
    pictures, maps = checked(images, dict(heat), "Grad-CAM")
    names = list(heat)
    for name, ones in zip(names, maps, strict=True):
        for index, one in enumerate(ones):
            if one.min() < 0 or one.max() > 1:
                raise DataError(
                    f"Grad-CAM of {name}, image {index}, spans {one.min():.3g}..{one.max():.3g}, expected 0..1."
                )
    predicted = _predictions(names, len(images), labels, predictions, len(classes))

    def draw(page: Axes, row: int, column: int, cell: Frame) -> None:
        if column == 0:
            frame = draw_picture(page, pictures[row], cell)
            if labels is not None:
                _caption(page, frame, cell, classes[labels[row]], "#1f2933")
            return
        frame = draw_picture(page, _over(pictures[row], maps[column - 1][row]), cell)
        _half_line(page, frame, maps[column - 1][row])
        if labels is not None and predicted:
            guess = predicted[column - 1][row]
            right = guess == labels[row]
            colour = RIGHT if right else WRONG
            style = "solid" if right else "dashed"
            page.add_patch(rectangle(frame, edgecolor=colour, fill=False, linewidth=1.8, linestyle=style))
            _caption(page, frame, cell, f"{'✓' if right else '✗'} {classes[guess]}", colour)

    facts = "Heat of what speaks for the class that each network predicts."
    if predicted:
        facts += " Beneath an image its class, beneath heat the prediction: ✓ right, ✗ wrong, in a dashed frame."
    return lay_heat(
        pictures,
        ["image", *names],
        draw,
        title=title,
        facts=facts,
        scale=_SCALE,
        bar=_bar(256),
        caption=0.26 if labels is not None else 0.08,
    )


def heat_panel(image: Tensor, heat: Tensor) -> Pixels:
    """Return one image with Grad-CAM over it, as ``gradcam_panels`` draws it.

    Args:
        image: uint8, (3, H, W), RGB.
        heat: Float, (h, w), in [0, 1].

    Returns:
        uint8, (H', W', 3).
    """
    ((picture,), ((heats,),)) = checked([image], {"a network": [heat]}, "Grad-CAM")
    width, height = picture_size([picture], _PANEL_SIDE)
    page, axes = new_page(width, height)
    frame = draw_picture(axes, _over(picture, heats), Frame(0, 0, width, height))
    _half_line(axes, frame, heats)
    return rendered(page)


def heat_scale() -> tuple[Pixels, str]:
    """Return the colours of heat from 0 to 1 over dark and over bright, uint8 (8, 128, 3), and what they stand for."""
    return _bar(128).repeat(4, axis=0), _SCALE.meaning


_PANEL_SIDE = 1.8  # inches, of a square panel


def _predictions(
    names: Sequence[str],
    number: int,
    labels: Sequence[int] | None,
    predictions: Mapping[str, Sequence[int]] | None,
    classes: int,
) -> list[Sequence[int]]:
    """Check classes; return the predictions of each network, none where there are none."""
    given = {"Labels": labels} if labels is not None else {}
    for name in names if predictions is not None else ():
        if predictions is None or name not in predictions:
            raise ConfigError(f"There are predictions, but none of {name}.")
        given[f"Predictions of {name}"] = predictions[name]
    for what, ids in given.items():
        if ids is None or len(ids) != number:
            raise ConfigError(f"{what}: {len(ids or ())} for {number} images; expected one of each.")
        for index, label in enumerate(ids):
            if not 0 <= label < classes:
                raise DataError(f"{what}: class {label} of image {index}, expected 0..{classes - 1}.")
    return [predictions[name] for name in names] if predictions is not None else []


def _over(picture: Pixels, heat: Map) -> Pixels:
    """Return a picture in greys with heat over it: dark where there is none, so that it reads in greys, too."""
    size = (picture.shape[1], picture.shape[0])
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float64) / 255
    return _mixed(large.astype(np.float64), grey)


def _bar(steps: int) -> Pixels:
    """Return the colours of heat from 0 to 1 over black and over white, uint8 (2, steps, 3)."""
    heat, grey = np.broadcast_arrays(np.linspace(0, 1, steps), np.array([[0.0], [1.0]]))
    return _mixed(heat, grey)


def _mixed(heat: Map, grey: Map) -> Pixels:
    """Return the colours of heat over greys, uint8 (h, w, 3); both in [0, 1], (h, w)."""
    mixed = 0.5 * _SCALE.shades(heat) / 255 + 0.5 * (grey * (0.3 + 0.7 * heat))[..., None]
    pixels: Pixels = np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)
    return pixels


def _half_line(page: Axes, frame: Frame, heat: Map) -> None:
    """Draw a line around what is hotter than half of the largest, where there is heat."""
    if heat.max() <= 0.5 or heat.min() >= 0.5:
        return
    size = (round(frame.width * 60), round(frame.height * 60))
    large = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    page.contour(
        np.linspace(frame.left, frame.left + frame.width, size[0]),
        np.linspace(frame.top, frame.top + frame.height, size[1]),
        large,
        levels=[0.5],
        colors="white",
        linewidths=1.0,
    )


def _caption(page: Axes, frame: Frame, cell: Frame, text: str, colour: str) -> None:
    shown = fitting(text, cell.width, SMALL, bold=True)
    y = frame.top + frame.height + 0.04
    write(page, cell.left + cell.width / 2, y, shown, size=SMALL, weight="bold", color=colour, ha="center", va="top")
