"""What looking into a network found, and the file of a run folder that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from synreal.errors import ConfigError
from synreal.parsing import problems
from synreal.reading import read_json
from synreal.records.numbers import Unit

LOOK_VERSION: Final = 1
INSIGHT_FILE: Final = "insight.json"


class Measured(BaseModel):
    """One measure of a network, and what tables need to know of it.

    Attributes:
        value: A share is in [0, 1]; None where it is not defined.
        heading: What tables call it, e.g. ``"CKA"``.
        unit: How it is written.
        higher_is_better: Whether more of it is better.
        stages: The same of each stage of the backbone, by name and in order of depth; empty if there is none.
        note: What a reader must know of the value, in a sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: float | None
    heading: str
    unit: Unit
    higher_is_better: bool
    stages: dict[str, float | None] = {}
    note: str | None = None


class SetLook(BaseModel):
    """What was measured with one set of images.

    Attributes:
        data: Name of the set.
        split: Which part of it.
        fingerprint: SHA-256 over its images and labels.
        images: How many images there are.
        measures: By name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    split: str
    fingerprint: str
    images: int = Field(ge=1)
    measures: dict[str, Measured]


class Look(BaseModel):
    """What looking into a network found: the ``insight.json`` of a run.

    Attributes:
        schema_version: Version of this format; no other one is read.
        title: What the network is, in words, e.g. ``"csg, seed 0"``.
        task: What it was trained for.
        backbone: Name of its backbone.
        checkpoint: Which weights of a run: ``"last"``, or a checkpoint such as ``"step-00000260"``; otherwise the name
            of the file, or ``"network"`` of one in memory.
        weights: Where the weights came from that it is compared with (``source``, ``detail``, ``sha256``); None if
            there was nothing to compare with.
        sha256: Of the file of the network's own weights; None for one in memory.
        sets: What was measured with sets of images, by name; ``"imagenet"`` holds Acc_IN.
        measures: What was measured of the weights alone.
        left_out: Why a measure was not taken, by its name.
        versions: Of Python and of the packages that numbers depend on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = LOOK_VERSION
    title: str
    task: str
    backbone: str
    checkpoint: str
    weights: dict[str, str | None] | None
    sha256: str | None
    sets: dict[str, SetLook]
    measures: dict[str, Measured] = {}
    left_out: dict[str, str] = {}
    versions: dict[str, str]

    @model_validator(mode="after")
    def _names_its_weights(self) -> Self:
        if self.weights is not None and not {"source", "detail"} <= self.weights.keys():
            raise ValueError(f"weights has {sorted(self.weights)}, expected source, detail and sha256")
        return self

    def find(self, measure: str, name: str) -> Measured | None:
        """Return a measure as it was taken with a set, of the weights alone or of ImageNet; None if it was not.

        Args:
            measure: Its name.
            name: The set's name.
        """
        places = [self.sets[key].measures for key in (name, "imagenet") if key in self.sets]
        return next((found[measure] for found in (*places, self.measures) if measure in found), None)

    def joined(self, earlier: Look) -> Look:
        """Return what this look and an earlier one found, this one's where both did; of another network, this alone."""
        same = ("title", "task", "backbone", "checkpoint", "sha256", "versions")
        compared = [one.weights for one in (self, earlier) if one.weights is not None]
        if self.sha256 is None or any(getattr(self, key) != getattr(earlier, key) for key in same):
            return self
        if len(compared) == 2 and compared[0] != compared[1]:
            return self
        sets = dict(earlier.sets)
        for name, new in self.sets.items():
            old = sets.get(name)
            if old is not None and old.model_copy(update={"measures": {}}) == new.model_copy(update={"measures": {}}):
                new = new.model_copy(update={"measures": {**old.measures, **new.measures}})
            sets[name] = new
        measures = {**earlier.measures, **self.measures}
        taken = {*measures, *(measure for one in sets.values() for measure in one.measures)}
        left_out = {key: why for key, why in {**earlier.left_out, **self.left_out}.items() if key not in taken}
        weights = compared[0] if compared else None
        return self.model_copy(update={"sets": sets, "measures": measures, "left_out": left_out, "weights": weights})


def read_look(path: str | Path) -> Look:
    """Read an ``insight.json`` or the run folder that holds one.

    Raises:
        ConfigError: If the file is missing, is not JSON, or has another format.
    """
    path = Path(path)
    file = path / INSIGHT_FILE if path.is_dir() else path
    try:
        value = read_json(file)
    except FileNotFoundError:
        raise ConfigError(
            f"{file} does not exist: nobody has looked into this network yet. Run synreal inspect {path} --measures."
        ) from None
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error}). {_AGAIN}") from None
    if isinstance(value, dict) and value.get("schema_version") not in (None, LOOK_VERSION):
        raise ConfigError(
            f"{file} is of version {value['schema_version']!r}, this version of synreal reads {LOOK_VERSION}. {_AGAIN}"
        )
    try:
        return Look.model_validate(value)
    except ValidationError as error:
        raise ConfigError(
            f"{file} does not hold what looking into a network found: {problems(error)}. {_AGAIN}"
        ) from None


_AGAIN: Final = "Remove it, and run synreal inspect RUN --measures again."
