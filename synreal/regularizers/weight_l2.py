"""Weight L2: the backbone's weights stay close to the pretrained ones (L2-SP, EWC)."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from synreal.core.anchors import Bank, held_parameters
from synreal.core.parts import logits_of
from synreal.core.passes import Step
from synreal.core.teachers import Reference
from synreal.core.terms import REGULARIZERS, Regularizer, Site, Term
from synreal.errors import ConfigError, DataError
from synreal.functional.distances import weight_l2


@REGULARIZERS.register
class WeightL2(Regularizer):
    """Weight L2 (L2-SP: Li et al., ICML 2018; EWC: Kirkpatrick et al., PNAS 2017): weights stay near pretrained ones.

    ``sum_p F_p (w_p - w_p^0)^2`` over the backbone's parameters; ``F_p`` is 1, or the diagonal of the Fisher
    information of the pretrained network.

    Attributes:
        weight: lambda; depends on data and rate, tune it.
        importance: ``"none"``, or ``"fisher"`` (EWC): the mean over images of the squared gradient of the
            log-likelihood that the reference gives its own predicted class. ``synreal run`` takes source images; in
            your own loop call ``model.calibrate(batches)``. Give the pretrained network as ``reference=``, with its
            classifier.
        fisher_samples: How many images the Fisher information is estimated from.
    """

    name: ClassVar[str] = "weight_l2"
    summary: ClassVar[str] = "weights stay close to the pretrained ones"
    paper: ClassVar[str] = "L2-SP (Li et al., ICML 2018), EWC (Kirkpatrick et al., PNAS 2017)"

    weight: float = Field(default=0.01, ge=0)
    importance: Literal["none", "fisher"] = "none"
    fisher_samples: int = Field(default=200, ge=1)

    @property
    def needs_classifier(self) -> bool:
        """The Fisher information is that of the reference's own predictions."""
        return self.importance == "fisher"

    def build(self, site: Site) -> Term:
        """Build the term, with the weights as they are now for anchors."""
        if self.importance == "fisher":
            assert site.reference is not None
            return _FisherTerm(site, site.reference, self.fisher_samples)
        return AnchoredTerm(site)


class AnchoredTerm(Term):
    """Holds the backbone's weights near those at the time of ``attach``.

    Args:
        site: Where the term is built.
    """

    def __init__(self, site: Site) -> None:
        super().__init__()
        parameters = held_parameters(site)
        # In a tuple, so that the student's parameters are not registered twice.
        self._weights: tuple[nn.Parameter, ...] = tuple(parameters.values())
        self.anchor = Bank(dict(parameters))

    def forward(self, step: Step) -> Tensor:
        """Return the distance from the anchors."""
        return self.distance()

    def distance(self, importance: Bank | None = None) -> Tensor:
        """Return the distance of the weights that learn from their anchors, float32; 0 while none learns.

        Args:
            importance: One tensor for each weight; 1 everywhere when None.
        """
        learning = [index for index, weight in enumerate(self._weights) if weight.requires_grad]
        if not learning:
            return weight_l2(self._weights[:1], self.anchor.tensors()[:1]) * 0
        banks = [bank.tensors() for bank in (self.anchor, importance) if bank is not None]
        return weight_l2(*([values[index] for index in learning] for values in (self._weights, *banks)))

    def release(self) -> None:
        """Let the student's parameters go."""
        self._weights = ()


class _FisherTerm(AnchoredTerm):
    seen: Tensor

    def __init__(self, site: Site, reference: Reference, samples: int) -> None:
        super().__init__(site)
        self.samples = samples
        theirs = dict(reference.network.named_parameters())
        names = {name: name.removeprefix(f"{site.entry}.") for name in site.backbone_parameters()}
        for (name, other), own in zip(names.items(), self._weights, strict=True):
            if other not in theirs or theirs[other].shape != own.shape:
                raise ConfigError(
                    f"weight_l2 with importance='fisher' needs a reference of the student's architecture: it has no "
                    f"parameter {other} of shape {tuple(own.shape)}, as {name} of the student."
                )
        self._names = tuple(names.values())
        self._reference: tuple[Reference, ...] = (reference,)
        self.fisher = Bank({name: torch.zeros_like(p) for name, p in site.backbone_parameters().items()})
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @property
    def wants_images(self) -> bool:
        """Until the Fisher information was estimated or loaded."""
        return int(self.seen) == 0

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Estimate the Fisher information from images, one gradient per image.

        Raises:
            DataError: If there is no image.
        """
        reference = self._reference[0]
        network = copy.deepcopy(reference.network).requires_grad_(True)
        parameters = dict(network.named_parameters())
        wanted = [parameters[name] for name in self._names]
        sums = [torch.zeros_like(parameter) for parameter in wanted]
        seen = 0
        with torch.enable_grad():
            for batch in images:
                for image in batch[: self.samples - seen]:
                    logits = logits_of(network(reference.adapt(image[None].to(wanted[0].device))))
                    loss = F.cross_entropy(logits, logits.argmax(1))
                    for total, gradient in zip(sums, torch.autograd.grad(loss, wanted, allow_unused=True), strict=True):
                        if gradient is not None:
                            total += gradient.square()
                    seen += 1
                if seen >= self.samples:
                    break
        if not seen:
            raise DataError("calibrate() was given no image to estimate the Fisher information from.")
        for held, total in zip(self.fisher.tensors(), sums, strict=True):
            held.copy_(total / seen)
        self.seen.fill_(seen)

    def forward(self, step: Step) -> Tensor:
        """Return the distance from the anchors, weighted by the Fisher information."""
        return self.distance(self.fisher)

    def release(self) -> None:
        """Let the student's parameters and the reference go."""
        super().release()
        self._reference = ()
