"""What terms share that compare with a queue of past embeddings, stage by stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from synreal.core.heads import ProjectionHead
from synreal.core.passes import Step
from synreal.core.queues import start_queue
from synreal.core.stages import Stage
from synreal.core.teachers import EmaTeacher
from synreal.core.terms import FeatureRegularizer, Stages, Term
from synreal.distributed import all_gather_rows
from synreal.functional.pooling import patches, pool


class QueueRegularizer(FeatureRegularizer):
    """A regularizer that compares with a queue of past embeddings, one for each stage.

    Attributes:
        stages: Where to compare; (3, 4) in the papers.
        dim: Length d of an embedding.
        queue_size: K, how many past embeddings are kept for each stage.
        queue_start: ``"empty"``, or ``"random"`` directions, K of them.
        pooling: ``"gap"`` or ``"attentional"`` (A-Pool).
        patches: n; maps are cut in n x n patches and each is compared by itself. 1 does not cut; 8 for dense tasks in
            the papers. Above 1, views must differ in colour alone.
    """

    stages: Stages = (3, 4)
    dim: int = Field(default=128, ge=1)
    queue_size: int = Field(default=65536, ge=1)
    queue_start: Literal["empty", "random"] = "empty"
    pooling: Literal["attentional", "gap"] = "gap"
    patches: int = Field(default=1, ge=1)

    @property
    def aligned(self) -> bool:
        """Patches are compared by position."""
        return self.patches > 1

    def dense(self, patches: int) -> Self:
        """Compare patches instead of whole images."""
        return self.with_defaults(patches=patches)


SpecT = TypeVar("SpecT", bound=QueueRegularizer)


class StageQueue(nn.Module, Generic[SpecT], ABC):
    """What a term keeps for one stage: a head that learns, one that follows it and makes keys, and a queue of keys.

    A subclass makes the head that follows, under a name of its own.

    Args:
        stage: The stage.
        spec: The settings.
    """

    def __init__(self, stage: Stage, spec: SpecT) -> None:
        super().__init__()
        self.spec = spec
        self.stage = stage.name
        self.head = ProjectionHead(stage.channels, spec.dim)
        self.queue = start_queue(spec.queue_size, spec.dim, spec.queue_start)

    @property
    @abstractmethod
    def follower(self) -> EmaTeacher:
        """The head that makes keys."""

    def pooled(self, features: Tensor) -> Tensor:
        """Cut a map in patches and pool them: (N, C, H, W) -> (N n n, C)."""
        return pool(patches(features, self.spec.patches), self.spec.pooling)

    def follow(self) -> None:
        """Move the head that makes keys, after an optimizer step."""
        self.follower.update(self.head)


PartT = TypeVar("PartT", bound=StageQueue[Any])


class QueueTerm(Term, Generic[SpecT, PartT]):
    """A term whose keys enter queues once the optimizer has stepped; before that, the queues are part of the loss.

    Args:
        spec: The settings.
    """

    def __init__(self, spec: SpecT) -> None:
        super().__init__()
        self.spec = spec
        self.fresh_keys: list[dict[str, Tensor]] = []

    @property
    @abstractmethod
    def parts(self) -> Mapping[str, PartT]:
        """What is kept for each stage, by the stage's key."""

    @abstractmethod
    def compare(self, part: PartT, step: Step) -> tuple[Tensor, Tensor]:
        """Return the loss of one stage, 0-d, and the keys for its queue, (N, d)."""

    def forward(self, step: Step) -> Tensor:
        """Sum the losses of the stages, and set the keys aside until the optimizer has stepped."""
        losses, keys = [], {}
        for key, part in self.parts.items():
            loss, keys[key] = self.compare(part, step)
            losses.append(loss)
        self.fresh_keys.append(keys)
        return self.spec.summed(losses)

    def forget(self) -> None:
        """Drop keys that were not enqueued."""
        self.fresh_keys = []

    def after_step(self) -> None:
        """Move the heads that follow, and enqueue the keys of every micro-batch since the last step."""
        fresh, self.fresh_keys = self.fresh_keys, []
        for key, part in self.parts.items():
            part.follow()
            for keys in fresh:
                # A step that GradScaler skipped may have left keys that are not finite.
                part.queue.push(all_gather_rows(keys[key][keys[key].isfinite().all(1)]))
