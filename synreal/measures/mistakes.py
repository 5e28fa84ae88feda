"""What a network gets wrong: which mistakes it makes, how often, and in which images they are worst."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor

from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet
from synreal.distributed import world_size
from synreal.measures.base import Looker, Rows, State, Sum
from synreal.records.numbers import percent

KEPT: Final = 4
"""How many images of each mistake are kept by their index, those in which it is worst."""


class Kind(NamedTuple):
    """A kind of mistake.

    Attributes:
        true: The class that was there; None where nothing was, as at a box too many.
        found: The class that it was taken for; None where nothing was found.
    """

    true: int | None
    found: int | None


@dataclass(frozen=True)
class Judged:
    """What is wrong with what was predicted for one image.

    Attributes:
        wrong: The share that is wrong, in [0, 1]; NaN where nothing counts.
        words: What was predicted, or how much of it is right, in words.
        counts: How often each kind of mistake was made.
        severity: How bad each is, to compare images; by default how often it was made.
        totals: How many there were of each class.
    """

    wrong: float
    words: str
    counts: Mapping[Kind, int]
    totals: Mapping[int, int]
    severity: Mapping[Kind, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    """A kind of mistake over a whole set.

    Attributes:
        kind: Which.
        count: How often it was made.
        total: How many there were of the true class; None where nothing was there.
        images: Indices of the images in which it is worst, the worst first.
    """

    kind: Kind
    count: int
    total: int | None
    images: tuple[int, ...]


class Tally(State):
    """Counts kinds of mistakes and keeps, of each, the images in which it is worst: memory grows with the kinds."""

    def __init__(self) -> None:
        self.counts: dict[Kind, int] = {}
        self._worst: dict[Kind, list[tuple[float, int]]] = {}

    def add(self, kind: Kind, count: int, images: Sequence[tuple[float, int]]) -> None:
        """Add mistakes of a kind: how many, and their images, as severities and indices."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        # Of equally bad ones the first of the set stay, in whichever order they come.
        found = [*self._worst.get(kind, ()), *images]
        self._worst[kind] = sorted(found, key=lambda one: (-one[0], one[1]))[:KEPT]

    def images(self, kind: Kind) -> tuple[int, ...]:
        """Return the indices that are kept of a kind, the worst first."""
        return tuple(index for _, index in self._worst[kind])

    def gather(self, device: torch.device) -> None:
        """Bring the mistakes of all processes together."""
        if world_size() == 1:
            return
        counts, images = Rows(3), Rows(4)
        counts.add(_table([(*_numbers(kind), count) for kind, count in self.counts.items()], 3))
        images.add(_table([(*_numbers(kind), *one) for kind, found in self._worst.items() for one in found], 4))
        for rows in (counts, images):
            rows.gather(device)
        self.counts, self._worst = {}, {}
        for true, found, count in counts.value.tolist():
            self.add(_kind(true, found), int(count), ())
        for true, found, severity, index in images.value.tolist():
            self.add(_kind(true, found), 0, [(severity, int(index))])


def _table(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(-1, width)


def _numbers(kind: Kind) -> Iterator[int]:
    return (-1 if one is None else one for one in kind)


def _kind(*numbers: float) -> Kind:
    return Kind(*(None if number < 0 else int(number) for number in numbers))


class Mistakes(Looker):
    """Judges each prediction while they go by, and keeps no image: 16 bytes of each, and the worst by their index.

    Attributes:
        counted: What it counts, in the plural.
        extremes: What the images are called in which the most and the least is wrong.
    """

    counted: ClassVar[str]
    extremes: ClassVar[tuple[str, str]] = ("Most wrong", "Least wrong")

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.tally = Tally()
        self.totals = Sum(len(images.classes))
        self.wrong = Rows(2)

    @abstractmethod
    def judge(self, prediction: Any, target: Any) -> Judged:
        """Compare what the task predicts for one image with its target, as the test loader gives it."""

    def state(self) -> Sequence[State]:
        """Return all of it."""
        return [self.tally, self.totals, self.wrong]

    def see_predicted(self, indices: Tensor, output: Any, targets: Any) -> None:
        """Judge the predictions of one batch."""
        rows = []
        output = output.cpu() if isinstance(output, Tensor) else output  # at once, where a GPU would be asked for each
        for index, prediction, target in zip(indices.tolist(), output, targets, strict=True):
            judged = self.judge(prediction, target)
            rows.append((index, judged.wrong))
            for label, number in judged.totals.items():
                self.totals.value[label] += number
            for kind, count in judged.counts.items():
                self.tally.add(kind, count, [(judged.severity.get(kind, count), index)])
        self.wrong.add(_table(rows, 2))

    def worst(self, number: int) -> list[Mistake]:
        """Return the mistakes that were made most often."""
        order = sorted(self.tally.counts.items(), key=lambda one: (-one[1], *_numbers(one[0])))
        return [self.found(kind) for kind, _ in order[:number]]

    def found(self, kind: Kind) -> Mistake:
        """Return what is known of a kind of mistake."""
        count = self.tally.counts.get(kind, 0)
        total = None if kind.true is None else int(self.totals.value[kind.true])
        return Mistake(kind, count, total, self.tally.images(kind) if count else ())

    def most_and_least(self, number: int) -> tuple[list[int], list[int]]:
        """Return the images in which the most and the least is wrong.

        Of more images that are equally wrong than are asked for, some are taken that lie evenly over the set. None is
        in both lists; the first holds none of which all is right, the second none of which all is wrong.
        """
        known = {int(index): wrong for index, wrong in self.wrong.value.tolist() if wrong == wrong}
        most = _extreme({index: -wrong for index, wrong in known.items() if wrong > 0}, number)
        least = _extreme({i: wrong for i, wrong in known.items() if wrong < 1 and i not in most}, number)
        return most, least


def _extreme(values: Mapping[int, float], number: int) -> list[int]:
    """Return the indices with the least values, in this order."""
    order = sorted(values, key=lambda index: (values[index], index))
    if len(order) <= number:
        return order
    last = values[order[number - 1]]
    sure = [index for index in order if values[index] < last]
    tied = [index for index in order if values[index] == last]
    room = number - len(sure)
    return sure + [tied[place * len(tied) // room] for place in range(room)]


class ClassMistakes(Mistakes):
    """Which classes of images are taken for which."""

    label = "classes"
    counted = "images"
    extremes = ("Wrong predictions", "Right predictions")

    def judge(self, prediction: Tensor, target: Tensor | int) -> Judged:
        """Compare scores, (C,), with a label; a mistake is worse the farther the true class is from the found one."""
        scores, true = prediction.float(), int(target)
        found = int(scores.argmax())
        classes = self.images.classes
        if found == true:
            return Judged(0.0, classes[found], {}, {true: 1})
        kind = Kind(true, found)
        margin = float(scores[found] - scores[true])
        return Judged(1.0, classes[found], {kind: 1}, {true: 1}, {kind: margin})


class PixelMistakes(Mistakes):
    """Which classes of pixels are taken for which."""

    label = "masks"
    counted = "pixels"
    extremes = ("Most pixels wrong", "Fewest pixels wrong")

    def judge(self, prediction: Tensor, target: Tensor) -> Judged:
        """Compare class ids, (H, W), or logits, (C, H, W), with a mask; pixels of ``IGNORE`` do not count."""
        ids = prediction.argmax(0) if prediction.ndim == 3 else prediction
        truth = target.to(ids.device)
        valid = truth != IGNORE
        classes = len(self.images.classes)
        pairs = (truth[valid].long() * classes + ids[valid].long()).bincount(minlength=classes * classes)
        confusion = pairs.view(classes, classes).cpu()
        number = int(confusion.sum())
        if not number:
            return Judged(float("nan"), "no pixel counts", {}, {})
        right = int(confusion.diagonal().sum())
        totals = {label: int(count) for label, count in enumerate(confusion.sum(1).tolist()) if count}
        confusion.fill_diagonal_(0)
        counts = {Kind(*pair): int(confusion[tuple(pair)]) for pair in confusion.nonzero().tolist()}
        return Judged(1 - right / number, f"{percent([right / number])} % of pixels right", counts, totals)
