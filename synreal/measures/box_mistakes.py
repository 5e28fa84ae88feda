"""What a detector gets wrong: objects that it misses or takes for others, and boxes where there is nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from synreal.data.labels.boxes import Boxes
from synreal.measures.mistakes import Judged, Kind, Mistakes

LEAST_SCORE: Final = 0.5
"""Boxes of a lower score are not shown, and count neither as right nor as wrong."""

LEAST_OVERLAP: Final = 0.5
"""Intersection over union from which on a box is of an object, as in COCO's AP50."""


class BoxMistakes(Mistakes):
    """Which objects are missed or taken for others, and which boxes are of none.

    Boxes are matched as COCO does it, the surest first, each with the object of its class that it overlaps most; what
    is left, with objects of other classes. A second box of one object is one too many. Crowds are neither found nor
    missed.
    """

    label = "boxes"
    counted = "objects"
    extremes = ("Most objects wrong", "Fewest objects wrong")

    def judge(self, prediction: Mapping[str, Tensor], target: tuple[int, Boxes]) -> Judged:
        """Compare boxes, as ``Task.predict`` gives them, with the objects of an image."""
        objects = target[1]
        found = {key: prediction[key].detach().cpu() for key in ("boxes", "labels", "scores")}
        order = found["scores"].argsort(descending=True, stable=True)
        order = order[found["scores"][order] >= LEAST_SCORE]
        boxes, labels = found["boxes"][order].float(), found["labels"][order]
        single = objects.chosen(~objects.crowd)
        overlap = box_iou(boxes, single.boxes)
        same = labels[:, None] == single.labels[None]
        right = _matched(overlap * same, {}, set())
        wrong = _matched(overlap, right, set(right.values()))
        spared = _in_crowds(boxes, labels, objects.chosen(objects.crowd))
        counts: Counter[Kind] = Counter()
        taken = {**right, **wrong}
        for place, label in enumerate(labels.tolist()):
            if place in wrong:
                counts[Kind(int(single.labels[wrong[place]]), label)] += 1
            elif place not in right and not spared[place]:
                counts[Kind(None, label)] += 1
        for place in set(range(len(single.labels))) - set(taken.values()):
            counts[Kind(int(single.labels[place]), None)] += 1
        mistakes, extra = sum(counts.values()), sum(count for kind, count in counts.items() if kind.true is None)
        words = f"{len(right)} of {len(single.labels)} objects right" if len(single.labels) else "no object"
        if extra:
            words += f", {extra} {'box' if extra == 1 else 'boxes'} too many"
        share = mistakes / (mistakes + len(right)) if mistakes else 0.0
        return Judged(share, words, dict(counts), dict(Counter(single.labels.tolist())))


def _matched(overlap: Tensor, before: Mapping[int, int], taken: set[int]) -> dict[int, int]:
    """Return the object of each box that has one: the free one that it overlaps most, the surest box first."""
    matches: dict[int, int] = {}
    taken = set(taken)
    for place, row in enumerate(overlap.tolist()):
        if place in before:
            continue
        free = [(value, -other) for other, value in enumerate(row) if other not in taken and value >= LEAST_OVERLAP]
        if free:
            matches[place] = -max(free)[1]
            taken.add(matches[place])
    return matches


def _in_crowds(boxes: Tensor, labels: Tensor, crowds: Boxes) -> list[bool]:
    """Return which boxes lie, by half or more, in a crowd of their class."""
    starts = torch.maximum(boxes[:, None, :2], crowds.boxes[None, :, :2])
    ends = torch.minimum(boxes[:, None, 2:], crowds.boxes[None, :, 2:])
    shared = (ends - starts).clamp(min=0).prod(2)
    inside = shared / box_area(boxes)[:, None].clamp(min=1e-9)
    same = labels[:, None] == crowds.labels[None]
    spared: list[bool] = ((inside >= LEAST_OVERLAP) & same).any(1).tolist()
    return spared
