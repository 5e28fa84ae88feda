"""What the loaders of a task read, item by item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from synreal.views import ViewPipeline, derive_seed, seeded
from synreal.views.base import ImageChange


class TrainingItems(Dataset[tuple[tuple[Tensor, ...], Any]]):
    """Items ``(views, target)`` that are read by ``(epoch, index)``, and are a function of these and the seed.

    Args:
        images: A set of ``synreal.data``.
        views: Draws the views of an image and moves its label along.
        target: Makes of a label what the loss takes; it can be pickled.
        seed: The run's.
    """

    def __init__(self, images: Any, views: ViewPipeline, target: Callable[[Any], Any], seed: int) -> None:
        self.images = images
        self.views = views
        self.target = target
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: tuple[int, int]) -> tuple[tuple[Tensor, ...], Any]:
        epoch, index = position
        with seeded(derive_seed(self.seed, "view", epoch, index)):
            shown, label = self.views(*self.images[index])
            return shown, self.target(label)


class TestItems(Dataset[tuple[Tensor, Any]]):
    """Items ``(image, target)`` to test on, by index.

    Args:
        images: A set of ``synreal.data``.
        item: Makes an item of the index, the image and its label; it can be pickled.
        shift: Changes each image before that, the same way in every run; None leaves images as they are.
    """

    __test__ = False  # for pytest, which takes the name for a test's

    def __init__(
        self, images: Any, item: Callable[[int, Tensor, Any], tuple[Tensor, Any]], shift: ImageChange | None = None
    ) -> None:
        self.images = images
        self.item = item
        self.shift = shift

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.images[index]
        if self.shift is not None:
            with seeded(derive_seed("shift", index)):
                image = self.shift(image)
        return self.item(index, image, label)
