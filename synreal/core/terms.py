"""What every regularizer is made of: a spec that users write, and a term that runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from synreal.core.passes import Pass, Step
from synreal.core.stages import Stage
from synreal.core.teachers import Reference
from synreal.errors import StageError
from synreal.specs import Spec, SpecRegistry


@dataclass(frozen=True)
class Site:
    """Where a term is built: what it may know of the network it watches.

    Attributes:
        student: The network that trains.
        stages: The student's stages that some term asked for, by name.
        reference_stages: The reference's stages of the same names.
        backbone: Names of the student's parameters that belong to the backbone, not to the task's head.
        reference: The frozen teacher, where some term asked for it.
        entry: Path of the module that turns images into maps; empty for the student itself.
        doubt: Path of a fresh last layer, where no head was found; else empty.
    """

    student: nn.Module
    stages: Mapping[str, Stage]
    reference_stages: Mapping[str, Stage]
    backbone: frozenset[str]
    reference: Reference | None = None
    entry: str = ""
    doubt: str = ""

    def backbone_parameters(self) -> dict[str, nn.Parameter]:
        """Return the backbone's parameters by name, those too that do not learn yet."""
        return {n: p for n, p in self.student.named_parameters() if n in self.backbone}

    def select(self, wanted: tuple[int | str, ...]) -> tuple[Stage, ...]:
        """Return the student's stages that a spec names, in its order."""
        return tuple(self.stages[str(name)] for name in wanted)

    def same_width(self, wanted: tuple[int | str, ...], term: str) -> tuple[Stage, ...]:
        """Return stages on which student and reference have equally many channels.

        Raises:
            StageError: If they differ; names the stage and both widths.
        """
        for stage in self.select(wanted):
            other = self.reference_stages[stage.name]
            if other.channels != stage.channels:
                raise StageError(
                    f"{term} compares stage {stage.name} of student and reference channel by channel, but the student "
                    f"has {stage.channels} channels there and the reference {other.channels}. Use a reference of the "
                    "same architecture, a stage where the widths agree, or guidance or kl with adapter=True."
                )
        return self.select(wanted)


class Term(nn.Module, ABC):
    """The running side of a regularizer: parameters and buffers from birth, and a penalty for each step."""

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """Return the unweighted penalty, a float32 scalar."""

    def before_step(self) -> None:
        """Read the gradients right before an optimizer step; a GradScaler has unscaled them."""

    def move_weights(self) -> None:
        """Move the student's weights right after an optimizer step, before averages and ``after_step`` read them."""

    def after_step(self) -> None:
        """Update state after an optimizer step, without gradient: queues, moving averages, collectives."""

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """Parameters that the optimizer must not decay: 0 is not where they rest, or the term does something else."""
        return ()

    @property
    def awake(self) -> bool:
        """Whether the spec's further passes are to run in this step; a number that Python knows, not a tensor's."""
        return True

    @property
    def wants_images(self) -> bool:
        """Whether the term must still see images (``calibrate``) before the first step."""
        return False

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Look at images once before training.

        Args:
            images: Batches (N, 3, H, W), normalised as for the student.
        """

    def forget(self) -> None:
        """Drop what was set aside for ``after_step``; called while no optimizer is bound, so that nothing piles up."""

    def release(self) -> None:
        """Give back whatever was changed on the student when the term was built."""

    @property
    def stateful(self) -> bool:
        """Whether the term must be told of optimizer steps."""
        own = type(self)
        moves = own.move_weights is not Term.move_weights
        return moves or self.reads_gradients or own.after_step is not Term.after_step

    @property
    def reads_gradients(self) -> bool:
        """Whether the term reads gradients before each optimizer step."""
        return type(self).before_step is not Term.before_step


class NoPenalty(Term):
    """A term that adds nothing to the loss."""

    anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(()), persistent=False)

    def forward(self, step: Step) -> Tensor:
        """Return zero on the model's device."""
        return self.anchor.float()


def _stage_name(value: Any) -> Any:
    value = int(value) if isinstance(value, str) and value.isdecimal() else value
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 4
    if not number and not (isinstance(value, str) and value):
        raise ValueError("a stage is a number from 0 to 4 or a module path")
    return value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, (int, str)) and not isinstance(value, bool) else value


StageName = Annotated[int | str, BeforeValidator(_stage_name)]


def _distinct(value: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("a stage is named twice")
    return value


Stages = Annotated[tuple[StageName, ...], BeforeValidator(_as_tuple), Field(min_length=1), AfterValidator(_distinct)]


class Regularizer(Spec):
    """The spec of a regularizer: one declaration for Python, YAML, the command line and the result record.

    Subclasses set ``name``, ``summary`` and ``paper``, add their settings as fields and build a ``Term``.

    Attributes:
        paper: Where it comes from, e.g. ``"CSG (Chen et al., ICLR 2021)"``; in the body of the class.
        penalizes: Whether it adds to the loss, likewise; otherwise it changes what learns, or how.
        weight: lambda, what the term is multiplied by in the total loss; at least 0.
    """

    paper: ClassVar[str]
    penalizes: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)

    @property
    def wanted_stages(self) -> tuple[int | str, ...]:
        """Stages whose maps the term reads."""
        return ()

    @property
    def passes(self) -> frozenset[Pass]:
        """Forward passes that the term needs."""
        return frozenset()

    @property
    def needs_classifier(self) -> bool:
        """Whether the term reads the reference's own classifier, so that a fresh one would teach it nothing."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the term compares with the frozen teacher."""
        return self.needs_classifier or any(needed.net == "reference" for needed in self.passes)

    @property
    def aligned(self) -> bool:
        """Whether all views must share their geometry and differ in colour alone."""
        return False

    @property
    def needs_targets(self) -> bool:
        """Whether the term reads the targets of a batch, ``model(view0, targets=targets)``."""
        return False

    @property
    def needs_own_loop(self) -> str | None:
        """What the term needs that ``synreal run`` does not make, in words; None if nothing."""
        return None

    @property
    def needs_transform(self) -> str | None:
        """The transform whose layers the term reads; None if it needs none."""
        return None

    def on(self, network: nn.Module) -> Self:
        """Return the spec with what follows from the network filled in, such as its layers; ``attach`` asks.

        Args:
            network: The student.

        Raises:
            StageError: If it lacks what the term reads.
        """
        return self

    def scheduled(self, steps_per_epoch: int, steps: int) -> Self:
        """Return the spec with what follows from the length of an epoch or of the run filled in.

        Asked where synreal trains.

        Args:
            steps_per_epoch: Optimizer steps of an epoch, at least 1.
            steps: Optimizer steps of the phase ``train``, at least 1.
        """
        return self

    def for_classes(self, classes: Sequence[str]) -> Self:
        """Return the spec with what follows from the names of the classes filled in; asked where synreal trains.

        Args:
            classes: Names, in the order of their numbers from 0.

        Raises:
            ConfigError: If a setting does not fit them.
        """
        return self

    def dense(self, patches: int) -> Self:
        """Return what the spec becomes in a dense task, where places are compared instead of whole images.

        Settings that were given stay (``with_defaults`` sees to it). One that does not pool its maps needs no change.

        Args:
            patches: Patches along each side that suit the task's maps, at least 1.
        """
        return self

    @property
    def views(self) -> int:
        """How many views of each image the term needs, at least 1."""
        return 1 + max((needed.view for needed in self.passes), default=0)

    @abstractmethod
    def build(self, site: Site) -> Term:
        """Build the term for a network.

        Args:
            site: What the term may know of it. What a term changes on the student, its ``release`` undoes.
        """


REGULARIZERS: Final[SpecRegistry[Regularizer]] = SpecRegistry(
    "regularizer",
    "regularizers",
    Regularizer,
    example="csg(stages=(3, 4), weight=0.1)",
    texts=("summary", "paper"),
    taken=dir(nn.ModuleDict),  # a term is a module of the network, by the regularizer's name
)


class FeatureRegularizer(Regularizer):
    """A regularizer that reads feature maps.

    Attributes:
        stages: Numbers 0 to 4 or module paths; one or several.
        stage_weights: What each stage's loss is multiplied by before they are summed, in the order of ``stages``, each
            at least 0; None weighs all by 1.
    """

    stages: Stages
    stage_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _one_weight_per_stage(self) -> Self:
        if self.stage_weights is not None and len(self.stage_weights) != len(self.stages):
            raise ValueError(
                f"stage_weights has {len(self.stage_weights)} values for {len(self.stages)} stages; give one for each"
            )
        return self

    def summed(self, losses: Sequence[Tensor]) -> Tensor:
        """Sum the losses of the stages (0-d each), weighted by ``stage_weights``."""
        stacked = torch.stack(list(losses))
        if self.stage_weights is None:
            return stacked.sum()
        return (stacked * stacked.new_tensor(self.stage_weights)).sum()

    @property
    def wanted_stages(self) -> tuple[int | str, ...]:
        """Stages whose maps the term reads."""
        return self.stages
