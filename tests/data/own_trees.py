"""Tiny folders in the formats that tools export: pictures of three classes that a small network can learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("bolt", "nut", "plate")
COLOURS = ((200, 40, 40), (40, 180, 60), (50, 70, 210))


class Scene(NamedTuple):
    """An image (H, W, 3), its mask (H, W; 0 background, 1 to 3 classes), and objects: class 0 to 2, x0, y0, x1, y1."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    objects: list[tuple[int, int, int, int, int]]


def scene(index: int, size: tuple[int, int] = (96, 64), seed: int = 0) -> Scene:
    """Paint one to three rectangles, one in each third of the image, on a grey ground; ``size`` is width, height."""
    width, height = size
    random = np.random.default_rng([seed, index])
    image = random.integers(90, 130, (height, width, 3)).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    objects = []
    third = width // 3
    for place in range(1 + index % 3):
        label = int(random.integers(len(CLASSES))) if place else index % len(CLASSES)
        x0 = place * third + int(random.integers(0, third // 4))
        x1 = x0 + int(random.integers(third // 2, 3 * third // 4))
        y0 = int(random.integers(0, height // 4))
        y1 = y0 + int(random.integers(height // 3, height // 2))
        noise = random.integers(-15, 16, (y1 - y0, x1 - x0, 3))
        image[y0:y1, x0:x1] = (np.array(COLOURS[label]) + noise).clip(0, 255)
        mask[y0:y1, x0:x1] = label + 1
        objects.append((label, x0, y0, x1, y1))
    return Scene(image, mask, objects)


def coco_tree(
    root: Path, number: int = 12, size: tuple[int, int] = (96, 64), masks: bool = True, seed: int = 0
) -> dict[str, Any]:
    """Write ``annotations.json`` and ``images/``; polygons, and run lengths on every third object; return the JSON."""
    (root / "images").mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        # Ids are neither contiguous nor in the order of the file.
        "categories": [{"id": 9, "name": "plate"}, {"id": 2, "name": "bolt"}, {"id": 5, "name": "nut"}],
    }
    for index in range(number):
        made = scene(index, size, seed)
        name = f"{index:04}.png"
        Image.fromarray(made.image).save(root / "images" / name)
        content["images"].append({"id": 100 + index, "file_name": name, "width": size[0], "height": size[1]})
        for label, x0, y0, x1, y1 in made.objects:
            key = len(content["annotations"]) + 1
            entry: dict[str, Any] = {
                "id": key,
                "image_id": 100 + index,
                "category_id": (2, 5, 9)[label],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            if masks and key % 3:
                entry["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            elif masks:
                own = np.zeros((size[1], size[0]), np.uint8)
                own[y0:y1, x0:x1] = 1
                entry["segmentation"] = {"size": [size[1], size[0]], "counts": run_lengths(own)}
            content["annotations"].append(entry)
    (root / "annotations.json").write_text(json.dumps(content))
    return content


def run_lengths(mask: NDArray[np.uint8]) -> list[int]:
    """Count pixels column by column, zeros first: COCO's run lengths, not packed."""
    counts, value = [0], 0
    for pixel in mask.flatten(order="F").tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def masks_tree(
    root: Path, number: int = 12, size: tuple[int, int] = (96, 64), encoding: str = "palette", seed: int = 0
) -> list[Scene]:
    """Write ``images/`` and ``masks/`` as ``"palette"``, ``"grey"`` or ``"colour"`` PNGs; 0 is the background."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    palette = np.array([(0, 0, 0), *COLOURS], np.uint8)
    scenes = [scene(index, size, seed) for index in range(number)]
    for index, made in enumerate(scenes):
        Image.fromarray(made.image).save(root / "images" / f"{index:04}.png")
        mask = Image.fromarray(palette[made.mask] if encoding == "colour" else made.mask)
        if encoding == "palette":
            mask.putpalette(palette.tobytes())
        mask.save(root / "masks" / f"{index:04}.png")
    return scenes


def solo_tree(root: Path, number: int = 12, size: tuple[int, int] = (96, 64), seed: int = 0) -> list[Scene]:
    """Write a SOLO data set of Unity Perception: boxes and semantic segmentation, one sequence a frame."""
    root.mkdir(parents=True, exist_ok=True)
    kind = "type.unity.com/unity.solo."
    palette = np.array([(0, 0, 0), *COLOURS], np.uint8)
    spec = [{"label_id": index + 1, "label_name": name} for index, name in enumerate(CLASSES)]
    definitions = [
        {"@type": f"{kind}BoundingBox2DAnnotation", "id": "bounding box", "description": "", "spec": spec},
        {"@type": f"{kind}SemanticSegmentationAnnotation", "id": "semantic segmentation", "description": ""},
    ]
    (root / "annotation_definitions.json").write_text(json.dumps({"annotationDefinitions": definitions}))
    scenes = [scene(index, size, seed) for index in range(number)]
    for index, made in enumerate(scenes):
        folder = root / f"sequence.{index}"
        folder.mkdir()
        Image.fromarray(made.image).save(folder / "step0.camera.png")
        alpha = np.full((*made.mask.shape, 1), 255, np.uint8)
        mask = np.concatenate([palette[made.mask], alpha], 2)
        Image.fromarray(mask).save(folder / "step0.camera.semantic segmentation.png")
        base = {"sensorId": "camera", "description": ""}
        boxes: dict[str, Any] = {"@type": f"{kind}BoundingBox2DAnnotation", "id": "bounding box", **base}
        boxes["values"] = [
            {
                "instanceId": place + 1,
                "labelId": label + 1,
                "labelName": CLASSES[label],
                "origin": [float(x0), float(y0)],
                "dimension": [float(x1 - x0), float(y1 - y0)],
            }
            for place, (label, x0, y0, x1, y1) in enumerate(made.objects)
        ]
        segmentation = {
            "@type": f"{kind}SemanticSegmentationAnnotation",
            "id": "semantic segmentation",
            **base,
            "imageFormat": "Png",
            "dimension": [float(size[0]), float(size[1])],
            "filename": "step0.camera.semantic segmentation.png",
            "instances": [
                {"labelName": CLASSES[label], "pixelValue": [*COLOURS[label], 255]}
                for label in sorted({each[0] for each in made.objects})
            ],
        }
        capture = {
            "@type": f"{kind}RGBCamera",
            "id": "camera",
            "description": "",
            "filename": "step0.camera.png",
            "imageFormat": "Png",
            "dimension": [float(size[0]), float(size[1])],
            "annotations": [boxes, segmentation],
        }
        frame = {"frame": index, "sequence": index, "step": 0, "timestamp": 0.0, "captures": [capture], "metrics": []}
        (folder / "step0.frame_data.json").write_text(json.dumps(frame))
    return scenes


def perception_tree(root: Path, number: int = 12, size: tuple[int, int] = (96, 64), seed: int = 0) -> list[Scene]:
    """Write a data set of Unity Perception before SOLO: boxes and semantic segmentation, two lists of captures."""
    for folder in ("Dataset0", "RGB0", "SemanticSegmentation0"):
        (root / folder).mkdir(parents=True)
    palette = np.array([(0, 0, 0), *COLOURS], np.uint8)
    shares = [dict(zip("rgba", [*(value / 255 for value in colour), 1.0], strict=True)) for colour in COLOURS]
    named = [{"label_id": index + 1, "label_name": name} for index, name in enumerate(CLASSES)]
    coloured = [{"label_name": name, "pixel_value": share} for name, share in zip(CLASSES, shares, strict=True)]
    definitions = [
        {"id": "f9f2", "name": "bounding box", "format": "json", "spec": named},
        {"id": "12f9", "name": "semantic segmentation", "format": "PNG", "spec": coloured},
    ]
    write = {"version": "0.0.1", "annotation_definitions": definitions}
    (root / "Dataset0" / "annotation_definitions.json").write_text(json.dumps(write))
    scenes = [scene(index, size, seed) for index in range(number)]
    captures = []
    for index, made in enumerate(scenes):
        image, mask = f"RGB0/rgb_{index + 2}.png", f"SemanticSegmentation0/segmentation_{index + 2}.png"
        Image.fromarray(made.image).save(root / image)
        alpha = np.full((*made.mask.shape, 1), 255, np.uint8)
        Image.fromarray(np.concatenate([palette[made.mask], alpha], 2)).save(root / mask)
        boxes = [
            {
                "label_id": label + 1,
                "label_name": CLASSES[label],
                "instance_id": place + 1,
                **{"x": float(x0), "y": float(y0), "width": float(x1 - x0), "height": float(y1 - y0)},
            }
            for place, (label, x0, y0, x1, y1) in enumerate(made.objects)
        ]
        annotations = [
            {"id": f"b{index}", "annotation_definition": "f9f2", "values": boxes},
            {"id": f"s{index}", "annotation_definition": "12f9", "filename": mask, "values": None},
        ]
        sensor = {"sensor_id": "camera", "modality": "camera"}
        captures.append({"id": str(index), "sensor": sensor, "filename": image, "annotations": annotations})
    for place, some in enumerate((captures[: number // 2], captures[number // 2 :])):
        content = {"version": "0.0.1", "captures": some}
        (root / "Dataset0" / f"captures_{place:03}.json").write_text(json.dumps(content))
    return scenes
