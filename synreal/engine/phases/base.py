"""What a phase of training is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from torch.optim import Optimizer

from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.errors import ConfigError
from synreal.specs import Spec, SpecRegistry

Sees: TypeAlias = Literal["nothing", "images", "labels"]


class Phase(Spec, ABC):
    """A stretch of a run with steps and an optimizer of its own; its settings are its fields.

    A run is a list of phases. It can be stopped between any two steps and goes on in the same bits: what a phase draws
    must be a function of the run's seed and the step (``synreal.views.derive_seed``), and what it keeps from step to
    step must be in the model or in the optimizer.

    Attributes:
        sees: What the phase may see of the target: ``"nothing"``, ``"images"`` or ``"labels"``.
    """

    sees: ClassVar[Sees]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse what a phase cannot say that it sees.

        Raises:
            ConfigError: If ``sees`` is not one of the three words.
        """
        super().__pydantic_init_subclass__(**kwargs)
        given = vars(cls).get("sees", "nothing")
        if given not in get_args(Sees):
            raise ConfigError(
                f"{cls.__qualname__}.sees is {given!r}; expected what the phase may see of the target: "
                f"{', '.join(map(repr, get_args(Sees)))}."
            )

    @abstractmethod
    def make_plan(self, job: Job) -> BatchPlan:
        """Return the phase's batches; their number is the number of its steps."""

    @abstractmethod
    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the phase's optimizer. Parameters of the model that it does not hold are frozen during the phase."""

    @abstractmethod
    def run(self, state: RunState) -> None:
        """Make the phase's steps from ``state.step`` on, the whole phase or what is left of it.

        Args:
            state: The run. Iterate over ``source_steps(state)`` and call ``step_made`` after each step.
        """


def seen_of_target(phases: Iterable[Phase]) -> Sees:
    """Return the most that any of some phases may see of the target."""
    return max((phase.sees for phase in phases), key=get_args(Sees).index)


PHASES: SpecRegistry[Phase] = SpecRegistry("phase", "phases", Phase, example="train", texts=("summary", "sees"))
