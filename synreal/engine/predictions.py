"""What a student says of an image, by the kind of label: as rows of a table, as JSON, and as files."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes
from typing_extensions import Self

from synreal.data.labels.masks import Masks
from synreal.engine.photos import Picture
from synreal.errors import ConfigError
from synreal.figures.colours import box_palette, ink_on, palette
from synreal.tasks.base import Task
from synreal.weights import Student

_LINE: Final = 300
"""Pixels of an image's longer side for each pixel of the width of a box that is drawn."""


@dataclass(frozen=True)
class Batch:
    """Images that are predicted at once.

    Attributes:
        images: What the task's ``collate_test`` made of them.
        pictures: The files.
        sizes: Height and width of each.
        threshold: Score below which boxes are left out, in [0, 1].
    """

    images: Any
    pictures: Sequence[Picture]
    sizes: Sequence[tuple[int, int]]
    threshold: float


@dataclass(frozen=True)
class Prediction(ABC):
    """What a student says of one image.

    Attributes:
        picture: The image file.
        size: Height and width of the upright image, in pixels.
        classes: Names of the classes.
    """

    picture: Picture
    size: tuple[int, int]
    classes: tuple[str, ...]

    label: ClassVar[str]

    @classmethod
    @abstractmethod
    def of(cls, task: Task[Any], student: Student, batch: Batch) -> Iterator[Self]:
        """Predict a batch of test images.

        Args:
            task: The task.
            student: The student, in eval mode.
            batch: The images.
        """

    @staticmethod
    @abstractmethod
    def header(classes: Sequence[str]) -> list[str]:
        """Return the heads of the columns of ``rows``."""

    @abstractmethod
    def rows(self) -> list[list[Any]]:
        """Return the rows of a table that say it; none where nothing was found."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Return what JSON says of it beside file and size."""

    def pictures(self) -> Mapping[str, tuple[str, bytes]]:
        """Return files of this image alone, by the folder that they belong in: ending and content."""
        return {}

    @staticmethod
    def colours(classes: Sequence[str]) -> list[str]:
        """Return the colour of each class as ``"#rrggbb"``; nothing where none is drawn."""
        return []

    @staticmethod
    def together(classes: Sequence[str], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return files of all images together, by name: text, or what is written as JSON.

        Args:
            classes: Names of the classes.
            found: What JSON says of each image.
        """
        return {}


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """The class of an image.

    Attributes:
        probabilities: float32, (C,), with sum 1.
    """

    probabilities: Tensor

    label: ClassVar[str] = "classes"

    @classmethod
    def of(cls, task: Task[Any], student: Student, batch: Batch) -> Iterator[Self]:
        """Predict a batch."""
        found = task.probabilities(student, batch.images, _device(student))
        for picture, size, probabilities in zip(batch.pictures, batch.sizes, found, strict=True):
            yield cls(picture, size, tuple(task.classes), probabilities.cpu())

    @staticmethod
    def header(classes: Sequence[str]) -> list[str]:
        """File, class, its probability, and that of each class."""
        return ["file", "class", "probability", *classes]

    def rows(self) -> list[list[Any]]:
        """One row."""
        values = [round(value, 6) for value in self.probabilities.tolist()]
        best = int(self.probabilities.argmax())
        return [[self.picture.name, self.classes[best], values[best], *values]]

    def described(self) -> dict[str, Any]:
        """The class, its probability, and that of each class."""
        values = [round(value, 6) for value in self.probabilities.tolist()]
        best = int(self.probabilities.argmax())
        return {
            "class": self.classes[best],
            "probability": values[best],
            "probabilities": dict(zip(self.classes, values, strict=True)),
        }


@dataclass(frozen=True)
class MaskPrediction(Prediction):
    """The class of each pixel.

    Attributes:
        image: uint8, (3, H, W), RGB.
        mask: uint8, (H, W): classes, counted from 0.
    """

    image: Tensor
    mask: Tensor

    label: ClassVar[str] = "masks"

    @classmethod
    def of(cls, task: Task[Any], student: Student, batch: Batch) -> Iterator[Self]:
        """Predict a batch."""
        found = task.predict(student, batch.images, _device(student))
        for picture, size, image, mask in zip(batch.pictures, batch.sizes, batch.images, found, strict=True):
            yield cls(picture, size, tuple(task.classes), image, mask.cpu())

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class, in [0, 1]."""
        counts = torch.bincount(self.mask.flatten().long(), minlength=len(self.classes))
        shares = (counts.double() / self.mask.numel()).tolist()
        return {name: round(share, 6) for name, share in zip(self.classes, shares, strict=True)}

    @staticmethod
    def header(classes: Sequence[str]) -> list[str]:
        """File, and the share of each class."""
        return ["file", *classes]

    def rows(self) -> list[list[Any]]:
        """One row."""
        return [[self.picture.name, *self.shares.values()]]

    def described(self) -> dict[str, Any]:
        """The share of each class."""
        return {"shares": self.shares}

    def pictures(self) -> Mapping[str, tuple[str, bytes]]:
        """The mask as a palette PNG, whose indices are the classes, and over the image, a background left as it is."""
        colours = palette(len(self.classes))
        ids = self.mask.numpy()
        mask = Image.fromarray(ids).convert("P")
        mask.putpalette(colours.tobytes())
        below = self.image.permute(1, 2, 0).numpy()
        mixed = ((below.astype(np.uint16) + colours[ids]) // 2).astype(np.uint8)
        clear = Masks.background and "background" in self.classes
        over = np.where((ids == self.classes.index("background"))[..., None], below, mixed) if clear else mixed
        return {"masks": (".png", _png(mask)), "overlays": (".png", _png(Image.fromarray(over)))}

    @staticmethod
    def colours(classes: Sequence[str]) -> list[str]:
        """Those of the palette."""
        return [_hex(colour) for colour in palette(len(classes))]


@dataclass(frozen=True)
class BoxPrediction(Prediction):
    """Boxes around objects.

    Attributes:
        image: uint8, (3, H, W), RGB.
        boxes: float32, (M, 4): x0, y0, x1, y1 in pixels from the upper left corner.
        scores: float32, (M,), falling.
        labels: int64, (M,): classes, counted from 0.
    """

    image: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor

    label: ClassVar[str] = "boxes"

    @classmethod
    def of(cls, task: Task[Any], student: Student, batch: Batch) -> Iterator[Self]:
        """Predict a batch."""
        found = task.predict(student, batch.images, _device(student))
        for picture, size, image, one in zip(batch.pictures, batch.sizes, batch.images, found, strict=True):
            kept = one["scores"] >= batch.threshold
            boxes, scores, labels = (one[key][kept].cpu() for key in ("boxes", "scores", "labels"))
            order = scores.argsort(descending=True, stable=True)
            yield cls(picture, size, tuple(task.classes), image, boxes[order], scores[order], labels[order])

    @staticmethod
    def header(classes: Sequence[str]) -> list[str]:
        """File, class, score and corners."""
        return ["file", "class", "score", "x0", "y0", "x1", "y1"]

    def rows(self) -> list[list[Any]]:
        """A row for each object."""
        return [[self.picture.name, one["class"], one["score"], *one["box"]] for one in self.described()["objects"]]

    def described(self) -> dict[str, Any]:
        """Class, score and corners of each object."""
        found = zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        return {
            "objects": [
                {
                    "class": self.classes[label],
                    "score": round(score, 6),
                    "box": [round(corner, 2) for corner in box],
                }
                for label, score, box in found
            ]
        }

    def pictures(self) -> Mapping[str, tuple[str, bytes]]:
        """The boxes drawn, and as a text of YOLO's: class, centre, width and height as shares, and score."""
        height, width = self.size
        lines = []
        for label, score, (x0, y0, x1, y1) in zip(
            self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
        ):
            shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(" ".join([str(label), *(f"{value:.6f}" for value in (*shares, score))]) + "\n")
        drawn = self.image
        if len(self.boxes):
            colours = box_palette(len(self.classes))[self.labels.numpy()]
            objects = self.described()["objects"]
            drawn = draw_bounding_boxes(
                self.image,
                self.boxes,
                [f"{one['class']} {one['score']:.2f}" for one in objects],
                [_hex(colour) for colour in colours],
                width=1 + max(self.size) // _LINE,
                label_colors=[ink_on(colour) for colour in colours],
                fill_labels=True,
            )
        picture = Image.fromarray(drawn.permute(1, 2, 0).numpy())
        return {"labels": (".txt", "".join(lines).encode()), "drawn": (".png", _png(picture))}

    @staticmethod
    def colours(classes: Sequence[str]) -> list[str]:
        """Those that boxes are drawn in."""
        return [_hex(colour) for colour in box_palette(len(classes))]

    @staticmethod
    def together(classes: Sequence[str], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The objects as a data set of COCO's, with their scores, and the classes of YOLO's texts."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, one in enumerate(found, 1):
            height, width = one["size"]
            images.append({"id": number, "file_name": one["file"], "height": height, "width": width})
            for thing in one["objects"]:
                x0, y0, x1, y1 = thing["box"]
                box = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": classes.index(thing["class"]) + 1,
                        "bbox": box,
                        "area": round(box[2] * box[3], 2),
                        "iscrowd": 0,
                        "score": thing["score"],
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        return {
            "coco.json": {"images": images, "annotations": annotations, "categories": categories},
            "classes.txt": "".join(f"{name}\n" for name in classes),
        }


_KINDS: Final = {kind.label: kind for kind in (ClassPrediction, MaskPrediction, BoxPrediction)}


def kind_of(label: str, task: str) -> type[Prediction]:
    """Return how predictions of a task are told.

    Args:
        label: The kind of its labels.
        task: Its name, for the message.

    Raises:
        ConfigError: If nobody knows.
    """
    if label not in _KINDS:
        raise ConfigError(
            f"The task {task} predicts {label}, and only {', '.join(_KINDS)} can be written. Predict in a loop of your "
            "own, with the network that the run folder's model.safetensors holds."
        )
    return _KINDS[label]


def _device(student: Student) -> torch.device:
    return next(student.network.parameters()).device


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _hex(colour: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, colour))
