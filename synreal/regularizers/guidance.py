"""Guidance: pooled features keep the direction that the frozen network gives them (GCISG)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from synreal.core.heads import LinearAdapter
from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.errors import StageError
from synreal.functional.distances import guidance, pooled_difference
from synreal.functional.pooling import Pooling

_TEACHER = Pass("reference", 0)


@REGULARIZERS.register
class Guidance(FeatureRegularizer):
    """Guidance (GCISG: Nam et al., ECCV 2022, eq. 8): pooled features keep the frozen network's direction.

    Both see the same image, view 0; stages are summed.

    Attributes:
        weight: lambda.
        stages: Where to compare; (3, 4) in the paper.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        pooling: P; ``"attentional"`` in the paper, which also tries ``"none"``, ``"gap"``, ``"channel"`` and
            ``"spatial"``.
        norm: ``"sample"``: the square of each sample's distance, averaged (eq. 8), or ``"batch"``: one Frobenius norm
            over the whole batch, as published code; it grows with the root of the batch.
        adapter: Learn a linear map from the student's channels to the reference's; for a reference of another width.
    """

    name: ClassVar[str] = "guidance"
    summary: ClassVar[str] = "pooled features keep the frozen network's direction"
    paper: ClassVar[str] = "GCISG (Nam et al., ECCV 2022)"

    stages: Stages = (3, 4)
    pooling: Pooling = "attentional"
    norm: Literal["sample", "batch"] = "sample"
    adapter: bool = False

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0."""
        return frozenset({STUDENT, _TEACHER})

    def build(self, site: Site) -> Term:
        """Build the term, with its adapters."""
        stages = site.select(self.stages) if self.adapter else site.same_width(self.stages, self.name)
        if self.pooling not in ("gap", "attentional"):
            for stage in stages:
                other = site.reference_stages[stage.name]
                if other.stride != stage.stride:
                    raise StageError(
                        f"{self.name} with pooling {self.pooling!r} compares position by position, but stage "
                        f"{stage.name} has stride {stage.stride} in the student and {other.stride} in the reference. "
                        "Use pooling 'gap' or 'attentional'."
                    )
        adapters = {}
        if self.adapter:
            for stage in stages:
                adapters[stage.key] = LinearAdapter(stage.channels, site.reference_stages[stage.name].channels)
        return _GuidanceTerm({stage.key: stage.name for stage in stages}, adapters, self)


class _GuidanceTerm(Term):
    def __init__(self, names: dict[str, str], adapters: dict[str, LinearAdapter], spec: Guidance) -> None:
        super().__init__()
        self.names = names
        self.adapters = nn.ModuleDict(adapters)
        self.spec = spec

    def forward(self, step: Step) -> Tensor:
        """Sum the distance over stages."""
        losses = []
        for key, name in self.names.items():
            student, teacher = step.maps[STUDENT][name], step.maps[_TEACHER][name]
            if key in self.adapters:
                student = self.adapters[key](student)
            if self.spec.norm == "batch":
                losses.append(torch.linalg.vector_norm(pooled_difference(student, teacher, self.spec.pooling)))
            else:
                losses.append(guidance(student, teacher, self.spec.pooling))
        return self.spec.summed(losses)
