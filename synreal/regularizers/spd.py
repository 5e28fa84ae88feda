"""SPD: weights that move uphill go back towards the pretrained ones (Tian et al., NeurIPS 2024)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from synreal.core.anchors import ProjectingTerm
from synreal.core.terms import REGULARIZERS, Regularizer, Site, Term
from synreal.functional.projections import displacement, spd_share


@REGULARIZERS.register
class SPD(Regularizer):
    """Selective projection decay (SPD: Tian et al., NeurIPS 2024), in place of weight decay of the backbone.

    It adds nothing to the loss. After each step of the optimizer, a parameter of the backbone whose way from its
    pretrained weights leads uphill, ``<g, w - w0> > 0``, gives back a share of its displacement ``c = u - w0``:
    ``u - lam clamp((||c|| - ||w - w0||) / ||c||, 0, 1) c``. The optimizer does not decay these parameters meanwhile,
    whatever its ``weight_decay``.

    Attributes:
        weight: lambda, how much of a step away from the pretrained weights is taken back; with 1 they end no farther
            away than they were. 0 switches everything off, and weight decay on again.
    """

    name: ClassVar[str] = "spd"
    summary: ClassVar[str] = "steps that lead farther from the pretrained weights and uphill are taken back"
    paper: ClassVar[str] = "SPD (Tian et al., NeurIPS 2024)"
    penalizes: ClassVar[bool] = False

    weight: float = Field(default=1.0, ge=0)

    def build(self, site: Site) -> Term:
        """Build the term, with the weights as they are now for anchors."""
        return _SPDTerm(site, self.name, self.weight)


class _SPDTerm(ProjectingTerm):
    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """All that it moves: SPD is their weight decay."""
        return self._weights if self.weight > 0 else ()

    def look(self, indices: list[int], gradients: list[Tensor]) -> Tensor:
        """Return each gradient's product with the displacement, and the displacement's norm, (parameters, 2)."""
        ways = self._ways(indices)
        products = [(gradient.to(way.dtype) * way).sum() for gradient, way in zip(gradients, ways, strict=True)]
        return torch.stack([torch.stack(products), _norms(ways)], 1)

    def move(self, indices: list[int], seen: Tensor) -> None:
        """Take the shares back."""
        ways = self._ways(indices)
        shares = spd_share(seen[:, 0], seen[:, 1], _norms(ways), self.weight)
        for index, way, share in zip(indices, ways, shares, strict=True):
            weight = self._weights[index]
            weight.copy_(weight.to(way.dtype) - share * way)

    def _ways(self, indices: list[int]) -> list[Tensor]:
        anchors = self.anchors.tensors()
        return [displacement(self._weights[index], anchors[index]) for index in indices]


def _norms(ways: list[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(way) for way in ways])
