"""FTP: weights stay in balls around the pretrained ones whose radii are learnt (Tian et al., NeurIPS 2023)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.core.anchors import Bank, ProjectingTerm
from synreal.core.terms import REGULARIZERS, Regularizer, Site, Term
from synreal.functional.projections import (
    SMALLEST_RADIUS,
    displacement,
    next_radius,
    project_rows,
    radius_slope,
    row_norms,
)


@REGULARIZERS.register
class FTP(Regularizer):
    """Fast trainable projection (FTP: Tian et al., NeurIPS 2023).

    It adds nothing to the loss. After each step of the optimizer, each row of a parameter of the backbone is projected
    into an L1 ball around its pretrained weights, ``w0_i + min(1, gamma / n_i) c_i`` with ``n_i = ||c_i||_1``. Each
    parameter has one radius gamma, which Adam learns from the gradients that pass by. It starts at 1e-8, so the first
    step is undone, as in the published code. Weight decay stays the optimizer's and is part of the step that is
    projected.

    Attributes:
        weight: How far weights go to their projection: 1 is the paper's, 0 switches it off.
        radius_lr: Learning rate of the radii, in units of a row's L1 norm.
        annealing: kappa: what a slope is multiplied by that asks for a smaller radius; below 1, radii shrink more
            slowly than they grow.
    """

    name: ClassVar[str] = "ftp"
    summary: ClassVar[str] = "weights stay in balls around the pretrained ones, of radii that are learnt"
    paper: ClassVar[str] = "FTP (Tian et al., NeurIPS 2023)"
    penalizes: ClassVar[bool] = False

    weight: float = Field(default=1.0, ge=0, le=1)
    radius_lr: float = Field(default=1e-2, gt=0)
    annealing: float = Field(default=1.0, ge=0)

    def build(self, site: Site) -> Term:
        """Build the term, with the weights as they are now for anchors."""
        return _FTPTerm(site, self)


_NUMBERS = ("radius", "mean", "square")


class _FTPTerm(ProjectingTerm):
    radius: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, site: Site, spec: FTP) -> None:
        super().__init__(site, spec.name, spec.weight)
        self.spec = spec
        parameters = site.backbone_parameters()
        self.way = Bank({name: torch.zeros_like(value) for name, value in parameters.items()})
        # One number for each parameter, in the order of the banks' names.
        wide = functools.reduce(torch.promote_types, (value.dtype for value in parameters.values()), torch.float32)
        for name, start in zip(_NUMBERS, (SMALLEST_RADIUS, 0.0, 0.0), strict=True):
            self.register_buffer(name, torch.full((len(parameters),), start, dtype=wide))
        self.register_buffer("steps", torch.zeros(len(parameters), dtype=torch.int64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a change of device or dtype; radii are too fine for half precision."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in _NUMBERS:
            value: Any = getattr(self, name)
            setattr(self, name, value.to(torch.promote_types(value.dtype, torch.float32)))
        return self

    def look(self, indices: list[int], gradients: list[Tensor]) -> Tensor:
        """Return the slopes of the loss by the radii, (parameters,)."""
        ways = self.way.tensors()
        slopes = [radius_slope(gradient, ways[index]) for index, gradient in zip(indices, gradients, strict=True)]
        return torch.stack(slopes)

    def move(self, indices: list[int], seen: Tensor) -> None:
        """Learn the radii, and project."""
        anchors, ways = self.anchors.tensors(), self.way.tensors()
        now = [displacement(self._weights[index], anchors[index]) for index in indices]
        which = torch.tensor(indices, device=self.radius.device)
        self.steps[which] += 1
        largest = torch.stack([row_norms(way).max() for way in now]).to(self.radius.dtype)
        learnt = next_radius(
            self.radius[which],
            self.mean[which],
            self.square[which],
            slope=seen.to(self.radius.dtype),
            step=self.steps[which],
            largest=largest,
            rate=self.spec.radius_lr,
            annealing=self.spec.annealing,
        )
        for name, values in zip(_NUMBERS, learnt, strict=True):
            getattr(self, name)[which] = values
        for index, way, radius in zip(indices, now, learnt[0], strict=True):
            weight = self._weights[index]
            weight.copy_(project_rows(weight, anchors[index], radius.to(way.dtype), self.weight))
            ways[index].copy_(way)
