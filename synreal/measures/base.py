"""What every measure is made of: a collector that goes over a test set once, and a number made of what it collected."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import torch
from torch import Tensor

from synreal.data.sets import ImageSet
from synreal.distributed import all_gather_rows, all_reduce_sum, world_size
from synreal.errors import ConfigError, TrainingError
from synreal.records import Unit
from synreal.registry import Registry, place, vars_of


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
        label: The kind of label that it reads, e.g. ``"classes"``, or several; in the body of the class.
        asks_confidence: Whether it is also told how sure the network is; it then has an ``update_sure`` of its own.
        counted: What its confusion matrix counts, e.g. ``"images"``; None if it has none.
    """

    label: ClassVar[str | tuple[str, ...]]
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


C = TypeVar("C", bound=Collector)


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
        needs: What it is computed from.
        unit: How it is written: ``"%"`` for a share in [0, 1], ``""`` for a plain number.
        part: The part of the objects that it is of, e.g. ``"area < 32²"``; None for all. Short tables leave it out.
        per_class_heading: What tables call its values per class, e.g. ``"IoU"``; ``heading`` by default.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    heading: ClassVar[str]
    collector: ClassVar[type[Collector]]
    higher_is_better: ClassVar[bool] = True
    needs: ClassVar[Literal["predictions", "features", "styled predictions"]] = "predictions"
    unit: ClassVar[Unit] = "%"
    part: ClassVar[str | None] = None
    per_class_heading: ClassVar[str | None] = None

    @abstractmethod
    def compute(self, collected: C) -> float | None:
        """Return the number; None or NaN where it is not defined."""

    def per_class(self, collected: C) -> Sequence[float | None]:
        """Return one number per class, None or NaN for a class that does not occur; empty if there are none."""
        return ()


MEASURES: Final[Registry[Measure[Any]]] = Registry("measure", "measures", Measure, texts=("summary", "heading"))


def check_measures(names: Sequence[str], label: str) -> None:
    """Check that measures exist and can be taken of predictions for a kind of label.

    Args:
        names: Names of measures.
        label: The kind of label, e.g. ``"masks"``.

    Raises:
        ConfigError: If there is none, one is named twice or unknown, or one does not fit.
    """
    for name, measure in zip(names, of_predictions(names), strict=True):
        read = measure.collector.label
        kinds = (read,) if isinstance(read, str) else read
        if label not in kinds:
            raise ConfigError(
                f"The measure {name!r} compares {' or '.join(kinds)}, but this task predicts {label}. Take "
                "another measure, or the task whose labels it compares."
            )


def of_predictions(names: Sequence[str]) -> list[Measure[Any]]:
    """Return measures by name.

    Raises:
        ConfigError: If there is none, one is named twice or unknown, or one needs more than predictions.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Expected one or more measures, each once, the headline first; got {list(names)}.")
    kinds = [MEASURES.get(name) for name in names]
    for kind in kinds:
        if inspect.isabstract(kind) or not isinstance(vars_of(kind, "collector"), type):
            raise ConfigError(f"{place(kind)} needs a method compute, and a Collector class as its collector.")
        if kind.needs != "predictions":
            raise ConfigError(f"The measure {kind.name!r} needs {kind.needs}, but a test gives predictions alone.")
    return [kind() for kind in kinds]


def check_number(seen: int, images: ImageSet) -> None:
    """Raise ``TrainingError`` unless as many images were tested as there are."""
    if seen != len(images):
        raise TrainingError(
            f"{images.name} ({images.split}): {seen} images were tested of {len(images)}. Test each exactly once over "
            "all processes, and gather once."
        )
