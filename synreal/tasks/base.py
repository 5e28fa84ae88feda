"""What a task says of itself, and what runs it: data, student, views, loss and predictions.

Imports no torch before a task runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, TypeVar

from typing_extensions import Self

from synreal.errors import ConfigError
from synreal.specs import Spec, SpecRegistry
from synreal.tasks.setup import Recipe, Setup, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from synreal.measures import Collection
    from synreal.tasks.exported import Exportable
    from synreal.views import View
    from synreal.weights import Student, WeightsOrigin


class TaskSpec(Spec, ABC):
    """A task as a configuration names it; its fields are the settings that this task alone knows.

    Attributes:
        short: Short name, e.g. ``"seg"``.
        label: The kind of label that its data need, e.g. ``"masks"``.
        measures: What is measured, the headline first.
        figures: What a run draws of each set of images.
        sheet: The figure that ``synreal data show`` draws.
        recipe: The settings that it runs with on the embedded data.
        library: The package whose plain model the student is.
        trial: How much ``synreal diagnose`` does of it.
    """

    short: ClassVar[str]
    label: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]
    figures: ClassVar[tuple[str, ...]] = ()
    sheet: ClassVar[str | None] = None
    recipe: ClassVar[Recipe]
    library: ClassVar[str]
    trial: ClassVar[Trial] = Trial()

    @property
    def built_around(self) -> str | None:
        """Name of what is built around the backbone; None for the backbone with a classifier."""
        return None

    @property
    def size_mismatch(self) -> Literal["error", "skip", "resize"]:
        """What happens to an image whose label has another size."""
        return "error"

    @abstractmethod
    def check(self, setup: Setup) -> None:
        """Check what can be known of the student without data, network or building it.

        Raises:
            ConfigError: If a name is unknown, or settings do not fit.
            WeightsError: If the weights are not available in any circumstances.
        """

    def check_classes(self, classes: tuple[str, ...], source: str) -> None:
        """Check the settings against the source's classes, as soon as these are known.

        Args:
            classes: Names of the classes.
            source: What results call the source, for messages.

        Raises:
            ConfigError: If a setting does not fit.
        """

    @classmethod
    @abstractmethod
    def runtime(cls) -> type[Task[Any]]:
        """Return the class that runs the task."""

    def load(self, setup: Setup) -> Task[Any]:
        """Read the data of a run; see ``Task.load``."""
        return self.runtime().load(self, setup)

    def load_tests(self, setup: Setup, classes: Sequence[str], *, source: bool) -> Task[Any]:
        """Read what a trained student is tested on; see ``Task.load_tests``."""
        return self.runtime().load_tests(self, setup, classes, source=source)


TASKS: Final[SpecRegistry[TaskSpec]] = SpecRegistry(
    "task",
    "tasks",
    TaskSpec,
    example="segmentation(ohem=0.5)",
    texts=("summary", "label", "library"),
)


S = TypeVar("S", bound=TaskSpec)


class Task(ABC, Generic[S]):
    """A task on one source and its targets.

    A training item is read by ``(epoch, index)`` and is a function of the run's seed and of these alone.

    Args:
        spec: The task's settings.
        setup: What it is told of the run.
        train: Synthetic images to train on; None if a student is only tested.
        tests: Images to test on: the held-out source as ``"source"``, and each target by name.
        classes: Those that a network has learned; by default the source's.

    Attributes:
        classes: Class names that the network learns, or has learned.
        lent: Real images, of no target, of which a view of training images takes something, by the view's name.
        real: Real images that phases of a run train on, by the name of the phase.
    """

    def __init__(
        self, spec: S, setup: Setup, train: Any, tests: Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> None:
        self.spec = spec
        self.setup = setup
        self.train = train
        self.tests = dict(tests)
        self.lent: dict[str, Any] = {}
        self.classes: tuple[str, ...] = train.classes if classes is None else tuple(classes)
        self.real: dict[str, Any] = {}

    @classmethod
    def load(cls, spec: S, setup: Setup) -> Self:
        """Read the data. The source is rendered from ``data_seed``, so that runs of several seeds share it.

        The targets get the source's classes, by name; a warning lists each difference, and images that source and
        target share.

        Raises:
            ConfigError: If source and target share no class, a setting does not fit the source's classes, or a view
                uses images of a target.
            DataError: If data are missing or damaged.
        """
        from synreal.tasks.parts import as_many, lent_images, to_train_and_test

        train, tests = to_train_and_test(spec.label, setup, spec.check_classes)
        task = cls(spec, setup, train, as_many(tests, setup.max_test_images))
        task.lent = lent_images(setup.views, tests)
        return task

    @classmethod
    def load_tests(cls, spec: S, setup: Setup, classes: Sequence[str], *, source: bool) -> Self:
        """Read what a trained student is tested on; it cannot be trained with it.

        All sets get the student's classes, by name; a warning lists each difference. Without the images that it was
        trained on, nothing is said of targets that share some.

        Args:
            spec: The task's settings.
            setup: What it is told of the run.
            classes: Those of the student, in the order of its outputs.
            source: Whether the held-out source must be there; if not, a warning says why it is not tested.

        Raises:
            ConfigError: If a set and the student share no class.
            DataError: If data are missing or damaged.
        """
        from synreal.tasks.parts import as_many, to_test

        train, tests = to_test(spec.label, setup, classes, source=source)
        return cls(spec, setup, train, as_many(tests, setup.max_test_images), classes)

    @abstractmethod
    def build_student(self) -> Student:
        """Build the network with the task's head; say where its weights are from and how images are normalised."""

    def build_classifier(self) -> tuple[nn.Module, WeightsOrigin]:
        """Build the backbone as it was pretrained, with its ImageNet classifier: a teacher for terms that read that."""
        from synreal.weights import create_teacher

        return create_teacher(self.setup.backbone, weights=self.setup.weights)

    def training_data(self, views: int) -> Dataset[Any]:
        """Return items ``(views, target)`` of the source, read by ``(epoch, index)``.

        Raises:
            ConfigError: If the views do not suit the kind of label.
        """
        return self.items_of(self.train, views, self.setup.seed)

    def items_of(self, images: Any, views: int, seed: int) -> Dataset[Any]:
        """Return items ``(views, target)`` of any images with the network's classes, read by ``(epoch, index)``.

        Args:
            images: A set of ``synreal.data``.
            views: How many views of each.
            seed: Of what they draw.
        """
        from synreal.data.labels import LABELS
        from synreal.tasks.items import TrainingItems
        from synreal.views import ViewPipeline

        pipeline = ViewPipeline(self.setup.views, views, self.view_size, LABELS.get(self.spec.label)())
        return TrainingItems(images, pipeline, self.target, seed)

    @property
    def view_size(self) -> int | None:
        """Side of a square view in pixels; None leaves it to the image."""
        return self.setup.image_size

    @staticmethod
    def target(label: Any) -> Any:
        """Make of a view's label what the loss takes."""
        return label

    def test_data(self, name: str, shift: View | None = None) -> Dataset[Any]:
        """Return items ``(image, target)`` of one of ``tests``.

        Args:
            name: Which one.
            shift: A view that changes each image first, and moves no pixel; what it draws is a function of the index.
        """
        from synreal.tasks.items import TestItems

        change: Any = None if shift is None else shift.build(None)
        return TestItems(self.tests[name], self.test_item(), change)

    def test_item(self) -> Callable[[int, Tensor, Any], tuple[Tensor, Any]]:
        """Return what makes a test item of an index, an image and its label: by default the two as they are."""
        return image_and_label

    @staticmethod
    def collate(items: Sequence[Any]) -> Any:
        """Make a batch ``(views, targets)`` of training items."""
        from torch.utils.data import default_collate

        return default_collate(list(items))

    @staticmethod
    def collate_test(items: Sequence[Any]) -> Any:
        """Make a batch ``(images, targets)`` of test items: lists, for sizes may differ."""
        return [image for image, _ in items], [target for _, target in items]

    @abstractmethod
    def inputs(
        self, views: Any, targets: Any, student: Student, device: torch.device
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return what the model's forward takes: the views on the device, and keyword arguments."""

    def labels(self, targets: Any, device: torch.device) -> Any:
        """Return a batch's targets on the device, for regularizers that read them; by default those are one tensor.

        Not asked for where ``inputs`` hands targets over already.
        """
        return targets.to(device, non_blocking=True)

    @abstractmethod
    def entry_images(self, views: Any, student: Student, device: torch.device) -> Tensor:
        """Return view 0 of a batch as the backbone gets it, (N, 3, H, W)."""

    def entry_tests(self, images: Any, student: Student, device: torch.device) -> Iterator[Tensor]:
        """Go through a batch of test images as the backbone gets them, in order: float32, (N, 3, H, W) each.

        By default each image goes alone, so that its features do not depend on the sizes of others.
        """
        for image in images:
            yield self.entry_images([[image]], student, device)

    def evidence(self, student: Student, images: Any, device: torch.device) -> Tensor:
        """Return the score, 0-d and with gradient, of what the student in eval mode says of one test image.

        Grad-CAM shows what in the image speaks for it. By default refused.

        Args:
            student: The student; it runs once.
            images: A batch of one image, as ``collate_test`` makes it.
            device: Where the student is.

        Raises:
            ConfigError: If the task has no such score.
        """
        raise ConfigError(
            f"The task {self.spec.name!r} does not say which score Grad-CAM explains. Give it a method evidence."
        )

    def exported(self, student: Student) -> Exportable:
        """Return a student in eval mode, on the CPU, as a file that runs without synreal holds it; by default refused.

        Raises:
            ConfigError: If the task does not say, or the network is none that can be exported.
        """
        raise ConfigError(
            f"The task {self.spec.name!r} does not say how its network is exported. Give it a method exported."
        )

    @abstractmethod
    def loss(self, output: Any, targets: Any) -> Tensor:
        """Return the task's loss, a float32 scalar."""

    def heldout_loss(self, student: Student, views: Any, targets: Any, device: torch.device) -> Tensor:
        """Return the loss of the student in eval mode on a batch made as for training; its mode stays."""
        was_training = student.network.training
        images, more = self.inputs(views, targets, student, device)
        loss = self.loss(student.network.eval()(images[0], **more), targets)
        student.network.train(was_training)
        return loss

    @abstractmethod
    def predict(self, student: Student, images: Any, device: torch.device) -> Any:
        """Return what the student, in eval mode, says of a batch of test images; classes count from 0."""

    def predict_sure(self, student: Student, images: Any, device: torch.device) -> tuple[Any, Any]:
        """Return what ``predict`` does, and how sure the student is of it, for measures that ask; by default refused.

        Returns:
            The predictions, and of each the probability that the student gives to the class it predicts, float32, in
            [0, 1]: of images (N,), of pixels (H, W) for each image.

        Raises:
            ConfigError: If the task cannot tell.
        """
        raise ConfigError(
            f"The task {self.spec.name!r} does not say how sure its student is, and a measure asks for that. Leave the "
            "measure out, or give the task a method predict_sure."
        )

    def probabilities(self, student: Student, images: Any, device: torch.device) -> list[Tensor]:
        """Return the probability that the student, in eval mode, gives to each class; by default refused.

        Returns:
            Of each test image of a batch float32, (C,), or (C, H, W) in its own resolution, with sum 1 over classes.

        Raises:
            ConfigError: If the task has no such thing.
        """
        raise ConfigError(f"The task {self.spec.name!r} does not say how probable each class is.")

    def collection(self, name: str, more: Sequence[str] = ()) -> Collection:
        """Return the task's measures of one of ``tests``, and more by name, with nothing collected yet."""
        from synreal.measures import Collection

        return Collection((*self.spec.measures, *more), self.tests[name])

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each of ``parts``."""
        return {name: part.fingerprint for name, part in self.parts.items()}

    @property
    def left_out(self) -> dict[str, dict[str, int]]:
        """What was left out while data were read, by part and reason; parts of which everything is used are absent."""
        return {name: dict(part.dropped) for name, part in self.parts.items() if part.dropped}

    @property
    def parts(self) -> dict[str, Any]:
        """The sets of images: ``"train"``, unless a student is only tested, ``"source"``, each target, and ``real``.

        Images that a view uses come last, e.g. as ``"view style_bank"``: no target can have such a name.
        """
        tests = list(map(id, self.tests.values()))
        real = {f"phase-{name}": images for name, images in self.real.items() if id(images) not in tests}
        lent = {f"view {name}": images for name, images in self.lent.items()}
        return {**({} if self.train is None else {"train": self.train}), **self.tests, **real, **lent}

    @property
    @abstractmethod
    def evaluation(self) -> str:
        """How images reach the network when it is tested, in words."""

    @property
    def flips(self) -> bool:
        """Whether an image's and its mirror's predictions are averaged when it is tested."""
        return False

    @property
    def chance(self) -> float | None:
        """The headline of guessing; None where that means nothing."""
        return None

    @property
    @abstractmethod
    def recipe(self) -> dict[str, str]:
        """What somebody needs to build the plain network that the exported weights fit."""


def image_and_label(index: int, image: Tensor, label: Any) -> tuple[Tensor, Any]:
    """Make a test item of an image and its label, as they are."""
    return image, label
