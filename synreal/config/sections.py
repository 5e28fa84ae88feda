"""The sections of a configuration. Imports no torch.

Their fields are the one place where a setting is declared: options of the command line, their help, the tables in the
documentation and the JSON schema are made from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import Self

from synreal import data
from synreal.data import DataSet
from synreal.errors import ConfigError
from synreal.parsing import from_home
from synreal.registry import registry_of
from synreal.specs import Spec, spec_registry

NO_TARGET: Final = "none"
"""What is written for no real data at all."""


def _listed(value: Any) -> Any:
    values = (value,) if isinstance(value, (str, DataSet, Mapping)) else value
    return () if values in ((NO_TARGET,), [NO_TARGET]) else values


def _found(value: Any) -> DataSet:
    if not isinstance(value, (str, DataSet, Mapping)):
        raise ConfigError(
            "A data set is a name, KIND:FOLDER, KIND(root='FOLDER', key=value), a YAML file that describes one, or "
            f"what such a file holds, {{format: KIND, root: FOLDER}}; got {value!r}."
        )
    return data.find(value)


_SPEC_SCHEMA: Final = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["name"]}]}

Data = Annotated[
    SerializeAsAny[DataSet],
    BeforeValidator(_found),
    PlainSerializer(lambda value: value.text(), return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["format"]}]}),
]
"""A data set, in any form that ``synreal.data.find`` reads; written as text."""

SpecOf = Annotated[SerializeAsAny[Spec], WithJsonSchema(_SPEC_SCHEMA)]
"""A spec: a name, ``"name(key=value)"`` or a mapping with ``name``; written as a mapping."""


class Section(BaseModel):
    """Some settings of a run: strict and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would take true for 1
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("switch", "Input should not be true or false")
        return value


class DataSection(Section):
    """What is trained on and what is tested on."""

    source: Data = Field(
        default="digits",
        validate_default=True,
        description="Synthetic data to train on: a name, KIND:FOLDER, KIND(root='FOLDER', key=value), or a YAML file "
        "that describes them.",
    )
    targets: Annotated[tuple[Data, ...], BeforeValidator(_listed)] = Field(
        default=(),
        description="Real data to test on, written likewise; by default those that go with the source. none tests on "
        "held-out source alone, where no labelled real images are at hand.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        default="error",
        description="What happens to an image or label file that cannot be used: error ends the run at the first one; "
        "skip reads everything once beforehand, leaves such files out and counts them in the result.",
    )
    image_size: int = Field(
        ge=8,
        le=4096,
        description="In pixels. Classification: side of the network's input. Segmentation: side of the training crop; "
        "images are tested whole. Detection: short side to which images are resized; the long side becomes twice that "
        "at most.",
    )
    cache_size: int | None = Field(
        default=None,
        ge=8,
        description="Keep copies of training images on disk whose short side has at most this many pixels; by default "
        "the originals are read. Tests always read the originals; segmentation then trains at another scale than it "
        "tests.",
    )
    data_seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Seed of a rendered source; runs of several seeds share one set of images.",
    )
    strict: bool = Field(
        default=False,
        description="Hash each file of the data whole when a run starts, and again when it is resumed. By default a "
        "sample of each file is compared. The hashes are in the run folder, in hashes/.",
    )
    workers: int = Field(default=2, ge=0, description="Data-loading processes.")


class StudentSection(Section):
    """The network that is trained."""

    backbone: str = Field(
        default="tf_efficientnet_lite0",
        description="timm name; for segmentation also smp/NAME, an encoder of segmentation-models-pytorch's own.",
    )
    weights: str = Field(
        default="auto", description="Where the pretrained weights come from: auto, timm, packaged, none, or a file."
    )
    start: Path | None = Field(
        default=None,
        description="Folder of a finished run: the student begins with the weights that it ended with. The frozen "
        "teacher stays as it was pretrained.",
    )
    transforms: tuple[SpecOf, ...] = Field(
        default=(),
        description="What changes the network before regularizers are attached, in this order; the frozen teacher "
        "stays as it was pretrained.",
    )
    norm: Literal["frozen", "train"] = Field(
        default="frozen",
        description="frozen keeps the running statistics of the backbone's BatchNorm (CSG); train lets them follow the "
        "synthetic images (GCISG). Fresh layers around the backbone learn theirs in either case.",
    )
    memory_format: Literal["channels_last", "contiguous"] = Field(
        default="channels_last",
        description="Order of weights and images in memory. Convolutions are about twice as fast in channels_last; "
        "numbers agree up to rounding.",
    )

    @field_validator("start")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else from_home(value).absolute()  # a run is resumed from anywhere

    @field_validator("transforms", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return tuple(spec_registry("transforms").specs(value))


class TrainingSection(Section):
    """How the network is trained."""

    epochs: int = Field(ge=0, description="Passes over the source; 0 only evaluates.")
    max_steps: int | None = Field(
        default=None, ge=1, description="Stop after this many steps; the schedule ends there too."
    )
    batch_size: int = Field(ge=1, description="Images per batch, on each process.")
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Batches per step, on each process: losses are averaged over them and there is one optimizer step. "
        "It takes the accelerator memory of one batch.",
    )
    lr: float = Field(ge=0, description="Peak learning rate of the head and of the regularizers' heads.")
    backbone_lr_scale: float = Field(default=0.1, ge=0, description="Learning rate of the backbone, as a factor of lr.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="The papers use sgd.")
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="Momentum of SGD; for AdamW, beta 1 (beta 2 is 0.999)."
    )
    weight_decay: float = Field(default=5e-4, ge=0, description="Weight decay of SGD, or AdamW's decoupled one.")
    schedule: Literal["warmup_poly", "constant"] = Field(
        default="warmup_poly", description="Of the learning rate: warmup_poly (CSG) or constant (GCISG)."
    )
    warmup_steps: int = Field(default=100, ge=0, description="Length of the quadratic warm-up from 1 %.")
    poly_power: float = Field(default=0.9, ge=0, description="Exponent of the decay to zero.")
    poly_until: float = Field(
        default=1.0, gt=0, le=1, description="Share of the run after which the rate stops decaying: CSG 1, ASG 0.8."
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="Maximum norm of the gradient; by default it is not clipped."
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything random in training.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="fp32, or mixed precision.")

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise ConfigError(f"Unknown device {value!r}. Known: auto, cpu, cuda, cuda:N, mps.")
        return value


class TestingSection(Section):
    """How the network is tested."""

    eval_batch_size: int = Field(ge=1, description="Images per step when testing.")
    max_test_images: int | None = Field(
        default=None,
        ge=1,
        description="Test at most so many images of each set, spread evenly over it; by default all. The result is of "
        "these images alone.",
    )
    eval_every: int = Field(
        default=1, ge=0, description="Epochs between tests; the end is always tested, and with 0 only the end."
    )
    measures: tuple[str, ...] = Field(
        default=(), description="Measures in addition to the task's own; see synreal list measures."
    )
    figures: tuple[str, ...] = Field(
        default=(), description="Figures in addition to the task's own; see synreal list figures."
    )
    shifts: tuple[SpecOf, ...] = Field(
        default=(),
        description="Views under which the held-out source is tested too, at the end: styles that were not trained on, "
        "such as blur, noise, recolour, stylise. They see no real image, and tell how a weight may be chosen.",
    )
    wise_ft: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="Also test weights between the run's start and its end, at these shares of the way (WiSE-FT; 0.5 "
        "is half-way). It takes no more training.",
    )
    averages: tuple[SpecOf, ...] = Field(
        default=(),
        description="Averages of weights that are tested too, at the end, and saved, e.g. ema(decay=0.99); see synreal "
        "list averages. They follow the run's last phase and change nothing of it.",
    )
    look: tuple[str, ...] = Field(
        default=(),
        description="Measures that are taken of the network itself at the end, by looking into it at the targets: "
        "energy_0, energy_1, energy_2, cka, drift, match_rate, ece, confidence; see synreal list measures. They are "
        "written to insight.json.",
    )

    @field_validator("shifts", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        specs = spec_registry("views").specs(value)
        for spec in specs:
            if spec.uses_real_images:
                raise ConfigError(
                    f"shifts: {spec.name} uses real images, which must not choose settings. Known: {_still()}."
                )
            if spec.moving or spec.drawn == "once":
                raise ConfigError(
                    f"shifts: {spec.name} moves pixels, and labels would no longer fit. Known: {_still()}."
                )
        if len({spec.name for spec in specs}) < len(specs):
            raise ConfigError("shifts names a view twice; results are told apart by its name.")
        return tuple(specs)

    @field_validator("averages", mode="before")
    @classmethod
    def _averages(cls, value: Any) -> Any:
        return tuple(spec_registry("averages").specs(value))

    @model_validator(mode="after")
    def _averages_differ(self) -> Self:
        labels = [f"wise_ft({alpha:g})" for alpha in self.wise_ft] + [
            str(getattr(spec, "label", "")) for spec in self.averages
        ]
        if twice := next((label for label in labels if labels.count(label) > 1), None):
            raise ConfigError(f"averages and wise_ft have {twice} twice; results are told apart by its name.")
        return self

    @field_validator("wise_ft", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("measures", "figures", "look", mode="before")
    @classmethod
    def _names(cls, value: Any, info: ValidationInfo) -> Any:
        names = (value,) if isinstance(value, str) else value
        registry = registry_of("figures" if info.field_name == "figures" else "measures")
        if isinstance(names, (list, tuple)):
            for name in names:
                registry.get(str(name))
        return names


def _still() -> str:
    """Name the views that leave pixels in their place and use no real images."""
    classes: dict[str, Any] = spec_registry("views").classes()
    fitting = (not cls.moves and cls.draws != "once" and not cls.uses_real_images for cls in classes.values())
    return ", ".join(name for name, fits in zip(classes, fitting, strict=True) if fits)


class OutputSection(Section):
    """What a run leaves behind."""

    folder: Path | None = Field(default=None, description="Run folder; by default a new one in runs/.")
    log_every: int = Field(default=10, ge=1, description="Steps between rows of metrics.jsonl.")
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="Steps between checkpoints; by default one at the end of each epoch."
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="How many checkpoints stay.")


SECTIONS: Final[dict[str, type[Section]]] = {
    "data": DataSection,
    "student": StudentSection,
    "training": TrainingSection,
    "testing": TestingSection,
    "output": OutputSection,
}
"""The sections that hold plain settings, by name."""
