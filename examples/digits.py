"""What the examples train on, in place of your own data: two views of each embedded synthetic digit."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from synreal.tasks import data
from synreal.views import MultiView, classification_transform, to_float
from synreal.weights import normalization


class Digits(Dataset):
    """``(x0, x1), y``: two independently augmented views of an image, normalised for the student, and the label."""

    def __init__(self, student: nn.Module) -> None:
        self.images = data.load("digits", "train")
        self.views = MultiView(classification_transform(64, train=True))
        self.mean, self.std = normalization(student)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, ...], int]:
        """Return the views and the label of an image."""
        image, label = self.images[index]
        return tuple(to_float(view[None], self.mean, self.std)[0] for view in self.views(image)), label


def loader(student: nn.Module, batches: int, size: int) -> DataLoader:
    """Return a loader of so many batches."""
    digits = Digits(student)
    return DataLoader(digits, size, sampler=RandomSampler(digits, replacement=True, num_samples=batches * size))
