"""``RunConfig``: everything a run needs to know, checked before anything is read or built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from synreal import data, presets
from synreal.data.class_names import align_names
from synreal.errors import ConfigError, unknown_name
from synreal.parsing import parse_yaml, read_mapping
from synreal.regularizers import REGULARIZERS, Regularizer
from synreal.tasks import architectures, task_class, task_name

Specs = Annotated[
    tuple[SerializeAsAny[Regularizer], ...],
    BeforeValidator(lambda value: tuple(REGULARIZERS.specs(value))),
    Field(min_length=1),
]


# The fields that only some tasks know; elsewhere they stay None.
_ONLY_FOR = {
    "architecture": ("segmentation", "detection"),
    "output_stride": ("segmentation",),
    "head_width": ("classification",),
    "crop": ("classification",),
    "augment_ops": ("classification",),
    "augment_magnitude": ("classification",),
    "flip": ("segmentation", "detection"),
    "scale": ("segmentation", "detection"),
    "jitter": ("segmentation", "detection"),
    "class_weights": ("segmentation",),
    "ohem": ("segmentation",),
    "window": ("segmentation",),
    "on_size_mismatch": ("segmentation",),
}


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class RunConfig(BaseModel):
    """The configuration of a run. The defaults are the recipe for the embedded data on two CPU cores.

    What is not given comes from the preset or, without one, from the task's own recipe (``synreal.presets.TASKS``),
    then from the defaults here. The same holds for the settings of a regularizer: in segmentation and detection the
    terms compare places instead of whole images, unless their spec says otherwise.

    Attributes:
        task: ``"classification"``, ``"segmentation"`` or ``"detection"``, or short ``"cls"``, ``"seg"``, ``"det"``.
        preset: A paper's recipe by name, e.g. ``"csg-seg"``; see ``synreal.presets.PRESETS``.
        regularizers: One or several names, texts like ``"csg(weight=0.1)"`` or specs.
        backbone: timm name; for segmentation also ``"smp/NAME"``, an encoder of segmentation-models-pytorch's own.
        architecture: Around the backbone. Segmentation: any of segmentation-models-pytorch, ``"deeplabv3plus"`` by
            default. Detection: ``"fasterrcnn"`` (default), ``"retinanet"`` or ``"fcos"``.
        head_width: Classification: width of a hidden layer of the classifier, e.g. the papers' 512; None: linear.
        output_stride: Segmentation: stride of the encoder's last map, 8, 16 or 32, where the architecture knows it.
        weights: ``"auto"``, ``"timm"``, ``"packaged"``, ``"none"`` or a file; see ``synreal.weights``.
        reference: timm name of another network to be the frozen teacher, with its ImageNet classifier and weights of
            its own; None: the backbone as it was pretrained.
        source: Synthetic data to train on: a name, ``"gta5:/data/gta5"``, ``"gta5(root='/data/gta5', frames='all')"``,
            or a YAML file that describes them.
        targets: Real data to test on, written likewise; by default those that go with the source.
        on_bad_image: ``"error"`` ends the run at the first image or label file that cannot be used; ``"skip"`` reads
            everything once beforehand, leaves such files out, and counts them in the result.
        on_size_mismatch: Segmentation: of an image and its mask, ``"error"`` (default), ``"skip"``, or ``"resize"``,
            which brings the image to the mask's size.
        cache_size: Keep training images resized on disk, the short side at most so many pixels; None reads the
            originals. Tests read the originals in any case; segmentation then trains at another scale than it tests.
        image_size: In pixels. Classification: side of the network's input, 64 by default. Segmentation: side of the
            training crop, 128; images are tested whole. Detection: short side to which images are resized, 128; the
            long side becomes twice that at most.
        crop: Classification: ``"random"`` (default, CSG) or ``"center"`` (GCISG, ASG) crop of a training image.
        augment_ops: Classification: RandAugment operations on each view, 1 by default; 0 switches it off.
        augment_magnitude: Classification: RandAugment magnitude M, of 30; 6 by default.
        flip: Segmentation and detection: how often a training image is mirrored, in [0, 1]; 0 by default, for numerals
            have no mirror image.
        scale: Segmentation and detection: least and greatest factor by which a training image is resized before it is
            cropped; (0.75, 1.25) by default.
        jitter: Segmentation and detection: strength in [0, 1] of the colour jitter that sets views from the second on
            apart from the first; 0.4 by default. All views share their geometry.
        class_weights: Segmentation: a factor for each class in the loss, in order of the classes.
        ohem: Segmentation: share in (0, 1] of the pixels that count in the loss, the hardest of each batch.
        epochs: Passes over the source, 2 by default; 0 only evaluates.
        max_steps: Stop after so many steps; the schedule ends there too.
        batch_size: Images a step, on each process; 32 by default, 8 in segmentation and detection.
        lr: Peak learning rate of the head and of the regularizers' heads.
        backbone_lr_scale: Learning rate of the backbone over ``lr``.
        optimizer: ``"sgd"`` (the papers') or ``"adamw"``; classification and detection take SGD by default,
            segmentation AdamW.
        momentum: Of SGD; AdamW's first decay rate, beside 0.999 for the second.
        weight_decay: Of SGD, or AdamW's decoupled one.
        schedule: ``"warmup_poly"`` (CSG) or ``"constant"`` (GCISG).
        warmup_steps: Length of the quadratic warm-up from 1 %.
        poly_power: Exponent of the decay to zero.
        poly_until: Share of the run after which the rate decays no more; CSG 1, ASG 0.8.
        norm: ``"frozen"`` keeps the backbone's running statistics (CSG); ``"train"`` lets them move (GCISG). Fresh
            layers around the backbone learn theirs in any case.
        clip_norm: Greatest norm of the gradient; None does not clip.
        memory_format: Order of weights and images in memory: ``"channels_last"``, which convolutions are about twice as
            fast in, or ``"contiguous"``. Numbers agree but for rounding.
        precision: ``"fp32"``, or ``"bf16"`` or ``"fp16"`` mixed precision.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        seed: Of everything that is drawn in training.
        data_seed: Of a rendered source; runs of several seeds share one set of images.
        workers: Data-loading processes.
        eval_batch_size: Images a step when testing; 250 by default, 16 in segmentation and detection.
        test_flip: Average what is predicted for an image and for its mirror image; not in detection.
        window: Segmentation: test in square windows of this side, in pixels, that overlap by a third, instead of whole
            images.
        eval_every: Test after every so many epochs, and at the end; 0 tests only at the end.
        log_every: Steps between rows of ``metrics.jsonl``.
        checkpoint_every: Steps between checkpoints; None: at the end of each epoch.
        keep_checkpoints: How many checkpoints stay.
        output: Run folder; by default a new one under ``runs/``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str = "classification"
    preset: str | None = None
    regularizers: Specs
    architecture: str | None = None
    head_width: int | None = Field(default=None, ge=1)
    output_stride: Literal[8, 16, 32] | None = None
    backbone: str = "tf_efficientnet_lite0"
    weights: str = "auto"
    reference: str | None = None
    source: str = "digits"
    targets: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    on_bad_image: Literal["error", "skip"] = "error"
    on_size_mismatch: Literal["error", "skip", "resize"] | None = None
    cache_size: int | None = Field(default=None, ge=8)
    image_size: int = Field(ge=8, le=4096)
    crop: Literal["random", "center"] | None = None
    augment_ops: int | None = Field(default=None, ge=0)
    augment_magnitude: float | None = Field(default=None, ge=0, le=30)
    flip: float | None = Field(default=None, ge=0, le=1)
    scale: tuple[PositiveFloat, PositiveFloat] | None = None
    jitter: float | None = Field(default=None, ge=0, le=1)
    class_weights: tuple[NonNegativeFloat, ...] | None = None
    ohem: float | None = Field(default=None, gt=0, le=1)
    epochs: int = Field(ge=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(ge=1)
    lr: float = Field(ge=0)
    backbone_lr_scale: float = Field(default=0.1, ge=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["warmup_poly", "constant"] = "warmup_poly"
    warmup_steps: int = Field(default=100, ge=0)
    poly_power: float = Field(default=0.9, ge=0)
    poly_until: float = Field(default=1.0, gt=0, le=1)
    norm: Literal["frozen", "train"] = "frozen"
    clip_norm: float | None = Field(default=None, gt=0)
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = "auto"
    seed: int = Field(default=0, ge=0, lt=2**31)
    data_seed: int = Field(default=0, ge=0, lt=2**31)
    workers: int = Field(default=2, ge=0)
    eval_batch_size: int = Field(ge=1)
    test_flip: bool = False
    window: int | None = Field(default=None, ge=8)
    eval_every: int = Field(default=1, ge=0)
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    output: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_recipes(cls, values: Any) -> Any:
        return _filled(values) if isinstance(values, Mapping) else values

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name != "test_flip":  # pydantic would take true for 1
            raise PydanticCustomError("switch", "Input should not be true or false")
        return value

    @field_validator("task")
    @classmethod
    def _long_task_name(cls, value: str) -> str:
        return task_name(value)

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ConfigError(f"Unknown device {value!r}. Known: auto, cpu, cuda, cuda:N, mps.")
        return value

    @model_validator(mode="after")
    def _settings_fit_the_task(self) -> Self:
        for name, tasks in _ONLY_FOR.items():
            if getattr(self, name) is not None and self.task not in tasks:
                raise ConfigError(f"{name} is a setting of {' and '.join(tasks)}: {self.task} does not know it.")
            if getattr(self, name) is None and name in presets.TASKS[self.task].settings:
                raise ConfigError(f"{name} is empty, but {self.task} needs it.")
        if self.test_flip and self.task == "detection":
            raise ConfigError("test_flip is a setting of classification and segmentation: detection does not know it.")
        if self.architecture is not None and self.architecture not in architectures(self.task):
            raise unknown_name("architecture", self.architecture, architectures(self.task))
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ConfigError(
                f"scale is the least and the greatest factor, got {self.scale[0]:g} and {self.scale[1]:g}."
            )
        return self

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        source = data.find(self.source)
        data.check_domain(source, "source")
        data.check_labels(source, self.task)
        targets = [data.find(text) for text in self.targets or data.default_targets(source, self.task)]
        # Written out in full: a run is resumed from anywhere.
        object.__setattr__(self, "source", source.text())
        object.__setattr__(self, "targets", tuple(target.text() for target in targets))
        labels = [target.label for target in targets]
        if len(set(labels)) < len(labels):
            raise ConfigError(
                f"targets names a data set twice: {', '.join(labels)}. Two folders of one kind get names of their own, "
                "e.g. \"cityscapes(root='/data/fog', name='fog')\"."
            )
        known = source.class_names(self.task)
        for target in targets:
            data.check_domain(target, "target")
            data.check_labels(target, self.task)
            if len(target.domains) > 1 and not target.apart and target.text() == source.text():
                raise ConfigError(f"{source.label!r} is source and target at once: name other data to test on.")
            theirs = target.class_names(self.task)
            if known is not None and theirs is not None:
                align_names(known, theirs)
        if self.cache_size is not None and not isinstance(source, data.FolderData):
            raise ConfigError(f"cache_size is for images in files: {source.label!r} is held in memory as it is.")
        if self.class_weights is not None and known is not None and len(self.class_weights) != len(known):
            raise ConfigError(
                f"class_weights has {len(self.class_weights)} numbers, but the {len(known)} classes are "
                f"{', '.join(known)}."
            )
        return self

    @model_validator(mode="after")
    def _regularizers_fit(self) -> Self:
        if self.reference is not None and not any(spec.needs_reference for spec in self.regularizers):
            names = ", ".join(spec.name for spec in self.regularizers)
            raise ConfigError(
                f"reference {self.reference!r} was given, but no regularizer looks at it ({names}). Leave it out, or "
                "add one that compares with a teacher, e.g. guidance."
            )
        patched = [spec.name for spec in self.regularizers if spec.aligned]
        if patched and not task_class(self.task).aligned_views:
            raise ConfigError(
                f"{', '.join(patched)} compares patches by position, but the views of {self.task} are cropped and "
                "turned independently. Use patches=1, or your own loop with views that differ in colour alone."
            )
        return self

    def to_yaml(self) -> str:
        """Write the configuration as YAML that ``load_config`` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put a recipe beneath what was given, the preset's or the task's own; what was given stays."""
    preset = given.get("preset")
    recipe = presets.find(preset) if isinstance(preset, str) else None
    task = given.get("task", recipe.task if recipe else RunConfig.model_fields["task"].default)
    if not isinstance(task, str):
        return dict(given)  # the field's own check says what is wrong
    task = task_name(task)
    if recipe is not None and recipe.task != task:
        raise ConfigError(f"Preset {preset!r} is a recipe for {recipe.task}, not for {task}.")
    recipe = recipe or presets.TASKS[task]
    values = {**recipe.settings, "regularizers": recipe.regularizers, **given, "task": task}
    values["regularizers"] = tuple(
        spec.model_validate(
            {
                **recipe.terms.get(spec.name, {}),
                **{key: getattr(spec, key) for key in spec.model_fields_set},
            }
        )
        for spec in REGULARIZERS.specs(values["regularizers"])
    )
    return values


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Check plain values, as YAML or the command line give them.

    Raises:
        ConfigError: Names the key, what was expected and what was given; suggests the nearest key.
    """
    for key in values:
        if key not in RunConfig.model_fields:
            raise unknown_name("setting", str(key), RunConfig.model_fields)
    try:
        return RunConfig(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; no object is ever constructed from a tag.

    Raises:
        ConfigError: If the file is missing, too large, no YAML, or no mapping.
    """
    return read_mapping(Path(path), "configuration")


def stored_config(folder: Path, purpose: str) -> dict[str, Any]:
    """Read the ``config.yaml`` of a run folder, as plain values.

    Args:
        folder: The run folder.
        purpose: What it is wanted for, e.g. ``"resume"``; for the message.

    Raises:
        ConfigError: If it is no run folder.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"Cannot {purpose} {folder}: it holds no config.yaml, so it is no run folder.")
    return read_yaml(path)


def apply_settings(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply ``key.path=value`` settings to plain values; values are read as YAML.

    Args:
        values: As from ``read_yaml``; not changed.
        settings: E.g. ``"lr=0.01"``, ``"regularizers.0.weight=0.5"``.

    Raises:
        ConfigError: If a setting has no ``=``, or its path leads nowhere.
    """
    values = dict(values)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set expects key=value, e.g. --set lr=0.01, got {setting!r}.")
        try:
            value = parse_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {setting!r}: the value is no YAML.") from None
        keys = path.split(".")
        if keys[0] not in RunConfig.model_fields:
            raise unknown_name("setting", keys[0], RunConfig.model_fields)
        if len(keys) == 1:
            values[path] = value
        elif keys[0] == "regularizers":
            preset = values.get("preset")
            chosen = values.get("regularizers", presets.find(preset).regularizers if preset else "csg")
            values["regularizers"] = _with_regularizer_setting(chosen, keys[1:], value, path)
        else:
            raise ConfigError(f"--set {setting!r}: {keys[0]} has no settings of its own.")
    return values


def _with_regularizer_setting(current: Any, keys: list[str], value: Any, path: str) -> list[dict[str, Any]]:
    specs = [spec.model_dump(mode="json", exclude_unset=True) for spec in REGULARIZERS.specs(current)]
    if len(keys) != 2 or keys[0] not in map(str, range(len(specs))):
        raise ConfigError(f"--set {path}: expected regularizers.INDEX.KEY with an index below {len(specs)}.")
    specs[int(keys[0])][keys[1]] = value
    return specs


def _explain(problem: Any) -> str:
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, ConfigError):
        return str(inner)
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}, got {problem['input']!r}"
