"""Whitening losses on the maps behind InstanceNorm: all entries of their covariances, or those that carry style."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.precision import KeptWide
from synreal.core.stages import Stage
from synreal.core.terms import REGULARIZERS, Regularizer, Site, Stages, Term
from synreal.core.whitening import whitening_layers
from synreal.distributed import all_reduce_sum
from synreal.errors import StageError
from synreal.functional.whitening import (
    covariance_variance,
    instance_covariance,
    sensitive_entries,
    whitening_loss,
)

_OTHER = Pass("student", 1)
_EPOCHS = 6  # of training before the entries are chosen, as published


@REGULARIZERS.register
class ISW(Regularizer):
    """Instance selective whitening (RobustNet: Choi et al., CVPR 2021): channels do not go together by style.

    ``mean over layers and images of max(0, sum |S o M| - delta) / |M|``, where ``S`` is the covariance of a map's
    channels over its positions and ``M`` a set of entries above the diagonal. It needs the transform
    ``instance_whitening``, whose layers give the maps. What is penalised tells the paper's three losses apart:

    - ``"isw"``: the entries whose covariance changes most between two views of an image, found once in training: all
      but the lowest of ``clusters`` clusters of their variances. Until then there is no penalty.
    - ``"iw"``: all entries.
    - ``"irw"``: all entries, and their sum only as far as it is above a 64th of their number.

    Attributes:
        weight: lambda; 0.6 in published code (IW 0.8; MobileNet 1.0).
        variant: Which of the three.
        stages: Where to read; None: behind every layer that ``instance_whitening`` put in. Others should be whitened,
            too: means are not taken off.
        clusters: k; 3 for ResNets, 20 for MobileNet.
        images: How many images the variances are estimated from, in training, without gradient.
        start: Optimizer steps before that; None: six epochs as published, at most a quarter of the run, in
            ``synreal run``, and 0 in your own loop.
        latest: The optimizer step after which the entries are chosen by whatever images were seen; None: half of the
            run in ``synreal run``, and never in your own loop.
    """

    name: ClassVar[str] = "isw"
    summary: ClassVar[str] = "channels that go together by style are taken apart, behind InstanceNorm"
    paper: ClassVar[str] = "RobustNet (Choi et al., CVPR 2021)"

    weight: float = Field(default=0.6, ge=0)
    variant: Literal["isw", "iw", "irw"] = "isw"
    stages: Stages | None = None
    clusters: int = Field(default=3, ge=2)
    images: int = Field(default=500, ge=1)
    start: int | None = Field(default=None, ge=0)
    latest: int | None = Field(default=None, ge=1)

    @property
    def wanted_stages(self) -> tuple[int | str, ...]:
        """The layers, once the network is known."""
        return self.stages or ()

    @property
    def needs_transform(self) -> str | None:
        """The transform that puts the layers in, unless others are named."""
        return "instance_whitening" if self.stages is None else None

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's pass on view 0, and without gradient on view 1 while variances are estimated."""
        return frozenset({STUDENT, _OTHER} if self.variant == "isw" else {STUDENT})

    def on(self, network: nn.Module) -> Self:
        """Name the layers of a network.

        Raises:
            StageError: If it has none.
        """
        if self.stages is not None:
            return self
        layers = whitening_layers(network)
        if not layers:
            raise StageError(
                f"{type(network).__name__} has no whitening layers. Apply the transform instance_whitening before "
                "attaching: --transform instance_whitening, or InstanceWhitening().apply(network)."
            )
        return self.model_copy(update={"stages": tuple(layers)})

    def scheduled(self, steps_per_epoch: int, steps: int) -> Self:
        """Choose the entries after six epochs or a quarter of the run, at the latest after half of it."""
        start = min(_EPOCHS * steps_per_epoch, steps // 4) if self.start is None else self.start
        latest = max(1, steps // 2) if self.latest is None else self.latest
        return self.model_copy(update={"start": start, "latest": latest})

    def build(self, site: Site) -> Term:
        """Build the term."""
        stages = site.select(self.wanted_stages)
        return _SelectiveTerm(self, stages) if self.variant == "isw" else _WhiteningTerm(self, stages)


class _WhiteningTerm(Term):
    """IW and IRW: every entry above the diagonal."""

    def __init__(self, spec: ISW, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        self.names = {stage.key: stage.name for stage in stages}
        self.relaxed = spec.variant == "irw"

    def forward(self, step: Step) -> Tensor:
        """Average the losses of the layers."""
        return torch.stack([self._loss(instance_covariance(step.maps[STUDENT][n])) for n in self.names.values()]).mean()

    def _loss(self, covariance: Tensor) -> Tensor:
        mask = torch.ones_like(covariance[0], dtype=torch.bool).triu(1)
        width = covariance.shape[1]
        return whitening_loss(covariance, mask, width * (width - 1) // 2 // 64 if self.relaxed else 0.0)


class _SelectiveTerm(KeptWide, Term):
    """ISW: the entries that vary between views, chosen once."""

    steps: Tensor
    seen: Tensor
    chosen: Tensor

    def __init__(self, spec: ISW, stages: tuple[Stage, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.names = {stage.key: stage.name for stage in stages}
        for stage in stages:
            square = torch.zeros(stage.channels, stage.channels)
            self.register_buffer(f"mask_{stage.key}", square.bool())
            self.register_buffer(f"variance_{stage.key}", square)
        for name in ("steps", "seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.bool))
        self.fresh: list[tuple[dict[str, Tensor], int]] = []
        self._look = self._looks()
        self.register_load_state_dict_post_hook(_look_again)  # type: ignore[no-untyped-call]

    @property
    def awake(self) -> bool:
        """The other view is looked at while variances are estimated."""
        return self._look

    def forward(self, step: Step) -> Tensor:
        """Average the losses of the layers, and set their variances aside until the optimizer has stepped."""
        losses, variances, rows = [], {}, 0
        for key, name in self.names.items():
            covariance = instance_covariance(step.maps[STUDENT][name])
            losses.append(whitening_loss(covariance, self.get_buffer(f"mask_{key}")))
            if self._look:
                other = instance_covariance(step.maps[_OTHER][name])
                variances[key] = covariance_variance(covariance.detach(), other)
                rows = covariance.shape[0]
        if self._look:
            self.fresh.append((variances, rows))
        return torch.stack(losses).mean()

    def forget(self) -> None:
        """Drop variances that were not counted."""
        self.fresh = []

    def after_step(self) -> None:
        """Add the variances of every micro-batch since the last step, and choose once there are enough."""
        fresh, self.fresh = self.fresh, []
        self.steps += 1
        if self._look:
            for variances, rows in fresh:
                self._add(variances, rows)
            self._choose()
        self._look = self._looks()

    def _add(self, variances: dict[str, Tensor], rows: int) -> None:
        # A step that GradScaler skipped may have left values that are not finite.
        sound = all(value.isfinite().all() for value in variances.values())
        count = all_reduce_sum(self.seen.new_tensor(rows if sound else 0))
        for key, value in variances.items():
            total = all_reduce_sum(value if sound else torch.zeros_like(value))
            self.get_buffer(f"variance_{key}").add_(total)
        self.seen += count

    def _choose(self) -> None:
        seen, late = int(self.seen), self.spec.latest is not None and int(self.steps) >= self.spec.latest
        if not seen or (seen < self.spec.images and not late):
            return
        for key in self.names:
            variance = self.get_buffer(f"variance_{key}")
            self.get_buffer(f"mask_{key}").copy_(sensitive_entries(variance / seen, self.spec.clusters))
            variance.zero_()
        self.chosen.fill_(True)

    def _looks(self) -> bool:
        return not bool(self.chosen) and int(self.steps) >= (self.spec.start or 0)


def _look_again(term: nn.Module, _: Any) -> None:
    """What is loaded says whether variances are still estimated."""
    assert isinstance(term, _SelectiveTerm)
    term._look = term._looks()
