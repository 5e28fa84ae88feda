"""Several terms at once: built together, summed, shown images."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from synreal.core.passes import Step
from synreal.core.terms import Regularizer, Site, Term


class SumTerm(Term):
    """The weighted sum of several specs' terms, which passes every call on to its parts.

    Each part is a module by its name, as if it were an attribute.

    Args:
        specs: The parts by name, a legal attribute's; each is multiplied by its ``weight``.
        site: Where they are built.
    """

    def __init__(self, specs: Mapping[str, Regularizer], site: Site) -> None:
        super().__init__()
        self.factors = {name: spec.weight for name, spec in specs.items()}
        for name, term in build_terms(specs, site).items():
            self.add_module(name, term)

    @property
    def parts(self) -> dict[str, Term]:
        """The terms that are summed, by name."""
        return cast("dict[str, Term]", dict(self.named_children()))

    def forward(self, step: Step) -> Tensor:
        """Weigh the parts and add them, in their order."""
        shares: list[Tensor] = [self.factors[name] * term(step) for name, term in self.parts.items()]
        return functools.reduce(operator.add, shares)

    def before_step(self) -> None:
        """Let each part read the gradients."""
        for term in self.parts.values():
            term.before_step()

    def move_weights(self) -> None:
        """Let each part move weights, in their order."""
        for term in self.parts.values():
            term.move_weights()

    def after_step(self) -> None:
        """Let each part update its state."""
        for term in self.parts.values():
            term.after_step()

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """What some part does not want to be decayed."""
        return tuple(parameter for term in self.parts.values() for parameter in term.undecayed)

    @property
    def awake(self) -> bool:
        """Whether a part's further passes are to run."""
        return any(term.awake for term in self.parts.values())

    @property
    def wants_images(self) -> bool:
        """Whether a part must still see images."""
        return any(term.wants_images for term in self.parts.values())

    def calibrate(self, images: Iterable[Tensor]) -> None:
        """Show images to the parts that must see some."""
        calibrate(self.parts.values(), images)

    def forget(self) -> None:
        """Let each part drop what it set aside."""
        for term in self.parts.values():
            term.forget()

    def release(self) -> None:
        """Let each part give back what it changed on the student."""
        for term in self.parts.values():
            term.release()

    @property
    def stateful(self) -> bool:
        """Whether a part must be told of optimizer steps."""
        return any(term.stateful for term in self.parts.values())

    @property
    def reads_gradients(self) -> bool:
        """Whether a part reads gradients."""
        return any(term.reads_gradients for term in self.parts.values())


def build_terms(specs: Mapping[str, Regularizer], site: Site) -> dict[str, Term]:
    """Build the terms of specs; if one cannot be built, the student is as it was.

    Args:
        specs: The specs by name.
        site: Where they are built.
    """
    terms: dict[str, Term] = {}
    try:
        for name, spec in specs.items():
            terms[name] = spec.build(site)
    except BaseException:
        for term in terms.values():
            term.release()
        raise
    return terms


def calibrate(terms: Iterable[Term], images: Iterable[Tensor]) -> None:
    """Show images to the terms that must see some before training.

    Args:
        terms: Any terms.
        images: Batches (N, 3, H, W), normalised as for the student.
    """
    waiting = [term for term in terms if term.wants_images]
    # Each term reads the batches from the start, so they are kept if they can be read only once.
    batches = images if len(waiting) < 2 or isinstance(images, Sequence) else list(images)
    for term in waiting:
        term.calibrate(batches)
