"""Semantic segmentation: cross-entropy at every pixel of synthetic images, mean IoU on real ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision.tv_tensors import Mask

from synreal import figures
from synreal.data.sets import IGNORE
from synreal.errors import ConfigError
from synreal.records import Score
from synreal.tasks.base import BatchTask, Meter, TrainingViews
from synreal.tasks.meters import MaskMeter
from synreal.tasks.networks import check_segmenter, create_segmenter, encoder_stride, segmenter_recipe
from synreal.views import AlignedViews
from synreal.weights import IMAGENET_CLASSES, WeightsOrigin, create_backbone, normalization

if TYPE_CHECKING:
    from synreal.config import RunConfig

_DIVISOR = 32
"""Sides of an image that every encoder takes are multiples of this."""


class Segmentation(BatchTask):
    """One class a pixel; the student is a model of segmentation-models-pytorch."""

    aligned_views: ClassVar[bool] = True
    library: ClassVar[str] = "segmentation_models_pytorch"

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Check architecture, backbone and weights, and that regularizers find a classifier that they read."""
        check_segmenter(
            str(config.architecture), config.backbone, weights=config.weights, output_stride=config.output_stride
        )
        reading = [spec.name for spec in config.regularizers if spec.needs_classifier]
        if reading and config.reference is None and config.backbone.startswith("smp/"):
            raise ConfigError(
                f"{config.backbone!r} is an encoder of segmentation-models-pytorch's own, without an ImageNet "
                "classifier to compare with. Take a backbone of timm, or another regularizer than "
                f"{', '.join(reading)}."
            )

    def build_student(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the model around a pretrained encoder, and take the encoder's normalisation."""
        config = self.config
        student, origin = create_segmenter(
            str(config.architecture),
            config.backbone,
            num_classes=len(self.classes),
            weights=config.weights,
            output_stride=config.output_stride,
        )
        self.statistics = normalization(student)
        return student, origin

    def build_classifier(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the backbone with its ImageNet classifier, dilated as the encoder is."""
        config = self.config
        return create_backbone(
            config.backbone,
            num_classes=IMAGENET_CLASSES,
            weights=config.weights,
            output_stride=encoder_stride(str(config.architecture), config.output_stride),
        )

    def training_data(self, views: int) -> Dataset[tuple[tuple[Tensor, ...], Tensor]]:
        """Return items ``(views, mask)``: uint8 views, (3, S, S) each, and the classes of their pixels, (S, S)."""
        config = self.config
        transform = AlignedViews(
            views,
            size=config.image_size,
            flip=config.flip or 0,
            scale=config.scale or (1, 1),
            jitter=config.jitter or 0,
        )
        return TrainingViews(self.train, partial(_masked_views, transform), config.seed)

    @staticmethod
    def collate_test(items: Sequence[Any]) -> Any:
        """Keep images and masks apart, for sizes may differ."""
        return [image for image, _ in items], [mask for _, mask in items]

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over pixels; see ``pixel_cross_entropy``."""
        weights = self.config.class_weights
        return pixel_cross_entropy(
            output,
            targets.to(output.device, non_blocking=True),
            class_weights=None if weights is None else torch.tensor(weights, device=output.device),
            hardest=self.config.ohem,
        )

    def predict(self, student: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """Return the class of each pixel, uint8 (H, W), of each image in its own resolution."""
        batches = [torch.stack(list(images))] if len({i.shape for i in images}) == 1 else [i[None] for i in images]
        found = []
        for batch in batches:
            prepared = self._prepared(batch, device)
            scores = self._scores(student, prepared)
            if self.config.test_flip:
                scores = scores.softmax(1) + self._scores(student, prepared.flip(-1)).flip(-1).softmax(1)
            found += list(scores.argmax(1).to(torch.uint8))
        return found

    def _scores(self, student: nn.Module, images: Tensor) -> Tensor:
        """Return what can be compared over classes, float32 (N, C, H, W): logits, or log of mean probabilities."""
        window = self.config.window
        height, width = images.shape[-2:]
        if window is None or (window >= height and window >= width):
            return self._logits(student, images)
        total = images.new_zeros((len(images), len(self.classes), height, width))
        for top, left in itertools.product(window_starts(height, window), window_starts(width, window)):
            part = images[..., top : top + window, left : left + window]
            total[..., top : top + window, left : left + window] += self._logits(student, part).softmax(1)
        return total.div_(total.sum(1, keepdim=True)).log()

    def _logits(self, student: nn.Module, images: Tensor) -> Tensor:
        """Run the network on images of any size: they are padded with the mean colour, the padding is cut off."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % _DIVISOR, 0, -height % _DIVISOR))
        logits: Tensor = student(self._formatted(padded))
        return logits[..., :height, :width].float()

    def meter(self, name: str) -> MaskMeter:
        """Return a fresh meter."""
        return MaskMeter(self.tests[name])

    def report(self, name: str, meter: Meter, score: Score, student: nn.Module, folder: Path, title: str) -> None:
        """Draw the confusion matrix, and inputs beside ground truth and prediction."""
        self._draw_confusion(name, score, folder, title, unit="pixels")
        images, masks, predictions = self.shown(name, student)
        figures.mask_panels(
            folder / "figures" / f"predictions-{name}.png",
            images,
            masks,
            [prediction.cpu() for prediction in predictions],
            self.classes,
            title=title,
        )

    @property
    def evaluation(self) -> str:
        """Whole images, or windows."""
        window = self.config.window
        how = "whole images" if window is None else f"windows of {window} pixels that overlap by a third"
        return f"{how}, own resolution, one confusion matrix"

    @property
    def chance(self) -> None:
        """None: what guessing reaches depends on the areas of the classes."""
        return

    @property
    def recipe(self) -> dict[str, str]:
        """The call of segmentation-models-pytorch."""
        config = self.config
        return segmenter_recipe(
            str(config.architecture),
            config.backbone,
            num_classes=len(self.classes),
            output_stride=config.output_stride,
        )


def pixel_cross_entropy(
    logits: Tensor, masks: Tensor, *, class_weights: Tensor | None = None, hardest: float | None = None
) -> Tensor:
    """Mean cross-entropy over the pixels of a batch that have a class.

    Args:
        logits: (N, C, H, W).
        masks: Classes, integer (N, H, W); pixels with 255 count nowhere.
        class_weights: (C,), a factor for each class; the mean is weighted by them too.
        hardest: Share in (0, 1] of the pixels with a class that count, those of greatest loss (online hard example
            mining); None counts all.

    Returns:
        Scalar, float32; 0 with gradient 0 where no pixel has a class.
    """
    classes = masks.long()
    losses = F.cross_entropy(logits.float(), classes, weight=class_weights, ignore_index=IGNORE, reduction="none")
    counts = (classes != IGNORE).to(losses.dtype)
    if class_weights is not None:
        counts = counts * class_weights[classes.clamp(max=len(class_weights) - 1)]
    if hardest is not None:
        valid = classes.flatten() != IGNORE
        order = losses.detach().flatten().masked_fill(~valid, -1).argsort(descending=True)
        kept = torch.arange(len(order), device=order.device) < (hardest * valid.sum()).ceil()
        chosen = torch.zeros_like(kept).scatter_(0, order, kept).view_as(losses)
        losses, counts = losses * chosen, counts * chosen
    return losses.sum() / counts.sum().clamp_min(torch.finfo(torch.float32).tiny)


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


def _masked_views(views: AlignedViews, image: Tensor, mask: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    shown, moved = views(image, Mask(mask))
    return shown, moved.as_subclass(Tensor)
