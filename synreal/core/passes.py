"""Forward passes: what a term may ask for, the union of what several ask for, and the maps that they gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import Tensor
from typing_extensions import Self

from synreal.core.teachers import Average


@dataclass(frozen=True)
class Pass:
    """One forward pass that a term needs; passes that several terms need run once.

    Attributes:
        net: Which network runs: the student, the frozen reference or the student's moving average.
        view: Index of the view it runs on; 0 is the view that the task sees.
        grad: Whether gradient flows; only the student's passes can have it. Its pass on view 0 always runs.
        moves_stats: Whether the pass may move the student's running statistics; the pass on view 0 always may.
        average: Which moving average, where ``net`` is ``"average"``.
    """

    net: Literal["student", "reference", "average"]
    view: int
    grad: bool = False
    moves_stats: bool = False
    average: Average | None = None


STUDENT: Final = Pass("student", 0, grad=True)
"""The pass that the task makes anyway."""


@dataclass(frozen=True)
class Step:
    """What a term sees in one training step.

    Attributes:
        maps: Feature maps (N, C, H, W) in the network's own dtype, by pass and stage name.
        targets: Those of view 0, as they were given to the model; None if none were. The boxes of a network that
            resizes images by itself are in the pixels that it made of them.
        size: Height and width of view 0 as the network's entry saw it, in pixels; None where no map is read.
    """

    maps: Mapping[Pass, Mapping[str, Tensor]]
    targets: Any = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Run:
    """One forward pass that is made, and every ``Pass`` that it serves.

    Attributes:
        shared: What runs: with gradient, or moving statistics, if one of the passes asks for it.
        serves: The passes.
    """

    shared: Pass
    serves: tuple[Pass, ...]

    def maps(self, found: Mapping[str, Tensor]) -> dict[Pass, Mapping[str, Tensor]]:
        """Return the maps of each pass that is served; without gradient where that was not asked for.

        Args:
            found: What the run gave, by stage name.
        """
        return {
            needed: found
            if needed.grad == self.shared.grad
            else {name: value.detach() for name, value in found.items()}
            for needed in self.serves
        }


@dataclass(frozen=True)
class Plan:
    """What must run for several terms at once: no network runs twice on one view.

    Attributes:
        runs: Passes beside the student's own on view 0.
        averages: The moving averages of the student that they read.
        reference: Whether one of them runs the frozen reference.
    """

    runs: tuple[Run, ...]
    averages: tuple[Average, ...]
    reference: bool

    @classmethod
    def of(cls, asked: Iterable[Set[Pass]]) -> Self:
        """Merge what terms ask for.

        Args:
            asked: The passes of each term.
        """
        groups: dict[tuple[Any, ...], set[Pass]] = {}
        for passes in asked:
            for needed in passes - {STUDENT}:
                groups.setdefault((needed.net, needed.view, needed.average), set()).add(needed)
        runs = []
        for (net, view, average), needs in groups.items():
            grad, moves = any(n.grad for n in needs), any(n.moves_stats for n in needs)
            runs.append(Run(Pass(net, view, grad, moves, average), tuple(sorted(needs, key=repr))))
        averages = {run.shared.average for run in runs if run.shared.average is not None}
        return cls(
            runs=tuple(sorted(runs, key=lambda run: repr(run.shared))),
            averages=tuple(sorted(averages, key=repr)),
            reference=any(run.shared.net == "reference" for run in runs),
        )
