"""What every measure is made of: a collector that goes over a test set once, and a number made of what it collected."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import torch
from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.distributed import all_gather_rows, all_reduce_sum, world_size
from synreal.errors import ConfigError, TrainingError
from synreal.records import Unit
from synreal.registry import Registry, place, vars_of
from synreal.views import View


@dataclass(frozen=True)
class Glance:
    """What looking into a network gave of one batch of images.

    Attributes:
        indices: Of each image in its set, int64, (N,).
        targets: As the task's test loader gives them.
        features: Of each stage, by its name and in order of depth, the map's mean over its positions, float32, (N, D).
        frozen: The same of the network as it was pretrained; empty unless a collector asks for it.
    """

    indices: Tensor
    targets: Any
    features: Mapping[str, Tensor]
    frozen: Mapping[str, Tensor]


class State(ABC):
    """A part of what a collector holds, and how processes merge theirs."""

    @abstractmethod
    def gather(self, device: torch.device) -> None:
        """Replace the content by that of all processes, the same on each.

        Args:
            device: Where tensors must lie that processes exchange.
        """


class Sum(State):
    """A tensor of counts that processes add up.

    Args:
        shape: Its shape; it starts at 0.
        dtype: Its type; integers add up exactly, in whichever order.

    Attributes:
        value: The tensor, on the CPU.
    """

    def __init__(self, *shape: int, dtype: torch.dtype = torch.int64) -> None:
        self.value = torch.zeros(shape, dtype=dtype)

    def add(self, value: Tensor | int) -> None:
        """Add a tensor of the same shape, from any device, or a number."""
        self.value += value.cpu() if isinstance(value, Tensor) else value

    def gather(self, device: torch.device) -> None:
        """Add up over all processes."""
        if world_size() > 1:
            self.value = all_reduce_sum(self.value.to(device)).cpu()

    def share(self) -> float:
        """Return the first of two numbers over the second; NaN where that is 0."""
        part, whole = self.value.tolist()
        return part / whole if whole else math.nan


class Rows(State):
    """Rows that processes bring together, in the order of their ranks.

    Args:
        width: D, numbers per row.
        dtype: Their type. float64 holds ids, float32 and counts up to 2^53 exactly.
    """

    def __init__(self, width: int, dtype: torch.dtype = torch.float64) -> None:
        self._parts = [torch.zeros(0, width, dtype=dtype)]

    def add(self, rows: Tensor) -> None:
        """Add rows, (n, D), of any type and device."""
        self._parts.append(rows.detach().cpu().to(self._parts[0].dtype))

    @property
    def value(self) -> Tensor:
        """All rows so far, (N, D), on the CPU."""
        if len(self._parts) > 1:  # many rows need not be copied
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    def gather(self, device: torch.device) -> None:
        """Bring together the rows of all processes."""
        if world_size() > 1:  # alone, nothing moves: not every device has float64
            self._parts = [all_gather_rows(self.value.to(device)).cpu()]


class Collector(ABC):
    """Goes over a test set once, for all measures that name it.

    A subclass keeps all it collects in ``Sum`` and ``Rows``.

    Args:
        images: The set, for its classes and number of images.

    Attributes:
        label: The kind of label that it reads, e.g. ``"classes"``, several, or None for any; in the body of the class.
        asks_confidence: Whether it is also told how sure the network is; it then has an ``update_sure`` of its own.
        counted: What its confusion matrix counts, e.g. ``"images"``; None if it has none.
    """

    label: ClassVar[str | tuple[str, ...] | None]
    asks_confidence: ClassVar[bool] = False
    counted: ClassVar[str | None] = None

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    @abstractmethod
    def state(self) -> Sequence[State]:
        """Return all that was collected, in the same order on all processes."""

    @abstractmethod
    def update(self, output: Any, targets: Any) -> None:
        """Add one batch: what the task predicts (classes count from 0), and the targets as its test loader has them."""

    def update_sure(self, output: Any, targets: Any, confidences: Any) -> None:
        """Add one batch of which it is known how sure the network is; see ``Task.predict_sure``."""
        self.update(output, targets)

    def gather(self, device: torch.device) -> None:
        """Replace what was collected by that of all processes; see ``State.gather``."""
        for part in self.state():
            part.gather(device)

    @property
    def confusion(self) -> Tensor | None:
        """Counts, int64, (C, C), rows are true classes; None for a collector that counts none."""
        return None

    def files(self) -> Mapping[str, Any]:
        """Return what a run writes beside the score, ready for ``json.dump``, by the end of the file's name."""
        return {}


class Looker(Collector):
    """Goes over what looking into a network gives beyond its predictions; overrides what it reads of that.

    Attributes:
        asks_frozen: Whether it reads what the network was like as it was pretrained.
        change: The view that changes each image for ``see_changed``; None if it reads no such predictions.
    """

    label: ClassVar[str | tuple[str, ...] | None] = None
    asks_frozen: ClassVar[bool] = False
    change: ClassVar[View | None] = None

    def begin(self, widths: Mapping[str, int]) -> None:
        """Be told, before the first batch, how many features each stage has, by its name and in order of depth."""

    def update(self, output: Any, targets: Any) -> None:
        """Pass over what the network predicts."""

    def see(self, glance: Glance) -> None:
        """Add the features of one batch."""

    def see_predicted(self, indices: Tensor, output: Any, targets: Any) -> None:
        """Add one batch of what the task predicts, of images with these indices, int64, (N,)."""

    def see_changed(self, output: Any, changed: Any, targets: Any) -> None:
        """Add one batch of what the task predicts for images, and for the same images after ``change``."""

    def weigh(
        self, weights: Mapping[str, Tensor], origin: Mapping[str, Tensor], groups: Mapping[str, Iterable[str]]
    ) -> None:
        """Compare a network's weights with those that it was pretrained with; once, before the first batch.

        Args:
            weights: Parameters by name.
            origin: The same of the pretrained network.
            groups: Names of parameters: those of the whole backbone under ``"backbone"``, then those of each stage.
        """


C = TypeVar("C", bound=Collector)

Needs = Literal["predictions", "features", "styled predictions", "weights", "imagenet"]
"""What a measure is computed from: a test gives predictions; looking into a network gives all of them."""


class Measure(ABC, Generic[C]):
    """A number that says how well a test set was done, computed from what a collector holds.

    Subclasses set ``name``, ``summary``, ``heading`` and ``collector`` in their body and are made known by
    ``@register``. Several measures may name one collector: it then collects once for all.

    Attributes:
        name: What it is called, e.g. ``"mean_iou"``.
        summary: One line for listings.
        heading: What tables call it, e.g. ``"mIoU"``.
        collector: What collects for it.
        higher_is_better: Whether more of it is better.
        needs: What it is computed from; for all but predictions the collector is a ``Looker``. ``"imagenet"`` is what
            the backbone, under the classifier that it was pretrained with, predicts for images of ImageNet.
        unit: How it is written: ``"%"`` for a share in [0, 1], ``""`` for a plain number.
        part: The part of the objects that it is of, e.g. ``"area < 32²"``; None for all. Short tables leave it out.
        per_class_heading: What tables call its values per class, e.g. ``"IoU"``; ``heading`` by default.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    heading: ClassVar[str]
    collector: ClassVar[type[Collector]]
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Needs] = "predictions"
    unit: ClassVar[Unit] = "%"
    part: ClassVar[str | None] = None
    per_class_heading: ClassVar[str | None] = None

    @abstractmethod
    def compute(self, collected: C) -> float | None:
        """Return the number; None or NaN where it is not defined."""

    def per_class(self, collected: C) -> Sequence[float | None]:
        """Return one number per class, None or NaN for a class that does not occur; empty if there are none."""
        return ()

    def per_stage(self, collected: C) -> Mapping[str, float]:
        """Return one number per stage of the backbone, by its name; empty if there are none."""
        return {}

    def note(self, collected: C) -> str | None:
        """Return what a reader of the number must know, in a sentence; None if there is nothing."""
        return None


MEASURES: Final[Registry[Measure[Any]]] = Registry("measure", "measures", Measure, texts=("summary", "heading"))


def check_measures(names: Sequence[str], label: str, *, looking: bool = False) -> None:
    """Check that measures exist and can be taken of predictions for a kind of label.

    Args:
        names: Names of measures.
        label: The kind of label, e.g. ``"masks"``.
        looking: Whether they are taken by looking into a network, which gives more than predictions.

    Raises:
        ConfigError: If there is none, one is named twice or unknown, or one does not fit.
    """
    for name, measure in zip(names, measures_of(names, looking=looking), strict=True):
        if not fits(type(measure), label):
            raise ConfigError(
                f"The measure {name!r} compares {' or '.join(_kinds(measure.collector))}, but this task predicts "
                f"{label}. Take another measure, or the task whose labels it compares."
            )


def fits(kind: type[Measure[Any]], label: str) -> bool:
    """Return whether a measure can be taken of images with labels of a kind."""
    return kind.collector.label is None or label in _kinds(kind.collector)


def _kinds(collector: type[Collector]) -> tuple[str, ...]:
    return (collector.label,) if isinstance(collector.label, str) else collector.label or ()


def measures_of(names: Sequence[str], *, looking: bool = False) -> list[Measure[Any]]:
    """Return measures by name.

    Args:
        names: Their names.
        looking: Whether they are taken by looking into a network; a test gives predictions alone.

    Raises:
        ConfigError: If there is none, one is named twice or unknown, or one needs what is not given.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Expected one or more measures, each once, the headline first; got {list(names)}.")
    kinds = [MEASURES.get(name) for name in names]
    for kind in kinds:
        if inspect.isabstract(kind) or not isinstance(vars_of(kind, "collector"), type):
            raise ConfigError(f"{place(kind)} needs a method compute, and a Collector class as its collector.")
        if kind.needs == "predictions":
            continue
        if not looking:
            raise ConfigError(
                f"The measure {kind.name!r} needs {kind.needs}, but a test gives predictions alone. Looking into the "
                f"network takes it: synreal inspect RUN --measure {kind.name}."
            )
        if not issubclass(kind.collector, Looker):
            raise ConfigError(f"{place(kind)} needs {kind.needs}: its collector must be a Looker.")
    return [kind() for kind in kinds]


def check_number(seen: int, images: ImageSet) -> None:
    """Raise ``TrainingError`` unless as many images were tested as there are."""
    if seen != len(images):
        raise TrainingError(
            f"{images.name} ({images.split}): {seen} images were tested of {len(images)}. Test each exactly once over "
            "all processes, and gather once."
        )
