"""Image classification: cross-entropy on synthetic images, accuracy on real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from typing_extensions import Self

from synreal.metrics import class_recall, confusion_matrix
from synreal.records import Score
from synreal.stages import find_head
from synreal.tasks import data
from synreal.tasks.base import Meter, Task
from synreal.tasks.data.base import LabelledImages
from synreal.views import MultiView, classification_transform, derive_seed, seeded, to_float
from synreal.weights import WeightsOrigin, create_backbone, normalization


class Classification(Task):
    """One class an image.

    Args:
        train: Synthetic images to train on.
        heldout: Synthetic images to test on.
        targets: Real images to test on, by name.
        image_size: Side of the network's input, in pixels.
    """

    def __init__(
        self, train: LabelledImages, heldout: LabelledImages, targets: dict[str, LabelledImages], *, image_size: int
    ) -> None:
        self.classes = train.classes
        self.train = train
        self.tests = {"source": heldout, **targets}
        self.image_size = image_size
        self.statistics: tuple[Sequence[float], Sequence[float]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @classmethod
    def load(cls, source: str, targets: Sequence[str], *, seed: int, image_size: int) -> Self:
        """Read source and targets.

        Args:
            source: Name of the synthetic data.
            targets: Names of the real data.
            seed: Seed of a rendered source. It is the data's own, not the run's: runs of several seeds share data.
            image_size: Side of the network's input, in pixels.
        """
        return cls(
            data.load(source, "train", seed=seed),
            data.load(source, "heldout", seed=seed),
            {name: data.load(name, "test") for name in targets},
            image_size=image_size,
        )

    def build_student(self, backbone: str, weights: str) -> tuple[nn.Module, WeightsOrigin]:
        """Build a timm model with a fresh linear classifier, and take its normalisation.

        The classifier starts at zero: a random one shakes the pretrained backbone in the first steps, before it has
        learnt anything. One that a weights file brings is kept.
        """
        student, origin = create_backbone(backbone, num_classes=len(self.classes), weights=weights)
        if origin.source != "file":
            head = find_head(student)
            for name, parameter in student.named_parameters():
                if name in head:
                    nn.init.zeros_(parameter)
        self.statistics = normalization(student)
        return student, origin

    def training_data(
        self, *, views: int, seed: int, augment_ops: int, augment_magnitude: float
    ) -> Dataset[tuple[tuple[Tensor, ...], int]]:
        """Return items ``(views, label)`` with independently augmented uint8 views, (3, S, S) each."""
        transform = classification_transform(
            self.image_size, train=True, num_ops=augment_ops, magnitude=augment_magnitude
        )
        return _TrainingViews(self.train, MultiView(transform, views), seed)

    def test_data(self) -> dict[str, Dataset[tuple[Tensor, int]]]:
        """Return items ``(image, label)``: one resized centre crop, uint8, (3, S, S)."""
        transform = classification_transform(self.image_size, train=False)
        return {name: _TestImages(images, transform) for name, images in self.tests.items()}

    def prepare(self, images: Tensor) -> Tensor:
        """Scale and normalise as the backbone was pretrained: uint8 -> float32."""
        return to_float(images, *self.statistics)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, in float32."""
        return F.cross_entropy(output.float(), targets)

    def meter(self, name: str) -> AccuracyMeter:
        """Return a fresh meter."""
        return AccuracyMeter(self.tests[name])

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the training images and of each test set."""
        return {"train": self.train.fingerprint, **{name: s.fingerprint for name, s in self.tests.items()}}

    @property
    def chance(self) -> float:
        """One over the number of classes: the mean-class accuracy of any guess that does not look."""
        return 1 / len(self.classes)


class AccuracyMeter(Meter):
    """Counts a confusion matrix over a whole set.

    Args:
        images: The set, for its name and classes.
    """

    def __init__(self, images: LabelledImages) -> None:
        self.images = images
        self.confusion = torch.zeros(len(images.classes), len(images.classes), dtype=torch.int64)

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Add one batch of logits, (N, C), and labels, (N,)."""
        self.confusion += confusion_matrix(output.argmax(1), targets, len(self.images.classes)).cpu()

    def state(self) -> Tensor:
        """Return the counts, int64, (C, C)."""
        return self.confusion

    def load(self, state: Tensor) -> Self:
        """Replace the counts."""
        self.confusion = state
        return self

    def compute(self) -> Score:
        """Return both accuracies and recall by class."""
        recall = class_recall(self.confusion)
        total = int(self.confusion.sum())
        return Score(
            data=self.images.name,
            split=self.images.split,
            fingerprint=self.images.fingerprint,
            images=total,
            accuracy=float(self.confusion.diagonal().sum()) / total,
            mean_class_accuracy=float(recall.nanmean()),
            per_class={
                name: None if value != value else value
                for name, value in zip(self.images.classes, recall.tolist(), strict=True)
            },
            confusion=self.confusion.tolist(),
        )


class _TrainingViews(Dataset[tuple[tuple[Tensor, ...], int]]):
    def __init__(self, images: LabelledImages, views: MultiView, seed: int) -> None:
        self.images = images
        self.views = views
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: tuple[int, int]) -> tuple[tuple[Tensor, ...], int]:
        epoch, index = position
        image, label = self.images[index]
        with seeded(derive_seed(self.seed, "view", epoch, index)):
            return self.views(image), label


class _TestImages(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: LabelledImages, transform: Any) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label
