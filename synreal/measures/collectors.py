"""What synreal's own measures collect over a test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synreal.data.labels.boxes import Boxes
from synreal.data.labels.masks import IGNORE
from synreal.data.sets import BoxedImages, ImageSet
from synreal.errors import TrainingError
from synreal.functional.coco import CocoScores, coco_evaluate, coco_ground_truth, coco_results
from synreal.functional.confusion import confusion_matrix
from synreal.measures.base import Collector, Rows, State, Sum, check_number


class Confusion(Collector):
    """Counts a confusion matrix over a set."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        self.counts = Sum(len(images.classes), len(images.classes))

    def state(self) -> Sequence[State]:
        """Return the counts."""
        return [self.counts]

    @property
    def confusion(self) -> Tensor:
        """Counts, int64, (C, C); rows are true classes."""
        return self.counts.value

    def _count(self, predictions: Tensor, targets: Tensor, ignore_index: int | None = None) -> None:
        """Add class ids, on the device that the predictions are on."""
        classes = len(self.images.classes)
        self.counts.add(confusion_matrix(predictions, targets.to(predictions.device), classes, ignore_index))


class ImageConfusion(Confusion):
    """Counts a confusion matrix over the images of a set."""

    label = "classes"
    counted = "images"

    def update(self, output: Tensor, targets: Tensor) -> None:
        """Add one batch: scores, (N, C), and labels, int64, (N,)."""
        self._count(output.argmax(1), targets)


class PixelConfusion(Confusion):
    """Counts a confusion matrix over the pixels of a set."""

    label = "masks"
    counted = "pixels"

    def update(self, output: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]) -> None:
        """Add one batch, whose images may differ in size.

        Args:
            output: Of each image logits, (C, H, W), or class ids, integers, (H, W).
            targets: Of each image class ids, uint8 or int64, (H, W); pixels of ``IGNORE`` are ignored.

        Raises:
            DataError: If shapes differ or ids lie outside the classes.
        """
        for prediction, target in zip(output, targets, strict=True):
            self._count(prediction.argmax(0) if prediction.ndim == 3 else prediction, target, IGNORE)


class Detections(Collector):
    """Keeps every detection and every object of a set, since average precision ranks them all together.

    They are kept as rows of float64, which holds ids, float32 boxes and scores exactly.

    Args:
        images: The set, for its name, classes, number of images and their sizes.
    """

    label = "boxes"

    def __init__(self, images: BoxedImages) -> None:
        super().__init__(images)
        self.seen = Rows(1, torch.int64)
        self.found = Rows(7)
        self.objects = Rows(8)
        self._scores: CocoScores | None = None

    def state(self) -> Sequence[State]:
        """Return indices of images, detections and objects."""
        return [self.seen, self.found, self.objects]

    def gather(self, device: torch.device) -> None:
        """Bring together the rows of all processes."""
        self._scores = None
        super().gather(device)

    def update(self, output: Sequence[Mapping[str, Tensor]], targets: Sequence[tuple[int, Boxes]]) -> None:
        """Add one batch.

        Args:
            output: One per image: ``boxes``, float, (M, 4), x0, y0, x1, y1 in pixels of the set's image; ``scores``,
                float, (M,); ``labels``, int64, (M,), counted from 0.
            targets: One per image: its index in the set, and its objects.
        """
        self._scores = None
        for prediction, (index, boxes) in zip(output, targets, strict=True):
            self.seen.add(torch.tensor([[index]]))
            self.found.add(_rows(index, prediction["labels"], prediction["scores"], prediction["boxes"]))
            self.objects.add(_rows(index, boxes.labels, boxes.crowd, boxes.area, boxes.boxes))

    def scores(self) -> CocoScores:
        """Evaluate by COCO's protocol, once for all measures.

        Raises:
            TrainingError: If not every image was counted, or one twice.
            DataError: If the network gave a box or score that is not finite, or a label outside the classes.
        """
        if self._scores is None:
            self._scores = coco_evaluate(*self._structures(None))
        return self._scores

    def files(self) -> Mapping[str, Any]:
        """Return the detections and, as ``-truth``, the objects in COCO's formats, with the sizes of images.

        Image ``i`` of the set has id ``i + 1``, class ``i`` too.

        Raises:
            TrainingError: If not every image was counted, or one twice.
            DataError: If the network gave a box or score that is not finite, or a label outside the classes.
        """
        truth, results = self._structures([self.images.size(index) for index in range(len(self.images))])
        return {"": results, "-truth": truth}

    def _structures(self, sizes: Sequence[tuple[int, int]] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        seen = self.seen.value.flatten().tolist()
        check_number(len(seen), self.images)
        if sorted(seen) != list(range(len(self.images))):
            raise TrainingError(
                f"{self.images.name} ({self.images.split}): {len(self.images)} images were tested, but some twice and "
                f"others not at all. Give each its own index in the set, from 0 to {len(self.images) - 1}."
            )
        found = [
            {"labels": rows[:, 0].long(), "scores": rows[:, 1], "boxes": rows[:, 2:]}
            for rows in _by_image(self.found.value, len(self.images))
        ]
        objects = [
            {"labels": rows[:, 0].long(), "crowd": rows[:, 1].bool(), "area": rows[:, 2], "boxes": rows[:, 3:]}
            for rows in _by_image(self.objects.value, len(self.images))
        ]
        classes = self.images.classes
        return coco_ground_truth(objects, classes, sizes), coco_results(found, len(classes))


def _rows(index: int, *columns: Tensor) -> Tensor:
    """Join columns, (M,) or (M, D), to float64 rows that begin with the image's index."""
    parts = [column.detach().cpu().double() for column in columns]
    parts = [part[:, None] if part.ndim == 1 else part for part in parts]
    return torch.cat([torch.full((len(parts[0]), 1), float(index), dtype=torch.float64), *parts], dim=1)


def _by_image(rows: Tensor, number: int) -> list[Tensor]:
    """Split rows by image, in the order of the set and, within an image, in the order they came in."""
    index = rows[:, 0].long()
    order = index.argsort(stable=True)
    return list(rows[order, 1:].split(index.bincount(minlength=number).tolist()))
