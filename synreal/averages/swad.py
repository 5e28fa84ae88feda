"""SWAD: the mean of all weights from the step at which a held-out loss stops falling to the one at which it rises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from synreal.averages.base import AVERAGES, Average, Averaging, Course, MeanWeights, taken, warn
from synreal.errors import ConfigError


@AVERAGES.register
class SWAD(Average):
    """Mean of the weights after every step of a flat stretch of the held-out loss, densely sampled.

    Cha et al., NeurIPS 2021, section 3.2. Steps are grouped in segments, and the loss on held-out images is measured at
    the end of each. The stretch *starts* where, for the first time, the oldest of the last ``n_start`` losses is the
    least of them; the threshold is their mean times ``tolerance``. The start then moves back, over at most
    ``n_end - n_start`` segments, while these lie at the threshold or below. It *ends* with the last segment at the
    threshold or below, once ``n_end`` in a row lie above, or with the training. The published code, where it moves the
    start back, leaves the first segment out and counts another twice; here it is the mean of all steps from start to
    end. A training whose loss never stops falling has no start: the mean of its last segment is given, with a warning.

    It takes up to ``n_end`` copies of the network until the start is found, and three from then on.

    Attributes:
        segment: Steps between two measurements.
        n_start: How many losses tell the start.
        n_end: How many losses tell the end, at least ``n_start``.
        tolerance: The threshold, as a factor of the losses at the start, at least 1.
    """

    name: ClassVar[str] = "swad"
    summary: ClassVar[str] = "mean over all steps of the flat stretch of the held-out source's loss"
    paper: ClassVar[str] = "Cha et al., NeurIPS 2021"

    segment: int = Field(default=100, ge=1)
    n_start: int = Field(default=3, ge=1)
    n_end: int = Field(default=6, ge=1)
    tolerance: float = Field(default=1.3, ge=1)

    @model_validator(mode="after")
    def _window_holds_the_start(self) -> Self:
        if self.n_end < self.n_start:
            raise ConfigError(f"swad: n_end is {self.n_end}, expected at least n_start, which is {self.n_start}.")
        return self

    def begin(self, start: Mapping[str, Tensor], course: Course) -> Averaging:
        """Begin with nothing."""
        if course.loss is None:
            raise ConfigError(
                "swad asks for a loss on held-out images: give loss=FUNCTION, which measures the network as it stands."
            )
        return Valley(self, course)


class Valley(Averaging):
    """The stretch so far.

    Args:
        spec: The settings.
        course: What is known of the training.

    Attributes:
        losses: At the end of each segment; infinite where it was not a number.
        threshold: Of the losses; None until the start is found.
        first: The first step of the stretch, counted from 1; 0 until it is found.
        last: Its last step so far.
    """

    def __init__(self, spec: SWAD, course: Course) -> None:
        super().__init__()
        assert course.loss is not None
        self.spec = spec
        self.measure = course.loss
        self.steps = course.steps
        self.losses: list[float] = []
        self.threshold: float | None = None
        self.first = 0
        self.last = 0
        self._above = 0  # segments in a row
        self._segment: MeanWeights | None = None
        self._recent: list[MeanWeights] = []  # segments at which the stretch may start, until it has
        self._mean: MeanWeights | None = None
        self._pending: MeanWeights | None = None  # segments above the threshold, which the stretch may yet reach over

    @property
    def ended(self) -> bool:
        """Whether the loss has risen for good."""
        return self._above >= self.spec.n_end

    def see(self, network: nn.Module) -> None:
        """Take the weights into the segment; at its end, measure the loss and see whether it belongs."""
        if self.ended:
            return
        weights = network.state_dict()
        segment = self._segment = self._segment or MeanWeights(weights)
        segment.add(weights)
        if segment.count < self.spec.segment and self.step != self.steps:
            return
        loss = self.measure()
        self.losses.append(math.inf if math.isnan(loss) else loss)
        self._segment = None
        if self._mean is None:
            self._look_for_start(segment)
        else:
            self._go_on(segment, self.losses[-1], self.step)

    def _look_for_start(self, segment: MeanWeights) -> None:
        n_start, n_end = self.spec.n_start, self.spec.n_end
        segments = [*self._recent, segment]
        newest = self.losses[-n_start:]
        if len(newest) < n_start or newest[0] > min(newest) or not all(map(math.isfinite, newest)):
            self._recent = segments[-max(1, n_end - 1) :]  # the next one may bring the start
            return
        self.threshold = sum(newest) / n_start * self.spec.tolerance
        losses = self.losses[-len(segments) :]
        begin = len(losses) - n_start
        while begin > 0 and losses[begin - 1] <= self.threshold:
            begin -= 1
        step = self.step - sum(one.count for one in segments[begin:])
        self.first, self._recent = step + 1, []
        for one, loss in zip(segments[begin:], losses[begin:], strict=True):
            step += one.count
            self._go_on(one, loss, step)

    def _go_on(self, segment: MeanWeights, loss: float, step: int) -> None:
        """Take in a segment, of the start or behind it, that ended after a step."""
        assert self.threshold is not None
        if self._mean is not None and loss > self.threshold:
            self._above += 1
            self._pending = _joined(self._pending, segment)
            if self.ended:
                self._pending = None
            return
        for one in filter(None, (self._pending, segment)):
            self._mean = _joined(self._mean, one)
        self._pending, self._above, self.last = None, 0, step

    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of the stretch; of the last segment, with a warning, where there is none."""
        if self._mean is not None:
            return self._mean.weights(last)
        warn(
            f"{self.spec.label} found no start in {len(self.losses)} segments of {self.spec.segment} steps: the "
            "held-out loss did not stop falling, so the mean of the last segment is taken. Train longer, or lower "
            "segment."
        )
        found = self._recent[-1] if self._recent else self._segment
        return {name: value.clone() for name, value in last.items()} if found is None else found.weights(last)

    def describe(self) -> str:
        """Name the stretch."""
        if self._mean is None:
            return "mean of the last segment, no start was found"
        return f"mean of steps {self.first} to {self.last}"

    def tensors(self) -> dict[str, Tensor]:
        """Return losses, numbers and means."""
        found = super().tensors() | {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "threshold": torch.tensor([] if self.threshold is None else [self.threshold], dtype=torch.float64),
            "numbers": torch.tensor([self.first, self.last, self._above, len(self._recent)]),
        }
        held = {"segment": self._segment, "mean": self._mean, "pending": self._pending}
        held |= {f"recent{index}": mean for index, mean in enumerate(self._recent)}
        for name, mean in held.items():
            found |= {} if mean is None else mean.tensors(name)
        return found

    def load(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        """Take them up again."""
        super().load(tensors, like)
        self.losses = taken(tensors, "losses").tolist()
        self.threshold = next(iter(taken(tensors, "threshold").tolist()), None)
        self.first, self.last, self._above, recent = taken(tensors, "numbers").tolist()
        self._segment, self._mean, self._pending = (
            MeanWeights.of(tensors, name, like) if f"{name}.count" in tensors else None
            for name in ("segment", "mean", "pending")
        )
        self._recent = [MeanWeights.of(tensors, f"recent{index}", like) for index in range(recent)]


def _joined(mean: MeanWeights | None, other: MeanWeights) -> MeanWeights:
    """Take one mean into another, where there is one; the other must not be used any more."""
    if mean is None:
        return other
    mean.join(other)
    return mean
