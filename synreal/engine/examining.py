"""What a page shows of a network on one set of images: its score, its mistakes, and where it looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from synreal.data.sets import evenly
from synreal.engine.close_ups import heat_of
from synreal.engine.looking import Backbone, Eyes, in_eval_mode
from synreal.figures import Panel, Panels, heat_panel
from synreal.figures.page import Pixels, as_pixels
from synreal.figures.panels import shrunk
from synreal.measures import Collection
from synreal.measures.mistakes import Kind, Mistake, Mistakes
from synreal.records import Score
from synreal.tasks.shown import SHOWN
from synreal.tasks.shown import shown as shown_items

MOST_MISTAKES = 6
"""How many kinds of mistakes are shown of each set, those that were made most often."""


@dataclass(frozen=True)
class Shown:
    """Which images of a set are shown, by their index.

    Attributes:
        fingerprint: Of the set: in another set they are other images.
        classes: The classes that kinds of mistakes are of.
        examples: Of each kind of mistake.
        groups: Whose heat is shown, by what they are called.
    """

    fingerprint: str
    classes: tuple[str, ...]
    examples: Mapping[Kind, Sequence[int]]
    groups: Mapping[str, Sequence[int]]

    @property
    def indices(self) -> list[int]:
        """All of them, in the order of the set."""
        found: Iterable[Sequence[int]] = (*self.examples.values(), *self.groups.values())
        return sorted({index for some in found for index in some})


@dataclass(frozen=True)
class Sight:
    """One image that is shown.

    Attributes:
        words: What the network says of it, in words; None if that cannot be compared with its label.
        wrong: The share of that which is wrong; None likewise.
        panels: Its pictures, by the mistake that it is an example of; None as a key where it is shown for itself.
        heat: Grad-CAM over it, uint8 (H, W, 3); None if it is not shown, or the task has no score for it to explain.
    """

    words: str | None
    wrong: float | None
    panels: Mapping[Kind | None, Sequence[Panel]]
    heat: Pixels | None


@dataclass(frozen=True)
class Examined:
    """What a page shows of a network on one set.

    Attributes:
        shown: Which images.
        score: The task's own measures; None if predictions cannot be compared with labels.
        judge: What judged the predictions; None likewise, or where no figure of the task shows mistakes.
        mistakes: Those that were made most often.
        sights: The images, by index.
    """

    shown: Shown
    score: Score | None
    judge: Mistakes | None
    mistakes: Sequence[Mistake] = ()
    sights: Mapping[int, Sight] = field(default_factory=dict)


def examine(
    eyes: Eyes, name: str, collection: Collection, figure: Panels | None, score: Score | None, follow: Shown | None
) -> Examined:
    """Show where a network is wrong, and where it looks.

    Only numbers were kept while images went by; those that are shown are read again, one at a time.

    Args:
        eyes: The network and what goes with it.
        name: Which set.
        collection: What was collected over it, by the figure's ``mistakes`` too unless predictions do not compare.
        figure: Shows single images; None if the task has no such figure.
        score: The task's own measures.
        follow: Which images are shown of another network that this one stands beside; None to choose them here.
    """
    images = eyes.task.tests[name]
    judge = None if figure is None or score is None else collection.also(figure.mistakes)
    mistakes = [] if judge is None else judge.worst(MOST_MISTAKES)
    here = images.fingerprint, eyes.task.classes
    if follow is None:
        few = 0 if figure is None else figure.examples
        shown = Shown(*here, {one.kind: one.images[:few] for one in mistakes}, _groups(judge, len(images)))
    elif (follow.fingerprint, follow.classes) == here:
        shown = follow
    else:
        return Examined(Shown(*here, {}, {}), score, judge, mistakes)
    sights = {index: _sight(eyes, name, index, shown, figure, judge, follow is None) for index in shown.indices}
    return Examined(shown, score, judge, mistakes, sights)


def _groups(judge: Mistakes | None, images: int) -> dict[str, list[int]]:
    if judge is None:
        return {"Some of the images": evenly(images, SHOWN // 2)}
    groups = zip(judge.extremes, judge.most_and_least(SHOWN // 2), strict=True)
    return {title: indices for title, indices in groups if indices}


def _sight(
    eyes: Eyes, name: str, index: int, shown: Shown, figure: Panels | None, judge: Mistakes | None, pictured: bool
) -> Sight:
    task = eyes.task
    (image,), (target,), (prediction,) = shown_items(task, name, eyes.student, [index])
    judged = None if judge is None else judge.judge(prediction, target)
    kinds: list[Kind | None] = [kind for kind, indices in shown.examples.items() if index in indices]
    looked_at = any(index in indices for indices in shown.groups.values())
    heat = _heat(eyes, image, target) if looked_at else None
    panels: dict[Kind | None, Sequence[Panel]] = {}
    if pictured:
        if looked_at:
            kinds.append(None)
            panels[None] = [Panel("image", shrunk(as_pixels(image)), "")]
        if figure is not None and judge is not None:
            panels = {kind: figure.panels(image, target, prediction, task.classes, kind) for kind in kinds}
    return Sight(
        words=None if judged is None else judged.words,
        wrong=None if judged is None else judged.wrong,
        panels=panels,
        heat=None if heat is None else heat_panel(image, heat),
    )


def _heat(eyes: Eyes, image: Tensor, target: Any) -> Tensor | None:
    batch, _ = eyes.task.collate_test([(image, target)])
    with in_eval_mode(eyes.student.network):
        return heat_of(eyes, Backbone(eyes.student.network), batch)
