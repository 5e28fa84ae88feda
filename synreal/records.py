"""What a run leaves behind for others to read, and how runs are put together. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from synreal.errors import ConfigError

SCHEMA_VERSION: Final = 1


class Score(BaseModel):
    """Accuracy on one set of images.

    Attributes:
        data: Name of the set.
        split: Which part of it.
        fingerprint: SHA-256 over its images and labels.
        images: How many images were tested.
        accuracy: Share of right predictions, in [0, 1].
        mean_class_accuracy: Mean of per-class recall, in [0, 1].
        per_class: Recall by class name; None for a class without images.
        confusion: Counts; rows are true classes.
    """

    model_config = ConfigDict(extra="forbid")

    data: str
    split: str
    fingerprint: str
    images: int
    accuracy: float
    mean_class_accuracy: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]


class TargetSelected(BaseModel):
    """The best score among evaluated epochs, chosen on the target itself: it peeks, and is no zero-shot result."""

    model_config = ConfigDict(extra="forbid")

    mean_class_accuracy: float
    accuracy: float
    step: int


class Protocol(BaseModel):
    """How a result came about; two results compare only if these agree."""

    model_config = ConfigDict(extra="forbid")

    task: str
    source: str
    source_fingerprint: str
    source_images: int
    image_size: int
    views: int
    test_time_flips: bool
    checkpoint: Literal["last"]
    seed: int
    epochs: int
    steps: int
    batch_size: int
    processes: int
    chance: float
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

    schema_version: Literal[1] = SCHEMA_VERSION
    regularizers: list[dict[str, Any]]
    backbone: str
    weights: dict[str, str | None]
    config: dict[str, Any]
    protocol: Protocol
    source_heldout: Score
    targets: dict[str, Score]
    target_selected: dict[str, TargetSelected]
    seconds: dict[str, float]

    @property
    def method(self) -> str:
        """Short name of the regularizers, e.g. ``"csg"`` or ``"csg+feature_l2"``."""
        return "+".join(spec["name"] for spec in self.regularizers)


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
        source_heldout: Mean-class accuracy of each seed on held-out synthetic images.
        targets: Mean-class accuracy of each seed, by target.
        accuracy: Overall accuracy of each seed, by target.
        target_selected: Mean-class accuracy of the epoch chosen on the target, of each seed, by target.
    """

    method: str
    seeds: list[int]
    source_heldout: list[float]
    targets: dict[str, list[float]]
    accuracy: dict[str, list[float]]
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
                source_heldout=[run.source_heldout.mean_class_accuracy for run in runs],
                targets={name: [run.targets[name].mean_class_accuracy for run in runs] for name in names},
                accuracy={name: [run.targets[name].accuracy for run in runs] for name in names},
                target_selected={
                    name: [run.target_selected[name].mean_class_accuracy for run in runs]
                    for name in names
                    if all(name in run.target_selected for run in runs)
                },
            )
        )
    return rows


_MAY_DIFFER = frozenset({"regularizers", "seed", "output", "device", "workers", "log_every", "keep_checkpoints"})


def render_markdown(rows: Sequence[Row], *, chance: float) -> str:
    """Write rows as a Markdown table in percent, mean and standard deviation over seeds.

    Args:
        rows: From ``aggregate``.
        chance: Accuracy of guessing, in [0, 1]; the last line of the table.

    Returns:
        The table. Columns marked "peeks" hold the epoch chosen on the target.
    """
    targets = list(rows[0].targets)
    header = ["regularizer", "seeds", "source held-out"]
    for name in targets:
        header += [f"{name} mean-class", f"{name} overall"]
    header += [f"{name} best epoch (peeks)" for name in targets if name in rows[0].target_selected]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        cells = [f"`{row.method}`", str(len(row.seeds)), percent(row.source_heldout)]
        for name in targets:
            cells += [percent(row.targets[name]), percent(row.accuracy[name])]
        cells += [percent(row.target_selected[name]) for name in targets if name in row.target_selected]
        lines.append("| " + " | ".join(cells) + " |")
    blank = len(header) - 3
    lines.append("| chance | | " + " | ".join([percent([chance])] * (blank + 1)) + " |")
    return "\n".join(lines)


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
