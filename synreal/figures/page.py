"""The page that figures are drawn on: type, colours, lengths, and what draws with them.

Drawn through matplotlib's objects: no window, no global state.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from synreal.errors import ConfigError, DataError
from synreal.terminal import printable

DARK, GREY = "#1f2933", "#7b8794"
RIGHT, WRONG = "#2b8a3e", "#c92a2a"
# Lengths on a page, in inches.
MARGIN = 0.2
GAP = 0.06  # between pictures that belong together
_DPI = 130

Pixels: TypeAlias = NDArray[np.uint8]
"""An image, uint8 (H, W, 3), or colours, uint8 (C, 3); sRGB."""


@dataclass(frozen=True)
class Frame:
    """A part of a page, in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def overlaps(self, other: Frame) -> bool:
        """Return whether two parts have a point in common."""
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_page(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty page, and what draws on it in inches from its upper left corner."""
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return figure, axes


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG and return its path; missing folders are made."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"Figures are written as PNG; got {path}. Let the name end in .png.")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def save_drawing(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG or SVG, whichever the path ends in; the same figure gives the same bytes.

    Args:
        figure: What to write.
        path: The file; missing folders are made.

    Returns:
        The path.

    Raises:
        ConfigError: If the path ends in anything else, or cannot be written.
    """
    path = drawing_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".png":
            figure.savefig(path, format="png")
        else:
            with matplotlib.rc_context({"svg.hashsalt": "synreal"}):  # ids in the file are random otherwise
                figure.savefig(path, format="svg", metadata={"Date": None})
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None
    return path


def drawing_path(path: str | Path) -> Path:
    """Return the path of a drawing; raise ``ConfigError`` unless it ends in .png or .svg."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"{path}: its ending does not say how to draw. End it in .png or .svg.")
    return path


def page_width(needed: float, title: str) -> float:
    """Widen a page for its title, within reason."""
    return max(needed, min(text_width(title, 11, bold=True) + 2 * MARGIN + 0.05, 8.0))


def draw_head(axes: Axes, width: float, title: str, facts: str = "") -> None:
    """Write a figure's title and, beneath it, facts if there are any."""
    write(axes, MARGIN, 0.22, fitting(title, width - 2 * MARGIN, 11, bold=True), size=11, weight="bold", va="center")
    if facts:
        write(axes, MARGIN, 0.45, facts, size=8, color=GREY, va="center")


def draw_picture(axes: Axes, pixels: Pixels, cell: Frame, *, exact: bool = False) -> Frame:
    """Draw a picture as large as the cell allows, in its middle.

    Args:
        axes: The page.
        pixels: uint8, (H, W, 3).
        cell: Where it may lie.
        exact: Keep the colours: no mixing of neighbours.

    Returns:
        Where it lies.
    """
    width = pixels.shape[1]
    frame = picture_frame(pixels, cell)
    # More than twice the dots of the page would cost time and memory only.
    most = [max(1, round(2 * _DPI * side)) for side in (frame.width, frame.height)]
    if width > most[0]:
        method = Image.Resampling.NEAREST if exact else Image.Resampling.BOX
        pixels = np.asarray(Image.fromarray(pixels).resize((most[0], most[1]), method))
    axes.imshow(
        pixels,
        extent=(frame.left, frame.left + frame.width, frame.top + frame.height, frame.top),
        interpolation="nearest" if exact else "antialiased",
        aspect="auto",
    )
    return frame


def picture_frame(pixels: Pixels, cell: Frame) -> Frame:
    """Return where a picture lies that is as large as the cell allows, in its middle."""
    height, width = pixels.shape[:2]
    scale = min(cell.width / width, cell.height / height)
    return Frame(
        cell.left + (cell.width - width * scale) / 2,
        cell.top + (cell.height - height * scale) / 2,
        width * scale,
        height * scale,
    )


def picture_size(pictures: Iterable[Pixels], side: float) -> tuple[float, float]:
    """Return width and height of cells of area ``side``² that suit most of the pictures."""
    ratios = [picture.shape[1] / picture.shape[0] for picture in pictures]
    stretch = min(max(statistics.median(ratios), 0.5), 2.5) ** 0.5
    return side * stretch, side / stretch


def side_by_side(frame: Frame, number: int) -> list[Frame]:
    """Divide a part of a page into equal cells with gaps between them."""
    width = (frame.width - (number - 1) * GAP) / number
    return [Frame(frame.left + i * (width + GAP), frame.top, width, frame.height) for i in range(number)]


def write(axes: Axes, x: float, y: float, text: str, *, color: str = DARK, **options: Any) -> None:
    """Write a text as it is: no dollar sign begins a formula, and what cannot be printed is written out."""
    axes.text(x, y, printable(text), color=color, parse_math=False, **options)


def rectangle(frame: Frame, **options: Any) -> Rectangle:
    """Return the outline of a part of a page, to be filled or drawn."""
    return Rectangle((frame.left, frame.top), frame.width, frame.height, **options)


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in inches."""
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(TextToPath().get_text_width_height_descent(printable(text), font, ismath=False)[0]) / 72


def fitting(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Shorten a text until it fits into ``width`` inches."""
    length = len(text)
    while length > 1 and text_width(shortened(text, length), size, bold=bold) > width:
        length -= 1
    return shortened(text, length)


def shortened(text: str, length: int) -> str:
    """Cut a text to a number of characters, the last an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def plural(number: int, noun: str) -> str:
    """Write a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def check_counts(**given: Sequence[Any]) -> None:
    """Raise ``ConfigError`` unless there is an image, and as many of each of what is given."""
    counts = {len(values) for values in given.values()}
    if len(counts) > 1 or 0 in counts:
        found = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise ConfigError(f"A figure of predictions needs at least one image, and as many of each; got {found}.")


def as_pixels(image: Tensor) -> Pixels:
    """Return an image (3, H, W) as (H, W, 3)."""
    array = as_array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] != 3:
        raise DataError(f"Image of {array.dtype} {array.shape}, expected uint8 (3, H, W).")
    pixels: Pixels = array.transpose(1, 2, 0)
    return pixels


def as_array(values: Tensor) -> NDArray[Any]:
    """Return a tensor as an array, bfloat16 as float32."""
    values = values.detach().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (values.float() if values.is_floating_point() else values).numpy()
    return array
