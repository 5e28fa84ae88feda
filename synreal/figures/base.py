"""What every figure is: a name, a line about it, and a way to draw."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from torch import Tensor

from synreal.errors import ConfigError
from synreal.records import Score
from synreal.registry import Registry, place


class Drawing(ABC):
    """Something that can be drawn, by name.

    Attributes:
        name: What it is called, e.g. ``"confusion"``; in the body of the class.
        summary: One line for listings, likewise.
        labels: The kinds of labels that it can draw, e.g. ``("classes", "masks")``; None for any.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    labels: ClassVar[tuple[str, ...] | None] = None


@dataclass(frozen=True)
class Outcome:
    """What a test of one set gave, and some of its images.

    Attributes:
        name: The set's name in the run: ``"source"`` or a target's.
        title: Heading for figures.
        classes: Class names.
        score: What was measured over the whole set, with the confusion matrix if one was counted.
        images: A few images, uint8, (3, H, W) RGB each.
        targets: Their targets, as the task's test loader gives them.
        predictions: What the task predicts for each; classes count from 0.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    score: Score
    images: Sequence[Tensor]
    targets: Sequence[Any]
    predictions: Sequence[Any]


class Figure(Drawing):
    """A picture of what a test of one set gave.

    Attributes:
        stem: How the names of its files begin; its name by default.
    """

    stem: ClassVar[str | None] = None

    @abstractmethod
    def draw(self, outcome: Outcome, path: Path) -> Path:
        """Draw into a PNG file.

        Args:
            outcome: What was tested.
            path: The file; missing folders are made.

        Returns:
            The path.
        """

    def path(self, folder: Path, name: str) -> Path:
        """Return the file in a folder for a set of a name."""
        return folder / f"{self.stem or self.name}-{name}.png"


class Sheet(Drawing):
    """A picture of data sets and their labels."""

    @abstractmethod
    def draw(self, rows: Mapping[str, Any], path: Path) -> Path:
        """Draw some images of each data set into a PNG file.

        Args:
            rows: Data sets by the heading they get, e.g. the domain's name.
            path: The file; missing folders are made.

        Returns:
            The path.
        """


FIGURES: Final[Registry[Drawing]] = Registry("figure", "figures", Drawing)


def figures_of(names: Sequence[str], label: str) -> list[Figure]:
    """Return figures of a test, by name.

    Args:
        names: The names.
        label: The kind of label that was tested, e.g. ``"masks"``.

    Raises:
        ConfigError: If one is unknown, cannot draw such labels, or would write another one's files.
    """
    found = []
    for name in names:
        figure = _drawing(name, label)
        if not isinstance(figure, Figure):
            raise ConfigError(f"The figure {name!r} draws data sets; expected one that draws what a test gave.")
        found.append(figure)
    stems = [figure.stem or figure.name for figure in found]
    if len(set(stems)) < len(stems):
        raise ConfigError(
            f"The figures {', '.join(names)} write {', '.join(f'{stem}-*.png' for stem in stems)}: each needs files of "
            "its own. Leave one out, or set another stem."
        )
    return found


def sheet_of(name: str, label: str) -> Sheet:
    """Return the sheet of a name.

    Args:
        name: The name.
        label: The kind of label to draw.

    Raises:
        ConfigError: If it is unknown or cannot draw such labels.
    """
    sheet = _drawing(name, label)
    if not isinstance(sheet, Sheet):
        raise ConfigError(f"The figure {name!r} draws what a test gave; expected one that draws data sets.")
    return sheet


def _drawing(name: str, label: str) -> Drawing:
    kind = FIGURES.get(name)
    if inspect.isabstract(kind):
        raise ConfigError(f"{place(kind)} needs a method draw.")
    if kind.labels is not None and label not in kind.labels:
        raise ConfigError(f"The figure {name!r} draws {' or '.join(kind.labels)}, not {label}.")
    return kind()
