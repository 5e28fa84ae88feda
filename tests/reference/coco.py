"""Boxes at random, and what pycocotools says of the files that hold them."""

import contextlib
import io

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MEASURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
HEIGHT, WIDTH = 160, 200


def _corners(random, number):
    sides = np.exp(random.uniform(np.log(6), np.log(150), (number, 2)))
    starts = random.uniform(0, 1, (number, 2)) * np.maximum([WIDTH, HEIGHT] - sides, 0)
    return np.concatenate([starts, starts + sides], axis=1)


def random_boxes(seed, images, classes, least=0, most=6):
    """Predictions and targets as ``synreal.metrics.coco_ap`` takes them.

    The last class has no object and the first is never found; images may lack either; scores tie; areas lie on the
    limits of small and large; some objects are crowds.
    """
    random = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(images):
        objects = int(random.integers(least, most)) if least or random.random() < 0.8 else 0
        boxes = _corners(random, objects)
        labels = random.integers(0, classes - 1, objects)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * random.uniform(0.5, 1, objects)
        areas = np.where(random.random(objects) < 0.2, random.choice([32.0**2, 96.0**2], objects), areas)
        crowd = random.random(objects) < 0.15

        picked = random.integers(0, objects, 2 * objects) if objects else np.zeros(0, dtype=np.int64)
        near = boxes[picked] + random.normal(0, 3, (len(picked), 4)) * (random.random((len(picked), 1)) < 0.8)
        found = np.concatenate([near, _corners(random, int(random.integers(0, most)))])
        found = np.concatenate([found[:, :2], np.maximum(found[:, :2], found[:, 2:])], axis=1)
        wrong = random.integers(1, classes, len(found))
        right = np.concatenate([labels[picked], wrong[len(picked) :]])
        found_labels = np.maximum(np.where(random.random(len(found)) < 0.8, right, wrong), 1)

        targets.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32),
                "labels": torch.tensor(labels, dtype=torch.int64),
                "crowd": torch.tensor(crowd, dtype=torch.bool),
                "area": torch.tensor(areas, dtype=torch.float32),
            }
        )
        predictions.append(
            {
                "boxes": torch.tensor(found, dtype=torch.float32),
                "scores": torch.tensor(random.random(len(found)).round(1), dtype=torch.float32),
                "labels": torch.tensor(found_labels, dtype=torch.int64),
            }
        )
    return predictions, targets


def evaluated(truth_file, results_file, detections=100):
    """Run pycocotools on two files; gives its measures (-1: not defined), AR and AP by category."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "bbox")
        if detections != 100:
            evaluation.params.maxDets = [detections]
        evaluation.evaluate()
        evaluation.accumulate()
        if detections == 100:
            evaluation.summarize()
            measures = dict(zip(MEASURES, evaluation.stats.tolist(), strict=False)) | {"ar": float(evaluation.stats[8])}
        else:  # its summary knows 100 alone
            every = evaluation.eval["precision"][:, :, :, 0, -1]
            measures = {"ap": _mean(every), "ar": _mean(evaluation.eval["recall"][:, :, 0, -1])}
    precision = evaluation.eval["precision"]
    return measures, [_mean(precision[:, :, label, 0, -1]) for label in range(precision.shape[2])]


def _mean(values):
    values = [value for value in values.ravel().tolist() if value > -1]
    return sum(values) / len(values) if values else -1.0
