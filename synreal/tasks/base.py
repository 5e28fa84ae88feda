"""What the training loop asks of a task."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate
from typing_extensions import Self

from synreal import data, figures, weights
from synreal.data.aligned import aligned
from synreal.data.class_names import align_names, differences
from synreal.data.files.copies import Resized
from synreal.data.inspection.report import duplicates
from synreal.errors import ConfigError
from synreal.records import Score
from synreal.views import derive_seed, seeded, to_float
from synreal.weights import WeightsOrigin

if TYPE_CHECKING:
    from synreal.config import RunConfig

SHOWN = 8
"""How many images of each set a run draws its predictions for."""


class Meter(ABC):
    """Collects what a score needs, over batches and processes."""

    @abstractmethod
    def update(self, output: Any, targets: Any) -> None:
        """Add one batch: what ``Task.predict`` gave, and the targets as the test loader gave them."""

    @abstractmethod
    def gather(self, device: torch.device) -> None:
        """Replace what was collected by that of all processes.

        Args:
            device: Where tensors must lie that processes exchange.
        """

    @abstractmethod
    def compute(self) -> Score:
        """Return the score; the same on all processes once ``gather`` was called."""


class Task(ABC):
    """A task on one source and its targets.

    A training item is read by ``(epoch, index)`` and is a function of the run's seed and of these alone.

    Args:
        config: The run's configuration.
        train: Synthetic images to train on.
        tests: Images to test on: the held-out source as ``"source"``, and each target by name.

    Attributes:
        aligned_views: Whether the views of an image share their geometry, so that patches of them can be compared.
        library: The package whose plain model the student is.
    """

    aligned_views: ClassVar[bool]
    library: ClassVar[str]

    def __init__(self, config: RunConfig, train: Any, tests: Mapping[str, Any]) -> None:
        self.config = config
        self.train = train
        self.tests = dict(tests)
        self.classes: tuple[str, ...] = train.classes

    @classmethod
    def load(cls, config: RunConfig) -> Self:
        """Read the data. The source is rendered from ``data_seed``, so that runs of several seeds share it.

        The targets get the source's classes, by name; a warning tells each difference, and images that source and
        target share.

        Raises:
            ConfigError: If source and target share no class, or ``class_weights`` does not fit the source's classes.
            DataError: If data are missing or damaged.
        """
        source = data.find(config.source)
        policy = data.Policy(config.on_bad_image, config.on_size_mismatch or "error")
        train, heldout = (
            data.load(source, split, task=config.task, seed=config.data_seed, policy=policy)
            for split in ("train", "heldout")
        )
        # Parts of one data set may lie in files of their own, which number classes as they please.
        heldout = aligned(heldout, train.classes, align_names(train.classes, heldout.classes))
        if config.class_weights is not None and len(config.class_weights) != len(train.classes):
            raise ConfigError(
                f"class_weights has {len(config.class_weights)} numbers, but the {len(train.classes)} classes of "
                f"{source.label!r} are {', '.join(train.classes)}."
            )
        targets = {}
        for text in config.targets:
            target = data.find(text)
            images = data.load(target, "test", task=config.task, policy=policy)
            alignment = align_names(train.classes, images.classes)
            told = [f"Target {target.label!r} {line}." for line in differences(alignment)]
            if shared := duplicates(train, images):
                told.append(
                    f"{len(shared)} images of target {target.label!r} are also trained on, e.g. {shared[0][1]}: what "
                    "is measured on them is no zero-shot result."
                )
            for line in told:
                warnings.warn(line, stacklevel=2)
            targets[target.label] = aligned(images, train.classes, alignment)
        if config.cache_size is not None:
            train = Resized(train, config.cache_size)
        return cls(config, train, {"source": heldout, **targets})

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Check what can be known of the student without data, network or building it.

        Raises:
            ConfigError: The backbone is unknown.
            WeightsError: Its weights cannot be had in any circumstances.
        """
        weights.check(config.backbone, config.weights)

    @abstractmethod
    def build_student(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the network with the task's head."""

    def build_classifier(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the backbone as it was pretrained, with its ImageNet classifier: a teacher for terms that read that."""
        return weights.create_backbone(
            self.config.backbone, num_classes=weights.IMAGENET_CLASSES, weights=self.config.weights
        )

    @abstractmethod
    def training_data(self, views: int) -> Dataset[Any]:
        """Return items ``(views, target)``, read by ``(epoch, index)``."""

    def test_data(self, name: str) -> Dataset[Any]:
        """Return items ``(image, target)`` of one of ``tests``."""
        images: Dataset[Any] = self.tests[name]
        return images

    @staticmethod
    def collate(items: Sequence[Any]) -> Any:
        """Make a batch ``(views, targets)`` of training items."""
        return default_collate(list(items))

    @staticmethod
    def collate_test(items: Sequence[Any]) -> Any:
        """Make a batch ``(images, targets)`` of test items."""
        return default_collate(list(items))

    @abstractmethod
    def inputs(self, views: Any, targets: Any, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
        """Return what the model's forward takes: the views, normalised, on the device; and keyword arguments."""

    @abstractmethod
    def entry_images(self, views: Any, device: torch.device) -> Tensor:
        """Return view 0 of a batch as the backbone gets it, (N, 3, H, W)."""

    @abstractmethod
    def loss(self, output: Any, targets: Any) -> Tensor:
        """Return the task's loss, a float32 scalar."""

    @abstractmethod
    def predict(self, student: nn.Module, images: Any, device: torch.device) -> Any:
        """Return what the student, in eval mode, says of a batch of test images; in the form that ``Meter`` takes."""

    @abstractmethod
    def meter(self, name: str) -> Meter:
        """Return a fresh meter for one of ``tests``."""

    @abstractmethod
    def report(self, name: str, meter: Meter, score: Score, student: nn.Module, folder: Path, title: str) -> None:
        """Write figures, and files that go beyond the score, of one of ``tests`` into a run folder.

        Args:
            name: Which one.
            meter: Its meter, with everything that was collected.
            score: What the meter made of it.
            student: The network.
            folder: The run folder.
            title: Heading for figures.
        """

    def shown(self, name: str, student: nn.Module) -> tuple[list[Any], list[Any], list[Any]]:
        """Return images, targets and predictions for the fixed few items that figures show, one by one."""
        tests: Any = self.test_data(name)
        device = next(student.parameters()).device
        spread = [index * len(tests) // SHOWN for index in range(SHOWN)] if len(tests) > SHOWN else range(len(tests))
        images, targets, predictions = [], [], []
        was_training = student.training
        student.eval()
        for index in spread:
            batch, target = self.collate_test([tests[index]])
            with torch.no_grad():
                predictions.append(self.predict(student, batch, device)[0])
            images.append(batch[0])
            targets.append(target[0])
        student.train(was_training)
        return images, targets, predictions

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each part: ``"train"``, ``"source"`` and each target."""
        return {"train": self.train.fingerprint, **{name: data.fingerprint for name, data in self.tests.items()}}

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """What was left out while data were read, by part and reason; parts of which everything is used are absent."""
        parts = {"train": self.train, **self.tests}
        return {name: dict(part.dropped) for name, part in parts.items() if getattr(part, "dropped", None)}

    @property
    @abstractmethod
    def evaluation(self) -> str:
        """How images reach the network when it is tested, in words."""

    @property
    @abstractmethod
    def chance(self) -> float | None:
        """The headline of guessing; None where that means nothing."""

    @property
    @abstractmethod
    def recipe(self) -> dict[str, str]:
        """What somebody needs to build the plain network that the exported weights fit."""


class BatchTask(Task):
    """A task whose network takes one normalised tensor a view, and whose score counts a confusion matrix.

    Attributes:
        statistics: Mean and standard deviation of the images that the network was pretrained on, per RGB channel; set
            when the student is built.
    """

    statistics: tuple[Sequence[float], Sequence[float]] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def inputs(self, views: Any, targets: Any, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
        """Scale and normalise as the backbone was pretrained: uint8 -> float32."""
        return [self._prepared(view, device) for view in views], {}

    def entry_images(self, views: Any, device: torch.device) -> Tensor:
        """Return view 0, normalised."""
        return self._prepared(views[0], device)

    def _prepared(self, images: Tensor, device: torch.device) -> Tensor:
        return self._formatted(to_float(images.to(device, non_blocking=True), *self.statistics))

    def _formatted(self, images: Tensor) -> Tensor:
        """Order a batch in memory as the network is."""
        return images.contiguous(memory_format=MEMORY_FORMATS[self.config.memory_format])

    def _draw_confusion(
        self, name: str, score: Score, folder: Path, title: str, *, unit: Literal["images", "pixels"] = "images"
    ) -> None:
        figures.confusion_matrix(
            torch.tensor(score.confusion).numpy(),
            self.classes,
            folder / "figures" / f"confusion-{name}.png",
            title=title,
            unit=unit,
        )


class TrainingViews(Dataset[tuple[tuple[Tensor, ...], Any]]):
    """Items ``(views, target)`` that are read by ``(epoch, index)``, and are a function of these and the seed.

    Args:
        images: A data set of ``synreal.data``.
        make: Draws the views and the target from an image and its label.
        seed: The run's.
    """

    def __init__(self, images: Any, make: Callable[[Tensor, Any], tuple[tuple[Tensor, ...], Any]], seed: int) -> None:
        self.images = images
        self.make = make
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: tuple[int, int]) -> tuple[tuple[Tensor, ...], Any]:
        epoch, index = position
        with seeded(derive_seed(self.seed, "view", epoch, index)):
            return self.make(*self.images[index])


MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
