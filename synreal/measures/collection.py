"""Several measures of one test set, and the score that they make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch

from synreal.data.sets import ImageSet
from synreal.measures.base import Collector, Looker, Measure, Sum, check_number, measures_of
from synreal.records import Measured, Score

C = TypeVar("C", bound=Collector)


class Collection:
    """Takes measures of a test set, batch by batch and over processes; measures share what they collect.

    Args:
        measures: Names, the headline first.
        images: The set.
        looking: Whether a network is looked into, which gives more than predictions; there may be no measure then, but
            collectors that go along (``also``).

    Raises:
        ConfigError: If there is no measure, one is named twice or unknown, or needs what is not given.
    """

    def __init__(self, measures: Sequence[str], images: ImageSet, *, looking: bool = False) -> None:
        self.images = images
        self.measures = measures_of(measures, looking=looking) if measures or not looking else []
        self.seen = Sum()
        self._collectors: dict[type[Collector], Collector] = {}
        for measure in self.measures:
            if measure.collector not in self._collectors:
                self._collectors[measure.collector] = measure.collector(images)

    def collector(self, kind: type[C]) -> C:
        """Return the collector of a class that some measure names."""
        found = self._collectors[kind]
        assert isinstance(found, kind)
        return found

    def also(self, kind: type[C]) -> C:
        """Let a collector go along that no measure names; return it, or one of its kind that is there."""
        for one in self._collectors.values():
            if isinstance(one, kind):
                return one
        made = self._collectors[kind] = kind(self.images)
        return made

    @property
    def lookers(self) -> list[Looker]:
        """The collectors that read more than predictions."""
        return [one for one in self._collectors.values() if isinstance(one, Looker)]

    @property
    def reads_predictions(self) -> bool:
        """Whether a collector reads what the task predicts and how it compares with the labels."""
        return len(self.lookers) < len(self._collectors) or bool(self.judging)

    @property
    def judging(self) -> list[Looker]:
        """The collectors that are told which images predictions are of."""
        return [one for one in self.lookers if type(one).see_predicted is not Looker.see_predicted]

    @property
    def reads_features(self) -> bool:
        """Whether a collector reads features."""
        return any(type(one).see is not Looker.see for one in self.lookers)

    def update(self, output: Any, targets: Any) -> None:
        """Add one batch: what ``Task.predict`` gave, and the targets as the test loader gave them."""
        for collector in self._collectors.values():
            collector.update(output, targets)
        self.seen.add(len(targets))

    @property
    def asks_confidence(self) -> bool:
        """Whether a measure asks how sure the network is: batches are then added by ``update_sure``."""
        return any(collector.asks_confidence for collector in self._collectors.values())

    def update_sure(self, output: Any, targets: Any, confidences: Any) -> None:
        """Add one batch, with what ``Task.predict_sure`` gave."""
        for collector in self._collectors.values():
            collector.update_sure(output, targets, confidences)
        self.seen.add(len(targets))

    def gather(self, device: torch.device) -> None:
        """Replace what was collected by that of all processes; once, after the last batch.

        Args:
            device: Where tensors must lie that processes exchange.
        """
        self.seen.gather(device)
        for collector in self._collectors.values():
            collector.gather(device)

    def compute(self, names: Sequence[str] | None = None) -> Score:
        """Return the score; the same on all processes once ``gather`` was called.

        Args:
            names: Of which measures, the headline first; by default of all.

        Raises:
            TrainingError: If not every image was counted, or one twice.
        """
        check_number(int(self.seen.value), self.images)
        measures = self._named(names)
        taken = [(measure, self._collectors[measure.collector]) for measure in measures]
        first, collected = taken[0]
        per_class = [_or_none(value) for value in first.per_class(collected)]
        counting = next((one for _, one in taken if one.confusion is not None), None)
        return Score(
            data=self.images.name,
            split=self.images.split,
            fingerprint=self.images.fingerprint,
            images=len(self.images),
            measures={measure.name: _or_none(measure.compute(one)) for measure, one in taken},
            headings={measure.name: measure.heading for measure in measures},
            units={measure.name: measure.unit for measure in measures},
            higher_is_better={measure.name: measure.higher_is_better for measure in measures},
            parts={measure.name: measure.part for measure in measures if measure.part is not None},
            per_class=dict(zip(self.images.classes, per_class, strict=True)) if per_class else {},
            per_class_heading=(first.per_class_heading or first.heading) if per_class else None,
            confusion=None if counting is None or counting.confusion is None else counting.confusion.tolist(),
            counted=None if counting is None else counting.counted,
        )

    def files(self) -> Mapping[str, Any]:
        """Return what a run writes beside the score, ready for ``json.dump``, by the end of the file's name."""
        return {end: content for one in self._collectors.values() for end, content in one.files().items()}

    def measured(self, names: Sequence[str] | None = None) -> dict[str, Measured]:
        """Return each measure with what a reader needs to know of it; once ``gather`` was called, as ``compute``.

        Args:
            names: Which measures; by default all.

        Raises:
            TrainingError: If not every image was counted, or one twice.
        """
        check_number(int(self.seen.value), self.images)
        return dict(self._measured(self._named(names)))

    def _named(self, names: Sequence[str] | None) -> list[Measure[Any]]:
        if names is None:
            return self.measures
        by_name = {measure.name: measure for measure in self.measures}
        return [by_name[name] for name in names]

    def _measured(self, measures: Sequence[Measure[Any]]) -> Iterator[tuple[str, Measured]]:
        for measure in measures:
            collected = self._collectors[measure.collector]
            yield (
                measure.name,
                Measured(
                    value=_finite(measure.compute(collected)),
                    heading=measure.heading,
                    unit=measure.unit,
                    higher_is_better=measure.higher_is_better,
                    stages={name: _finite(value) for name, value in measure.per_stage(collected).items()},
                    note=measure.note(collected),
                ),
            )


def _or_none(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _finite(value: float | None) -> float | None:
    """JSON has no infinity; a measure that may be infinite says so in its note."""
    return None if value is None or not math.isfinite(value) else float(value)
