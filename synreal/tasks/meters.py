"""What each task collects over a test set, and the score it makes of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synreal.data.sets import IGNORE, BoxedImages, Boxes, ImageSet
from synreal.distributed import all_gather_rows, all_reduce_sum, world_size
from synreal.errors import TrainingError
from synreal.metrics import (
    class_iou,
    class_recall,
    coco_evaluate,
    coco_ground_truth,
    coco_results,
    confusion_matrix,
)
from synreal.records import Score
from synreal.tasks.base import Meter


class _ConfusionMeter(Meter):
    """Counts a confusion matrix over a set.

    Args:
        images: The set, for its name, classes and number of images.
    """

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.confusion = torch.zeros(len(images.classes), len(images.classes), dtype=torch.int64)

    def gather(self, device: torch.device) -> None:
        """Add up the counts of all processes."""
        self.confusion = _summed(self.confusion, device)

    def _count(self, predictions: Tensor, targets: Tensor, ignore_index: int | None = None) -> None:
        """Add class ids, on the device that the predictions are on."""
        counts = confusion_matrix(predictions, targets.to(predictions.device), len(self.images.classes), ignore_index)
        self.confusion += counts.cpu()

    def _right(self) -> float | None:
        """Return the share of right predictions; None where nothing was counted."""
        return _or_none(self.confusion.diagonal().sum().double() / self.confusion.sum())


class AccuracyMeter(_ConfusionMeter):
    """Counts a confusion matrix over the images of a set."""

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Add one batch: scores, (N, C), and labels, int64, (N,)."""
        self._count(output.argmax(1), targets)

    def compute(self) -> Score:
        """Return both accuracies, and recall by class.

        Raises:
            TrainingError: If not every image was counted, or one twice.
        """
        _check_number(int(self.confusion.sum()), self.images)
        recall = class_recall(self.confusion)
        measures = {"mean_class_accuracy": _or_none(recall.nanmean()), "accuracy": self._right()}
        return _score(self.images, measures, recall.tolist(), self.confusion)


class MaskMeter(_ConfusionMeter):
    """Counts a confusion matrix over the pixels of a set."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.seen = torch.zeros((), dtype=torch.int64)

    def update(self, output: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]) -> None:
        """Add one batch, whose images may differ in size.

        Args:
            output: Of each image logits, (C, H, W), or class ids, integers, (H, W).
            targets: Of each image class ids, uint8 or int64, (H, W); pixels of ``IGNORE`` count nowhere.

        Raises:
            DataError: If shapes differ or ids lie outside the classes.
        """
        for prediction, target in zip(output, targets, strict=True):
            self._count(prediction.argmax(0) if prediction.ndim == 3 else prediction, target, IGNORE)
        self.seen += len(targets)

    def gather(self, device: torch.device) -> None:
        """Add up the counts of all processes."""
        super().gather(device)
        self.seen = _summed(self.seen, device)

    def compute(self) -> Score:
        """Return the mean IoU and the share of right pixels, and IoU by class; None where no pixel counts.

        Raises:
            TrainingError: If not every image was counted, or one twice.
        """
        _check_number(int(self.seen), self.images)
        iou = class_iou(self.confusion)
        measures = {"mean_iou": _or_none(iou.nanmean()), "pixel_accuracy": self._right()}
        return _score(self.images, measures, iou.tolist(), self.confusion)


class BoxMeter(Meter):
    """Keeps every detection and every object of a set, since average precision ranks them all together.

    They are kept as rows of float64, which holds ids, float32 boxes and scores exactly.

    Args:
        images: The set, for its name, classes, number of images and their sizes.
    """

    def __init__(self, images: BoxedImages) -> None:
        self.images = images
        self.seen: list[int] = []
        self.found: list[Tensor] = []
        self.objects: list[Tensor] = []

    def update(self, output: Sequence[Mapping[str, Tensor]], targets: Sequence[tuple[int, Boxes]]) -> None:
        """Add one batch.

        Args:
            output: One per image, as torchvision's detectors give it: ``boxes``, float, (M, 4), x0, y0, x1, y1 in
                pixels of the set's image; ``scores``, float, (M,); ``labels``, int64, (M,), from 1 (0 is background).
            targets: One per image: its index in the set, and its objects.
        """
        for prediction, (index, boxes) in zip(output, targets, strict=True):
            self.seen.append(index)
            self.found.append(_rows(index, prediction["labels"] - 1, prediction["scores"], prediction["boxes"]))
            self.objects.append(_rows(index, boxes.labels, boxes.crowd, boxes.area, boxes.boxes))

    def gather(self, device: torch.device) -> None:
        """Bring together the rows of all processes."""
        self.seen = _gathered(torch.tensor(self.seen, dtype=torch.int64), device).tolist()
        self.found = [_gathered(_stacked(self.found, 7), device)]
        self.objects = [_gathered(_stacked(self.objects, 8), device)]

    def compute(self) -> Score:
        """Return COCO's average precisions, and that of each class; None where there is no object of the kind.

        Raises:
            TrainingError: If not every image was counted, or one twice.
            DataError: If the network gave a box or score that is not finite, or a label that is no class.
        """
        found, per_class = coco_evaluate(*self._structures(None))
        measures = {name: _or_none(value) for name, value in found.items() if name != "ar"}
        return _score(self.images, measures, per_class)

    def coco(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the objects and the detections in COCO's formats, with the sizes of images.

        Image ``i`` of the set has id ``i + 1``, class ``i`` too.

        Raises:
            TrainingError: If not every image was counted, or one twice.
            DataError: If the network gave a box or score that is not finite, or a label that is no class.
        """
        return self._structures([self.images.size(index) for index in range(len(self.images))])

    def _structures(self, sizes: Sequence[tuple[int, int]] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        _check_number(len(self.seen), self.images)
        if sorted(self.seen) != list(range(len(self.images))):
            raise TrainingError(
                f"{self.images.name} ({self.images.split}): {len(self.images)} images were tested, but some twice and "
                f"others not at all. Give each its own index in the set, from 0 to {len(self.images) - 1}."
            )
        found = [
            {"labels": rows[:, 0].long(), "scores": rows[:, 1], "boxes": rows[:, 2:]}
            for rows in _by_image(_stacked(self.found, 7), len(self.images))
        ]
        objects = [
            {"labels": rows[:, 0].long(), "crowd": rows[:, 1].bool(), "area": rows[:, 2], "boxes": rows[:, 3:]}
            for rows in _by_image(_stacked(self.objects, 8), len(self.images))
        ]
        classes = self.images.classes
        return coco_ground_truth(objects, classes, sizes), coco_results(found, len(classes))


def _rows(index: int, *columns: Tensor) -> Tensor:
    """Join columns, (M,) or (M, D), to float64 rows that begin with the image's index."""
    parts = [column.detach().cpu().double() for column in columns]
    parts = [part[:, None] if part.ndim == 1 else part for part in parts]
    return torch.cat([torch.full((len(parts[0]), 1), float(index), dtype=torch.float64), *parts], dim=1)


def _stacked(parts: Sequence[Tensor], width: int) -> Tensor:
    return torch.cat([torch.zeros(0, width, dtype=torch.float64), *parts])


def _by_image(rows: Tensor, number: int) -> list[Tensor]:
    """Split rows by image, in the order of the set and, within an image, in the order they came in."""
    index = rows[:, 0].long()
    order = index.argsort(stable=True)
    return list(rows[order, 1:].split(index.bincount(minlength=number).tolist()))


def _gathered(rows: Tensor, device: torch.device) -> Tensor:
    # Alone, nothing moves: not every device has float64.
    return rows if world_size() == 1 else all_gather_rows(rows.to(device)).cpu()


def _summed(counts: Tensor, device: torch.device) -> Tensor:
    return counts if world_size() == 1 else all_reduce_sum(counts.to(device)).cpu()


def _check_number(seen: int, images: ImageSet) -> None:
    if seen != len(images):
        raise TrainingError(
            f"{images.name} ({images.split}): {seen} images were tested of {len(images)}. Test each exactly once over "
            "all processes, and gather once."
        )


def _or_none(value: Tensor | float) -> float | None:
    number = float(value)
    return None if number != number else number


def _score(
    images: ImageSet,
    measures: dict[str, float | None],
    per_class: Sequence[float],
    confusion: Tensor | None = None,
) -> Score:
    """Make the score of a set whose images were all tested."""
    return Score(
        data=images.name,
        split=images.split,
        fingerprint=images.fingerprint,
        images=len(images),
        measures=measures,
        per_class={name: _or_none(value) for name, value in zip(images.classes, per_class, strict=True)},
        confusion=None if confusion is None else confusion.tolist(),
    )
