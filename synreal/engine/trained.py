"""The network that a run trained, as its folder holds it: at the end, averaged, or at a checkpoint."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from synreal.averages import AVERAGES
from synreal.config import RunConfig, make_config
from synreal.core.regularized import RegularizedModel
from synreal.engine import checkpoint, run_folder
from synreal.engine.building import build_student
from synreal.engine.run_folder import RunFacts
from synreal.engine.saving import checkpoints
from synreal.engine.transforming import transform
from synreal.errors import CheckpointError, ConfigError, unknown_name
from synreal.parsing import shortened
from synreal.records import read_record
from synreal.records.protocols import digest, identity
from synreal.tasks.base import Task
from synreal.views import derive_seed
from synreal.weights import Student

LAST: Final = "last"
"""What the weights at the end of a run are called."""

_PREFIX: Final = "student."  # of the student's tensors in a checkpoint


@dataclass(frozen=True)
class Trained:
    """What a run folder tells of the network that was trained.

    Attributes:
        path: The run folder.
        facts: Its ``run.json``.
        config: Its configuration, with what was asked to be another.
        state: The network's weights.
        told: What the file says of them.
        file: The file, or the folder of a checkpoint, that they are from.
        checkpoint: ``LAST``, the name of a checkpoint, or what an average is called.
    """

    path: Path
    facts: RunFacts
    config: RunConfig
    state: Mapping[str, Tensor]
    told: Mapping[str, Any]
    file: Path
    checkpoint: str = LAST

    @property
    def weights_file(self) -> Path:
        """The file that holds the weights, and in a checkpoint more than these."""
        return self.file / run_folder.STUDENT_FILE if self.file.is_dir() else self.file

    def load_tests(self, *, source: bool) -> Task[Any]:
        """Read what the network is tested on; see ``Task.load_tests``."""
        bare = self._bare
        return bare.task.load_tests(bare.setup, self.facts.classes, source=source)

    def without_data(self) -> Task[Any]:
        """Return the task as it builds the network and prepares images, with no set of its own."""
        bare = self._bare
        return bare.task.runtime()(bare.task, bare.setup, None, {}, self.facts.classes)

    @property
    def _bare(self) -> RunConfig:
        """The configuration with which no pretrained weights are looked for: the student's own are there."""
        return self.config.updated(weights="none")

    def student(self, task: Task[Any]) -> Student:
        """Build the network with its weights, and the normalisation that it was trained with.

        Raises:
            CheckpointError: If the weights are not this network's.
        """
        student = build_student(task, self.config)
        transform(student.network, self.config)
        _load(student.network, self.state, self.file)
        return _prepared_as(student, self.told, self.file)

    def pretrained(self, task: Task[Any]) -> Student:
        """Build the network that the run began with, as the frozen teacher is: before its transforms.

        Raises:
            WeightsError: If the pretrained weights are not available.
            CheckpointError: If they are others than those that the run began with.
        """
        return began_as(with_weights(task, self.weights), self.config, self.facts.weights, str(self.path))

    @property
    def weights(self) -> str:
        """Where the pretrained weights come from, as it turned out: of ``auto`` the first place that had them."""
        wanted, found = self.config.student.weights, self.facts.weights.get("source")
        return found if wanted == "auto" and found in ("timm", "packaged") else wanted


@dataclass(frozen=True)
class Beginning:
    """A finished run whose student another run begins with.

    Attributes:
        name: What results call it: its regularizers and the name of its protocol, the same for all its seeds.
        trained: The run; None where a run goes on that began with it.
    """

    name: str
    trained: Trained | None

    def begin(self, task: Task[Any], student: Student, model: RegularizedModel) -> Student:
        """Give a student, and what is attached to it, the weights, and the normalisation that they were trained with.

        Raises:
            ConfigError: If the run learned other classes.
            CheckpointError: If the weights are not this network's.
        """
        named = replace(student, origin=replace(student.origin, start=self.name))
        if self.trained is None:
            return named
        then, now = self.trained.facts.classes, list(task.classes)
        if then != now:
            raise ConfigError(
                f"Cannot start from {self.trained.path}: its student knows the classes {', '.join(then)}, and those of "
                f"the source are {', '.join(now)}. Train on a source with the same classes in the same order."
            )
        try:
            model.restart(self.trained.state)
        except RuntimeError as error:
            raise CheckpointError(f"{self.trained.file} does not fit the student of this run: {error}") from None
        return _prepared_as(named, self.trained.told, self.trained.file)


def read_beginning(path: Path) -> Beginning:
    """Read the finished run that another one begins with.

    Raises:
        ConfigError: If the folder holds no finished run.
        CheckpointError: If its weights cannot be read, or are not the run's.
    """
    trained = read_trained(path, "start from")
    record = read_record(path)
    return Beginning(f"{record.label}, protocol {digest(identity(record, []))}", trained)


def began_as(task: Task[Any], config: RunConfig, origin: Mapping[str, Any], what: str) -> Student:
    """Build the network that a run began with; torch's generators stay as they are.

    Args:
        task: The task, with its pretrained weights.
        config: The run's configuration.
        origin: Where the weights were from, as ``WeightsOrigin.as_dict`` says it.
        what: The run, for messages.

    Raises:
        WeightsError: If the weights are not available.
        CheckpointError: If they are others by now.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(config.training.seed, "build"))  # what was drawn is drawn again
        student = build_student(task, config)
    now = student.origin.as_dict()
    if any(origin.get(key) not in (None, now[key]) for key in ("source", "sha256")):
        told = [f"{one.get('detail')!r} ({one.get('source')}, SHA-256 {one.get('sha256')})" for one in (origin, now)]
        raise CheckpointError(
            f"{what} began with the weights {told[0]}, but what is found by now is {told[1]}: the network cannot be "
            "compared with what it was. Put the weights of the run back where they were."
        )
    return student


def with_weights(task: Task[Any], weights: str) -> Task[Any]:
    """Return a task with the same data whose networks get other pretrained weights."""
    other = copy.copy(task)
    other.setup = replace(task.setup, weights=weights)
    return other


def read_trained(path: Path, purpose: str, name: str = LAST, **settings: Any) -> Trained:
    """Read what a run folder holds of its network, without data and without building it.

    Args:
        path: The run folder.
        purpose: What it is wanted for, for messages, e.g. ``"evaluate"``.
        name: ``LAST``, the name of a checkpoint, or of an average, e.g. ``"ema(decay=0.99)"``.
        **settings: Settings that shall be others than the run's.

    Raises:
        ConfigError: If the folder holds no run, a setting is wrong, or there is no such checkpoint or average.
        CheckpointError: If the weights cannot be read, or are not the run's.
    """
    stored = run_folder.read(path, purpose)
    config = make_config({**stored.config, **settings})
    file = path / run_folder.STUDENT_FILE
    averages = average_files(path)
    found = None if name == LAST else _average(name, averages)
    if name == LAST or found is not None:
        name, file = (LAST, file) if found is None else (found, averages[found])
        state = checkpoint.read_student(file)
        told = checkpoint.read_student_facts(file)
    else:
        told = checkpoint.read_student_facts(file) if file.is_file() else {}
        file = _checkpoint(path, name, averages)
        state = {
            key.removeprefix(_PREFIX): value
            for key, value in checkpoint.load(file).model.items()
            if key.startswith(_PREFIX)
        }
    _check_facts(told, stored.classes, config.student.backbone, file)
    return Trained(path, stored, config, state, told, file, name)


def average_files(path: Path) -> dict[str, Path]:
    """Return the files of a run folder that hold averages, by what these are called.

    Raises:
        CheckpointError: If one is damaged.
    """
    found = sorted(path.glob(run_folder.AVERAGE_FILES))
    return {str(checkpoint.read_student_facts(file).get("average", file.stem)): file for file in found}


def _average(name: str, averages: Mapping[str, Path]) -> str | None:
    """Find an average by what it is called, however its settings are written."""
    if name not in averages:
        with contextlib.suppress(ConfigError):
            name = AVERAGES.spec(name).label
    return name if name in averages else None


def _checkpoint(path: Path, name: str, averages: Iterable[str]) -> Path:
    folder = checkpoints(path)
    known = sorted(entry.name for entry in folder.glob("step-*") if (entry / "manifest.json").is_file())
    if name not in known:
        if not known and not averages:
            raise ConfigError(
                f"{path} holds no checkpoint and no average. Leave the name out to take its last weights."
            )
        raise unknown_name(f"checkpoint or average of {path}", name, [*averages, *known])
    return folder / name


def _check_facts(facts: Mapping[str, Any], classes: Sequence[str], backbone: str, path: Path) -> None:
    """Check that a student is that of its run folder, as far as it says so itself."""
    for name, own, theirs in (
        ("classes", facts.get("classes"), list(classes)),
        ("backbone", facts.get("backbone"), backbone),
    ):
        if own is not None and own != theirs:
            raise CheckpointError(
                f"{path} does not fit the run's configuration: its {name} is {own!r}, and that of run.json {theirs!r}. "
                "The two files are of different runs: put the right one back."
            )


def _prepared_as(student: Student, facts: Mapping[str, Any], path: Path) -> Student:
    """Give a student the normalisation that it was trained with: networks without weights do not know it."""
    if "statistics" not in facts:  # written by an earlier version
        return student
    try:
        mean, std = (tuple(map(float, values)) for values in facts["statistics"])
        statistics = (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError("nothing can be normalised by it")
    except (TypeError, ValueError, IndexError, OverflowError):
        raise CheckpointError(
            f"{path} has statistics {shortened(repr(facts['statistics']))}; expected the mean and the standard "
            "deviation of three channels. Put the run's own file back."
        ) from None
    resizing: Any = getattr(student.network, "transform", None)
    if hasattr(resizing, "image_mean"):  # a detector normalises by itself
        resizing.image_mean, resizing.image_std = list(mean), list(std)
    return replace(student, statistics=statistics)


def _load(student: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the run's configuration: {error}") from None
