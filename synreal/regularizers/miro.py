"""MIRO: the student's features stay informative of what the frozen network saw, channel by channel."""

from __future__ import annotations

import math
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.stages import Stage
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.functional.distances import miro

_TEACHER = Pass("reference", 0)
_START: Final = 0.1
"""Variance of each channel before the first step, as published."""


@REGULARIZERS.register
class MIRO(FeatureRegularizer):
    """MIRO (Cha et al., ECCV 2022): mutual information of the student's maps with the frozen network's is kept high.

    ``1/2 mean[ (f(x) - f_o(x))^2 / s + log s ]`` with a variance ``s`` for each channel, which learns with the student:
    channels that have to move get a larger one and are held less. Both see the same image, view 0; stages are summed.
    The penalty may be negative.

    Attributes:
        weight: lambda; 0.1 in published code, which searches from 0.001 to 1 (0.01 for PACS).
        stages: Where to compare; the paper compares the stem, too: ``(0, 1, 2, 3, 4)``, where the network has one.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        floor: Smallest variance. Student and teacher are equal at first, so variances sink before features move; 0.001
            bounds the gradients that follow.
    """

    name: ClassVar[str] = "miro"
    summary: ClassVar[str] = "features stay informative of the frozen network's, with a learned variance per channel"
    paper: ClassVar[str] = "MIRO (Cha et al., ECCV 2022)"

    weight: float = Field(default=0.1, ge=0)
    stages: Stages = (1, 2, 3, 4)
    floor: float = Field(default=1e-5, gt=0, lt=_START)

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0."""
        return frozenset({STUDENT, _TEACHER})

    def build(self, site: Site) -> Term:
        """Build the term, with its variances."""
        return _MIROTerm(site.same_width(self.stages, self.name), self)


class _MIROTerm(Term):
    def __init__(self, stages: tuple[Stage, ...], spec: MIRO) -> None:
        super().__init__()
        self.names = {stage.key: stage.name for stage in stages}
        self.spec = spec
        start = math.log(math.expm1(_START - spec.floor))  # the variance is softplus of this, plus the floor
        self.raw = nn.ParameterDict({s.key: nn.Parameter(torch.full((s.channels,), start)) for s in stages})

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """The variances: weight decay would draw them to 0.69, whatever the features are."""
        return tuple(self.raw.values())

    def variance(self, key: str) -> Tensor:
        """Return the variances of a stage, (C,), in float32 or better."""
        raw = self.raw[key]
        return F.softplus(raw.to(torch.promote_types(raw.dtype, torch.float32))) + self.spec.floor

    def forward(self, step: Step) -> Tensor:
        """Sum the bounds over stages."""
        student, teacher = step.maps[STUDENT], step.maps[_TEACHER]
        return self.spec.summed(
            [miro(student[name], teacher[name], self.variance(key)) for key, name in self.names.items()]
        )
