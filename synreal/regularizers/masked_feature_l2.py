"""Masked feature L2: maps stay close to the frozen network's where there are objects (DAFormer, SHADE)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import Self

from synreal.core.passes import STUDENT, Pass, Step
from synreal.core.terms import REGULARIZERS, FeatureRegularizer, Site, Stages, Term
from synreal.distributed import all_reduce_sum, world_size
from synreal.errors import ConfigError, TrainingError, unknown_name
from synreal.functional.distances import masked_feature_l2
from synreal.functional.objects import box_masks, covered_cells, object_cells

_TEACHER = Pass("reference", 0)
_THINGS: Final = (
    "traffic light",
    "traffic sign",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
"""The classes of Cityscapes that DAFormer takes for things."""


@REGULARIZERS.register
class MaskedFeatureL2(FeatureRegularizer):
    """Masked feature L2 (DAFormer: Hoyer et al., CVPR 2022): maps stay close to ImageNet's where there are objects.

    ``mean over positions in M of ||f(x) - f_o(x)||_2``. ImageNet shows objects, so its features are worth keeping on
    objects, not on road or sky. M are the positions whose pixels are mostly of one class of object, from the masks of a
    batch; of a detector's boxes, positions mostly covered by one or several; of an image with a class, all. Both see
    the same image, view 0; stages are summed. The model must be given ``targets``.

    Attributes:
        weight: lambda; 0.005 in published code. SHADE's is 1, with ``squared``.
        stages: Where to compare; DAFormer compares the last.
        stage_weights: What each stage's loss is multiplied by; None weighs all by 1.
        things: The classes that are objects, by number from 0 or, in ``synreal run``, by name. None: in
            ``synreal run``, those that Cityscapes' things are called, else all but a background; in your own loop, all
            boxes or images, and masks must be told.
        majority: Share of a position that must be of one class of object.
        squared: The mean over channels of the square in place of the norm (SHADE: Zhao et al., ECCV 2022).
    """

    name: ClassVar[str] = "masked_feature_l2"
    summary: ClassVar[str] = "features stay close to the frozen ImageNet network's where objects are"
    paper: ClassVar[str] = "DAFormer (Hoyer et al., CVPR 2022), SHADE (Zhao et al., ECCV 2022)"

    weight: float = Field(default=0.005, ge=0)
    stages: Stages = (4,)
    things: Annotated[tuple[Annotated[int, Field(ge=0)] | str, ...], Field(min_length=1)] | None = None
    majority: float = Field(default=0.75, gt=0.5, le=1)
    squared: bool = False

    @property
    def passes(self) -> frozenset[Pass]:
        """The student's and the reference's pass on view 0."""
        return frozenset({STUDENT, _TEACHER})

    @property
    def needs_targets(self) -> bool:
        """They say where objects are."""
        return True

    def for_classes(self, classes: Sequence[str]) -> Self:
        """Turn names of things into numbers; if none were given, choose them."""
        if self.things is None:
            known = [number for number, name in enumerate(classes) if name in _THINGS]
            every = [number for number, name in enumerate(classes) if number or name != "background"]
            return self.model_copy(update={"things": tuple(known or every)})
        numbers = []
        for thing in self.things:
            if isinstance(thing, str) and thing not in classes:
                raise unknown_name("class", thing, classes)
            number = classes.index(thing) if isinstance(thing, str) else thing
            if not 0 <= number < len(classes):
                raise ConfigError(f"{self.name}: things has {number}, expected 0 to {len(classes) - 1} or a name.")
            numbers.append(number)
        return self.model_copy(update={"things": tuple(numbers)})

    def build(self, site: Site) -> Term:
        """Build the term."""
        named = [thing for thing in self.things or () if isinstance(thing, str)]
        if named:
            raise ConfigError(
                f"{self.name}: things has names ({', '.join(named)}), and nobody has said which numbers they have. "
                "Give numbers, or attach spec.for_classes(names of all classes)."
            )
        return _MaskedFeatureL2Term([stage.name for stage in site.same_width(self.stages, self.name)], self)


class _MaskedFeatureL2Term(Term):
    def __init__(self, stages: list[str], spec: MaskedFeatureL2) -> None:
        super().__init__()
        self.stages = stages
        self.spec = spec

    def forward(self, step: Step) -> Tensor:
        """Sum the distance over stages."""
        student, teacher = step.maps[STUDENT], step.maps[_TEACHER]
        masks = self._masks(step)
        losses = []
        for name in self.stages:
            cells = self._cells(masks, student[name])
            # Each process divides by its share of all positions, so that their mean is over all.
            count = all_reduce_sum(cells.sum().float()) / world_size()
            losses.append(masked_feature_l2(student[name], teacher[name], cells, count, self.spec.squared))
        return self.spec.summed(losses)

    def _masks(self, step: Step) -> Tensor:
        """Return what is known of where objects are: classes (N, H, W) or whether there is one, (N, H, W) or (N,)."""
        targets: Any = step.targets
        if isinstance(targets, Tensor) and targets.ndim == 3 and not targets.is_floating_point():
            if self.spec.things is None:
                raise TrainingError(
                    f"{self.spec.name} does not know which classes of the masks are objects. Give their numbers, "
                    f"{self.spec.name}(things=[...]), or attach spec.for_classes(names of all classes)."
                )
            return targets
        if isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point():
            return self._are_things(targets)
        if isinstance(targets, (list, tuple)) and all(
            isinstance(one, Mapping) and {"boxes", "labels"} <= one.keys() for one in targets
        ):
            assert step.size is not None
            # A detector's classes count from 1.
            boxes = [one["boxes"][self._are_things(one["labels"] - 1)] for one in targets]
            return box_masks(boxes, step.size)
        shape = f" {tuple(targets.shape)}" if isinstance(targets, Tensor) else ""
        raise TrainingError(
            f"{self.spec.name} reads classes (N,) or masks (N, H, W) as integers, or a detector's list of boxes and "
            f"labels, got {type(targets).__name__}{shape}."
        )

    def _are_things(self, classes: Tensor) -> Tensor:
        """Return which of some classes (M,) are objects: bool, (M,)."""
        if self.spec.things is None:
            return torch.ones_like(classes, dtype=torch.bool)
        return torch.isin(classes, torch.tensor(self.spec.things, device=classes.device, dtype=classes.dtype))

    def _cells(self, masks: Tensor, features: Tensor) -> Tensor:
        """Return M: bool, (N, H, W)."""
        size = (features.shape[2], features.shape[3])
        if masks.ndim == 1:
            return masks[:, None, None].expand(len(masks), *size)
        if masks.dtype == torch.bool:
            return covered_cells(masks, size, self.spec.majority)
        things = [int(thing) for thing in self.spec.things or ()]
        return object_cells(masks, things, size, self.spec.majority)
