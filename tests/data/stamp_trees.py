"""A tiny copy of the folders of Tux Paint's stamps; what is in it is our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"animals": "ff0000", "food": "00ff00", "household": "0000ff", "town": "ffff00", "vehicles": "ff00ff"}


def svg(path: Path, colour: str, width: int = 30, height: int = 20, unit: str = "") -> None:
    """A full rectangle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}{unit}" height="{height}{unit}">'
        f'<rect width="{width}{unit}" height="{height}{unit}" fill="#{colour}"/></svg>'
    )


def png(path: Path, colour: str, size: tuple[int, int] = (20, 30), border: int = 2) -> None:
    """A full rectangle of (height, width) in a transparent border of another colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[0] + 2 * border, size[1] + 2 * border, 4), np.uint8)
    pixels[...] = [9, 99, 199, 0]
    rgb = [int(colour[i : i + 2], 16) for i in (0, 2, 4)]
    pixels[border : border + size[0], border : border + size[1]] = [*rgb, 255]
    Image.fromarray(pixels).save(path)


def stamp_tree(root: Path) -> Path:
    """For each class five drawings of four families and three photographs, all of other proportions."""
    for name, colour in COLOURS.items():
        for index, stem in enumerate(("a1", "a2", "bus", "cat")):
            svg(root / name / f"{stem}.svg", colour, 30 + 10 * index)
        png(root / name / "sub" / "cartoon" / "drawn.png", colour, (30, 10))
        for index, stem in enumerate(("x", "y", "z")):
            png(root / name / "sub" / f"{stem}.png", colour, (20, 21 + index))
    return root
