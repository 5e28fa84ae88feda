"""Object detection: a detector's own losses on synthetic images, COCO AP on real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field, field_validator

from synreal.errors import unknown_name
from synreal.tasks.architectures import DETECTORS
from synreal.tasks.base import TASKS, Task, TaskSpec
from synreal.tasks.setup import Recipe, Setup, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synreal.data.labels.boxes import Boxes
    from synreal.tasks.exported import Agreement, Exportable
    from synreal.weights import Student

_LEAST_SIDE: Final = 2.0
"""Boxes that a crop leaves narrower or lower than this, in pixels, are not trained on."""


@TASKS.register
class DetectionSpec(TaskSpec):
    """Boxes with classes; the student is a torchvision detector with a feature pyramid."""

    name: ClassVar[str] = "detection"
    short: ClassVar[str] = "det"
    summary: ClassVar[str] = "boxes with classes; COCO AP"
    label: ClassVar[str] = "boxes"
    measures: ClassVar[tuple[str, ...]] = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    figures: ClassVar[tuple[str, ...]] = ("box_panels",)
    sheet: ClassVar[str | None] = "box_sheet"
    library: ClassVar[str] = "torchvision"
    trial: ClassVar[Trial] = Trial(steps=100, images=50, warmup=50)  # with 33 steps a fresh head diverges
    recipe: ClassVar[Recipe] = Recipe(
        "detection",
        "two CPU cores, embedded scenes, 200 steps",
        {
            "data": {"image_size": 128},
            "training": {"epochs": 2, "max_steps": 200, "warmup_steps": 50, "batch_size": 8, "lr": 0.02},
            "testing": {"eval_every": 0, "eval_batch_size": 16},
            "views": ("geometry", "jitter"),
        },
        patches=4,
        defaults={"queue_size": 4096},
    )

    architecture: str = Field(
        default="fasterrcnn", description="The detector around the backbone: fasterrcnn, retinanet or fcos."
    )

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, value: str) -> str:
        if value not in DETECTORS:
            raise unknown_name("architecture", value, DETECTORS)
        return value

    @property
    def built_around(self) -> str:
        """As the setting says."""
        return self.architecture

    def check(self, setup: Setup) -> None:
        """Check architecture, backbone and weights."""
        from synreal.tasks.networks import check_detector

        check_detector(self.architecture, setup.backbone, weights=setup.weights)

    @classmethod
    def runtime(cls) -> type[Detection]:
        """What runs it."""
        return Detection


class Detection(Task[DetectionSpec]):
    """Boxes with classes; the student is a torchvision detector with a feature pyramid.

    The detector counts classes from 1, as torchvision does; 0 is the background. Everywhere else they count from 0.
    """

    def build_student(self) -> Student:
        """Build the detector around a pretrained backbone."""
        from synreal.tasks.networks import create_detector
        from synreal.weights import Student, normalization

        network, origin = create_detector(
            self.spec.architecture,
            self.setup.backbone,
            num_classes=len(self.classes),
            weights=self.setup.weights,
            image_size=self.setup.image_size,
        )
        return Student(network, origin, normalization(network))

    @property
    def view_size(self) -> None:
        """None: the detector resizes images by itself."""
        return None

    @staticmethod
    def target(label: Boxes) -> dict[str, Tensor]:
        """Return ``boxes`` and ``labels`` as torchvision's detectors take them, without crowds and specks."""
        corners = label.boxes
        kept = ~label.crowd & ((corners[:, 2:] - corners[:, :2]) >= _LEAST_SIDE).all(1)
        return {"boxes": corners[kept], "labels": _for_torchvision(label.labels[kept])}

    def test_item(self) -> Callable[[int, Tensor, Any], tuple[Tensor, Any]]:
        """Return what makes items ``(image, (index, objects))``: the whole image, uint8."""
        return _with_index

    @staticmethod
    def collate(items: Sequence[Any]) -> Any:
        """Keep images apart, for sizes may differ: a list for each view, and a list of targets."""
        views = list(zip(*(views for views, _ in items), strict=True))
        return [list(images) for images in views], [target for _, target in items]

    def inputs(
        self, views: Any, targets: Any, student: Student, device: torch.device
    ) -> tuple[list[Any], dict[str, Any]]:
        """Scale to [0, 1] and hand over the targets; the detector resizes and normalises by itself."""
        on_device = [{key: value.to(device, non_blocking=True) for key, value in one.items()} for one in targets]
        return [_scaled(view, device) for view in views], {"targets": on_device}

    def entry_images(self, views: Any, student: Student, device: torch.device) -> Tensor:
        """Return view 0 as the detector resizes, normalises and stacks it."""
        import torch

        with torch.no_grad():
            batch, _ = student.network.get_submodule("transform")(_scaled(views[0], device))
        images: Tensor = batch.tensors
        return images

    def loss(self, output: dict[str, Tensor], targets: Any) -> Tensor:
        """Sum of the detector's own losses."""
        import torch

        return torch.stack([value.float() for value in output.values()]).sum()

    def heldout_loss(self, student: Student, views: Any, targets: Any, device: torch.device) -> Tensor:
        """Return the detector's losses, which it has in train mode alone; normalisation and dropout work as in eval."""
        from torch import nn
        from torch.nn.modules.batchnorm import _NormBase

        network = student.network
        was_training = network.training
        images, more = self.inputs(views, targets, student, device)
        network.train()
        for module in network.modules():
            if isinstance(module, (_NormBase, nn.Dropout, nn.Dropout2d)):
                module.eval()
        loss = self.loss(network(images[0], **more), targets)
        network.train(was_training)
        return loss

    def predict(self, student: Student, images: Sequence[Tensor], device: torch.device) -> list[dict[str, Tensor]]:
        """Return for each image ``boxes``, in its own pixels, ``scores`` and ``labels``, which count from 0."""
        return [_from_torchvision(found) for found in student.network(_scaled(images, device))]

    def exported(self, student: Student) -> Exportable:
        """Return the detector for whole batches; labels count from 0, boxes lie in the resized image."""
        import torch

        from synreal.tasks.exported import Exportable, compared_boxes, normalised
        from synreal.tasks.networks.detector_graphs import OUTPUTS, STRIDE, ExportedDetector, detector_graph
        from synreal.tasks.snippets import BOXES

        cpu, size = torch.device("cpu"), self.setup.image_size
        side = -(-size // STRIDE) * STRIDE
        detector = student.network

        def compare(theirs: Student, ours: Student, images: Sequence[Tensor]) -> Agreement:
            first, second = (self.predict(one, images, cpu) for one in (theirs, ours))
            return compared_boxes(first, second, [max(image.shape[-2:]) for image in images])

        resizing = {"short_side": size, "long_side_at_most": 2 * size, "interpolation": "bilinear", "antialias": False}
        padding = {"pad_to_multiple_of": STRIDE, "padding": "right and bottom, 0 after normalising"}
        return Exportable(
            graph=detector_graph(detector),
            example={
                "images": torch.zeros(2, 3, side, side + STRIDE),
                "sizes": torch.tensor([[size, size], [side, side + STRIDE]]),
            },
            free={"images": {0: ("batch", 1), 2: ("height", STRIDE), 3: ("width", STRIDE)}, "sizes": {0: ("batch", 1)}},
            outputs=OUTPUTS,
            preparation=resizing | padding | normalised(student.statistics),
            loading=BOXES,
            stand_in=lambda run: ExportedDetector(detector, run),
            compare=compare,
            traced=True,
        )

    def evidence(self, student: Student, images: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return the score of the best box; 0 if there is none."""
        found: Tensor = student.network(_scaled(images, device))[0]["scores"]
        return found.max() if len(found) else found.sum()

    @property
    def evaluation(self) -> str:
        """One size."""
        size = self.setup.image_size
        return f"short side resized to {size} pixels, long side {2 * size} at most, COCO AP, 100 detections per image"

    @property
    def recipe(self) -> dict[str, str]:
        """The calls of torchvision and timm."""
        from synreal.tasks.networks import detector_recipe

        return detector_recipe(
            self.spec.architecture,
            self.setup.backbone,
            num_classes=len(self.classes),
            image_size=self.setup.image_size,
        )


def _for_torchvision(labels: Tensor) -> Tensor:
    """Return classes counted from 1: torchvision keeps 0 for the background."""
    return labels + 1


def _from_torchvision(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what a detector of torchvision's found, with classes counted from 0."""
    return {**found, "labels": found["labels"] - 1}


def _scaled(images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Bring uint8 images to the device, in [0, 1]."""
    return [image.to(device, non_blocking=True).float() / 255 for image in images]


def _with_index(index: int, image: Tensor, label: Boxes) -> tuple[Tensor, tuple[int, Boxes]]:
    return image, (index, label)
