"""Self-training on unlabelled images of the target, with class-balanced pseudo-labels (CBST)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch.optim import Optimizer
from torch.utils.data import Dataset

from synreal.config import RunConfig
from synreal.engine import pseudo_labels, saving
from synreal.engine.loading import length
from synreal.engine.phases.base import PHASES, Phase, Sees
from synreal.engine.phases.real_images import (
    RealData,
    check_real,
    load_real,
    part_of,
    shared_with_tests,
    tested_as,
)
from synreal.engine.phases.train import Train
from synreal.engine.pseudo_labels import Joined, Labels, PseudoLabelled
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState, source_plan
from synreal.errors import ConfigError
from synreal.records import Seen
from synreal.tasks.base import Task
from synreal.views import derive_seed

FOLDER = "pseudo_labels"
"""Where a run folder keeps the labels of each round."""


@PHASES.register
class SelfTrain(Train):
    """All that learns, on images of the target with the student's own labels (CBST, Zou et al., ECCV 2018).

    In each round the student, in eval mode, predicts all images as in a test. Of each class the surest share of what
    it predicts sets a threshold, and an item, an image or a pixel, gets the label ``argmax_k p_k / t_k`` if it reaches
    that class's threshold (``synreal.functional.class_balanced_labels``). Then the student trains on them, and on some
    of the source, with an optimizer that begins anew. Thresholds of masks come from every fourth pixel along each side.

    A round trains on as many images as its share of all images comes to, drawn from those that have a label, so that
    all runs make equally many steps; of masks on as many as there are. Not done of the published code: predictions at
    a smaller scale, crops around rare classes, and the soft labels and regularizers of CRST.

    Attributes:
        rounds: How often labels are made; with ``share``, ``step`` and ``cap`` as they are, seven lead to the cap.
        share: Share of the items of a class that the first round labels.
        step: What each round adds to it.
        cap: The largest share.
        epochs: Passes of a round over its images.
        lr: Learning rate, as of the training, constant; by default a tenth of that one.
        source: Share of the source that joins in the first round, what each round adds, and the most; drawn anew in
            each round. CRST's published code has these numbers.
        with_regularizer: Whether penalties stay on; if not, the regularizers are left as they are.
        images: The real data, as a target is written; by default the training part of the first target, or its test
            images where it has no other part. The result says which.
    """

    name: ClassVar[str] = "self_train"
    summary: ClassVar[str] = "unlabelled images of the target with the student's own, class-balanced labels (CBST)"
    sees: ClassVar[Sees] = "images"

    rounds: int = Field(default=7, ge=1, le=99)
    share: float = Field(default=0.2, gt=0, le=1)
    step: float = Field(default=0.05, ge=0, le=1)
    cap: float = Field(default=0.5, gt=0, le=1)
    epochs: int = Field(default=1, ge=1)
    lr: float | None = Field(default=None, gt=0)
    source: tuple[float, float, float] = (0.03, 0.0025, 0.06)
    with_regularizer: bool = False
    images: RealData = None
    _round: int = PrivateAttr(default=0)

    @property
    def title(self) -> str:
        """Its name, and which round."""
        return f"{self.name} {self._round + 1}/{self.rounds}"

    def stretches(self) -> Sequence[Phase]:
        """Return the rounds."""
        rounds = []
        for number in range(self.rounds):
            each = self.model_copy()
            each._round = number
            rounds.append(each)
        return rounds

    @property
    def regularized(self) -> bool:
        """As the setting says."""
        return self.with_regularizer

    @property
    def labelled_share(self) -> float:
        """Share of the items of each class that this round labels."""
        return min(round(self.share + self.step * self._round, 9), self.cap)

    @property
    def source_share(self) -> float:
        """Share of the source that joins in this round."""
        first, more, most = self.source
        return min(round(first + more * self._round, 9), most)

    def check(self, config: RunConfig) -> None:
        """Check that the task has probabilities to go by, and that a student comes into the phase trained.

        Raises:
            ConfigError: If not, or a number is out of its range.
        """
        check_real(self.name, self.images, config)
        if config.task.runtime().probabilities is Task.probabilities:
            raise ConfigError(
                f"self_train needs a probability of each class, which the task {config.task.name!r} does not give. It "
                "works for classification and segmentation."
            )
        if config.phases[0].name == self.name and config.student.start is None:
            raise ConfigError(
                "self_train labels images by a student that is trained: put train before it, --phase train --phase "
                "self_train, or begin with a finished run, --from RUN --phase self_train."
            )
        if not all(0 <= number <= 1 for number in self.source):
            raise ConfigError(f"self_train: source is {self.source}; expected three shares of the source, in [0, 1].")

    def read(self, task: Task[Any]) -> list[Seen]:
        """Read the images; those that are tested on are read once."""
        targets = task.setup.targets
        entry, part = part_of(self.images, targets)
        tested = tested_as(entry, part, targets)
        images = load_real(task, entry, part) if tested is None else task.tests[tested]
        task.real[self.name] = images
        shown = tested is not None or shared_with_tests(images, task) is not None
        return [Seen(data=entry.label, split=images.split, fingerprint=images.fingerprint, tested=shown)]

    def make_plan(self, job: Job) -> BatchPlan:
        """Return ``epochs`` passes over as many images as the round trains on."""
        real, source = self._numbers(job)
        return source_plan(job.config, real + source, job.accelerator, epochs=self.epochs, fit=True)

    def _numbers(self, job: Job) -> tuple[int, int]:
        """Return how many images of the target, and of the source, the round trains on."""
        images, train = job.task.real[self.name], job.task.train
        share = 1.0 if images.label_kind.geometric else self.labelled_share
        return max(1, math.floor(share * length(images) + 1e-9)), math.floor(self.source_share * length(train) + 1e-9)

    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the configured optimizer, with a lower rate for the backbone."""
        return self.optimizer(job, self.groups(job, job.config.training.lr / 10 if self.lr is None else self.lr))

    def factor(self, state: RunState) -> float:
        """Return 1: the rate is constant."""
        return 1.0

    def run(self, state: RunState) -> None:
        """Label the images, or read the labels that the round began with, and make the steps that are left.

        Raises:
            CheckpointError: If the labels are gone or damaged.
            TrainingError: If no image gets a label; and as ``Train.run``.
        """
        if state.done:
            return
        job = state.job
        images = job.task.real[self.name]
        folder = job.path / FOLDER / f"round-{self._round + 1:02d}"

        def stop() -> None:
            if job.stop_asked():
                raise saving.stop(state)

        if state.step == 0 and not (folder / pseudo_labels.MANIFEST).exists():
            job.progress.say(f"{self.title}: labelling {length(images)} images of {images.name}.")
            pseudo_labels.make(job, images, self.labelled_share, folder, stop)
        found = pseudo_labels.read(folder, images)
        job.progress.say(f"{self.title}: {len(found.kept)} of {length(images)} images have a label.")
        state.job = dataclasses.replace(job, data=self._items(job, found, PseudoLabelled(images, found, folder)))
        super().run(state)

    def _items(self, job: Job, found: Labels, labelled: PseudoLabelled) -> Dataset[Any]:
        """Return what the round trains on: images with a label, as many as it takes, and some of the source."""
        task, seed = job.task, derive_seed(job.config.training.seed, self.name, self._round)
        real, source = self._numbers(job)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(length(labelled), generator=generator).tolist()
        chosen = [order[place % len(order)] for place in range(real)]
        sets = [labelled]
        if source:
            some = torch.randperm(length(task.train), generator=generator)[:source].tolist()
            sets.append(task.train.subset(sorted(some)))
            chosen += range(len(order), len(order) + source)
        return task.items_of(Joined(*sets).subset(chosen), job.views if self.regularized else 1, seed)
