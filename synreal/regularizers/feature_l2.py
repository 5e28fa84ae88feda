"""Feature L2: keep the student's maps close to the frozen ImageNet network's (ROAD)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.functional.distances import feature_l2

_TEACHER = Pass("reference", 0)


@REGULARIZERS.register
class FeatureL2(FeatureRegularizer):
    """Feature L2 (ROAD: Chen et al., CVPR 2018): the student's maps stay close to the frozen network's.

    Both see the same image, view 0; stages are summed.

    Attributes:
        weight: lambda. The paper gives none that fits this mean; 0.001 is the largest power of ten that leaves the
            accuracy on held-out synthetic digits as high as without a regularizer.
        stages: Where to compare; ROAD compares the last.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        spatial: Compare averages over a 3 x 3 grid of cells instead of positions.
    """

    name: ClassVar[str] = "feature_l2"
    summary: ClassVar[str] = "features stay close to the frozen ImageNet network's"
    paper: ClassVar[str] = "ROAD (Chen et al., CVPR 2018)"

    weight: float = Field(default=1e-3, ge=0)
    stages: Stages = (4,)
    spatial: bool = False

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0."""
        return frozenset({STUDENT, _TEACHER})

    def dense(self, patches: int) -> Self:
        """Compare cells of a grid; how many there are is ROAD's."""
        return self.with_defaults(spatial=True)

    def build(self, site: Site) -> Term:
        """Build the term."""
        return _FeatureL2Term([stage.name for stage in site.same_width(self.stages, self.name)], self)


class _FeatureL2Term(Term):
    def __init__(self, stages: list[str], spec: FeatureL2) -> None:
        super().__init__()
        self.stages = stages
        self.spec = spec

    def forward(self, step: Step) -> Tensor:
        """Sum the distance over stages."""
        student, teacher = step.maps[STUDENT], step.maps[_TEACHER]
        return self.spec.summed([feature_l2(student[s], teacher[s], self.spec.spatial) for s in self.stages])
