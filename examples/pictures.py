"""What the examples train on, in place of your own data: two views of each image, normalised for the student.

The embedded digits by default; ``--source imagefolder:renders`` takes a folder of class folders.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from synreal import data
from synreal.views import training_views
from synreal.weights import create_backbone


class Pictures(Dataset):
    """``(x0, x1), y``: two independently augmented views of an image, and its label.

    On a folder, torchvision's ``ImageFolder(root, transform=training_views(student, size))`` gives the same.
    """

    def __init__(self, source: str, student: nn.Module, size: int) -> None:
        self.images = data.load(source, "train")
        self.views = training_views(student, size)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], int]:
        """Return the views and the label of an image."""
        image, label = self.images[index]
        return self.views(image), label


def student_and_pictures(source: str, size: int) -> tuple[nn.Module, Pictures]:
    """Build a pretrained timm model with a classifier for the source's classes, and the data normalised for it."""
    classes = len(data.load(source, "train").classes)
    student, _ = create_backbone("tf_efficientnet_lite0", num_classes=classes)
    return student, Pictures(source, student, size)


def loader(pictures: Dataset, batch_size: int) -> DataLoader:
    """Return a loader of whole batches in random order."""
    return DataLoader(pictures, batch_size, shuffle=True, drop_last=True)


def endless(batches: DataLoader) -> Iterator:
    """Go through a loader again and again."""
    while True:
        yield from batches


def parser(description: str | None, regularizer: str = "csg") -> argparse.ArgumentParser:
    """Return the options that all examples share; their names are ``main``'s arguments."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--steps", type=int, default=20, help="optimizer steps")
    options.add_argument("--batch-size", type=int, default=32)
    options.add_argument("--regularizer", default=regularizer)
    options.add_argument("--source", default="digits", help="e.g. imagefolder:renders")
    options.add_argument("--image-size", type=int, default=64, help="in pixels")
    return options
