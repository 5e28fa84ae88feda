"""Causal invariance: one view of an image relates to past images as the other view does (GCISG)."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from synreal.core.heads import ProjectionHead
from synreal.core.queues import start_queue
from synreal.core.stages import Stage
from synreal.core.teachers import Average, EmaTeacher
from synreal.core.terms import (
    REGULARIZERS,
    STUDENT,
    FeatureRegularizer,
    Pass,
    QueueTerm,
    Site,
    StageQueue,
    Stages,
    Step,
    Term,
)
from synreal.functional.contrast import causal_invariance
from synreal.functional.pooling import patches, pool


@REGULARIZERS.register
class CausalInvariance(FeatureRegularizer):
    """Causal invariance (GCISG: Nam et al., ECCV 2022, eq. 1-4): what style changes, similarities must not follow.

    For each stage the student's embedding of one view, ``z = norm(h(gap(f(x_i))))``, and the moving average's of the
    other, ``z_bar = norm(h_0(gap(f_ema(x_j))))``, are compared with a queue of past ``z_bar``; the cross-entropy of the
    two softmax distributions is the loss, averaged over both directions and summed over stages. ``h_0`` is the head as
    it was drawn. Each image enters the queue once, with its ``z_bar`` of view 1.

    Attributes:
        weight: lambda.
        stages: Where to compare; (3, 4) in the paper.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        dim: Length d of an embedding.
        queue_size: K, how many past embeddings are kept for each stage.
        queue_start: ``"empty"``, or ``"random"`` directions, K of them.
        temperature: tau, of the student's distribution.
        target_temperature: tau_bar, of the moving average's; lower is sharper.
        momentum: Decay of the moving average of the backbone.
        average_norm: How its normalisation layers work; see ``synreal.core.teachers.Average``.
        target_head: ``"initial"``, the head as drawn, never updated (paper), or ``"average"``, its moving average.
        directions: ``"mean"`` of both (eq. 3), ``"sum"`` of both (published code), or ``"first"``: view 0 against view
            1 alone, which saves the student's pass with gradient on view 1.
        moves_stats: Whether the student's pass on view 1 may move its running statistics too.
        pooling: ``"gap"`` (paper) or ``"attentional"``.
        patches: n; maps are cut in n x n patches and each is compared by itself (eq. 4). 1 does not cut; 8 for dense
            tasks in the paper. Above 1, views must differ in colour alone.
    """

    name: ClassVar[str] = "causal_invariance"
    summary: ClassVar[str] = "two views of an image relate to past images alike"
    paper: ClassVar[str] = "GCISG (Nam et al., ECCV 2022)"

    stages: Stages = (3, 4)
    dim: int = Field(default=128, ge=1)
    queue_size: int = Field(default=65536, ge=1)
    queue_start: Literal["empty", "random"] = "empty"
    temperature: float = Field(default=0.12, gt=0)
    target_temperature: float = Field(default=0.04, gt=0)
    momentum: float = Field(default=0.996, ge=0, le=1)
    average_norm: Literal["own", "averaged"] = "own"
    target_head: Literal["initial", "average"] = "initial"
    directions: Literal["mean", "sum", "first"] = "mean"
    moves_stats: bool = False
    pooling: Literal["attentional", "gap"] = "gap"
    patches: int = Field(default=1, ge=1)

    def target_pass(self, view: int) -> Pass:
        """The moving average's pass on a view."""
        return Pass("average", view, average=Average(self.momentum, self.average_norm))

    @property
    def online_passes(self) -> tuple[Pass, ...]:
        """The student's passes, one a direction."""
        second = Pass("student", 1, grad=True, moves_stats=self.moves_stats)
        return (STUDENT,) if self.directions == "first" else (STUDENT, second)

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's passes, and for each the moving average's on the other view."""
        online = self.online_passes
        return frozenset({*online, *(self.target_pass(1 - needed.view) for needed in online)})

    @property
    def aligned(self) -> bool:
        """Patches are compared by position."""
        return self.patches > 1

    def build(self, site: Site) -> Term:
        """Build heads and queues for each stage."""
        return _CausalInvarianceTerm(site.select(self.stages), self)


class _StageInvariance(StageQueue):
    """Head, target head and queue of one stage."""

    def __init__(self, stage: Stage, spec: CausalInvariance) -> None:
        super().__init__()
        self.spec = spec
        self.head = ProjectionHead(stage.channels, spec.dim)
        self.target_head = EmaTeacher(self.head, 1.0 if spec.target_head == "initial" else spec.momentum)
        self.queue = start_queue(spec.queue_size, spec.dim, spec.queue_start)

    def _pooled(self, features: Tensor) -> Tensor:
        return pool(patches(features, self.spec.patches), self.spec.pooling)

    def forward(self, online: Tensor, average: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of one direction and the targets, (N, d)."""
        with torch.no_grad():
            targets = self.target_head(self._pooled(average))
        loss = causal_invariance(
            self.head(self._pooled(online)),
            targets,
            self.queue.bank,
            self.spec.temperature,
            self.spec.target_temperature,
            count=self.queue.count,
        )
        return loss, targets

    def follow(self) -> None:
        """Move the target head, where it moves."""
        self.target_head.update(self.head)


class _CausalInvarianceTerm(QueueTerm):
    def __init__(self, stages: tuple[Stage, ...], spec: CausalInvariance) -> None:
        super().__init__(stages)
        self.spec = spec
        self.invariances = nn.ModuleDict({stage.key: _StageInvariance(stage, spec) for stage in stages})

    @property
    def parts(self) -> dict[str, _StageInvariance]:
        """Heads and queues, by the stage's key."""
        return cast("dict[str, _StageInvariance]", dict(self.invariances.items()))

    def forward(self, step: Step) -> Tensor:
        """Sum the invariance over stages and keep view 1's targets until the optimizer has stepped."""
        losses, keys = [], {}
        for key, invariance in self.parts.items():
            name = self.names[key]
            directions = []
            for online in self.spec.online_passes:
                view = 1 - online.view
                loss, targets = invariance(step.maps[online][name], step.maps[self.spec.target_pass(view)][name])
                directions.append(loss)
                if view == 1:
                    keys[key] = targets
            both = torch.stack(directions)
            losses.append(both.sum() if self.spec.directions == "sum" else both.mean())
        self.fresh_keys.append(keys)
        return self.spec.summed(losses)
