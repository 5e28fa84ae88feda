"""The head alone on the frozen backbone, before everything else learns (LP-FT)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Final, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import Dataset

from synreal import distributed
from synreal.engine import saving
from synreal.engine.loading import length
from synreal.engine.phases.base import PHASES, Sees
from synreal.engine.phases.train import Train
from synreal.engine.schedule import BatchPlan
from synreal.engine.state import Job, RunState
from synreal.engine.testing import shared_batches
from synreal.errors import ConfigError
from synreal.views import View

MOST_BYTES: Final = 2**30
"""Memory that kept features may take, in each process."""


@PHASES.register
class HeadFirst(Train):
    """The task's head alone, on the source, while the backbone stays as it was pretrained.

    It is the first half of LP-FT (Kumar et al., ICLR 2022), and ``train`` at a rate of its own the second one.

    A fresh head sends large gradients through a pretrained backbone; one that has been trained first does not. The head
    is a classifier; of a segmenter the decoder; of a detector the pyramid and everything behind it. The backbone runs
    in eval mode and without gradient, no bit of it or of its statistics changes, and penalties, which act on it, are
    left out: queues, averages and projection heads stay as they are. So the head is the same whatever regularizer
    comes after it.

    Where each epoch shows a classifier the same images, because ``crop(place=center)`` is the only view, each image
    goes through the backbone once, and its features are kept if those of all images take 1 GiB at most. They come
    from batches of ``testing.eval_batch_size`` and are those of a step up to rounding.

    Attributes:
        epochs: Passes over the source.
        max_steps: Greatest number of steps; by default no limit.
        lr: Peak learning rate of the head; by default that of the training. The optimizer and the schedule are those of
            the training, with a warm-up of half of the phase at most.
    """

    name: ClassVar[str] = "head_first"
    summary: ClassVar[str] = "the head alone on the frozen backbone, without penalty; comes before train (LP-FT)"
    sees: ClassVar[Sees] = "nothing"

    epochs: int = Field(default=2, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    lr: float | None = Field(default=None, gt=0)

    @property
    def regularized(self) -> bool:
        """No: nothing that a penalty acts on moves."""
        return False

    def items(self, job: Job) -> Dataset[Any]:
        """Return the source's items with view 0 alone, which is the same whatever the regularizers ask for."""
        return job.task.training_data(1)

    def make_plan(self, job: Job) -> BatchPlan:
        """Return ``epochs`` passes over the source."""
        return job.plan(epochs=self.epochs, most=self.max_steps)

    def make_optimizer(self, job: Job) -> Optimizer:
        """Return the configured optimizer, for the head.

        Raises:
            ConfigError: If the network has no head that learns.
        """
        network, anatomy = job.student.network, job.model.anatomy
        head = [p for name, p in network.named_parameters() if name in anatomy.head and p.requires_grad]
        if not head:
            raise ConfigError(
                f"head_first found no head that learns in {anatomy.kind}: no get_classifier(), fc, classifier, head or "
                "heads, and no encoder or backbone inside. Leave the phase out."
            )
        rate = job.config.training.lr if self.lr is None else self.lr
        return self.optimizer(job, [{"params": head, "lr": rate}])

    def to_train(self, job: Job) -> None:
        """Let the head learn as in training, and the backbone be as in tests."""
        super().to_train(job)
        network, anatomy = job.student.network, job.model.anatomy
        network.get_submodule(anatomy.entry).eval()
        for path in anatomy.classifiers:
            network.get_submodule(path).train()

    def warmup(self, state: RunState) -> int:
        """Return the training's warm-up, without which a fresh detector diverges; half of the phase at most."""
        return min(super().warmup(state), state.plan.total // 2)

    def run(self, state: RunState) -> None:
        """Make the steps that are left, on features that are kept where that is possible; raises as ``Train.run``."""
        if not state.done and (features := _features(state)) is not None:
            state.job = dataclasses.replace(state.job, data=features)
        super().run(state)

    def output(self, state: RunState, views: Any, targets: Any) -> dict[str, Any]:
        """Run the model on a batch, or its classifier alone on features that are kept."""
        if not isinstance(state.job.data, KeptFeatures):
            return super().output(state, views, targets)
        with _classifier_alone(state.job):
            found: dict[str, Any] = state.wrapped(views[0].to(state.job.accelerator.device))
        return found


class KeptFeatures(Dataset[tuple[tuple[Tensor], Any]]):
    """What a classifier gets to see of each image, with the image's target; read by ``(epoch, index)``.

    Args:
        images: The images, for messages.
        features: (N, D).
        targets: (N,).
    """

    def __init__(self, images: Any, features: Tensor, targets: Tensor) -> None:
        self.images = images
        self.features = features
        self.targets = targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, position: tuple[int, int]) -> tuple[tuple[Tensor], Any]:
        _, index = position
        return (self.features[index],), int(self.targets[index])


class _OneEpoch(Dataset[Any]):
    """Training items by index: those of the first epoch."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.images = data.images

    def __len__(self) -> int:
        return length(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[0, index]


def _features(state: RunState) -> KeptFeatures | None:
    """Run all images through the backbone once; None where features cannot be kept.

    Raises:
        Interrupted: If the run was asked to stop; it has a checkpoint.
    """
    job = state.job
    views = cast("tuple[View, ...]", job.config.views)
    heads = job.model.anatomy.classifiers
    if len(heads) != 1 or not all(view.fixed or view.draws == "further" for view in views):
        return None

    def stop() -> None:
        if job.stop_asked():
            raise saving.stop(state)

    state.to_train()
    if not _can_be_kept(job):
        return None
    job.progress.say("No view changes an image from epoch to epoch: the features of the frozen backbone are kept.")
    items = _OneEpoch(job.data)
    order: list[int] = []
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.no_grad(), job.accelerator.autocast():
        for indices, (shown, targets) in shared_batches(items, job.task.collate, job.config, job.accelerator, stop):
            order += indices
            rows.append(_seen_by_head(job, shown, targets)[0])
            labels.append(targets)
    device = job.accelerator.device
    places = distributed.all_gather_rows(torch.tensor(order, device=device)).argsort()
    features, targets = (
        distributed.all_gather_rows(torch.cat(parts).to(device))[places].cpu() for parts in (rows, labels)
    )
    return KeptFeatures(items.images, features, targets)


def _can_be_kept(job: Job) -> bool:
    """Whether the classifier has the last word on one vector for each image, and all of them are not too large."""
    data: Any = job.data
    with torch.no_grad(), job.accelerator.autocast():
        features, output = _seen_by_head(job, *job.task.collate([data[0, 0]]))
        if features.ndim != 2 or features.nbytes * length(data) > MOST_BYTES:
            return False
        return torch.equal(job.student.network.get_submodule(job.model.anatomy.classifiers[0])(features), output)


def _seen_by_head(job: Job, views: Any, targets: Any) -> tuple[Tensor, Any]:
    """Return what the classifier gets of a batch, float32, and the network's output."""
    network = job.student.network
    found: list[Tensor] = []
    head = network.get_submodule(job.model.anatomy.classifiers[0])
    handle = head.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        images, more = job.task.inputs(views, targets, job.student, job.accelerator.device)
        output = network(images[0], **more)
    finally:
        handle.remove()
    return found[0].float(), output


@contextlib.contextmanager
def _classifier_alone(job: Job) -> Iterator[None]:
    """Let the network be its classifier, within whatever wraps it."""
    network = job.student.network
    network.forward = network.get_submodule(job.model.anatomy.classifiers[0]).forward
    try:
        yield
    finally:
        del network.forward
