"""Synaptic Intelligence: weights that did much for the loss move less (Zenke et al., ICML 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.core.anchors import Bank
from synreal.core.passes import Step
from synreal.core.precision import KeptWide
from synreal.core.terms import REGULARIZERS, Regularizer, Site, Term
from synreal.functional.distances import path_importance
from synreal.regularizers.weight_l2 import AnchoredTerm

_INTERVAL = 500  # optimizer steps, where nobody says how many an epoch has


@REGULARIZERS.register
class SynapticIntelligence(Regularizer):
    """Synaptic Intelligence (Zenke et al., ICML 2017): ``sum_p Omega_p (w_p - w_p^0)^2`` over the backbone.

    ``Omega_p`` is the path integral of gradient times step, over the squared displacement (eq. 3 to 5). ImageNet
    training is over, so it is gathered during the synthetic training itself: it is 1 at first, and at the end of each
    interval the interval's importance takes its place (the first time) or is added (from then on). The anchor ``w^0``
    stays the pretrained weights. Gradients are those that the optimizer sees, of all losses together.

    Attributes:
        weight: c in the paper.
        damping: xi, which bounds the importance of weights that hardly moved.
        interval: Optimizer steps from one consolidation to the next; None: an epoch in ``synreal run``, 500 in your
            own loop.
    """

    name: ClassVar[str] = "si"
    summary: ClassVar[str] = "weights that lowered the loss most stay closest to the pretrained ones"
    paper: ClassVar[str] = "SI (Zenke et al., ICML 2017)"

    weight: float = Field(default=0.1, ge=0)
    damping: float = Field(default=1e-3, gt=0)
    interval: int | None = Field(default=None, ge=1)

    def scheduled(self, steps_per_epoch: int, steps: int) -> Self:
        """Consolidate at the end of each epoch, unless an interval was given."""
        return self if self.interval is not None else self.model_copy(update={"interval": steps_per_epoch})

    def build(self, site: Site) -> Term:
        """Build the term, with the weights as they are now for anchors."""
        return _SITerm(site, self.damping, self.interval or _INTERVAL)


class _SITerm(KeptWide, AnchoredTerm):
    steps: Tensor

    def __init__(self, site: Site, damping: float, interval: int) -> None:
        super().__init__(site)
        parameters = site.backbone_parameters()
        self.damping = damping
        self.interval = interval
        self.start = Bank(dict(parameters))
        self.path = Bank({name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()})
        self.omega = Bank({name: torch.ones_like(p, dtype=torch.float32) for name, p in parameters.items()})
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._before: list[tuple[Tensor, Tensor] | None] = []

    def forward(self, step: Step) -> Tensor:
        """Return the distance from the anchors, weighted by importance."""
        return self.distance(self.omega)

    def before_step(self) -> None:
        """Keep gradients and weights until the step is done."""
        self._before = [
            None if parameter.grad is None else (parameter.grad.detach().clone(), parameter.detach().clone())
            for parameter in self._weights
        ]

    def after_step(self) -> None:
        """Add the step to the path integral, and consolidate at the end of an interval."""
        before, self._before = self._before, []
        for path, parameter, seen in zip(self.path.tensors(), self._weights, before, strict=True):
            if seen is not None:
                gradient, weight = seen
                path -= gradient.float() * (parameter.detach().float() - weight.float())
        self.steps += 1
        done = int(self.steps)
        if done % self.interval == 0:
            self._consolidate()

    def _consolidate(self) -> None:
        banks = (self.omega, self.path, self.start)
        for omega, path, start, parameter in zip(*(b.tensors() for b in banks), self._weights, strict=True):
            if not parameter.requires_grad:
                continue  # its importance stays 1 until it has learnt for an interval
            first = bool((omega == 1).all())
            found = path_importance(path, (parameter.detach() - start).float(), self.damping)
            omega.copy_(found if first else omega + found)
            path.zero_()
            start.copy_(parameter.detach())
