"""How sure the student of a run is of images, with and without labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synreal.engine import preflight
from synreal.engine.loading import batches, dead_workers_named, make_loader
from synreal.engine.photos import PhotoItems, Picture, collated
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.trained import read_trained
from synreal.errors import Interrupted
from synreal.measures.confidence import ENDING, Confidence, sampled
from synreal.records import RunRecord
from synreal.tasks.base import Task
from synreal.tasks.reporting import PREDICTIONS, styled

MEASURE: Final = Confidence.name
"""The measure that a run takes (``testing.measures``) for its sureness to be read."""

PHOTOS: Final = "photos"
"""What images without labels are called."""

STYLES: Final = "styles"
"""What held-out source in all styles of ``testing.shifts`` together is called."""


@dataclass(frozen=True)
class Sureness:
    """What a student says of a set of images: of each image, or of some pixels of each that are not ignored.

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


def read_sureness(path: Path, record: RunRecord) -> dict[str, Sureness]:
    """Read what a run, with ``MEASURE`` among its measures, wrote when it was tested.

    Args:
        path: The run folder.
        record: Its record.

    Returns:
        By set: ``STYLES`` if the run tested in any, and each target.
    """

    def read(*names: str) -> Sureness:
        files = [json.loads((path / PREDICTIONS / f"{name}{ENDING}.json").read_text("utf-8")) for name in names]
        confidences, predicted, right = (
            torch.cat([torch.tensor(each[key], dtype=kind) for each in files])
            for key, kind in (("confidence", torch.float32), ("predicted", torch.int64), ("right", torch.bool))
        )
        return Sureness(confidences, predicted, right)

    found = {name: read(name) for name in record.targets}
    if record.shifted:
        found[STYLES] = read(*map(styled, record.shifted))
    return found


def sureness(
    path: str | Path, photos: Sequence[Picture], *, device: str = "auto", show_progress: bool = True
) -> Sureness:
    """Run the student of a finished run over images that nobody labelled; in one process.

    Args:
        path: The run folder.
        photos: Image files, one or more.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        What it says of them.

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
    size = config.testing.eval_batch_size
    items = PhotoItems([one.file for one in photos], task.test_item(), skip=False)
    loader = make_loader(items, config.data.workers, partial(collated, task.collate_test), batch_size=size)
    parts: list[tuple[Tensor, Tensor]] = []
    with listening() as request, RunProgress(show=show_progress) as progress, dead_workers_named(), torch.no_grad():
        progress.start("how sure: photos", math.ceil(len(items) / size), 0)
        for done, (_, _, images, _) in enumerate(batches(loader), start=1):
            with accelerator.autocast():
                output, sure = task.predict_sure(student, images, accelerator.device)
            parts += [_one(said, confidence) for said, confidence in zip(output, sure, strict=True)]
            progress.step(done, {})
            if request.exit_code:
                raise Interrupted("Stopped while looking at how sure the networks are.", request.exit_code)
    confidences, predicted = (torch.cat(each) for each in zip(*parts, strict=True))
    return Sureness(confidences, predicted)


def _one(said: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Return of an image, or of some pixels of one: how sure, and which class, each (N,)."""
    said = said.argmax(0) if said.ndim > confidence.ndim else said
    sure, classes = (sampled(one[None])[0] if one.ndim else one[None] for one in (confidence, said))
    return sure.float().cpu(), classes.long().cpu()
