"""GCISG: guided causal invariance (Nam et al., ECCV 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from synreal.core.passes import Pass
from synreal.core.sums import SumTerm
from synreal.core.terms import REGULARIZERS, Site, Stages, Term
from synreal.functional.pooling import Pooling
from synreal.regularizers.causal_invariance import CausalInvariance
from synreal.regularizers.guidance import Guidance


@REGULARIZERS.register
class GCISG(CausalInvariance):
    """GCISG (Nam et al., ECCV 2022): guidance by the frozen network plus causal invariance to style.

    ``guidance_weight * guidance + invariance_weight * causal_invariance``; see ``Guidance`` and ``CausalInvariance``,
    whose settings it takes.

    Attributes:
        weight: lambda, of the sum.
        stages: Where both compare; (3, 4) in the paper.
        guidance_weight: lambda of guidance within the sum.
        invariance_weight: lambda of causal invariance within the sum.
        guidance_stages: S_G, where guidance compares if not at ``stages``.
        invariance_stages: S_CI, where causal invariance compares if not at ``stages``.
        guidance_pooling: P of guidance, as ``Guidance.pooling``.
        guidance_norm: As ``Guidance.norm``.
        adapter: As ``Guidance.adapter``.
    """

    name: ClassVar[str] = "gcisg"
    summary: ClassVar[str] = "guidance by the frozen network plus causal invariance to style"
    paper: ClassVar[str] = "GCISG (Nam et al., ECCV 2022)"

    guidance_weight: float = Field(default=1.0, ge=0)
    invariance_weight: float = Field(default=1.0, ge=0)
    guidance_stages: Stages | None = None
    invariance_stages: Stages | None = None
    guidance_pooling: Pooling = "attentional"
    guidance_norm: Literal["sample", "batch"] = "sample"
    adapter: bool = False

    @model_validator(mode="after")
    def _weights_of_shared_stages(self) -> Self:
        if self.stage_weights is not None and (self.guidance_stages or self.invariance_stages):
            raise ValueError("stage_weights applies to stages alone, not with guidance_stages or invariance_stages")
        return self

    @property
    def guidance(self) -> Guidance:
        """The guidance half."""
        return Guidance(
            weight=self.guidance_weight,
            stages=self.guidance_stages or self.stages,
            stage_weights=self.stage_weights,
            pooling=self.guidance_pooling,
            norm=self.guidance_norm,
            adapter=self.adapter,
        )

    @property
    def invariance(self) -> CausalInvariance:
        """The causal half."""
        settings = {field: getattr(self, field) for field in CausalInvariance.model_fields}
        stages = self.invariance_stages or self.stages
        return CausalInvariance(**{**settings, "stages": stages, "weight": self.invariance_weight})

    @property
    def wanted_stages(self) -> tuple[int | str, ...]:
        """Stages whose maps either half reads."""
        return tuple(dict.fromkeys([*self.guidance.wanted_stages, *self.invariance.wanted_stages]))

    @property
    def passes(self) -> frozenset[Pass]:
        """The passes of both halves."""
        return self.guidance.passes | self.invariance.passes

    def build(self, site: Site) -> Term:
        """Build both halves."""
        return SumTerm({"guidance": self.guidance, "invariance": self.invariance}, site)
