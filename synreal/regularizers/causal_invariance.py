"""Causal invariance: one view of an image relates to past images as the other view does (GCISG)."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.queue_terms import QueueRegularizer, QueueTerm, StageQueue
from synreal.core.stages import Stage
from synreal.core.teachers import Average, EmaTeacher
from synreal.core.terms import REGULARIZERS, Site, Term
from synreal.functional.contrast import causal_invariance


@REGULARIZERS.register
class CausalInvariance(QueueRegularizer):
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

    temperature: float = Field(default=0.12, gt=0)
    target_temperature: float = Field(default=0.04, gt=0)
    momentum: float = Field(default=0.996, ge=0, le=1)
    average_norm: Literal["own", "averaged"] = "own"
    target_head: Literal["initial", "average"] = "initial"
    directions: Literal["mean", "sum", "first"] = "mean"
    moves_stats: bool = False

    def target_pass(self, view: int) -> Pass:
        """The moving average's pass on a view."""
        return Pass("average", view, average=Average(self.momentum, self.average_norm))

    @property
    def online_passes(self) -> tuple[Pass, ...]:
        """The student's passes, one per direction."""
        second = Pass("student", 1, grad=True, moves_stats=self.moves_stats)
        return (STUDENT,) if self.directions == "first" else (STUDENT, second)

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's passes, and for each the moving average's on the other view."""
        online = self.online_passes
        return frozenset({*online, *(self.target_pass(1 - needed.view) for needed in online)})

    def build(self, site: Site) -> Term:
        """Build heads and queues for each stage."""
        return _CausalInvarianceTerm(site.select(self.stages), self)


class _StageInvariance(StageQueue[CausalInvariance]):
    """Head, target head and queue of one stage."""

    def __init__(self, stage: Stage, spec: CausalInvariance) -> None:
        super().__init__(stage, spec)
        self.target_head = EmaTeacher(self.head, 1.0 if spec.target_head == "initial" else spec.momentum)

    @property
    def follower(self) -> EmaTeacher:
        """The target head, which may stand still."""
        return self.target_head

    def forward(self, online: Tensor, average: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of one direction and the targets, (N, d)."""
        with torch.no_grad():
            targets = self.target_head(self.pooled(average))
        loss = causal_invariance(
            self.head(self.pooled(online)),
            targets,
            self.queue.bank,
            self.spec.temperature,
            self.spec.target_temperature,
            count=self.queue.count,
        )
        return loss, targets


class _CausalInvarianceTerm(QueueTerm[CausalInvariance, _StageInvariance]):
    def __init__(self, stages: tuple[Stage, ...], spec: CausalInvariance) -> None:
        super().__init__(spec)
        self.invariances = nn.ModuleDict({stage.key: _StageInvariance(stage, spec) for stage in stages})

    @property
    def parts(self) -> dict[str, _StageInvariance]:
        """Heads and queues, by the stage's key."""
        return cast("dict[str, _StageInvariance]", dict(self.invariances.items()))

    def compare(self, part: _StageInvariance, step: Step) -> tuple[Tensor, Tensor]:
        """Compare in each direction; the keys are view 1's targets."""
        losses, targets = [], {}
        for online in self.spec.online_passes:
            view = 1 - online.view
            average = step.maps[self.spec.target_pass(view)][part.stage]
            loss, targets[view] = part(step.maps[online][part.stage], average)
            losses.append(loss)
        both = torch.stack(losses)
        return both.sum() if self.spec.directions == "sum" else both.mean(), targets[1]
