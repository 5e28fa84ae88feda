"""Which positions attentional pooling lets speak, over the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from synreal.errors import DataError
from synreal.figures.base import FIGURES, Looked, Study, first_of
from synreal.figures.colours import ink_on
from synreal.figures.heat import Map, Scale, checked, lay_heat
from synreal.figures.page import Frame, Pixels, draw_picture, picture_frame, save_drawing, write

_MOST_NUMBERS = 64  # positions of a map beyond which numbers do not fit


@FIGURES.register
class Attention(Study):
    """Weights of attentional pooling of networks on the same images."""

    name = "attention"
    summary = "weights of attentional pooling over images, as a ratio to uniform ones"

    def draw(self, looks: Sequence[Looked], path: Path) -> Path:
        """Draw images beside the weights of each network."""
        figure = attention_panels(first_of(looks).images, {look.title: look.attention for look in looks})
        return save_drawing(figure, path)


def attention_panels(
    images: Sequence[Tensor],
    attention: Mapping[str, Sequence[Tensor]],
    *,
    title: str = "Attentional pooling",
) -> Figure:
    """Draw images beside the weights that attentional pooling gives to the positions of a map.

    A weight (A-Pool: Chen et al., ICLR 2021; ``synreal.functional.attention_weights``) is drawn as a ratio to uniform
    weights, which average pooling has: 1 means as much say as there, 2 twice as much, 0 none. A cell is one position of
    the map, cut out of the image that the network saw; negative ratios, which backbones without a last ReLU give,
    subtract. One scale of colours holds for all images and networks.

    Args:
        images: uint8, (3, H, W) RGB each; sizes may differ.
        attention: By the name of each network, the weights of each image times the number of positions, float (h, w);
            their mean is 1.
        title: Heading.

    Returns:
        The figure, all on one page.

    Raises:
        ConfigError: If there is no image or no network, or not as many of each.
        DataError: If an image or a map is not as described, or the mean of a map is not 1.
    """
    pictures, maps = checked(images, dict(attention), "attention")
    for name, ones in zip(attention, maps, strict=True):
        for index, one in enumerate(ones):
            if not math.isclose(one.mean(), 1, abs_tol=1e-3):
                raise DataError(
                    f"Attention of {name}, image {index}, has mean {one.mean():.4g}, expected 1: ratios to uniform "
                    "weights, which are the weights times the number of positions."
                )
    low = min(0.0, *(float(one.min()) for ones in maps for one in ones))
    high = max(1.25, *(float(one.max()) for ones in maps for one in ones))
    scale = Scale(
        low,
        high,
        _marks(low, high),
        "Weight of a position as a ratio to uniform: 1 as in average pooling, 2 twice as much say, 0 none"
        f"{', below 0 it subtracts' if low < -0.05 else ''}.",
    )

    def draw(page: Axes, row: int, column: int, cell: Frame) -> None:
        if column == 0:
            draw_picture(page, pictures[row], cell)
            return
        values = maps[column - 1][row]
        frame = picture_frame(pictures[row], cell)
        shades = scale.shades(values)
        page.imshow(
            shades,
            extent=(frame.left, frame.left + frame.width, frame.top + frame.height, frame.top),
            interpolation="nearest",
            aspect="auto",
        )
        if values.size <= _MOST_NUMBERS:
            _numbers(page, frame, values, shades)

    return lay_heat(
        pictures,
        ["image", *attention],
        draw,
        title=title,
        facts="How much say each position of the last map has in the pooled features.",
        scale=scale,
        caption=0.08,
    )


def _marks(low: float, high: float) -> tuple[float, ...]:
    """Return round ratios within a scale, 1 among them."""
    step = next((step for step in (0.25, 0.5, 1.0) if (high - low) / step < 8), 1.0 * math.ceil((high - low) / 8))
    first, last = math.ceil((low - 1) / step), math.floor((high - 1) / step)
    return tuple(1 + step * place for place in range(first, last + 1))


def _numbers(page: Axes, frame: Frame, values: Map, shades: Pixels) -> None:
    """Write each position's ratio into its cell."""
    high, wide = values.shape
    places, size = (2, 8.0) if wide <= 4 else (1, 6.5 if wide < 7 else 5.5)
    for row in range(high):
        for column in range(wide):
            x, y = frame.left + (column + 0.5) / wide * frame.width, frame.top + (row + 0.5) / high * frame.height
            ink = ink_on(shades[row, column])
            number = round(float(values[row, column]), places) + 0.0  # no minus before a zero
            write(page, x, y, f"{number:.{places}f}", size=size, color=ink, ha="center", va="center")
