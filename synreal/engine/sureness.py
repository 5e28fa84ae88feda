"""How sure the student of a run is of images, with and without labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from synreal.data.labels.masks import IGNORE
from synreal.engine import preflight
from synreal.engine.loading import batches, dead_workers_named, make_loader
from synreal.engine.photos import PhotoItems, Picture, collated
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.testing import shared_batches
from synreal.engine.trained import read_trained
from synreal.errors import Interrupted
from synreal.tasks.base import Task
from synreal.views import View

PHOTOS: Final = "photos"
"""What images without labels are called."""

STYLES: Final = "styles"
"""What held-out source in all styles of ``testing.shifts`` together is called."""

PIXELS: Final = 256
"""How many pixels of an image are looked at, spread evenly."""


@dataclass(frozen=True)
class Sureness:
    """What a student says of a set of images: of each image, or of ``PIXELS`` pixels of each that are not ignored.

    Attributes:
        confidences: Probability of the class that is predicted, float32, (N,), on the CPU.
        predicted: That class, int64, (N,).
        right: bool, (N,): whether it is the true one; None where there are no labels.
    """

    confidences: Tensor
    predicted: Tensor
    right: Tensor | None = None

    @property
    def accuracy(self) -> float | None:
        """The share that is right; None where there are no labels."""
        return None if self.right is None else float(self.right.double().mean())


def can_tell(task: type[Task[Any]]) -> bool:
    """Return whether networks of a task say how sure they are."""
    return task.predict_sure is not Task.predict_sure


def sureness(
    path: str | Path, photos: Sequence[Picture] = (), *, device: str = "auto", show_progress: bool = True
) -> dict[str, Sureness]:
    """Run the student of a finished run over its sets of images, and over others; in one process.

    Args:
        path: The run folder.
        photos: Image files without labels.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        By set: ``STYLES`` if the run tested in any, each target, and ``PHOTOS`` if there are any.

    Raises:
        SynrealError: As ``evaluate``; ``ConfigError`` if the task cannot tell.
        Interrupted: If the process was asked to stop.
    """
    trained = read_trained(Path(path), "look into", device=device)
    config = trained.config
    accelerator = preflight.accelerator(config)
    task = trained.load_tests(source=True)
    student = trained.student(task)
    student.network.to(accelerator.device).eval()
    size, workers = config.testing.eval_batch_size, config.data.workers
    found: dict[str, Sureness] = {}
    with listening() as request, RunProgress(show=show_progress) as progress, dead_workers_named(), torch.no_grad():

        def stop() -> None:
            if request.exit_code:
                raise Interrupted("Stopped while looking at how sure the networks are.", request.exit_code)

        def labelled(data: Dataset[Any]) -> Iterator[tuple[Any, Any]]:
            for _, batch in shared_batches(data, task.collate_test, config, accelerator, stop):
                yield batch

        def unlabelled(data: PhotoItems) -> Iterator[tuple[Any, Any]]:
            collate = partial(collated, task.collate_test)
            for _, _, images, _ in batches(make_loader(data, workers, collate, batch_size=size)):
                yield images, None
                stop()

        def said(name: str, data: Any) -> Iterator[tuple[Any, Any, Any]]:
            progress.start(f"how sure: {name}", math.ceil(len(data) / size), 0)
            pairs = unlabelled(data) if isinstance(data, PhotoItems) else labelled(data)
            for done, (images, targets) in enumerate(pairs, start=1):
                with accelerator.autocast():
                    output, sure = task.predict_sure(student, images, accelerator.device)
                yield output, sure, targets
                progress.step(done, {})

        shifts = cast("tuple[View, ...]", config.testing.shifts)
        if shifts:
            found[STYLES] = _together([_joined(said(shift.name, task.test_data("source", shift))) for shift in shifts])
        for name in task.tests:
            if name != "source":
                found[name] = _joined(said(name, task.test_data(name)))
        if photos:
            items = PhotoItems([one.file for one in photos], task.test_item(), skip=False)
            found[PHOTOS] = _joined(said(PHOTOS, items))
    return found


def _together(parts: Sequence[Sureness]) -> Sureness:
    right = [one.right for one in parts if one.right is not None]
    return Sureness(
        torch.cat([one.confidences for one in parts]), torch.cat([one.predicted for one in parts]), torch.cat(right)
    )


def _joined(batches: Iterator[tuple[Any, Any, Any]]) -> Sureness:
    """Put batches together: of masks the same pixels of each image, whoever predicts them."""
    parts, labelled = [], True
    for output, sure, targets in batches:
        labelled = targets is not None
        for place, confidence in enumerate(sure):
            parts.append(_one(output[place], confidence, targets[place] if labelled else None))
    confidences, predicted, right = (torch.cat(each) for each in zip(*parts, strict=True))
    return Sureness(confidences, predicted, right if labelled else None)


def _one(said: Tensor, confidence: Tensor, target: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return of an image, or of some pixels of one: how sure, which class, whether it is right, each (N,)."""
    said = said.argmax(0) if said.ndim > confidence.ndim else said
    truth = said if target is None else torch.as_tensor(target).to(said.device)
    rows = [one.reshape(-1) for one in (confidence, said, truth)]
    if confidence.ndim:
        places = torch.arange(PIXELS, device=said.device) * len(rows[0]) // PIXELS
        rows = [one[places] for one in rows]
        if target is not None:
            rows = [one[rows[2] != IGNORE] for one in rows]
    sure, classes, truth = rows
    return sure.float().cpu(), classes.long().cpu(), (classes == truth).cpu()
