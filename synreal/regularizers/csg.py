"""CSG: contrastive synthetic-to-real generalization (Chen et al., ICLR 2021)."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from synreal.contrast import info_nce
from synreal.distributed import all_gather_rows
from synreal.pooling import attentional_pool, gap
from synreal.queues import FeatureQueue
from synreal.regularizers.base import STUDENT, FeatureRegularizer, Pass, Site, Stages, Step, Term
from synreal.regularizers.registry import register
from synreal.stages import Stage
from synreal.teachers import EmaTeacher

_TEACHER = Pass("reference", 1)
_STUDENT_ON_KEYS = Pass("student", 1)


@register
class CSG(FeatureRegularizer):
    """CSG (Chen et al., ICLR 2021): pull student and frozen network together on two views, push other images away.

    For each stage, ``z = norm(h(P_a(f(x0))))`` is the anchor and ``z+ = norm(h_ema(P_a(f_o(x1)))`` its positive, where
    ``P_a`` on the teacher's map uses the attention of the student's map of the same view; past positives are the
    negatives. InfoNCE losses (eq. 3) are summed over stages.

    The queue starts empty and only filled places count as negatives; published code starts with random vectors.

    Attributes:
        weight: lambda; 0.1 for classification in the paper, 75 for segmentation.
        stages: Where to compare; (3, 4) in the paper.
        dim: Length d of an embedding.
        queue_size: K, how many past positives are kept for each stage.
        temperature: tau.
        momentum: Decay of the moving average of the projection heads.
        pooling: ``"attentional"`` (A-Pool) or ``"gap"``, the paper's ablation. With ``"gap"`` the student's extra pass
            on view 1 is not needed and not run.
    """

    name: ClassVar[str] = "csg"
    summary: ClassVar[str] = "InfoNCE between student and frozen network, attentional pooling"
    source: ClassVar[str] = "CSG (Chen et al., ICLR 2021)"

    weight: float = Field(default=0.1, ge=0)
    stages: Stages = (3, 4)
    dim: int = Field(default=128, ge=1)
    queue_size: int = Field(default=65536, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    momentum: float = Field(default=0.999, ge=0, le=1)
    pooling: Literal["attentional", "gap"] = "attentional"

    @property
    def passes(self) -> frozenset[Pass]:
        """Anchors from the student on view 0, keys from the reference on view 1, attention from the student on it."""
        attention = {_STUDENT_ON_KEYS} if self.pooling == "attentional" else set()
        return frozenset({STUDENT, _TEACHER} | attention)

    def build(self, site: Site) -> Term:
        """Build heads, their moving averages and queues for each stage."""
        return _CSGTerm(site.same_width(self.stages, self.name), self)


class ProjectionHead(nn.Module):
    """``norm(W2 relu(W1 v + b1) + b2)``: (N, C) -> (N, d) on the unit sphere.

    Args:
        channels: C, also the width of the hidden layer.
        dim: d.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dim))

    def forward(self, vectors: Tensor) -> Tensor:
        """Project and normalise."""
        return F.normalize(self.layers(vectors), dim=1)


class _StageContrast(nn.Module):
    """Head, its moving average and queue of one stage."""

    def __init__(self, stage: Stage, spec: CSG) -> None:
        super().__init__()
        self.spec = spec
        self.head = ProjectionHead(stage.channels, spec.dim)
        self.key_head = EmaTeacher(self.head, spec.momentum)
        self.queue = FeatureQueue(spec.queue_size, spec.dim)

    def forward(self, anchors: Tensor, keys: Tensor, attend_from: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the loss and the new keys, (N, d)."""
        with torch.no_grad():
            pooled = gap(keys) if attend_from is None else attentional_pool(keys, attend_from)
            positives = self.key_head(pooled)
        pooled = gap(anchors) if attend_from is None else attentional_pool(anchors)
        loss = info_nce(self.head(pooled), positives, self.queue.keys(), self.spec.temperature)
        return loss, positives


class _CSGTerm(Term):
    def __init__(self, stages: tuple[Stage, ...], spec: CSG) -> None:
        super().__init__()
        self.names = {stage.key: stage.name for stage in stages}
        self.contrasts = nn.ModuleDict({stage.key: _StageContrast(stage, spec) for stage in stages})
        self.fresh_keys: list[dict[str, Tensor]] = []

    def _by_stage(self) -> list[tuple[str, _StageContrast]]:
        return cast("list[tuple[str, _StageContrast]]", list(self.contrasts.items()))

    def forward(self, step: Step) -> Tensor:
        """Sum InfoNCE over stages and keep the keys until the optimizer has stepped."""
        attention = step.maps.get(_STUDENT_ON_KEYS)
        losses, keys = [], {}
        for key, contrast in self._by_stage():
            name = self.names[key]
            loss, keys[key] = contrast(
                step.maps[STUDENT][name], step.maps[_TEACHER][name], attention[name] if attention else None
            )
            losses.append(loss)
        self.fresh_keys.append(keys)
        return torch.stack(losses).sum()

    def forget(self) -> None:
        """Drop keys that were not enqueued."""
        self.fresh_keys = []

    def after_step(self) -> None:
        """Move the averaged heads and enqueue the keys of every micro-batch since the last step."""
        fresh, self.fresh_keys = self.fresh_keys, []
        for key, contrast in self._by_stage():
            contrast.key_head.update(contrast.head)
            for keys in fresh:
                # A step that GradScaler skipped may have left keys that are not finite.
                finite = keys[key].isfinite().all(1)
                contrast.queue.push(all_gather_rows(keys[key][finite]))
