"""``RunConfig``: everything a run needs to know, checked before anything is read or built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator
from pydantic_core import PydanticSerializationError
from typing_extensions import Self

from synreal import data
from synreal.config import recipes
from synreal.config.resolution import resolve, with_recipe
from synreal.config.sections import (
    DataSection,
    OutputSection,
    Section,
    SpecOf,
    StudentSection,
    TestingSection,
    TrainingSection,
)
from synreal.data.class_names import align_names
from synreal.errors import ConfigError
from synreal.parsing import WHOLE
from synreal.specs import spec_registry
from synreal.tasks.base import TaskSpec
from synreal.tasks.setup import Setup
from synreal.terminal import printable

if TYPE_CHECKING:
    from synreal.core.terms import Regularizer
    from synreal.views import View


class RunConfig(Section):
    """The configuration of a run. The defaults are the recipe for the embedded data on two CPU cores.

    It is made of sections, e.g. ``RunConfig(task="segmentation", training={"lr": 0.01})``; a setting whose name is
    unique may stand without its section, ``RunConfig(lr=0.01)``. What is not given comes from the preset or, without
    one, from the task's own recipe, then from the defaults of the fields. The same holds for the settings of a
    regularizer: in segmentation and detection the terms compare places instead of whole images, unless their spec says
    otherwise.
    ``synreal list settings`` lists everything.

    Raises:
        ConfigError: Names the key, what was expected and what was given; suggests the nearest key.
    """

    task: SerializeAsAny[TaskSpec] = Field(
        description="classification, segmentation or detection (cls, seg, det), with settings of its own in brackets, "
        "e.g. seg(ohem=0.5)."
    )
    preset: str | None = Field(
        default=None, description="A paper's recipe; see synreal list presets. By default the task's own recipe."
    )
    data: DataSection
    student: StudentSection
    reference: str | None = Field(
        default=None,
        description="timm name of another network to be the frozen teacher, with its ImageNet classifier and weights "
        "of its own; by default the backbone as it was pretrained.",
    )
    regularizers: tuple[SpecOf, ...] = Field(
        min_length=1, description='Name or "name(key=value)"; one or several. See synreal list regularizers.'
    )
    views: tuple[SpecOf, ...] = Field(
        description="What makes the views of a training image, in this order; see synreal list views."
    )
    phases: tuple[SpecOf, ...] = Field(
        default=("train",),
        validate_default=True,
        min_length=1,
        description="The phases of a run, in order, e.g. train; see synreal list phases.",
    )
    training: TrainingSection
    testing: TestingSection
    output: OutputSection

    @model_validator(mode="before")
    @classmethod
    def _from_recipes(cls, values: Any) -> Any:
        return resolve(values) if isinstance(values, Mapping) else values

    @field_validator("views", "phases", mode="before")
    @classmethod
    def _read(cls, value: Any, info: Any) -> Any:
        return tuple(spec_registry(info.field_name).specs(value))

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        label = self.task.label
        source, targets = self.data.source, self.data.targets
        data.check_domain(source, "source")
        data.check_labels(source, label)
        labels = [target.label for target in targets]
        if len(set(labels)) < len(labels):
            raise ConfigError(
                f"targets names a data set twice: {', '.join(labels)}. Two folders of one kind get names of their own, "
                "e.g. \"cityscapes(root='/data/fog', name='fog')\"."
            )
        known = source.class_names(label)
        for target in targets:
            data.check_domain(target, "target")
            data.check_labels(target, label)
            if len(target.domains) > 1 and not target.apart and target.same_images(source):
                raise ConfigError(f"{source.label!r} is source and target at once: name other data to test on.")
            theirs = target.class_names(label)
            if known is not None and theirs is not None:
                align_names(known, theirs)
        if self.data.cache_size is not None and not isinstance(source, data.FolderData):
            raise ConfigError(f"cache_size is for images in files: {source.label!r} is held in memory as it is.")
        if known is not None:
            self.task.check_classes(known, source.label)
            for spec in self.terms:
                spec.for_classes(known)
        return self

    @model_validator(mode="after")
    def _regularizers_fit(self) -> Self:
        if self.reference is not None and not any(spec.needs_reference for spec in self.terms):
            names = ", ".join(spec.name for spec in self.terms)
            raise ConfigError(
                f"reference {self.reference!r} was given, but no regularizer looks at it ({names}). Leave it out, or "
                "add one that compares with a teacher, e.g. guidance."
            )
        for spec in self.terms:
            if spec.needs_own_loop is not None:
                raise ConfigError(
                    f"{spec.name} needs {spec.needs_own_loop}, which synreal run does not make. Leave that setting "
                    "out, or train in a loop of your own."
                )
            known = [transform.name for transform in self.student.transforms]
            if spec.needs_transform is not None and spec.needs_transform not in known:
                raise ConfigError(
                    f"{spec.name} reads the layers that the transform {spec.needs_transform} puts into a network. Add "
                    f"--transform {spec.needs_transform}, or name other layers as {spec.name}(stages=...)."
                )
        patched = [spec.name for spec in self.terms if spec.aligned]
        wild = [view.name for view in self.setup.views if view.moving and view.drawn != "once"]
        if patched and wild:
            raise ConfigError(
                f"{', '.join(patched)} compares patches by position, but {' and '.join(wild)} moves the pixels of each "
                "view in its own way. Use patches=1 (or sizes=1), or views that share their geometry, such as geometry "
                "and jitter."
            )
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        try:
            self.model_dump_json()
        except (PydanticSerializationError, UnicodeEncodeError):
            raise ConfigError(
                "A setting holds text that is not Unicode, e.g. a path that is not UTF-8: no file can record it."
            ) from None
        return self

    @property
    def terms(self) -> tuple[Regularizer, ...]:
        """The regularizers, typed."""
        return cast("tuple[Regularizer, ...]", self.regularizers)

    @property
    def setup(self) -> Setup:
        """What the task is told."""
        return Setup(
            source=self.data.source,
            targets=self.data.targets,
            policy=data.Policy(self.data.on_bad_image, self.task.size_mismatch),
            image_size=self.data.image_size,
            cache_size=self.data.cache_size,
            max_test_images=self.testing.max_test_images,
            data_seed=self.data.data_seed,
            views=cast("tuple[View, ...]", self.views),
            seed=self.training.seed,
            backbone=self.student.backbone,
            weights=self.student.weights,
            memory_format=self.student.memory_format,
            reading=tuple(spec.name for spec in self.terms if spec.needs_classifier),
            reference=self.reference,
        )

    @property
    def plain_terms(self) -> tuple[Regularizer, ...]:
        """The regularizers with all their settings at the defaults that they have in this task and preset."""
        recipe = recipes.find(self.preset) if self.preset is not None else self.task.recipe
        return cast("tuple[Regularizer, ...]", with_recipe([spec.name for spec in self.terms], recipe))

    @property
    def used(self) -> dict[str, list[str]]:
        """Names of all that a plugin may have brought, by the kind's plural."""
        source, targets = self.data.source, self.data.targets
        return {
            "regularizers": [spec.name for spec in self.regularizers],
            "transforms": [spec.name for spec in self.student.transforms],
            "views": [spec.name for spec in (*self.views, *self.testing.shifts)],
            "phases": [spec.name for spec in self.phases],
            "averages": [spec.name for spec in self.testing.averages],
            "measures": list(dict.fromkeys((*self.testing.measures, *self.testing.look))),
            "figures": list(self.testing.figures),
            "data": [entry.kind for entry in (source, *targets)],
            "labels": [self.task.label],
            "tasks": [self.task.name],
        }

    def updated(self, **settings: Any) -> RunConfig:
        """Return the configuration with other settings, written as for the constructor, checked anew."""
        return RunConfig(**resolve({**settings}, beneath=self.model_dump(mode="json")))

    def to_yaml(self) -> str:
        """Write the configuration as YAML that ``read_yaml`` and ``make_config`` read back.

        Its last line says that it is whole: a copy that was cut short is not read.
        """
        values = self.model_dump(mode="json")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        if printable(text, lines=True) != text:  # shown on a terminal, some of it would act there
            text = yaml.safe_dump(values, sort_keys=False)
        return f"{WHOLE}\n{text}...\n"
