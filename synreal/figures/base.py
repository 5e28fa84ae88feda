"""What every figure is: a name, a line about it, and a way to draw."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import torch
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
        subject: What figures of its kind draw, for messages.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    labels: ClassVar[tuple[str, ...] | None] = None
    subject: ClassVar[str] = "something else"


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

    subject: ClassVar[str] = "what a test gave"
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

    subject: ClassVar[str] = "data sets"

    @abstractmethod
    def draw(self, rows: Mapping[str, Any], path: Path) -> Path:
        """Draw some images of each data set into a PNG file.

        Args:
            rows: Data sets by the heading they get, e.g. the domain's name.
            path: The file; missing folders are made.

        Returns:
            The path.
        """


@dataclass(frozen=True)
class Looked:
    """What looking into one network gave of one set, for drawing.

    The images that are kept are a few of those that the features are of.

    Attributes:
        title: Which network it is, e.g. ``"csg, seed 0"``.
        classes: Class names.
        features: Pooled features of the last stage, float32, (N, D).
        labels: Class of each of the N images, int64, (N,); None where an image has no single class.
        images: A few images, uint8, (3, H, W) RGB each.
        targets: Their targets, as the task's test loader gives them.
        predictions: What the task predicts for each.
        heat: Grad-CAM of each, float32, (h, w), in [0, 1].
        attention: Attentional-pooling weights of each over the positions of the last stage's map, float32, (h, w), as a
            ratio to uniform weights: their mean is 1.
    """

    title: str
    classes: tuple[str, ...]
    features: Tensor
    labels: Tensor | None
    images: Sequence[Tensor]
    targets: Sequence[Any]
    predictions: Sequence[Any]
    heat: Sequence[Tensor]
    attention: Sequence[Tensor]


class Study(Drawing):
    """A picture of what looking into one or several networks gave."""

    subject: ClassVar[str] = "what looking into networks gave"

    @abstractmethod
    def draw(self, looks: Sequence[Looked], path: Path) -> Path:
        """Draw into a PNG or SVG file.

        Args:
            looks: One of each network, all of the same images.
            path: The file; missing folders are made.

        Returns:
            The path.
        """


def first_of(looks: Sequence[Looked]) -> Looked:
    """Return the first of some looks, which can stand in one picture.

    Raises:
        ConfigError: If there is none, two have one title, or they are not of the same images and classes.
    """
    if not looks:
        raise ConfigError("There is nothing to draw: expected what looking into one network gave, at least.")
    first = looks[0]
    for number, look in enumerate(looks):
        if any(look.title == other.title for other in looks[:number]):
            raise ConfigError(f"Two of the networks are called {look.title!r}: give each a title of its own.")
        same_labels = (look.labels is None) == (first.labels is None) and (
            look.labels is None or first.labels is None or torch.equal(look.labels.cpu(), first.labels.cpu())
        )
        same_images = len(look.images) == len(first.images) and all(
            a.shape != b.shape or torch.equal(a.cpu(), b.cpu())  # of another size, the same image cannot be told
            for a, b in zip(look.images, first.images, strict=True)
        )
        if look.classes != first.classes or not same_labels or not same_images:
            raise ConfigError(
                f"{first.title!r} and {look.title!r} were not looked at with the same images and classes: they do not "
                "compare. Draw them apart."
            )
    return first


Numbers = TypeVar("Numbers")


class Chart(Drawing, Generic[Numbers]):
    """A picture of numbers that runs left behind: no network is needed for it.

    Attributes:
        needs: What it draws: ``"histories"``, a sequence of ``synreal.records.History``, or ``"board"``, a
            ``synreal.records.leaderboard.Board``.
    """

    subject: ClassVar[str] = "numbers that runs left behind"
    needs: ClassVar[Literal["histories", "board"]]

    @abstractmethod
    def draw(self, numbers: Numbers, path: Path) -> Path:
        """Draw into a PNG or SVG file.

        Args:
            numbers: What ``needs`` says.
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
            raise _other(figure, Figure.subject)
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
        raise _other(sheet, Sheet.subject)
    return sheet


def study_of(name: str, label: str) -> Study:
    """Return the study of a name.

    Args:
        name: The name.
        label: The kind of label of what was looked at.

    Raises:
        ConfigError: If it is unknown or cannot draw such labels.
    """
    study = _drawing(name, label)
    if not isinstance(study, Study):
        raise _other(study, Study.subject)
    return study


def chart_of(name: str, needs: str) -> Chart[Any]:
    """Return the chart of a name.

    Args:
        name: The name.
        needs: What there is to draw, ``"histories"`` or ``"board"``.

    Raises:
        ConfigError: If it is unknown or draws something else.
    """
    chart = _drawing(name)
    if not isinstance(chart, Chart):
        raise _other(chart, Chart.subject)
    if chart.needs != needs:
        command = _COMMANDS.get(chart.needs, "another command")
        raise ConfigError(f"The figure {name!r} is not drawn from this: {command} draws it.")
    return chart


_COMMANDS: Final = {"histories": "'synreal inspect curves'", "board": "'synreal leaderboard --figure'"}


def _drawing(name: str, label: str | None = None) -> Drawing:
    kind = FIGURES.get(name)
    if inspect.isabstract(kind):
        raise ConfigError(f"{place(kind)} needs a method draw.")
    if label is not None and kind.labels is not None and label not in kind.labels:
        raise ConfigError(f"The figure {name!r} draws {' or '.join(kind.labels)}, not {label}.")
    return kind()


def _other(drawing: Drawing, subject: str) -> ConfigError:
    return ConfigError(f"The figure {drawing.name!r} draws {drawing.subject}; expected one that draws {subject}.")
