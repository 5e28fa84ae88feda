"""A few labelled images of the target, after the synthetic training."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.optim import Optimizer
from torch.utils.data import Dataset

from synreal import stopping
from synreal.config import RunConfig
from synreal.data.inspection.teaching import check_teaches
from synreal.engine.loading import length
from synreal.engine.phases.base import PHASES, Sees
from synreal.engine.phases.real_images import (
    RealData,
    check_real,
    load_real,
    part_of,
    shared_with_tests,
    tested_as,
)
from synreal.engine.phases.train import Train
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.errors import ConfigError
from synreal.records import Seen
from synreal.tasks.base import Task
from synreal.views import derive_seed


@PHASES.register
class FewShot(Train):
    """All that learns, on a few labelled images of the target.

    Images are looked at in an order drawn from the run's seed, and one is taken if it shows a class of which fewer
    than ``n`` images were taken: of classes exactly ``n`` images each, of masks and boxes at least ``n`` that show each
    class. They come from a training part of the target, never from images that are tested on: where there is no such
    part the phase is refused. Classes that the part does not show at all are left out.

    Attributes:
        n: Labelled images of each class.
        epochs: Passes over them.
        max_steps: Greatest number of steps; by default no limit.
        lr: Peak learning rate, as of the training; by default that one. The schedule is the training's, with a warm-up
            of a tenth of the phase at most; batches are smaller where there are fewer images.
        with_regularizer: Whether penalties stay on; if not, the regularizers are left as they are.
        images: The real data that they are drawn from, as a target is written; by default the first target.
    """

    name: ClassVar[str] = "few_shot"
    summary: ClassVar[str] = "a few labelled images of each class of the target, after train"
    sees: ClassVar[Sees] = "labels"

    n: int = Field(default=5, ge=1)
    epochs: int = Field(default=10, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    lr: float | None = Field(default=None, gt=0)
    with_regularizer: bool = True
    images: RealData = None

    @property
    def regularized(self) -> bool:
        """As the setting says."""
        return self.with_regularizer

    def check(self, config: RunConfig) -> None:
        """Check that there are images that may be drawn from.

        Raises:
            ConfigError: If all of them are tested on, as far as descriptions tell.
        """
        check_real(self.name, self.images, config)
        entry, part = part_of(self.images, config.data.targets)
        if (tested := tested_as(entry, part, config.data.targets)) is not None:
            raise ConfigError(
                f"few_shot needs labelled images of the target that are not tested on, and all images of {tested!r} "
                "are. Tell them apart with splits={'train': ..., 'test': ...} of the target, where its kind has that, "
                "or name other real data: few_shot(images=...)."
            )

    def read(self, task: Task[Any]) -> list[Seen]:
        """Draw the images.

        Raises:
            ConfigError: If a class has too few images, or some of the part are tested on.
            DataError: If the part can teach nothing.
        """
        entry, part = part_of(self.images, task.setup.targets)
        pool = load_real(task, entry, part)
        if (shared := shared_with_tests(pool, task)) is not None:
            raise ConfigError(
                f"few_shot would draw from images that {shared[0]!r} is tested on ({shared[1]}). Give it a part of "
                "the target, or other real data, that shares none: few_shot(images=...)."
            )
        check_teaches(pool)
        task.real[self.name] = pool.subset(drawn(pool, self.n, task.setup.seed))
        return [Seen(data=entry.label, split=pool.split, fingerprint=pool.fingerprint, tested=False, labels=self.n)]

    def items(self, job: Job) -> Dataset[Any]:
        """Return the images that were drawn, in the views of the training."""
        task = job.task
        return task.items_of(task.real[self.name], job.views if self.regularized else 1, task.setup.seed)

    def make_plan(self, job: Job) -> BatchPlan:
        """Return ``epochs`` passes over the images."""
        return job.plan(epochs=self.epochs, most=self.max_steps, fit=True)

    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the configured optimizer, with a lower rate for the backbone."""
        return self.optimizer(job, self.groups(job, job.config.training.lr if self.lr is None else self.lr))

    def warmup(self, state: RunState) -> int:
        """Return the training's warm-up, or a tenth of the phase where that is shorter."""
        return min(super().warmup(state), state.plan.total // 10)


def drawn(images: Any, n: int, seed: int) -> list[int]:
    """Draw images until each class that there is is shown by ``n`` of them.

    Args:
        images: A set of ``synreal.data`` with labels.
        n: Images of each class, at least 1.
        seed: Of the order in which images are looked at.

    Returns:
        Their indices, ascending.

    Raises:
        ConfigError: If a class is shown by some images, but fewer than ``n``.
        DataError: If an image cannot be used.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "few_shot"))
    counts = np.zeros(len(images.classes), np.int64)
    chosen = []
    for index in torch.randperm(length(images), generator=generator).tolist():
        stopping.poll()
        label = images[index][1] if images.labels is None else images.labels[index]
        shown = images.label_kind.count(label, len(counts)).labels > 0
        if (shown & (counts < n)).any():
            counts += shown
            chosen.append(index)
        if (counts >= n).all():
            break
    if few := [name for name, count in zip(images.classes, counts, strict=True) if 0 < count < n]:
        raise ConfigError(
            f"few_shot asks for {n} images of each class, but {images.name} ({images.split}) has fewer of "
            f"{', '.join(few)}. Use n={counts[counts > 0].min()} at most, or other real data: few_shot(images=...)."
        )
    return sorted(chosen)
