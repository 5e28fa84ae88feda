"""Pseudo-labels of unlabelled images: made by a student, kept as files of the run folder.

A round's folder holds ``labels.json`` and, of masks, an image for each. The JSON is written last, and names the SHA-256
of all that it seals.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from synreal import atomic, distributed
from synreal.data.files.decoding import read_ids
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import ImageSet, Part
from synreal.engine.loading import length
from synreal.engine.state import Job
from synreal.engine.testing import shared_batches
from synreal.errors import CheckpointError, TrainingError
from synreal.functional import class_balanced_labels, class_thresholds, confidence_bins
from synreal.functional.pseudo_labels import BINS, NO_LABEL
from synreal.parsing import problems
from synreal.reading import read_bytes, read_json
from synreal.tasks.items import TestItems

MANIFEST: Final = "labels.json"

_EVERY: Final = 4  # pixel, along each side, counts for the thresholds, as in the published code


class Labels(BaseModel):
    """The ``labels.json`` of a round.

    Attributes:
        format: Version of this format.
        images: Fingerprint of the images.
        share: Share of the items predicted to be of a class that are to be labelled.
        thresholds: ``t_k`` by class.
        counts: How many items, images or pixels, got each class as their label.
        labelled: How many items of each image got a label.
        labels: The class of each image, ``NO_LABEL`` where it has none; None where labels are masks.
        masks: SHA-256 of each image's mask; None where labels are classes.
        fingerprint: SHA-256 over all of the above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    images: str
    share: float
    thresholds: list[float]
    counts: list[int]
    labelled: list[int]
    labels: list[int] | None
    masks: list[str] | None
    fingerprint: str = ""

    @property
    def sealed(self) -> str:
        """The fingerprint as it must be."""
        values = self.model_dump(mode="json", exclude={"fingerprint"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def kept(self) -> list[int]:
        """Indices of the images that have a label."""
        return [index for index, number in enumerate(self.labelled) if number]


class PseudoLabelled(Part[Any]):
    """The images that have a pseudo-label, with it in place of their own labels, which nobody reads.

    Args:
        images: All images.
        found: Their labels.
        folder: Where masks lie.
    """

    def __init__(self, images: ImageSet[Any], found: Labels, folder: Path) -> None:
        super().__init__(images, found.kept)
        self.folder = folder
        self.labels = None if found.labels is None else [found.labels[index] for index in found.kept]
        self.fingerprint = found.fingerprint

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, _ = super().__getitem__(index)
        if self.labels is not None:
            return image, self.labels[index]
        return image, torch.from_numpy(read_ids(_mask(self.folder, self.kept[index]), self.max_pixels)).to(torch.uint8)

    def label_path(self, index: int) -> Path | None:
        """Return the file of a mask."""
        return None if self.labels is not None else _mask(self.folder, self.kept[index])


class Joined(ImageSet[Any]):
    """The images of several sets with one kind of label and the same classes, one set after the other.

    Args:
        sets: At least one.
    """

    def __init__(self, *sets: ImageSet[Any]) -> None:
        self.sets = sets
        first = sets[0]
        self.name, self.split = first.name, first.split
        self.classes, self.label_kind = first.classes, first.label_kind
        self.max_pixels = max(one.max_pixels for one in sets)
        self.fingerprint = hashlib.sha256("".join(one.fingerprint for one in sets).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(map(length, self.sets))

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        images, place = self._at(index)
        found: tuple[Tensor, Any] = images[place]
        return found

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image."""
        images, place = self._at(index)
        return images.size(place)

    def path(self, index: int) -> Path | None:
        """Return the file of an image."""
        images, place = self._at(index)
        return images.path(place)

    def _at(self, index: int) -> tuple[ImageSet[Any], int]:
        for images in self.sets:
            if index < length(images):
                return images, index
            index -= length(images)
        raise IndexError(index)


class Confidences:
    """How sure a student is of what it predicts, by class, in bounded memory.

    Args:
        classes: K, the number of classes.
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, BINS, dtype=torch.int64)
        self.least = torch.full((classes, BINS), math.inf)

    def update(self, probabilities: Tensor) -> None:
        """Add items: float32, (N, K)."""
        best, predicted = probabilities.cpu().max(1)
        places = predicted * BINS + confidence_bins(best)
        self.counts.view(-1).index_add_(0, places, torch.ones_like(places))
        self.least.view(-1).scatter_reduce_(0, places, best, "amin")

    def thresholds(self, share: float, device: torch.device) -> Tensor:
        """Return ``t_k`` of the items of all processes, the same on all; see ``class_thresholds``."""
        counts = distributed.all_reduce_sum(self.counts.to(device)).cpu()
        least = distributed.all_gather_rows(self.least[None].to(device)).amin(0).cpu()
        return class_thresholds(counts, least, share)


def make(job: Job, images: ImageSet[Any], share: float, folder: Path, stop: Callable[[], None]) -> None:
    """Label images by the student as it is, which is in eval mode meanwhile, and write a round's folder.

    All processes predict, each its share of the images; the first one writes ``labels.json``.

    Args:
        job: The run.
        images: Unlabelled ones; their labels are not used.
        share: p of ``class_thresholds``.
        folder: The round's.
        stop: Called after each batch, equally often in all processes; it raises if work is to end.

    Raises:
        TrainingError: If no image gets a label.
        OSError: If a file cannot be written.
    """
    if job.main:
        folder.mkdir(parents=True, exist_ok=True)
    job.accelerator.wait_for_everyone()
    device, classes = job.accelerator.device, len(job.task.classes)
    sure = Confidences(classes)
    vectors: list[tuple[int, Tensor]] = []  # of whole images: small enough to be kept
    for index, chances in _predicted(job, images, stop):
        sure.update(_rows(chances[:, ::_EVERY, ::_EVERY] if chances.ndim == 3 else chances))
        if chances.ndim == 1:
            vectors.append((index, chances))
    thresholds = sure.thresholds(share, device)
    counts = torch.zeros(classes, dtype=torch.int64)
    mine: list[tuple[int, int, int | str]] = []
    for index, chances in vectors or _predicted(job, images, stop):
        labels = class_balanced_labels(_rows(chances).cpu(), thresholds)
        found = labels[labels != NO_LABEL]
        counts += found.bincount(minlength=classes)
        said = int(labels) if chances.ndim == 1 else _write(_mask(folder, index), labels.view(chances.shape[1:]))
        mine.append((index, len(found), said))
    counts = distributed.all_reduce_sum(counts.to(device)).cpu()
    every = sorted(one for part in distributed.gather_values(mine) for one in part)
    if not int(counts.sum()):
        raise TrainingError(
            f"self_train labelled none of the {len(every)} images of {images.name} ({images.split}): of no class "
            f"that is predicted does a share of {share:g} make one item. Give a larger share, or more images."
        )
    if job.main:
        answers: list[Any] = [said for _, _, said in every]
        made = Labels(
            images=images.fingerprint,
            share=share,
            thresholds=thresholds.tolist(),
            counts=counts.tolist(),
            labelled=[number for _, number, _ in every],
            labels=None if isinstance(answers[0], str) else answers,
            masks=answers if isinstance(answers[0], str) else None,
        )
        made = made.model_copy(update={"fingerprint": made.sealed})
        atomic.write_text(folder / MANIFEST, json.dumps(made.model_dump(mode="json"), allow_nan=False) + "\n")
    job.accelerator.wait_for_everyone()


def read(folder: Path, images: ImageSet[Any]) -> Labels:
    """Read a round's labels and check that they are whole and of these images.

    Raises:
        CheckpointError: If something is missing, damaged, or of other images; names it.
    """
    path = folder / MANIFEST
    advice = "The run goes on with the labels that it began the round with: put its own files back, or start a new run."
    try:
        found = Labels.model_validate(read_json(path))
        if found.sealed != found.fingerprint:
            raise CheckpointError(f"{path} is damaged: it does not have the fingerprint that it names. {advice}")
        for index, digest in enumerate(found.masks or ()):
            if hashlib.sha256(read_bytes(_mask(folder, index))).hexdigest() != digest:
                raise CheckpointError(f"{_mask(folder, index)} is not as {path} says: its SHA-256 is another. {advice}")
    except OSError as error:
        raise CheckpointError(f"Cannot read {error.filename or path}: {error.strerror}. {advice}") from None
    except ValidationError as error:
        raise CheckpointError(f"{path} holds no labels: {problems(error)}. {advice}") from None
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not JSON ({error}). {advice}") from None
    if found.images != images.fingerprint or len(found.labelled) != length(images):
        raise CheckpointError(f"{path} is of other images than {images.name} ({images.split}). {advice}")
    return found


def _predicted(job: Job, images: ImageSet[Any], stop: Callable[[], None]) -> Iterator[tuple[int, Tensor]]:
    """Go through the images that are this process's: their indices, and probabilities (K,) or (K, H, W)."""
    task, accelerator = job.task, job.accelerator
    items = TestItems(images, task.test_item())
    job.student.network.eval()
    for indices, (batch, _) in shared_batches(items, task.collate_test, job.config, accelerator, stop):
        with torch.no_grad(), accelerator.autocast():
            found = task.probabilities(job.student, batch, accelerator.device)
        yield from zip(indices, found, strict=True)


def _rows(chances: Tensor) -> Tensor:
    """Return probabilities as (N, K): an image's own, or one row for each pixel."""
    return chances[None] if chances.ndim == 1 else chances.flatten(1).T


def _mask(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.png"


def _write(path: Path, labels: Tensor) -> str:
    """Write a mask; return its SHA-256."""
    file = io.BytesIO()
    Image.fromarray(torch.where(labels == NO_LABEL, IGNORE, labels).to(torch.uint8).numpy()).save(file, "PNG")
    atomic.write(path, file.getvalue())
    return hashlib.sha256(file.getvalue()).hexdigest()
