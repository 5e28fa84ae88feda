"""Measures of a trained network: thin layers over torchmetrics and faster-coco-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from synreal.errors import DataError


def confusion_matrix(predictions: Tensor, targets: Tensor, num_classes: int, ignore_index: int | None = None) -> Tensor:
    """Count predictions by true class.

    Args:
        predictions: Class ids, any integer dtype and shape; may be empty.
        targets: Class ids, any integer dtype, of the same shape and on the same device.
        num_classes: C.
        ignore_index: Where ``targets`` hold this, nothing is counted and the prediction may be anything. None counts
            everything.

    Returns:
        int64, (C, C); rows are true classes, columns predicted ones.

    Raises:
        DataError: If a counted id lies outside ``[0, C)``, the shapes differ, or the values are no integers.
    """
    if predictions.shape != targets.shape:
        raise DataError(f"Expected ids of one shape, got {tuple(predictions.shape)} and {tuple(targets.shape)}.")
    kept = None if ignore_index is None else targets != ignore_index
    counted = {}
    for name, ids in (("predictions", predictions), ("targets", targets)):
        if ids.is_floating_point() or ids.is_complex():
            raise DataError(f"{name} are {ids.dtype}, expected integer class ids; take the argmax of scores first.")
        counted[name] = (ids if kept is None else ids.where(kept, 0)).long()
        if ids.numel():
            low, high = (int(end) for end in counted[name].aminmax())
            if not 0 <= low <= high < num_classes:
                raise DataError(f"{name} span {low}..{high}, expected 0..{num_classes - 1}.")
    counting = counted["targets"]
    if kept is not None:
        # A class of their own: on full maps that takes a third of the time of selecting the others.
        counting = counting.where(kept, num_classes)
    counts: Tensor = multiclass_confusion_matrix(
        counted["predictions"].flatten(), counting.flatten(), num_classes + 1, validate_args=False
    )
    return counts[:-1, :-1].long()


def class_recall(confusion: Tensor) -> Tensor:
    """Return each class's recall, float64, (C,); NaN for a class that has no sample."""
    counts = confusion.double()
    return counts.diagonal() / counts.sum(1)


def class_iou(confusion: Tensor) -> Tensor:
    """Return each class's intersection over union, TP / (TP + FP + FN).

    Args:
        confusion: Counts, (C, C); rows are true classes.

    Returns:
        float64, (C,), in [0, 1]; NaN for a class that neither occurs nor is predicted.
    """
    counts = confusion.double()
    hits = counts.diagonal()
    return hits / (counts.sum(0) + counts.sum(1) - hits)


def accuracy(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    """Return the share of right predictions (overall top-1), in [0, 1]; NaN without samples."""
    counts = confusion_matrix(predictions, targets, num_classes).double()
    return float(counts.diagonal().sum() / counts.sum())


def mean_class_accuracy(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    """Return the mean of per-class recall, VisDA's official score, in [0, 1].

    A class without samples is left out of the mean (the VisDA script counts it as 0; its data have every class).

    Args:
        predictions: Class ids, (N,).
        targets: Class ids, (N,).
        num_classes: C.

    Returns:
        The mean over classes that have samples; NaN if none has.
    """
    return float(class_recall(confusion_matrix(predictions, targets, num_classes)).nanmean())


def mean_iou(predictions: Tensor, targets: Tensor, num_classes: int, ignore_index: int = 255) -> float:
    """Return the mean intersection over union of a whole set, in [0, 1].

    Pixels are counted over the set, and classes compared after that: it is no mean over images.

    Args:
        predictions: Class ids of all pixels of the set, any integer dtype and shape.
        targets: Class ids, of the same shape.
        num_classes: C.
        ignore_index: Pixels whose target is this are left out.

    Returns:
        The mean over classes that occur or are predicted; NaN if there is no pixel to count.

    Raises:
        DataError: As ``confusion_matrix``.
    """
    return float(class_iou(confusion_matrix(predictions, targets, num_classes, ignore_index)).nanmean())


class CocoScores(NamedTuple):
    """What COCO's protocol gives.

    Attributes:
        measures: ``ap`` (mean over IoU .50:.05:.95), ``ap50``, ``ap75``, ``ap_small`` (area up to 32² pixels),
            ``ap_medium`` (to 96²), ``ap_large``, and ``ar`` (recall at the largest number of detections); in [0, 1],
            NaN where there is no object of the kind.
        per_class: ``ap`` of each category, in the order of their ids; NaN for one without objects.
    """

    measures: dict[str, float]
    per_class: list[float]


def coco_ap(
    predictions: Sequence[Mapping[str, Tensor]],
    targets: Sequence[Mapping[str, Tensor]],
    *,
    num_classes: int,
    max_detections: int = 100,
) -> dict[str, float]:
    """Return COCO's average precision of boxes over a whole set.

    Args:
        predictions: One per image: ``boxes`` (M, 4), x0, y0, x1, y1 in pixels; ``scores`` (M,); ``labels`` (M,), int64
            in ``[0, num_classes)``. M may be 0.
        targets: One per image: ``boxes`` (K, 4) and ``labels`` (K,); optionally ``crowd`` (K,), bool: a region of
            many objects, matched as often as one likes and never missed; and ``area`` (K,) in square pixels, that of
            the box by default. K may be 0.
        num_classes: C.
        max_detections: How many detections count per image and class, those of highest score.

    Returns:
        ``measures`` of ``CocoScores``.

    Raises:
        DataError: If a shape, label, box or score does not fit, or the numbers of images differ.
    """
    classes = [str(label) for label in range(num_classes)]
    if len(predictions) != len(targets):
        raise DataError(f"Predictions of {len(predictions)} images, but targets of {len(targets)}.")
    ground_truth = coco_ground_truth(targets, classes)
    return coco_evaluate(ground_truth, coco_results(predictions, num_classes), max_detections).measures


def coco_evaluate(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], max_detections: int = 100
) -> CocoScores:
    """Evaluate boxes in COCO's own format by COCO's protocol: 101 recalls, ten IoUs, crowds ignored.

    Args:
        ground_truth: As ``coco_ground_truth`` gives it. Ids of annotations count from 1.
        results: As ``coco_results`` gives it.
        max_detections: How many detections count per image and class, those of highest score.

    Returns:
        Measures and AP by class.
    """
    # The evaluator writes into what it is given.
    truth = COCO({key: [dict(entry) for entry in part] for key, part in ground_truth.items()})
    entries = [dict(result) for result in results]
    # Version 1.7 and older read no empty list.
    found = truth.loadRes(entries) if entries else COCO({**truth.dataset, "annotations": []})
    evaluator = COCOeval_faster(truth, found, iouType="bbox", print_function=_silently)
    evaluator.params.maxDets = [max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = np.asarray(evaluator.eval["precision"])  # IoU, recall, class, area, detections; -1: not defined
    areas = {label: precision[:, :, :, index, 0] for index, label in enumerate(evaluator.params.areaRngLbl)}
    thresholds = evaluator.params.iouThrs
    measures = {
        "ap": areas["all"],
        "ap50": areas["all"][np.isclose(thresholds, 0.5)],
        "ap75": areas["all"][np.isclose(thresholds, 0.75)],
        "ap_small": areas["small"],
        "ap_medium": areas["medium"],
        "ap_large": areas["large"],
        "ar": np.asarray(evaluator.eval["recall"])[:, :, 0, 0],
    }
    return CocoScores(
        {name: _mean_of_defined(values) for name, values in measures.items()},
        [_mean_of_defined(areas["all"][:, :, index]) for index in range(precision.shape[2])],
    )


def coco_ground_truth(
    targets: Sequence[Mapping[str, Tensor]],
    classes: Sequence[str],
    sizes: Sequence[tuple[int, int]] | None = None,
) -> dict[str, Any]:
    """Return objects in COCO's format of annotation files.

    Ids of images, categories and annotations count from 1, in order. Numbers keep their full precision.

    Args:
        targets: One per image, as ``coco_ap`` takes them.
        classes: Class names.
        sizes: Height and width of each image in pixels; left out of the structure by default, since boxes can be
            evaluated without.

    Returns:
        ``images``, ``annotations`` and ``categories``, ready for ``json.dump``.

    Raises:
        DataError: If a shape, label or box does not fit, or there is not one size an image.
    """
    if sizes is not None and len(sizes) != len(targets):
        raise DataError(f"Targets of {len(targets)} images, but {len(sizes)} sizes.")
    images: list[dict[str, Any]] = [{"id": number} for number in range(1, len(targets) + 1)]
    for image, (height, width) in zip(images, sizes or (), strict=False):
        image.update(height=height, width=width)
    annotations: list[dict[str, Any]] = []
    for number, target in enumerate(targets, 1):
        boxes, labels = _checked(target, f"Targets of image {number - 1}", len(classes), ("crowd", "area"))
        crowd = target["crowd"].tolist() if "crowd" in target else [False] * len(labels)
        areas = target["area"].tolist() if "area" in target else [width * height for _, _, width, height in boxes]
        for box, label, many, area in zip(boxes, labels, crowd, areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(many),
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_results(predictions: Sequence[Mapping[str, Tensor]], num_classes: int) -> list[dict[str, Any]]:
    """Return detections in COCO's format of result files, image by image, in the order given.

    Args:
        predictions: One per image, as ``coco_ap`` takes them.
        num_classes: C.

    Returns:
        Entries of ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) and ``score``, ready for
        ``json.dump``; ids as in ``coco_ground_truth``.

    Raises:
        DataError: If a shape, label, box or score does not fit.
    """
    results = []
    for number, prediction in enumerate(predictions, 1):
        where = f"Predictions of image {number - 1}"
        boxes, labels = _checked(prediction, where, num_classes, ("scores",))
        scores = prediction["scores"].double()
        if not bool(scores.isfinite().all()):
            raise DataError(f"{where}: a score is not finite.")
        for box, label, score in zip(boxes, labels, scores.tolist(), strict=True):
            results.append({"image_id": number, "category_id": label + 1, "bbox": box, "score": score})
    return results


def _checked(
    entry: Mapping[str, Tensor], where: str, num_classes: int, columns: Sequence[str]
) -> tuple[list[list[float]], list[int]]:
    """Return boxes as x, y, width and height, and labels, once everything fits."""
    boxes, labels = entry["boxes"].double(), entry["labels"]
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"{where}: boxes have shape {tuple(boxes.shape)}, expected (M, 4).")
    for name in ("labels", *columns):
        if name in entry and entry[name].shape != boxes.shape[:1]:
            raise DataError(f"{where}: {len(boxes)} boxes, but {name} of shape {tuple(entry[name].shape)}.")
    sizes = boxes[:, 2:] - boxes[:, :2]
    if not bool((sizes >= 0).all()) or not bool(boxes.isfinite().all()):
        raise DataError(f"{where}: a box is not finite or ends before it begins; expected x0 <= x1 and y0 <= y1.")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"{where}: labels span {int(labels.min())}..{int(labels.max())}, expected 0..{num_classes - 1}."
        )
    return torch.cat([boxes[:, :2], sizes], dim=1).tolist(), labels.tolist()


def _mean_of_defined(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


def _silently(*args: Any) -> None:
    """Print nothing."""
