"""Image classification: cross-entropy on synthetic images, accuracy on real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from synreal.errors import ConfigError
from synreal.tasks.base import TASKS, TaskSpec
from synreal.tasks.batches import BatchTask
from synreal.tasks.setup import Recipe, Setup, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from synreal.tasks.exported import Exportable
    from synreal.weights import Student


@TASKS.register
class ClassificationSpec(TaskSpec):
    """One class per image; the student is a timm model."""

    name: ClassVar[str] = "classification"
    short: ClassVar[str] = "cls"
    summary: ClassVar[str] = "one class per image; mean-class and overall accuracy"
    label: ClassVar[str] = "classes"
    measures: ClassVar[tuple[str, ...]] = ("mean_class_accuracy", "accuracy")
    figures: ClassVar[tuple[str, ...]] = ("confusion", "class_panels")
    sheet: ClassVar[str | None] = "class_sheet"
    library: ClassVar[str] = "timm"
    trial: ClassVar[Trial] = Trial(steps=150, images=1000)
    recipe: ClassVar[Recipe] = Recipe(
        "classification",
        "two CPU cores, embedded numerals, 300 steps",
        {
            "data": {"image_size": 64},
            "training": {"epochs": 2, "batch_size": 32, "lr": 0.02},
            "testing": {"eval_batch_size": 250},
            "views": ("randaugment(ops=1, magnitude=6)", "crop"),
        },
    )

    head_width: int | None = Field(
        default=None,
        ge=1,
        description="Width of a hidden layer of the classifier, e.g. the papers' 512; by default it is linear.",
    )
    test_flip: bool = Field(
        default=False, description="Average what is predicted for an image and for its mirror image."
    )

    def check(self, setup: Setup) -> None:
        """Check the backbone and its weights."""
        from synreal import weights

        weights.check(setup.backbone, setup.weights)

    @classmethod
    def runtime(cls) -> type[Classification]:
        """What runs it."""
        return Classification


class Classification(BatchTask[ClassificationSpec]):
    """One class per image; the student is a timm model."""

    def build_student(self) -> Student:
        """Build a timm model with a fresh classifier.

        The classifier's last layer starts at zero: a random one shakes the pretrained backbone in the first steps,
        before it has learnt anything. One that a weights file brings is kept.
        """
        from synreal.core.task_heads import is_fresh, last_layers, zero_head
        from synreal.weights import Student, create_backbone, normalization

        network, origin = create_backbone(
            self.setup.backbone,
            num_classes=len(self.classes),
            weights=self.setup.weights,
            head_width=self.spec.head_width,
        )
        if origin.source != "file" or all(map(is_fresh, last_layers(network).values())):
            zero_head(network, force=True)
        self._check_size(network)
        return Student(network, origin, normalization(network))

    def _check_size(self, network: nn.Module) -> None:
        """Raise ``ConfigError`` if the network, as of a transformer, takes no images of this size."""
        import torch

        size, training = self.setup.image_size, network.training
        try:
            with torch.no_grad():
                network.eval()(torch.zeros(1, 3, size, size))
        except Exception as error:  # networks raise whatever they like
            native = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
            made_for = "" if native is None else f" It was made for {native[-1]}."
            raise ConfigError(
                f"image_size: {self.setup.backbone} takes no images of {size} x {size} pixels: {error}{made_for} "
                "Choose another image_size, or a backbone that takes any, such as a ResNet or an EfficientNet."
            ) from None
        network.train(training)

    def test_item(self) -> Callable[[int, Tensor, Any], tuple[Tensor, Any]]:
        """Return what makes items ``(image, label)``: one resized centre crop, uint8, (3, S, S)."""
        from synreal.views import classification_transform

        return partial(_cropped, classification_transform(self.setup.image_size, train=False))

    @staticmethod
    def collate_test(items: Sequence[Any]) -> Any:
        """Make a batch ``(images, labels)``, one tensor each."""
        from torch.utils.data import default_collate

        return default_collate(list(items))

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, in float32."""
        from torch.nn import functional as F

        return F.cross_entropy(output.float(), targets.to(output.device, non_blocking=True))

    def predict(self, student: Student, images: Tensor, device: torch.device) -> Tensor:
        """Return scores, float32, (N, C): logits, or the mean of an image's and its mirror's sigmoids, as CSG tests."""
        return self._scores(self._logits(student, images, device))

    def predict_sure(self, student: Student, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return scores, and the softmax of the class that scores highest; with a mirror image, the mean of both."""
        logits = self._logits(student, images, device)
        scores = self._scores(logits)
        return scores, _softmax(logits).gather(1, scores.argmax(1, keepdim=True)).squeeze(1)

    def probabilities(self, student: Student, images: Tensor, device: torch.device) -> list[Tensor]:
        """Return the softmax of each image, float32, (C,); with a mirror image, the mean of both."""
        return list(_softmax(self._logits(student, images, device)))

    def _logits(self, student: Student, images: Tensor, device: torch.device) -> list[Tensor]:
        """Return the logits of images, float32, (N, C), and of their mirror images, if those are tested too."""
        prepared = self.prepared(images, student, device)
        logits = [student.network(prepared).float()]
        if self.spec.test_flip:
            logits.append(student.network(self.formatted(prepared.flip(-1))).float())
        return logits

    def evidence(self, student: Student, images: Tensor, device: torch.device) -> Tensor:
        """Return the highest of the logits."""
        best: Tensor = student.network(self.prepared(images, student, device)).float().amax()
        return best

    def exported(self, student: Student) -> Exportable:
        """Return the network as it is, for batches of crops of the size that it is tested with."""
        from synreal.tasks.exported import normalised
        from synreal.tasks.snippets import CLASSES

        size = self.setup.image_size
        preparation = {"short_side": size, "centre_crop": size, "interpolation": "bilinear", "antialias": True}
        return self.exported_batches(student, (size, size), None, preparation | normalised(student.statistics), CLASSES)

    @staticmethod
    def _scores(logits: list[Tensor]) -> Tensor:
        return logits[0] if len(logits) == 1 else (logits[0].sigmoid() + logits[1].sigmoid()) / 2

    @property
    def evaluation(self) -> str:
        """One crop of each image."""
        return "one centre crop"

    @property
    def flips(self) -> bool:
        """As the setting says."""
        return self.spec.test_flip

    @property
    def chance(self) -> float:
        """One over the number of classes: the mean-class accuracy of any guess that does not look."""
        return 1 / len(self.classes)

    @property
    def recipe(self) -> dict[str, str]:
        """The call of timm, and the classifier in place of its own where that has a hidden layer."""
        name, number, width = self.setup.backbone, len(self.classes), self.spec.head_width
        call = f"import timm\nmodel = timm.create_model({name!r}, num_classes={number})"
        if width is not None:
            call += (
                "\nfrom torch import nn\npath = model.pretrained_cfg['classifier']\n"
                "features = model.get_submodule(path).in_features\nmodel.set_submodule(path, nn.Sequential("
                f"nn.Linear(features, {width}), nn.ReLU(), nn.Linear({width}, {number})))"
            )
        return {"build": call}


def _softmax(logits: list[Tensor]) -> Tensor:
    chances = [one.softmax(1) for one in logits]
    return chances[0] if len(chances) == 1 else (chances[0] + chances[1]) / 2


def _cropped(transform: Callable[[Tensor], Tensor], index: int, image: Tensor, label: int) -> tuple[Tensor, int]:
    return transform(image), label
