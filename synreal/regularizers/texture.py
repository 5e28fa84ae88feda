"""Texture: Gram matrices of the student's maps stay close to the frozen network's (TLDR)."""

from __future__ import annotations

from typing import ClassVar, Final

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.functional.texture import gram_distance, gram_generalization

_TEACHER = Pass("reference", 0)
_STYLIZED = Pass("student", 1, grad=True)
_STYLE = Pass("student", 2, grad=True)
_FACTORS: Final = {"1": 5e-3, "2": 5e-4, "3": 5e-5, "4": 5e-6}
"""u of each stage, as published."""
_STYLED: Final = ("1", "2")
"""The stages at which styles are compared, as published."""


@REGULARIZERS.register
class Texture(FeatureRegularizer):
    """Texture (TLDR: Kim et al., ICCV 2023): Gram matrices of maps stay close to the frozen network's.

    Texture regularization, ``sum over stages of u ||G(f(x)) - G(f_o(x))||_F / C`` with ``G = v v^T / (H W)``, a norm
    for each sample, averaged. Both see the same image, view 0. The term decays linearly to 0 over the run.

    With ``generalization``, texture generalization is added: ``u ||(G(f(s)) - G(f(x_s))) o [G(f(x_s)) - G(f(x)) >
    threshold]||_F / C`` at stages 1 and 2, where view 1 is ``x_s``, view 0 in
    the style of an image ``s``, and view 2 is ``s``. Such views are for a loop of your own.

    Attributes:
        weight: lambda.
        stages: Where to compare; 1 to 4 in the paper.
        stage_weights: u, what each stage's loss is multiplied by; None takes the paper's, 5e-3, 5e-4, 5e-5 and 5e-6 for
            stages 1 to 4.
        steps: T; the term is multiplied by ``1 - t / T`` in step t. None: the length of the run in ``synreal run``, no
            decay in your own loop.
        generalization: Whether styles are compared, too; needs ``model(x, x_s, s)``.
        threshold: By how much an entry of the Gram matrix must have grown with the style to be compared.
    """

    name: ClassVar[str] = "texture"
    summary: ClassVar[str] = "Gram matrices stay close to the frozen network's, ever less so"
    paper: ClassVar[str] = "TLDR (Kim et al., ICCV 2023)"

    stages: Stages = (1, 2, 3, 4)
    steps: int | None = Field(default=None, ge=1)
    generalization: bool = False
    threshold: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _factors_are_known(self) -> Self:
        others = [str(stage) for stage in self.stages if str(stage) not in _FACTORS]
        if self.stage_weights is None and others:
            raise ValueError(
                f"the paper gives no factor for stage {', '.join(others)}, only for 1 to 4; give stage_weights"
            )
        if self.generalization and not self.styled_stages:
            raise ValueError("generalization compares styles at stages 1 and 2, and stages has neither")
        return self

    @property
    def factors(self) -> dict[str, float]:
        """The factor u by name of the stage."""
        names = [str(stage) for stage in self.stages]
        given = self.stage_weights or [_FACTORS[name] for name in names]
        return dict(zip(names, given, strict=True))

    @property
    def styled_stages(self) -> tuple[str, ...]:
        """The stages at which styles are compared."""
        return tuple(name for name in _STYLED if name in map(str, self.stages))

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0, and the student's on the styles."""
        styles = {_STYLIZED, _STYLE} if self.generalization else set()
        return frozenset({STUDENT, _TEACHER} | styles)

    @property
    def needs_own_loop(self) -> str | None:
        """Views of an image are no images of styles."""
        return "the images of styles that views 1 and 2 have to be" if self.generalization else None

    def scheduled(self, steps_per_epoch: int, steps: int) -> Self:
        """Decay over the whole run, unless its length was given."""
        return self if self.steps is not None else self.model_copy(update={"steps": steps})

    def build(self, site: Site) -> Term:
        """Build the term."""
        site.same_width(self.stages, self.name)
        return _TextureTerm(self)


class _TextureTerm(Term):
    made: Tensor

    def __init__(self, spec: Texture) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("made", torch.zeros((), dtype=torch.int64))

    @property
    def stateful(self) -> bool:
        """Only a term that decays counts steps."""
        return self.spec.steps is not None

    def forward(self, step: Step) -> Tensor:
        """Sum the distances over stages; ever less of it."""
        student, teacher = step.maps[STUDENT], step.maps[_TEACHER]
        losses = [u * gram_distance(student[name], teacher[name]) for name, u in self.spec.factors.items()]
        if self.spec.generalization:
            style, stylized = step.maps[_STYLE], step.maps[_STYLIZED]
            losses += [
                self.spec.factors[name]
                * gram_generalization(style[name], stylized[name], student[name], self.spec.threshold)
                for name in self.spec.styled_stages
            ]
        total = torch.stack(losses).sum()
        return total if self.spec.steps is None else total * (1 - self.made / self.spec.steps).clamp(min=0)

    def after_step(self) -> None:
        """Count the step."""
        if self.spec.steps is not None:
            self.made += 1
