"""COCO's average precision of boxes, evaluated by faster-coco-eval, and COCO's own formats of what is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import Tensor

from synreal.errors import DataError


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
    # Versions up to 1.7 cannot read an empty list.
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
        targets: One per image, as ``synreal.metrics.coco_ap`` takes them.
        classes: Class names.
        sizes: Height and width of each image in pixels; left out of the structure by default, since boxes can be
            evaluated without.

    Returns:
        ``images``, ``annotations`` and ``categories``, ready for ``json.dump``.

    Raises:
        DataError: If a shape, label or box does not fit, or there is not one size per image.
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
        predictions: One per image, as ``synreal.metrics.coco_ap`` takes them.
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
