"""InfoNCE between the student and a teacher, with a queue of negatives."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from synreal.contrast import info_nce
from synreal.distributed import all_gather_rows
from synreal.heads import ProjectionHead
from synreal.pooling import attentional_pool, gap, patches
from synreal.queues import FeatureQueue
from synreal.regularizers.base import STUDENT, FeatureRegularizer, Pass, Site, Stages, Step, Term
from synreal.regularizers.registry import register
from synreal.stages import Stage
from synreal.teachers import Average, EmaTeacher

_STUDENT_ON_KEYS = Pass("student", 1)


@register
class InfoNCE(FeatureRegularizer):
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
        average_norm: How its normalisation layers work; see ``synreal.teachers.Average``.
    """

    name: ClassVar[str] = "info_nce"
    summary: ClassVar[str] = "InfoNCE between student and teacher on two views, average pooling"
    source: ClassVar[str] = "CSG (Chen et al., ICLR 2021), MoCo v2"

    weight: float = Field(default=0.1, ge=0)
    stages: Stages = (3, 4)
    dim: int = Field(default=128, ge=1)
    queue_size: int = Field(default=65536, ge=1)
    queue_start: Literal["empty", "random"] = "empty"
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.999, ge=0, le=1)
    pooling: Literal["attentional", "gap"] = "gap"
    patches: int = Field(default=1, ge=1)
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

    @property
    def aligned(self) -> bool:
        """Patches are compared by position."""
        return self.patches > 1

    def build(self, site: Site) -> Term:
        """Build heads, their moving averages and queues for each stage."""
        same = site.same_width if self.teacher == "reference" else lambda stages, _: site.select(stages)
        return _InfoNCETerm(same(self.stages, self.name), self)


class _StageContrast(nn.Module):
    """Head, its moving average and queue of one stage."""

    def __init__(self, stage: Stage, spec: InfoNCE) -> None:
        super().__init__()
        self.spec = spec
        self.head = ProjectionHead(stage.channels, spec.dim)
        self.key_head = EmaTeacher(self.head, spec.momentum)
        self.queue = start_queue(spec.queue_size, spec.dim, spec.queue_start)

    def forward(self, anchors: Tensor, keys: Tensor, attend_from: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss and the new keys, (N, d)."""
        cut = self.spec.patches
        with torch.no_grad():
            attention = None if attend_from is None else patches(attend_from, cut)
            pooled = gap(patches(keys, cut)) if attention is None else attentional_pool(patches(keys, cut), attention)
            positives = self.key_head(pooled)
        anchors = patches(anchors, cut)
        embeddings = self.head(gap(anchors) if attention is None else attentional_pool(anchors))
        loss = info_nce(embeddings, positives, self.queue.bank, self.spec.temperature, count=self.queue.count)
        return loss, positives


class _InfoNCETerm(Term):
    def __init__(self, stages: tuple[Stage, ...], spec: InfoNCE) -> None:
        super().__init__()
        self.spec = spec
        self.names = {stage.key: stage.name for stage in stages}
        self.contrasts = nn.ModuleDict({stage.key: _StageContrast(stage, spec) for stage in stages})
        self.fresh_keys: list[dict[str, Tensor]] = []

    def _by_stage(self) -> list[tuple[str, _StageContrast]]:
        return cast("list[tuple[str, _StageContrast]]", list(self.contrasts.items()))

    def forward(self, step: Step) -> Tensor:
        """Sum InfoNCE over stages and keep the keys until the optimizer has stepped."""
        teacher = step.maps[self.spec.teacher_pass]
        attention = step.maps.get(_STUDENT_ON_KEYS) if self.spec.pooling == "attentional" else None
        losses, keys = [], {}
        for key, contrast in self._by_stage():
            name = self.names[key]
            loss, keys[key] = contrast(step.maps[STUDENT][name], teacher[name], attention[name] if attention else None)
            losses.append(loss)
        self.fresh_keys.append(keys)
        return self.spec.summed(losses)

    def forget(self) -> None:
        """Drop keys that were not enqueued."""
        self.fresh_keys = []

    def after_step(self) -> None:
        """Move the averaged heads and enqueue the keys of every micro-batch since the last step."""
        fresh, self.fresh_keys = self.fresh_keys, []
        for key, contrast in self._by_stage():
            contrast.key_head.update(contrast.head)
            enqueue(contrast.queue, [keys[key] for keys in fresh])


def start_queue(size: int, dim: int, start: Literal["empty", "random"]) -> FeatureQueue:
    """Make a queue that is empty, or full of random unit vectors, the same on all processes."""
    queue = FeatureQueue(size, dim)
    if start == "random":
        rows = torch.randn(size, dim, generator=torch.Generator().manual_seed(0))
        queue.push(F.normalize(rows, dim=1))
    return queue


def enqueue(queue: FeatureQueue, batches: list[Tensor]) -> None:
    """Push the keys of all processes, (N, d) a micro-batch, leaving out rows that are not finite."""
    for keys in batches:
        # A step that GradScaler skipped may have left keys that are not finite.
        queue.push(all_gather_rows(keys[keys.isfinite().all(1)]))
