"""WiSE-FT: weights between start and end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from synreal.averages.base import AVERAGES, Average, Averaging, Course
from synreal.functional import wise_ft


@AVERAGES.register
class WiseFT(Average):
    """Weights between start and end: ``(1 - alpha) start + alpha end``, running statistics included.

    Wortsman et al., CVPR 2022, eq. 2; alpha 0.5 is their default. Nothing is computed during the training. It takes one
    copy of the network, however many alphas there are.

    Attributes:
        alpha: Share of the way from start to end, in (0, 1).
        recompute: As of every average; by default running statistics are interpolated, as published.
    """

    name: ClassVar[str] = "wise_ft"
    summary: ClassVar[str] = "weights between the start's and the end's"
    paper: ClassVar[str] = "Wortsman et al., CVPR 2022"
    uses_start: ClassVar[bool] = True

    alpha: float = Field(default=0.5, gt=0, lt=1)
    recompute: bool = False

    @property
    def label(self) -> str:
        """The share in brackets, as records of ``testing.wise_ft`` have it."""
        return f"{self.name}({self.alpha:g}{', recompute=True' if self.recompute else ''})"

    def begin(self, start: Mapping[str, Tensor], course: Course) -> Averaging:
        """Keep the start, without a copy."""
        return _Running(self, start)


class _Running(Averaging):
    def __init__(self, spec: WiseFT, start: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.spec = spec
        self._start = start

    def see(self, network: nn.Module) -> None:
        """Need nothing of the way."""

    def weights(self, last: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return wise_ft(self._start, last, self.spec.alpha)

    def describe(self) -> str:
        return f"{self.spec.alpha:g} of the way from start to end"

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def load(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
        """Need nothing but the start."""
