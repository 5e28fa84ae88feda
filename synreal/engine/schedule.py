"""The order of samples: a function of the step, so that a resumed run needs no state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from synreal.errors import ConfigError
from synreal.views import derive_seed


class BatchPlan(Sampler[list[tuple[int, int]]]):
    """The batches of a whole run, each a list of ``(epoch, index)``.

    Each epoch is a permutation drawn from (seed, epoch). A step takes the next images of it, whether in one batch, in
    several or on several processes, which take turns batch by batch. The ragged end of an epoch is left out, so that
    every step has the same size.

    Args:
        images: Number of training images.
        batch_size: Images per batch on each process.
        epochs: Passes over the images.
        seed: Of the order.
        most: Greatest number of steps; None for no limit.
        accumulate: Batches per step on each process.
        rank: This process.
        world: Number of processes.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        epochs: int,
        seed: int,
        *,
        most: int | None = None,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.accumulate = accumulate
        self.rank = rank
        self.world = world
        self.steps_per_epoch = images // (batch_size * accumulate * world)
        if self.steps_per_epoch == 0:
            batches = f", {accumulate} batches a step," if accumulate > 1 else ""
            largest = images // (accumulate * world)
            fewer = f"batch_size={largest}" if largest else f"accumulate={images // (batch_size * world) or 1}"
            raise ConfigError(
                f"batch_size {batch_size} on {world} process(es){batches} is larger than the {images} training images: "
                f"no step could be made. Use at most {fewer}."
            )
        self.total = self.steps_per_epoch * epochs if most is None else min(self.steps_per_epoch * epochs, most)
        self.start = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order: list[int] = []
        drawn = -1
        for step in range(self.start, self.total):
            epoch = step // self.steps_per_epoch
            if epoch != drawn:
                order, drawn = self._order(epoch), epoch
            for part in range(self.accumulate):
                yield self._batch(step, part, order)

    def at(self, step: int) -> list[list[tuple[int, int]]]:
        """Return the batches of one step, counted from 0."""
        order = self._order(step // self.steps_per_epoch)
        return [self._batch(step, part, order) for part in range(self.accumulate)]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        order: list[int] = torch.randperm(self.images, generator=generator).tolist()
        return order

    def _batch(self, step: int, part: int, order: list[int]) -> list[tuple[int, int]]:
        epoch, inside = divmod(step, self.steps_per_epoch)
        first = ((inside * self.accumulate + part) * self.world + self.rank) * self.batch_size
        return [(epoch, index) for index in order[first : first + self.batch_size]]

    def __len__(self) -> int:
        return (self.total - self.start) * self.accumulate
