"""Pyramid consistency: views of an image have the same features in each cell of several grids (DRPC)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.functional.consistency import pyramid_consistency


@REGULARIZERS.register
class PyramidConsistency(FeatureRegularizer):
    """Pyramid consistency (DRPC: Yue et al., ICCV 2019): views of one image agree in each cell of several grids.

    ``mean over views and sizes of mean |P_s(f(x_k)) - g_s|``, where ``P_s`` averages a map in s x s cells and ``g_s``
    is the mean over views, without gradient; stages are summed. It asks for no teacher. DRPC's views are one image in
    the styles of real ones; here they are whatever the run's views are.

    Attributes:
        weight: lambda; ours, not tuned.
        stages: Where to compare; ours.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        sizes: s, cells along each side; (1, 2, 4, 8) for dense tasks. 1 compares whole images. Above 1, views must
            differ in colour alone.
        count: K, how many views are compared; the student runs on each, with gradient.
    """

    name: ClassVar[str] = "pyramid_consistency"
    summary: ClassVar[str] = "views of an image have the same pooled features, at several scales"
    paper: ClassVar[str] = "DRPC (Yue et al., ICCV 2019)"

    stages: Stages = (3, 4)
    sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1,)
    count: int = Field(default=2, ge=2)

    @property
    def compared(self) -> tuple[Pass, ...]:
        """The student's passes, one for each view."""
        return (STUDENT, *(Pass("student", view, grad=True) for view in range(1, self.count)))

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's passes, all with gradient."""
        return frozenset(self.compared)

    @property
    def aligned(self) -> bool:
        """Cells are compared by position."""
        return max(self.sizes) > 1

    def dense(self, patches: int) -> Self:
        """Compare cells, in grids that double up to the patches that suit the task's maps."""
        return self.with_defaults(sizes=tuple(1 << power for power in range(patches.bit_length())))

    def build(self, site: Site) -> Term:
        """Build the term."""
        return _PyramidTerm(self)


class _PyramidTerm(Term):
    def __init__(self, spec: PyramidConsistency) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, step: Step) -> Tensor:
        """Sum the distances over stages."""
        return self.spec.summed(
            [
                pyramid_consistency([step.maps[one][str(stage)] for one in self.spec.compared], self.spec.sizes)
                for stage in self.spec.stages
            ]
        )
