"""KL distillation: the frozen ImageNet classifier sees in the student's features what it saw before (ASG)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from synreal.core.heads import LinearAdapter
from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.stages import CLASSIFIER_INPUT, Stage
from synreal.core.teachers import Reference
from synreal.core.terms import REGULARIZERS, Regularizer, Site, StageName, Term
from synreal.errors import StageError
from synreal.functional.distances import distillation_kl

_TEACHER = Pass("reference", 0)


@REGULARIZERS.register
class KLDistillation(Regularizer):
    """KL distillation (ASG's proxy guidance: Chen et al., ICML 2020) through the reference's frozen classifier.

    ``KL( softmax(h_o(f_o(x)) / T) || softmax(h_o(f(x)) / T) ) * T^2``, where ``h_o`` is the classifier that the
    reference brings and ``f(x)`` what the student's own classifier is given. A student without a classifier (a
    segmentation model, a detector) is compared at each position of its last map, which ``h_o`` reads as if it were the
    whole map.

    The student of a new task has a fresh classifier, so give the pretrained network as ``reference=``; ``synreal run``
    does that by itself.

    Attributes:
        weight: lambda; 0.1 for classification in the paper, 75 for segmentation.
        temperature: T.
        stage: Compare at each position of this stage's map instead; None: at the classifier's input if the student has
            one, else at each position of stage 4.
        adapter: Learn a linear map from the student's channels to the reference's; for a reference of another width.
    """

    name: ClassVar[str] = "kl"
    summary: ClassVar[str] = "the frozen ImageNet classifier keeps seeing the same classes"
    paper: ClassVar[str] = "ASG (Chen et al., ICML 2020)"

    weight: float = Field(default=0.1, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    stage: StageName | None = None
    adapter: bool = False

    @property
    def wanted_stages(self) -> tuple[int | str, ...]:
        """The classifier's input, or the stage that was named."""
        return (CLASSIFIER_INPUT if self.stage is None else self.stage,)

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0."""
        return frozenset({STUDENT, _TEACHER})

    @property
    def needs_classifier(self) -> bool:
        """``h_o`` is the reference's own."""
        return True

    def build(self, site: Site) -> Term:
        """Build the term, with its adapter."""
        assert site.reference is not None
        dense = "4" if self.stage is None else str(self.stage)
        name = CLASSIFIER_INPUT if self.stage is None and CLASSIFIER_INPUT in site.stages else dense
        student, teacher = site.stages[name], site.reference_stages[name]
        if not self.adapter and student.channels != teacher.channels:
            raise StageError(
                f"kl hands the student's features to the reference's classifier, but they have {student.channels} "
                f"channels and it reads {teacher.channels}. Use a reference of the same architecture, or adapter=True "
                "to learn a linear map between them."
            )
        adapter = LinearAdapter(student.channels, teacher.channels) if self.adapter else nn.Identity()
        if name != CLASSIFIER_INPUT:
            weight = next(site.reference.network.parameters())
            site.reference.tail(weight.new_zeros(1, teacher.channels), teacher)  # refuses what cannot work, now
        return _KLTerm(teacher, adapter, site.reference, self.temperature)


class _KLTerm(Term):
    def __init__(self, stage: Stage, adapter: nn.Module, reference: Reference, temperature: float) -> None:
        super().__init__()
        self.stage = stage
        self.adapter = adapter
        self.temperature = temperature
        # In a tuple, so that nn.Module does not register it: the model holds it already.
        self._reference: tuple[Reference, ...] = (reference,)

    def _logits(self, features: Tensor) -> Tensor:
        """Apply the frozen classifier: (N, C, ...) at its input, or (P, C) positions of a map."""
        reference = self._reference[0]
        if self.stage.name != CLASSIFIER_INPUT:
            return reference.tail(features.movedim(1, -1).flatten(0, -2), self.stage)
        logits: Tensor = reference.network.get_submodule(self.stage.path)(features)
        return logits.flatten(1)

    def forward(self, step: Step) -> Tensor:
        """Compare what the frozen classifier says of both networks' features."""
        name = self.stage.name
        student, teacher = self.adapter(step.maps[STUDENT][name]), step.maps[_TEACHER][name]
        own = next(self._reference[0].network.parameters()).dtype
        with torch.no_grad():
            expected = self._logits(teacher.to(own))
        return distillation_kl(self._logits(student.to(own)), expected, self.temperature)

    def release(self) -> None:
        """Let the reference go."""
        self._reference = ()
