"""What a task brings to a run, its recipe, and what it is told of one. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synreal.data import DataSet, Policy

if TYPE_CHECKING:
    from synreal.views import View

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Settings that belong together: a task's own for the embedded data, or a paper's.

    Attributes:
        task: Name of the task.
        summary: One line for listings.
        settings: Values by section and field of a configuration; ``"task"`` holds the task's own settings and
            ``"views"`` the views as texts.
        regularizers: What is trained with where none is named.
        patches: In how many patches a side the regularizers compare maps; None: not as a dense task.
        defaults: Settings of regularizers that have such a setting and do not set it themselves.
        terms: The same by name of the regularizer.
    """

    task: str
    summary: str
    settings: Mapping[str, Any]
    regularizers: str = "csg"
    patches: int | None = None
    defaults: Settings = field(default_factory=dict)
    terms: Mapping[str, Settings] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """How much is done to see on which side a pair of data lies, in minutes on two CPU cores.

    Attributes:
        steps: Training steps of each run.
        images: How many images of each set are tested, at most.
        warmup: So many steps of the training's warm-up are kept, up to half of a run, where it is cut to a third else.
    """

    steps: int = 60
    images: int = 100
    warmup: int = 0


@dataclass(frozen=True)
class Setup:
    """What a task is told of a run.

    Attributes:
        source: Synthetic data to train on.
        targets: Real data to test on.
        policy: What happens to files that cannot be used.
        image_size: In pixels; each task says of what.
        cache_size: Short side of smaller copies of training images, in pixels; None reads the originals.
        data_seed: Of a rendered source.
        views: What makes views.
        seed: Of everything that is drawn in training.
        backbone: Name of the backbone.
        weights: Where its weights come from.
        memory_format: Order of images in memory: ``"channels_last"`` or ``"contiguous"``.
        reading: Names of regularizers that read the reference's own classifier.
        reference: Name of another network that is the frozen teacher.
        max_test_images: How many images of each set are tested at most; None for all.
    """

    source: DataSet
    targets: tuple[DataSet, ...]
    policy: Policy
    image_size: int
    cache_size: int | None
    data_seed: int
    views: tuple[View, ...]
    seed: int
    backbone: str
    weights: str
    memory_format: str
    reading: tuple[str, ...] = ()
    reference: str | None = None
    max_test_images: int | None = None
