"""What a phase of training is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from torch.optim import Optimizer
from torch.utils.data import Dataset

from synreal.config import RunConfig
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.errors import ConfigError
from synreal.records import Seen
from synreal.specs import Spec, SpecRegistry
from synreal.tasks.base import Task

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

    @property
    def title(self) -> str:
        """What progress and rows of metrics call it."""
        return self.name

    def stretches(self) -> Sequence[Phase]:
        """Return the phases that it consists of, each with a plan and an optimizer of its own; by default itself."""
        return (self,)

    @property
    def regularized(self) -> bool:
        """Whether penalties are part of its loss; if not, the regularizers are told of none of its steps."""
        return True

    def check(self, config: RunConfig) -> None:
        """Check what can be known without data, network or the machine that will run it.

        Raises:
            ConfigError: If the phase does not suit the run.
        """

    def read(self, task: Task[Any]) -> list[Seen]:
        """Read the real images that the phase trains on into ``task.real``, before anything is trained.

        Args:
            task: The task, with the source and what is tested on.

        Returns:
            What results say of them.

        Raises:
            ConfigError: If there are none that may be seen.
            DataError: If data are missing or damaged.
        """
        return []

    def items(self, job: Job) -> Dataset[Any] | None:
        """Return what the phase trains on, read by ``(epoch, index)``, as ``job.data``; None for the source as it is.

        Args:
            job: The run, with the source's items as its data.
        """
        return None

    def to_train(self, job: Job) -> None:
        """Bring the model into the mode in which the phase trains it; called before its steps and after each test."""
        job.model.train(self.regularized)
        job.student.network.train()

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
