"""Image classification: cross-entropy on synthetic images, accuracy on real ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from synreal import figures
from synreal.core.task_heads import is_fresh, last_layers, zero_head
from synreal.data.sets import LabelledImages
from synreal.records import Score
from synreal.tasks.base import BatchTask, Meter, TrainingViews
from synreal.tasks.meters import AccuracyMeter
from synreal.views import MultiView, classification_transform
from synreal.weights import WeightsOrigin, create_backbone, normalization


class Classification(BatchTask):
    """One class an image; the student is a timm model."""

    aligned_views: ClassVar[bool] = False
    library: ClassVar[str] = "timm"

    def build_student(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build a timm model with a fresh classifier, and take its normalisation.

        The classifier's last layer starts at zero: a random one shakes the pretrained backbone in the first steps,
        before it has learnt anything. One that a weights file brings is kept.
        """
        config = self.config
        student, origin = create_backbone(
            config.backbone, num_classes=len(self.classes), weights=config.weights, head_width=config.head_width
        )
        if origin.source != "file" or all(map(is_fresh, last_layers(student).values())):
            zero_head(student, force=True)
        self.statistics = normalization(student)
        return student, origin

    def training_data(self, views: int) -> Dataset[tuple[tuple[Tensor, ...], int]]:
        """Return items ``(views, label)`` with independently augmented uint8 views, (3, S, S) each."""
        transform = classification_transform(
            self.config.image_size,
            train=True,
            num_ops=self.config.augment_ops or 0,
            magnitude=self.config.augment_magnitude or 0,
            crop=self.config.crop or "random",
        )
        return TrainingViews(self.train, partial(_labelled_views, MultiView(transform, views)), self.config.seed)

    def test_data(self, name: str) -> Dataset[tuple[Tensor, int]]:
        """Return items ``(image, label)``: one resized centre crop, uint8, (3, S, S)."""
        return _TestImages(self.tests[name], classification_transform(self.config.image_size, train=False))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, in float32."""
        return F.cross_entropy(output.float(), targets.to(output.device, non_blocking=True))

    def predict(self, student: nn.Module, images: Tensor, device: torch.device) -> Tensor:
        """Return scores, float32, (N, C): logits, or the mean of an image's and its mirror's sigmoids, as CSG tests."""
        prepared = self._prepared(images, device)
        logits: Tensor = student(prepared).float()
        if not self.config.test_flip:
            return logits
        mirrored: Tensor = student(self._formatted(prepared.flip(-1))).float()
        return (logits.sigmoid() + mirrored.sigmoid()) / 2

    def meter(self, name: str) -> AccuracyMeter:
        """Return a fresh meter."""
        return AccuracyMeter(self.tests[name])

    def report(self, name: str, meter: Meter, score: Score, student: nn.Module, folder: Path, title: str) -> None:
        """Draw the confusion matrix, and some images with what the network takes them for."""
        self._draw_confusion(name, score, folder, title)
        images, labels, scores = self.shown(name, student)
        figures.class_panels(
            folder / "figures" / f"predictions-{name}.png",
            images,
            [int(label) for label in labels],
            [int(score.argmax()) for score in scores],
            self.classes,
            title=title,
        )

    @property
    def evaluation(self) -> str:
        """One crop of each image."""
        return "one centre crop"

    @property
    def chance(self) -> float:
        """One over the number of classes: the mean-class accuracy of any guess that does not look."""
        return 1 / len(self.classes)

    @property
    def recipe(self) -> dict[str, str]:
        """The call of timm, and the classifier in place of its own where that has a hidden layer."""
        name, number, width = self.config.backbone, len(self.classes), self.config.head_width
        call = f"import timm\nmodel = timm.create_model({name!r}, num_classes={number})"
        if width is not None:
            call += (
                "\nfrom torch import nn\npath = model.pretrained_cfg['classifier']\n"
                "features = model.get_submodule(path).in_features\nmodel.set_submodule(path, nn.Sequential("
                f"nn.Linear(features, {width}), nn.ReLU(), nn.Linear({width}, {number})))"
            )
        return {"build": call}


def _labelled_views(views: MultiView, image: Tensor, label: int) -> tuple[tuple[Tensor, ...], int]:
    return views(image), label


class _TestImages(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: LabelledImages, transform: Any) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label
