"""What a run leaves behind for others to read: scores, how they came about, and the file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from synreal import atomic
from synreal.errors import ConfigError
from synreal.reading import read_json
from synreal.records.numbers import Unit, headline_of
from synreal.records.seen import Seen

SCHEMA_VERSION: Final = 4

_MOST_FAULTS: Final = 3  # of a record that are named


class Score(BaseModel):
    """What was measured on one set of images, and what tables need to know of the measures.

    Attributes:
        data: Name of the set.
        split: Which part of it.
        fingerprint: SHA-256 over its images and labels.
        images: How many images were tested.
        measures: Values by name, the headline first; None where a measure is not defined, e.g. the AP of small objects
            where there are none. Shares are in [0, 1].
        headings: What tables call each measure.
        units: How each measure is written.
        higher_is_better: Whether more of a measure is better, for each.
        parts: Which part of the objects a measure is of, e.g. ``"area < 32²"``, for those of a part alone; short tables
            leave them out.
        per_class: The headline by class name, or what it is the mean of; None for a class that does not occur. Empty if
            the headline has no value per class.
        per_class_heading: What tables call the values per class, e.g. ``"IoU"``.
        confusion: Counts of ``counted``; rows are true classes. None where no matrix was counted.
        counted: What ``confusion`` counts, e.g. ``"images"`` or ``"pixels"``.
    """

    model_config = ConfigDict(extra="forbid")

    data: str
    split: str
    fingerprint: str
    images: int
    measures: dict[str, float | None] = Field(min_length=1)
    headings: dict[str, str]
    units: dict[str, Unit]
    higher_is_better: dict[str, bool]
    parts: dict[str, str] = {}
    per_class: dict[str, float | None]
    per_class_heading: str | None = None
    confusion: list[list[int]] | None = None
    counted: str | None = None

    @model_validator(mode="after")
    def _every_measure_described(self) -> Self:
        names = list(self.measures)
        for field in ("headings", "units", "higher_is_better"):
            if set(getattr(self, field)) != set(names):
                raise ValueError(f"{field} describes {sorted(getattr(self, field))}, expected {sorted(names)}")
        if strange := sorted(set(self.parts) - set(names)):
            raise ValueError(f"parts describes {strange}, which were not measured; expected some of {sorted(names)}")
        return self

    @property
    def headline_name(self) -> str:
        """The name of the first measure."""
        return next(iter(self.measures))

    @property
    def headline(self) -> float:
        """The first measure; NaN where it is not defined."""
        return headline_of(self.measures)

    @property
    def short(self) -> list[str]:
        """Names of the measures that short tables show: those of all objects."""
        return [name for name in self.measures if name not in self.parts]


class Chosen(BaseModel):
    """What was measured at a tested epoch that somebody chose.

    Attributes:
        measures: Values by name, the headline first.
        step: Steps that had been made.
    """

    model_config = ConfigDict(extra="forbid")

    measures: dict[str, float | None]
    step: int


class Cost(BaseModel):
    """What training took; numbers of one machine compare.

    Attributes:
        step_seconds: Median seconds of a training step, loading of its images included; None if the process that ended
            the run made none.
        clock: Which seconds those are: ``"processor"``, the time of all threads of the training process, without that
            of its loaders, which other work on the machine does not lengthen; or ``"wall"``, where an accelerator does
            the work, and in records of before the difference was made.
        memory: Peak in bytes before the first test: of the accelerator where there is one, else of the process; None
            where that is not known.
        device: ``"cpu"``, or the accelerator's name.
        threads: Of torch, in each process.
    """

    model_config = ConfigDict(extra="forbid")

    step_seconds: float | None
    clock: Literal["processor", "wall"] = "wall"
    memory: int | None
    device: str
    threads: int


class Change(BaseModel):
    """What was another when a run went on: its numbers are not, to the bit, those of one that never stopped.

    Attributes:
        what: E.g. ``"processes"``, ``"threads"``, ``"device"``, ``"torch"``, ``"plugin mine.py"``.
        then: Until then.
        now: From then on.
        step: Steps that had been made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    then: str
    now: str
    step: int

    def __str__(self) -> str:
        return f"{self.what} changed from {self.then} to {self.now} at step {self.step}"


class Protocol(BaseModel):
    """How a result came about; two results compare only if these agree.

    Attributes:
        evaluation: How images reach the network when it is tested, in words.
        test_time_flips: Whether an image's and its mirror's predictions are averaged.
        chance: The headline of guessing; None where it has no meaning.
        left_out: What was not used of the data, by part of the data and reason.
        phases: What the run consisted of, in order.
        seen_of_target: What training saw of the target; a result is zero-shot only where that is nothing.
        real_images: Fingerprints of real images, of no target, that views of training images took something of, by the
            view's name; not written where there are none.
        seen: Which real images that were, phase by phase; not written where there are none.
    """

    model_config = ConfigDict(extra="forbid")

    task: str
    source: str
    source_fingerprint: str
    source_images: int
    image_size: int
    views: int
    evaluation: str
    test_time_flips: bool
    checkpoint: Literal["last"]
    seed: int
    epochs: int
    steps: int
    batch_size: int
    processes: int
    chance: float | None
    left_out: dict[str, dict[str, int]] = {}
    phases: list[str] = ["train"]
    seen_of_target: Literal["nothing", "images", "labels"] = "nothing"
    real_images: dict[str, str] = {}
    seen: list[Seen] = []
    versions: dict[str, str]

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        # All runs that saw nothing have one form, whenever they were made.
        return {key: value for key, value in values.items() if value or key not in ("real_images", "seen")}

    @property
    def saw(self) -> str:
        """What training saw of the target, in words."""
        return ", ".join(map(str, self.seen)) or f"{self.seen_of_target} of the target"


class RunRecord(BaseModel):
    """The ``result.json`` of a run.

    Attributes:
        schema_version: Version of this format; no other one is read.
        regularizers: Specs as written in a configuration, with all their settings.
        defaults: The same regularizers as they are where nothing is set.
        backbone: timm name.
        architecture: What was built around the backbone; None for the backbone with a classifier.
        weights: Where the pretrained weights came from (``source``, ``detail``, ``sha256``).
        config: The whole resolved configuration.
        protocol: How the numbers came about.
        source_heldout: Score on synthetic images that were not trained on.
        shifted: Score on the same images in each style that was not trained on, by the style's name.
        targets: Score on each real data set, after the last epoch.
        source_selected: By target, what was measured at the tested epoch that was best on held-out synthetic images:
            no target was seen in choosing.
        target_selected: Best tested epoch by target, chosen on the target: it peeks, and is never the headline.
        averaged: Scores of averages of weights, by what these are called, e.g. ``"wise_ft(0.5)"`` or
            ``"ema(decay=0.99)"``, and by set: ``"source"`` and the targets.
        seconds: Wall-clock seconds of training and of testing.
        cost: What training took.
        changes: What was another when the run went on after a stop; empty for a run whose numbers come again, to the
            bit, where processes, threads, device and versions are its own.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[4] = SCHEMA_VERSION
    regularizers: list[dict[str, Any]]
    defaults: list[dict[str, Any]]
    backbone: str
    architecture: str | None
    weights: dict[str, str | None]
    config: dict[str, Any]
    protocol: Protocol
    source_heldout: Score
    shifted: dict[str, Score]
    targets: dict[str, Score]
    source_selected: dict[str, Chosen]
    target_selected: dict[str, Chosen]
    averaged: dict[str, dict[str, Score]]
    seconds: dict[str, float]
    cost: Cost
    changes: list[Change] = []

    @model_validator(mode="after")
    def _can_be_named(self) -> Self:
        if len(self.regularizers) != len(self.defaults):
            raise ValueError(
                f"{len(self.regularizers)} regularizers and {len(self.defaults)} defaults, expected as many"
            )
        for spec, plain in zip(self.regularizers, self.defaults, strict=True):
            if not isinstance(spec.get("name"), str):
                raise ValueError(f"a regularizer has no name: {spec}")
            kinds = {type(each.get("weight")) for each in (spec, plain)}
            if not kinds <= {int, float} and kinds != {type(None)}:
                raise ValueError(f"the weight of {spec['name']} and its default are not both numbers")
        _check_shape(self.config)
        if not {"source", "detail"} <= self.weights.keys():
            raise ValueError(f"weights has {sorted(self.weights)}, expected source, detail and sha256")
        return self

    @property
    def method(self) -> str:
        """Short name of the regularizers, e.g. ``"csg"`` or ``"csg+feature_l2"``."""
        return "+".join(spec["name"] for spec in self.regularizers)

    @property
    def label(self) -> str:
        """The regularizers with what is not at its default, e.g. ``"csg(weight=0.3)"``."""
        return label_of(self.regularizers, self.defaults)

    @property
    def network(self) -> str:
        """The backbone and, where there is one, the architecture around it, e.g. ``"unet on resnet50"``."""
        return " on ".join(filter(None, (self.architecture, self.backbone)))


def _check_shape(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that tables could not name: they read it as it is, of whatever version it may be."""
    data = config.get("data", {})
    mappings = {"data": data, "training": config.get("training", {})}
    lists = {"views": config.get("views", [])}
    if isinstance(data, Mapping):
        lists["data.targets"] = data.get("targets", [])
    for key, value in mappings.items():
        if not isinstance(value, Mapping):
            raise ValueError(f"config.{key} is {value!r}, expected a mapping")
    for key, value in lists.items():
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"config.{key} is {value!r}, expected a list")


def label_of(specs: Sequence[Mapping[str, Any]], defaults: Sequence[Mapping[str, Any]]) -> str:
    """Name regularizers with what is not at its default; both as plain values, in the same order."""
    return "+".join(_named(spec, plain) for spec, plain in zip(specs, defaults, strict=True))


def _named(spec: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    changed = ", ".join(f"{key}={value!r}" for key, value in spec.items() if value != plain.get(key))
    return f"{spec['name']}({changed})" if changed else str(spec["name"])


def best_epoch(history: Sequence[Mapping[str, Any]], by: str, name: str, *, higher_is_better: bool) -> Chosen | None:
    """Return what was measured on a set at the tested epoch whose headline on the same or another set is best.

    Args:
        history: One row per test: its ``step``, and the measures by the name of each set.
        by: The set that decides; of equal epochs the first is taken.
        name: The set whose measures are wanted.
        higher_is_better: The direction of the headline that decides.

    Returns:
        The epoch; None if there was no choice, or the headline was never defined.
    """
    values = [headline_of(row[by]) for row in history]
    defined = [value for value in values if not math.isnan(value)]
    if len(history) < 2 or not defined:
        return None
    row = history[values.index(max(defined) if higher_is_better else min(defined))]
    return Chosen(measures=row[name], step=row["step"])


def record_problem(value: Any, error: ValidationError) -> str:
    """Say in words why something is no record that is read.

    Args:
        value: What was read.
        error: What pydantic found wrong with it.
    """
    if isinstance(value, dict) and value.get("schema_version") not in (None, SCHEMA_VERSION):
        return f"it is of version {value['schema_version']!r}"
    faults = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in error.errors(include_input=False)]
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return "; ".join([*faults[:_MOST_FAULTS], *more])


def read_record(path: str | Path) -> RunRecord:
    """Read a ``result.json`` or the run folder that holds one.

    Raises:
        ConfigError: If the file is missing, is not JSON, or has another format.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    value = None
    try:
        value = read_json(path)
        return RunRecord.model_validate(value)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: the run has not finished, or this is not a run folder.") from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        reason = record_problem(value, error) if isinstance(error, ValidationError) else f"it is not JSON ({error})"
        raise ConfigError(
            f"{path} is not a result of schema version {SCHEMA_VERSION}, the only one that is read: {reason}. Use the "
            "synreal that wrote it, or run it again."
        ) from None


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that every reader accepts: whole or not at all, and a NaN is an error, not an invalid word in it."""
    atomic.write_text(Path(path), json.dumps(value, indent=2, allow_nan=False) + "\n")
