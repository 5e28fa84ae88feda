"""InfoNCE between the student and a teacher, with a queue of negatives."""

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
from synreal.functional.contrast import info_nce
from synreal.functional.pooling import attentional_pool, patches

_STUDENT_ON_KEYS = Pass("student", 1)


@REGULARIZERS.register
class InfoNCE(QueueRegularizer):
    """InfoNCE (CSG: Chen et al., ICLR 2021, eq. 3; MoCo v2) between student and teacher, on two views.

    For each stage, ``z = norm(h(P(f(x0))))`` is the anchor and ``z+ = norm(h_ema(P(f_t(x1))))`` its positive, where
    ``f_t`` is the teacher; past positives are the negatives. Losses are summed over stages. With the defaults it is CSG
    without attentional pooling; with ``teacher="average"`` it is the InfoNCE of GCISG's ablation (Nam et al., ECCV
    2022).

    The queue starts empty and only filled places count as negatives.

    Attributes:
        weight: lambda; 0.1 for classification in CSG's paper, 75 for segmentation.
        stages: Where to compare; (3, 4) in the paper.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        dim: Length d of an embedding.
        queue_size: K, how many past positives are kept for each stage.
        queue_start: ``"empty"``, or ``"random"`` directions, K of them, as published code starts.
        temperature: tau.
        momentum: Decay of the moving average of the projection heads.
        pooling: ``"gap"``, or ``"attentional"`` (A-Pool), where the teacher's map is pooled with the attention of the
            student's map of the same view; the student then runs on view 1 too, without gradient.
        patches: n; maps are cut in n x n patches and each is an anchor with its own positive (eq. 6). 1 does not cut;
            8 for dense tasks in the paper. Above 1, views must differ in colour alone.
        teacher: ``"reference"``, the frozen network, or ``"average"``, a moving average of the student.
        average_momentum: Decay of that moving average; unused with the frozen network.
        average_norm: How its normalisation layers work; see ``synreal.core.teachers.Average``.
    """

    name: ClassVar[str] = "info_nce"
    summary: ClassVar[str] = "InfoNCE between student and teacher on two views, average pooling"
    paper: ClassVar[str] = "CSG (Chen et al., ICLR 2021), MoCo v2"

    weight: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.999, ge=0, le=1)
    teacher: Literal["reference", "average"] = "reference"
    average_momentum: float = Field(default=0.996, ge=0, le=1)
    average_norm: Literal["own", "averaged"] = "own"

    @property
    def teacher_pass(self) -> Pass:
        """The pass that gives the keys."""
        if self.teacher == "reference":
            return Pass("reference", 1)
        return Pass("average", 1, average=Average(self.average_momentum, self.average_norm))

    @property
    def passes(self) -> frozenset[Pass]:
        """Anchors from the student on view 0, keys from the teacher on view 1, attention from the student on it."""
        attention = {_STUDENT_ON_KEYS} if self.pooling == "attentional" else set()
        return frozenset({STUDENT, self.teacher_pass} | attention)

    def build(self, site: Site) -> Term:
        """Build heads, their moving averages and queues for each stage."""
        same = site.same_width if self.teacher == "reference" else lambda stages, _: site.select(stages)
        return _InfoNCETerm(same(self.stages, self.name), self)


class _StageContrast(StageQueue[InfoNCE]):
    """Head, its moving average and queue of one stage."""

    def __init__(self, stage: Stage, spec: InfoNCE) -> None:
        super().__init__(stage, spec)
        self.key_head = EmaTeacher(self.head, spec.momentum)

    @property
    def follower(self) -> EmaTeacher:
        """The averaged head."""
        return self.key_head

    def forward(self, anchors: Tensor, keys: Tensor, attend_from: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss and the new keys, (N, d)."""
        cut = self.spec.patches
        with torch.no_grad():
            if attend_from is None:
                pooled = self.pooled(keys)
            else:
                pooled = attentional_pool(patches(keys, cut), patches(attend_from, cut))
            positives = self.key_head(pooled)
        embeddings = self.head(self.pooled(anchors))
        loss = info_nce(embeddings, positives, self.queue.bank, self.spec.temperature, count=self.queue.count)
        return loss, positives


class _InfoNCETerm(QueueTerm[InfoNCE, _StageContrast]):
    def __init__(self, stages: tuple[Stage, ...], spec: InfoNCE) -> None:
        super().__init__(spec)
        self.contrasts = nn.ModuleDict({stage.key: _StageContrast(stage, spec) for stage in stages})

    @property
    def parts(self) -> dict[str, _StageContrast]:
        """Heads and queues, by the stage's key."""
        return cast("dict[str, _StageContrast]", dict(self.contrasts.items()))

    def compare(self, part: _StageContrast, step: Step) -> tuple[Tensor, Tensor]:
        """Compare the student's anchors with the teacher's keys."""
        attend_from = step.maps[_STUDENT_ON_KEYS][part.stage] if self.spec.pooling == "attentional" else None
        compared: tuple[Tensor, Tensor] = part(
            step.maps[STUDENT][part.stage], step.maps[self.spec.teacher_pass][part.stage], attend_from
        )
        return compared
