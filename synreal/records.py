"""What a run leaves behind for others to read, and how runs are put together. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from synreal.errors import ConfigError

SCHEMA_VERSION: Final = 2

HEADINGS: Final = {
    "mean_class_accuracy": "mean-class",
    "accuracy": "overall",
    "mean_iou": "mIoU",
    "pixel_accuracy": "pixels",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}
"""What tables call a measure."""

SIZES: Final = ("ap_small", "ap_medium", "ap_large")
"""Measures of a part of the objects."""


class Score(BaseModel):
    """What was measured on one set of images.

    Attributes:
        data: Name of the set.
        split: Which part of it.
        fingerprint: SHA-256 over its images and labels.
        images: How many images were tested.
        measures: Shares in [0, 1] by the names of ``HEADINGS``, the headline first; None where a measure is not
            defined, e.g. the AP of small objects where there are none.
        per_class: By class name, recall (classification), IoU (segmentation) or AP (detection); None for a class that
            does not occur.
        confusion: Counts of images or pixels; rows are true classes. None for detection.
    """

    model_config = ConfigDict(extra="forbid")

    data: str
    split: str
    fingerprint: str
    images: int
    measures: dict[str, float | None] = Field(min_length=1)
    per_class: dict[str, float | None]
    confusion: list[list[int]] | None = None

    @property
    def headline(self) -> float:
        """The first measure; NaN where it is not defined."""
        return headline_of(self.measures)


class TargetSelected(BaseModel):
    """The best score among evaluated epochs, chosen on the target itself: it peeks, and is no zero-shot result."""

    model_config = ConfigDict(extra="forbid")

    measures: dict[str, float | None]
    step: int


class Protocol(BaseModel):
    """How a result came about; two results compare only if these agree.

    Attributes:
        evaluation: How images reach the network when it is tested, in words.
        test_time_flips: Whether an image's and its mirror's predictions are averaged.
        chance: The headline of guessing; None where that means nothing.
        left_out: What was not used of the data, by part of the data and reason.
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
    versions: dict[str, str]


class RunRecord(BaseModel):
    """The ``result.json`` of a run.

    Attributes:
        schema_version: Version of this format.
        regularizers: Specs as written in a configuration.
        backbone: timm name.
        weights: Where the pretrained weights came from (``source``, ``detail``, ``sha256``).
        config: The whole resolved configuration.
        protocol: How the numbers came about.
        source_heldout: Score on synthetic images that were not trained on.
        targets: Score on each real data set, after the last epoch.
        target_selected: Best evaluated epoch by target, chosen on the target: never the headline.
        seconds: Wall-clock seconds of training and of evaluation.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[2] = SCHEMA_VERSION
    regularizers: list[dict[str, Any]]
    backbone: str
    weights: dict[str, str | None]
    config: dict[str, Any]
    protocol: Protocol
    source_heldout: Score
    targets: dict[str, Score]
    target_selected: dict[str, TargetSelected]
    seconds: dict[str, float]

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, value: Any) -> Any:
        return _upgraded(value) if isinstance(value, dict) and value.get("schema_version") == 1 else value

    @property
    def method(self) -> str:
        """Short name of the regularizers, e.g. ``"csg"`` or ``"csg+feature_l2"``."""
        return "+".join(spec["name"] for spec in self.regularizers)

    @property
    def network(self) -> str:
        """The backbone and, where there is one, the architecture around it, e.g. ``"unet on resnet50"``."""
        return " on ".join(filter(None, (self.config.get("architecture"), self.backbone)))


def _upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """Bring a record of version 1, which knew classification alone, to version 2."""
    names = ("mean_class_accuracy", "accuracy")

    def measured(old: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in old.items() if k not in names} | {"measures": {name: old[name] for name in names}}

    try:
        return record | {
            "schema_version": 2,
            "protocol": {"evaluation": "one centre crop"} | record["protocol"],
            "source_heldout": measured(record["source_heldout"]),
            "targets": {name: measured(score) for name, score in record["targets"].items()},
            "target_selected": {name: measured(best) for name, best in record["target_selected"].items()},
        }
    except (KeyError, TypeError, AttributeError):
        return record  # no whole record: the fields' own checks say what is wrong with it


def read_record(path: str | Path) -> RunRecord:
    """Read a ``result.json`` or the run folder that holds one.

    Raises:
        ConfigError: If the file is missing, no JSON, or of another format.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    try:
        return RunRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: the run has not finished, or this is no run folder.") from None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise ConfigError(f"{path} is no result of schema version {SCHEMA_VERSION}: {error}") from None


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; None in place of a deviation of one value."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


class Row(BaseModel):
    """Several seeds of one method under one protocol.

    Attributes:
        method: Short name of the regularizers.
        seeds: The seeds, sorted.
        source_heldout: Each measure on held-out synthetic images, of each seed; NaN where it is not defined.
        targets: The same by target.
        target_selected: Headline of the epoch chosen on the target, of each seed, by target.
    """

    method: str
    seeds: list[int]
    source_heldout: dict[str, list[float]]
    targets: dict[str, dict[str, list[float]]]
    target_selected: dict[str, list[float]]


def aggregate(records: Iterable[RunRecord]) -> list[Row]:
    """Group runs by method.

    Raises:
        ConfigError: If two runs of a method share a seed, or runs differ in protocol beyond the seed: such numbers do
            not compare.
    """
    groups: dict[str, list[RunRecord]] = {}
    first: dict[str, Any] | None = None
    for record in records:
        shared = {**record.protocol.model_dump(exclude={"seed", "views"}), "backbone": record.backbone}
        shared |= {f"fingerprint of {name}": score.fingerprint for name, score in record.targets.items()}
        shared |= {key: value for key, value in record.config.items() if key not in _MAY_DIFFER}
        shared["weights"] = record.weights
        first = shared if first is None else first
        different = sorted(key for key in first | shared if first.get(key) != shared.get(key))
        if different:
            raise ConfigError(f"Runs do not compare: they differ in {', '.join(different)}.")
        groups.setdefault(record.method, []).append(record)
    rows = []
    for method, runs in groups.items():
        runs.sort(key=lambda run: run.protocol.seed)
        seeds = [run.protocol.seed for run in runs]
        if len(set(seeds)) < len(seeds):
            raise ConfigError(f"{method} has two runs of one seed: {seeds}.")
        if any(run.regularizers != runs[0].regularizers for run in runs):
            raise ConfigError(f"Runs of {method} have different settings of the regularizer: they are not one method.")
        names = list(runs[0].targets)
        rows.append(
            Row(
                method=method,
                seeds=seeds,
                source_heldout=_by_measure([run.source_heldout for run in runs]),
                targets={name: _by_measure([run.targets[name] for run in runs]) for name in names},
                target_selected={
                    name: [headline_of(run.target_selected[name].measures) for run in runs]
                    for name in names
                    if all(name in run.target_selected for run in runs)
                },
            )
        )
    return rows


def _by_measure(scores: Sequence[Score]) -> dict[str, list[float]]:
    return {name: [as_number(score.measures[name]) for score in scores] for name in scores[0].measures}


_MAY_DIFFER = frozenset({"regularizers", "seed", "output", "device", "workers", "log_every", "keep_checkpoints"})


def render_markdown(rows: Sequence[Row], *, chance: float | None) -> str:
    """Write rows as a Markdown table in percent, mean and standard deviation over seeds.

    Args:
        rows: From ``aggregate``.
        chance: The headline of guessing, in [0, 1], for the last line of the table; None leaves it away.

    Returns:
        The table. Columns marked "peeks" hold the epoch chosen on the target. AP by size is left to the records.
    """
    targets = list(rows[0].targets)
    measures = [name for name in rows[0].source_heldout if name not in SIZES]
    peeks = [name for name in targets if name in rows[0].target_selected]
    header = ["regularizer", "seeds"]
    header += [f"{name} {HEADINGS[m]}" for name in ("source held-out", *targets) for m in measures]
    header += [f"{name} best epoch (peeks)" for name in peeks]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [f"`{row.method}`", str(len(row.seeds))]
        for values in (row.source_heldout, *(row.targets[name] for name in targets)):
            cells += [percent(values[m]) for m in measures]
        cells += [percent(row.target_selected[name]) for name in peeks]
        lines.append("| " + " | ".join(cells) + " |")
    if chance is not None:
        lines.append("| chance | | " + " | ".join([percent([chance])] * (len(header) - 2)) + " |")
    return "\n".join(lines)


def headline_of(measures: Mapping[str, float | None]) -> float:
    """Return the first of some measures; NaN where it is not defined."""
    return as_number(next(iter(measures.values())))


def as_number(value: float | None) -> float:
    """Return a measure as a float, NaN where it is not defined."""
    return math.nan if value is None else value


def percent(values: Sequence[float]) -> str:
    """Write shares as percent: ``"43.1"`` for one value, ``"43.1 ± 2.0"`` for several, ``"n/a"`` if any is NaN."""
    if any(math.isnan(value) for value in values):
        return "n/a"
    mean, spread = mean_and_spread([100 * value for value in values])
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON that every reader accepts: whole or not at all, and a NaN is an error, not an invalid word in it."""
    path = Path(path)
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
