"""Semantic segmentation: cross-entropy at every pixel of synthetic images, mean IoU on real ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from synreal.errors import ConfigError, unknown_name
from synreal.tasks.architectures import SEGMENTERS
from synreal.tasks.base import TASKS, TaskSpec
from synreal.tasks.batches import BatchTask
from synreal.tasks.setup import Recipe, Setup

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from synreal.tasks.exported import Exportable
    from synreal.weights import Student, WeightsOrigin

_DIVISOR: Final = 32
"""Sides of an image that every encoder takes are multiples of this."""


@TASKS.register
class SegmentationSpec(TaskSpec):
    """One class per pixel; the student is a model of segmentation-models-pytorch."""

    name: ClassVar[str] = "segmentation"
    short: ClassVar[str] = "seg"
    summary: ClassVar[str] = "one class per pixel; mean IoU"
    label: ClassVar[str] = "masks"
    measures: ClassVar[tuple[str, ...]] = ("mean_iou", "pixel_accuracy")
    figures: ClassVar[tuple[str, ...]] = ("confusion", "mask_panels")
    sheet: ClassVar[str | None] = "mask_sheet"
    library: ClassVar[str] = "segmentation_models_pytorch"
    recipe: ClassVar[Recipe] = Recipe(
        "segmentation",
        "two CPU cores, embedded scenes, 600 steps",
        {
            "data": {"image_size": 128},
            "training": {
                "epochs": 4,
                "batch_size": 8,
                "optimizer": "adamw",
                "lr": 0.002,
                "backbone_lr_scale": 0.3,
                "weight_decay": 0.01,
                "warmup_steps": 50,
            },
            "testing": {"eval_every": 0, "eval_batch_size": 16},
            "views": ("geometry", "jitter"),
        },
        patches=8,
        defaults={"queue_size": 4096},
    )

    architecture: str = Field(
        default="deeplabv3plus", description="Any architecture of segmentation-models-pytorch around the backbone."
    )
    output_stride: Literal[8, 16, 32] | None = Field(
        default=None, description="Stride of the encoder's last map, where the architecture knows it."
    )
    class_weights: tuple[NonNegativeFloat, ...] | None = Field(
        default=None, description="A factor for each class in the loss, in the order of the classes."
    )
    ohem: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the pixels that contribute to the loss, the hardest of each batch; by default all.",
    )
    window: int | None = Field(
        default=None,
        ge=8,
        description="Test in square windows of this side, in pixels, that overlap by a third, instead of whole images.",
    )
    test_flip: bool = Field(
        default=False, description="Average what is predicted for an image and for its mirror image."
    )
    on_size_mismatch: Literal["error", "skip", "resize"] = Field(
        default="error",
        description="What happens to an image whose mask has another size: error, skip, or resize, which brings the "
        "image to the mask's size.",
    )

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, value: str) -> str:
        if value not in SEGMENTERS:
            raise unknown_name("architecture", value, SEGMENTERS)
        return value

    @property
    def size_mismatch(self) -> Literal["error", "skip", "resize"]:
        """As the setting says."""
        return self.on_size_mismatch

    @property
    def built_around(self) -> str:
        """As the setting says."""
        return self.architecture

    def check(self, setup: Setup) -> None:
        """Check architecture, backbone and weights, and that regularizers find a classifier that they read."""
        from synreal.tasks.networks import check_segmenter

        check_segmenter(self.architecture, setup.backbone, weights=setup.weights, output_stride=self.output_stride)
        if setup.reading and setup.reference is None and setup.backbone.startswith("smp/"):
            raise ConfigError(
                f"{setup.backbone!r} is an encoder of segmentation-models-pytorch's own, without an ImageNet "
                "classifier to compare with. Take a backbone of timm, or another regularizer than "
                f"{', '.join(setup.reading)}."
            )

    def check_classes(self, classes: tuple[str, ...], source: str) -> None:
        """Check that each class has a weight, where some have."""
        if self.class_weights is not None and len(self.class_weights) != len(classes):
            raise ConfigError(
                f"class_weights has {len(self.class_weights)} numbers, but the {len(classes)} classes of {source!r} "
                f"are {', '.join(classes)}."
            )

    @classmethod
    def runtime(cls) -> type[Segmentation]:
        """What runs it."""
        return Segmentation


class Segmentation(BatchTask[SegmentationSpec]):
    """One class per pixel; the student is a model of segmentation-models-pytorch."""

    def build_student(self) -> Student:
        """Build the model around a pretrained encoder, whose normalisation it gets."""
        from synreal.tasks.networks import create_segmenter
        from synreal.weights import Student, normalization

        network, origin = create_segmenter(
            self.spec.architecture,
            self.setup.backbone,
            num_classes=len(self.classes),
            weights=self.setup.weights,
            output_stride=self.spec.output_stride,
        )
        return Student(network, origin, normalization(network))

    def build_classifier(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the backbone with its ImageNet classifier, dilated as the encoder is."""
        from synreal.tasks.networks import encoder_stride
        from synreal.weights import create_teacher

        return create_teacher(
            self.setup.backbone,
            weights=self.setup.weights,
            output_stride=encoder_stride(self.spec.architecture, self.spec.output_stride),
        )

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over pixels; see ``pixel_cross_entropy``."""
        import torch

        from synreal.functional.losses import pixel_cross_entropy

        weights = self.spec.class_weights
        return pixel_cross_entropy(
            output,
            targets.to(output.device, non_blocking=True),
            class_weights=None if weights is None else torch.tensor(weights, device=output.device),
            hardest=self.spec.ohem,
        )

    def predict(self, student: Student, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """Return the class of each pixel, uint8 (H, W), of each image in its own resolution."""
        import torch

        return [one for scores in self._scored(student, images, device) for one in scores.argmax(1).to(torch.uint8)]

    def predict_sure(
        self, student: Student, images: Sequence[Tensor], device: torch.device
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the class of each pixel and its probability, float32 (H, W): the mean of those that are averaged."""
        import torch

        classes: list[Tensor] = []
        confidences: list[Tensor] = []
        for scores in self._scored(student, images, device):
            classes += scores.argmax(1).to(torch.uint8)
            best = scores.amax(1)
            confidences += best / 2 if self.spec.test_flip else (best - scores.logsumexp(1)).exp()
        return classes, confidences

    def probabilities(self, student: Student, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """Return the probabilities of each pixel, float32, (C, H, W): the mean of those that are averaged."""
        scored = self._scored(student, images, device)
        return [one for scores in scored for one in (scores / 2 if self.spec.test_flip else scores.softmax(1))]

    def exported(self, student: Student) -> Exportable:
        """Return the network as it is, for batches of images of any size that is a multiple of 32."""
        from synreal.tasks.exported import normalised
        from synreal.tasks.snippets import PIXELS

        side = -(-self.setup.image_size // _DIVISOR) * _DIVISOR
        preparation = {"pad_to_multiple_of": _DIVISOR, "padding": "right and bottom, 0 after normalising"}
        return self.exported_batches(
            student, (side, side + _DIVISOR), _DIVISOR, preparation | normalised(student.statistics), PIXELS
        )

    def entry_tests(self, images: Sequence[Tensor], student: Student, device: torch.device) -> Iterator[Tensor]:
        """Go through whole images, padded as the network gets them, also where it is tested in windows."""
        for batch in super().entry_tests(images, student, device):
            yield self._padded(batch)

    def evidence(self, student: Student, images: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return the mean of a class's logits over the pixels that are predicted to be it.

        The class is the one that most pixels are predicted to be, the first one, as a background is, only where there
        is no other (Seg-Grad-CAM, Vinogradova et al., AAAI 2020, with a mean in
        place of a sum).
        """
        logits = self._logits(student.network, self.prepared(images[0][None], student, device))[0]
        found = logits.argmax(0)
        counts = found.flatten().bincount(minlength=len(logits))
        best = 0 if counts[1:].sum() == 0 else 1 + int(counts[1:].argmax())
        return logits[best][found == best].mean()

    def _scored(self, student: Student, images: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Go through images of one size all at once, else one by one.

        Yields:
            float32, (N, C, H, W): as ``_scores``, or the sum of an image's and its mirror's probabilities.
        """
        import torch

        batches = [torch.stack(list(images))] if len({i.shape for i in images}) == 1 else [i[None] for i in images]
        for batch in batches:
            prepared = self.prepared(batch, student, device)
            scores = self._scores(student.network, prepared)
            if self.spec.test_flip:
                scores = scores.softmax(1) + self._scores(student.network, prepared.flip(-1)).flip(-1).softmax(1)
            yield scores

    def _scores(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return what can be compared over classes, float32 (N, C, H, W): logits, or log of mean probabilities."""
        window = self.spec.window
        height, width = images.shape[-2:]
        if window is None or (window >= height and window >= width):
            return self._logits(network, images)
        total = images.new_zeros((len(images), len(self.classes), height, width))
        for top, left in itertools.product(window_starts(height, window), window_starts(width, window)):
            part = images[..., top : top + window, left : left + window]
            total[..., top : top + window, left : left + window] += self._logits(network, part).softmax(1)
        return total.div_(total.sum(1, keepdim=True)).log()

    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """Run the network on images of any size: they are padded with the mean colour, the padding is cut off."""
        height, width = images.shape[-2:]
        logits: Tensor = network(self._padded(images))
        return logits[..., :height, :width].float()

    def _padded(self, images: Tensor) -> Tensor:
        from torch.nn import functional as F

        height, width = images.shape[-2:]
        return self.formatted(F.pad(images, (0, -width % _DIVISOR, 0, -height % _DIVISOR)))

    @property
    def evaluation(self) -> str:
        """Whole images, or windows."""
        window = self.spec.window
        how = "whole images" if window is None else f"windows of {window} pixels that overlap by a third"
        return f"{how}, own resolution, one confusion matrix"

    @property
    def flips(self) -> bool:
        """As the setting says."""
        return self.spec.test_flip

    @property
    def recipe(self) -> dict[str, str]:
        """The call of segmentation-models-pytorch."""
        from synreal.tasks.networks import segmenter_recipe

        return segmenter_recipe(
            self.spec.architecture,
            self.setup.backbone,
            num_classes=len(self.classes),
            output_stride=self.spec.output_stride,
        )


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows begin along a side so that they cover it and overlap by a third or more.

    Args:
        length: The side, in pixels.
        window: Side of a window, in pixels.

    Returns:
        Ascending; ``[0]`` if one window covers the side.
    """
    if window >= length:
        return [0]
    step = max(1, window - -(-window // 3))
    number = 1 + -(-(length - window) // step)
    return [index * (length - window) // (number - 1) for index in range(number)]
