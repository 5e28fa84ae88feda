"""Object detection: a detector's own losses on synthetic images, COCO AP on real ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from synreal import figures
from synreal.data.sets import BoxedImages, Boxes
from synreal.records import Score, write_json
from synreal.tasks.base import Meter, Task, TrainingViews
from synreal.tasks.meters import BoxMeter
from synreal.tasks.networks import check_detector, create_detector, detector_recipe
from synreal.views import AlignedViews
from synreal.weights import WeightsOrigin

if TYPE_CHECKING:
    from synreal.config import RunConfig

_LEAST_SIDE = 2.0
"""Boxes that a crop leaves narrower or lower than this, in pixels, are not trained on."""


class Detection(Task):
    """Boxes with classes; the student is a torchvision detector with a feature pyramid.

    The detector counts classes from 1, as torchvision does; 0 is the background.
    """

    aligned_views: ClassVar[bool] = True
    library: ClassVar[str] = "torchvision"

    transform: nn.Module

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Check architecture, backbone and weights."""
        check_detector(str(config.architecture), config.backbone, weights=config.weights)

    def build_student(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the detector around a pretrained backbone."""
        config = self.config
        student, origin = create_detector(
            str(config.architecture),
            config.backbone,
            num_classes=len(self.classes),
            weights=config.weights,
            image_size=config.image_size,
        )
        self.transform = student.get_submodule("transform")
        return student, origin

    def training_data(self, views: int) -> Dataset[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
        """Return items ``(views, target)``: uint8 views, (3, H, W), and ``boxes`` and ``labels`` as torchvision's."""
        config = self.config
        transform = AlignedViews(
            views, size=None, flip=config.flip or 0, scale=config.scale or (1, 1), jitter=config.jitter or 0
        )
        return TrainingViews(self.train, partial(_boxed_views, transform), config.seed)

    def test_data(self, name: str) -> Dataset[tuple[Tensor, tuple[int, Boxes]]]:
        """Return items ``(image, (index, objects))``: the whole image, uint8."""
        return _TestImages(self.tests[name])

    @staticmethod
    def collate(items: Sequence[Any]) -> Any:
        """Keep images apart, for sizes may differ: a list for each view, and a list of targets."""
        views = list(zip(*(views for views, _ in items), strict=True))
        return [list(images) for images in views], [target for _, target in items]

    @staticmethod
    def collate_test(items: Sequence[Any]) -> Any:
        """Keep images apart."""
        return [image for image, _ in items], [target for _, target in items]

    def inputs(self, views: Any, targets: Any, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
        """Scale to [0, 1] and hand over the targets; the detector resizes and normalises by itself."""
        on_device = [{key: value.to(device, non_blocking=True) for key, value in one.items()} for one in targets]
        return [_scaled(view, device) for view in views], {"targets": on_device}

    def entry_images(self, views: Any, device: torch.device) -> Tensor:
        """Return view 0 as the detector resizes, normalises and stacks it."""
        with torch.no_grad():
            batch, _ = self.transform(_scaled(views[0], device))
        images: Tensor = batch.tensors
        return images

    def loss(self, output: dict[str, Tensor], targets: Any) -> Tensor:
        """Sum of the detector's own losses."""
        return torch.stack([value.float() for value in output.values()]).sum()

    def predict(self, student: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[dict[str, Tensor]]:
        """Return for each image ``boxes``, ``scores`` and ``labels``, in the image's own pixels."""
        found: list[dict[str, Tensor]] = student(_scaled(images, device))
        return found

    def meter(self, name: str) -> BoxMeter:
        """Return a fresh meter."""
        return BoxMeter(self.tests[name])

    def report(self, name: str, meter: Meter, score: Score, student: nn.Module, folder: Path, title: str) -> None:
        """Write what was found as COCO results, with the truth beside it, and draw some images with both."""
        assert isinstance(meter, BoxMeter)
        truth, results = meter.coco()
        (folder / "predictions").mkdir(exist_ok=True)
        write_json(folder / "predictions" / f"{name}.json", results)
        write_json(folder / "predictions" / f"{name}-truth.json", truth)
        images, targets, predictions = self.shown(name, student)
        figures.box_panels(
            folder / "figures" / f"predictions-{name}.png",
            images,
            [boxes for _, boxes in targets],
            [
                {key: value.cpu() - 1 if key == "labels" else value.cpu() for key, value in one.items()}
                for one in predictions
            ],
            self.classes,
            title=title,
        )

    @property
    def evaluation(self) -> str:
        """One size."""
        size = self.config.image_size
        return f"short side resized to {size} pixels, long side {2 * size} at most, COCO AP, 100 detections an image"

    @property
    def chance(self) -> None:
        """None: guessing boxes has no expected AP worth a line."""
        return

    @property
    def recipe(self) -> dict[str, str]:
        """The calls of torchvision and timm."""
        config = self.config
        return detector_recipe(
            str(config.architecture),
            config.backbone,
            num_classes=len(self.classes),
            image_size=config.image_size,
        )


def _scaled(images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Bring uint8 images to the device, in [0, 1]."""
    return [image.to(device, non_blocking=True).float() / 255 for image in images]


def _boxed_views(views: AlignedViews, image: Tensor, objects: Boxes) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    boxes = BoundingBoxes(
        objects.boxes[~objects.crowd], format=BoundingBoxFormat.XYXY, canvas_size=tuple(image.shape[-2:])
    )
    shown, moved = views(image, boxes)
    corners = moved.as_subclass(Tensor)
    kept = ((corners[:, 2:] - corners[:, :2]) >= _LEAST_SIDE).all(1)
    return shown, {"boxes": corners[kept], "labels": objects.labels[~objects.crowd][kept] + 1}


class _TestImages(Dataset[tuple[Tensor, tuple[int, Boxes]]]):
    def __init__(self, images: BoxedImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, tuple[int, Boxes]]:
        image, objects = self.images[index]
        return image, (index, objects)
