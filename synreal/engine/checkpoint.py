"""Checkpoints: safetensors and JSON, never pickles; written aside, then renamed; checked by SHA-256 when read.

A checkpoint folder is valid only with its manifest, which is written last and names every file's hash. No state of
random generators is kept: what is drawn in a step is a function of the run's seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from synreal import atomic
from synreal.errors import CheckpointError
from synreal.parsing import problems
from synreal.reading import read_bytes
from synreal.records import Change

FORMAT = 4
_MANIFEST = "manifest.json"
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_AVERAGES = "averages.safetensors"  # of runs that average weights alone


class Evaluation(BaseModel):
    """What a test in the course of a run measured.

    Attributes:
        step: Steps of the whole run that had been made.
        measures: Each measure, by set of images; None where it is not defined.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    step: int = Field(ge=0)
    measures: dict[str, dict[str, float | None]]


class Seconds(BaseModel):
    """Wall-clock seconds that a run has spent, those before it was resumed too."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    training: float = Field(default=0.0, ge=0)
    testing: float = Field(default=0.0, ge=0)


class CheckpointFacts(BaseModel):
    """What a run goes on from, besides tensors.

    Attributes:
        config: The whole resolved configuration.
        data: Fingerprint of each part of the data.
        processes: How many trained together.
        threads: Of torch, in each process.
        device: ``"cpu"``, or the accelerator's name.
        versions: Of Python and of the packages that numbers depend on.
        plugins: What tells each plugin that the run uses from others, by its name.
        scaler: State of the gradient scaler; None without one.
        phase: Index of the phase that the run was in.
        step: Optimizer steps made in that phase.
        history: The tests so far, in order.
        seconds: What the run has spent so far.
        changes: What was another when the run went on after a stop.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    config: dict[str, Any]
    data: dict[str, str]
    processes: int = Field(ge=1)
    threads: int = Field(ge=1)
    device: str
    versions: dict[str, str]
    plugins: dict[str, str | None]
    scaler: dict[str, int | float] | None
    phase: int = Field(ge=0)
    step: int = Field(ge=0)
    history: list[Evaluation]
    seconds: Seconds
    changes: list[Change]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: int
    sha256: dict[str, str]


class _State(BaseModel):
    """The ``state.json``: the step, the optimizer's state without its tensors, and the facts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: int = Field(ge=0)
    optimizer: dict[str, Any]
    facts: CheckpointFacts


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run continues from.

    Attributes:
        step: Optimizer steps made in the whole run.
        model: State of the RegularizedModel: student, heads, averages, queues.
        optimizer: ``Optimizer.state_dict()`` of the phase's optimizer.
        facts: Everything else.
        averages: State of the averages of weights; empty where there are none.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    facts: CheckpointFacts
    averages: Mapping[str, Tensor] = field(default_factory=dict)


def save(folder: Path, snapshot: Snapshot, *, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest ``keep``.

    Args:
        folder: The run's ``checkpoints`` folder.
        snapshot: What to save.
        keep: How many checkpoints stay, at least 1.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: If writing fails; older checkpoints are untouched.
    """
    final = folder / f"step-{snapshot.step:08d}"
    tensors, skeleton = _split(snapshot.optimizer)
    state = _State(step=snapshot.step, optimizer=skeleton, facts=snapshot.facts)
    files = {
        _MODEL: pack_tensors(_own(snapshot.model)),
        _OPTIMIZER: pack_tensors(_own(tensors)),
        _STATE: _json(state),
    }
    if snapshot.averages:
        files[_AVERAGES] = pack_tensors(_own(snapshot.averages))
    hashes = {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}
    try:
        atomic.write_folder(final, {**files, _MANIFEST: _json(_Manifest(format=FORMAT, sha256=hashes))})
    except OSError as error:
        raise CheckpointError(
            f"Cannot write the checkpoint {final}: {error.strerror or error}. Older ones are kept."
        ) from None
    _prune(final, keep)
    return final


def load_latest(folder: Path) -> Snapshot | None:
    """Read the newest checkpoint that is whole.

    Returns:
        The snapshot; None if the folder holds no checkpoint at all.

    Raises:
        CheckpointError: If there are checkpoints but none is whole.
    """
    newest: CheckpointError | None = None
    found = _written(folder)
    for path in reversed(found):
        try:
            return load(path)
        except CheckpointError as error:
            newest = newest or error
            if path != found[0]:
                warnings.warn(f"{error} Falling back to the checkpoint before.", stacklevel=2)
    if newest is None:
        return None
    raise CheckpointError(f"None of the {len(found)} checkpoints in {folder} is whole and of this format. {newest}")


def load(path: Path) -> Snapshot:
    """Read one checkpoint and check every file against the manifest.

    Raises:
        CheckpointError: If a file is missing, damaged or of another format; names it.
    """
    found = _parse(path / _MANIFEST, _read(path / _MANIFEST))
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / _MANIFEST} has checkpoint format {found.get('format')!r}, this version reads {FORMAT}. Resume "
            "with the synreal that wrote it, or start a new run."
        )
    manifest = _validated(_Manifest, path / _MANIFEST, found)
    raw: dict[str, bytes] = {}
    for name in (_MODEL, _OPTIMIZER, _STATE, *({_AVERAGES} & manifest.sha256.keys())):
        raw[name] = _read(path / name)
        if hashlib.sha256(raw[name]).hexdigest() != manifest.sha256.get(name):
            raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the manifest's.")
    state = _validated(_State, path / _STATE, _parse(path / _STATE, raw[_STATE]))
    try:
        tensors = load_tensors(raw[_OPTIMIZER])
        model = load_tensors(raw[_MODEL])
        averages = load_tensors(raw[_AVERAGES]) if _AVERAGES in raw else {}
    except SafetensorError as error:
        raise CheckpointError(f"{path} holds no valid safetensors: {error}") from None
    try:
        optimizer = _join(tensors, state.optimizer)
        if not isinstance(optimizer, dict):
            raise TypeError(f"expected a map, got {optimizer!r}")
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / _STATE} holds no state of an optimizer: {error!r}.") from None
    return Snapshot(state.step, model, optimizer, state.facts, averages)


def _split(value: Any, path: str = "") -> tuple[dict[str, Tensor], Any]:
    """Take the tensors out of an optimizer's state: a flat dict of them, and JSON that says where each was."""
    if isinstance(value, Tensor):
        return {path: value}, {"tensor": path}
    if isinstance(value, Mapping):
        tensors: dict[str, Tensor] = {}
        items = []
        for key, item in value.items():
            inner, skeleton = _split(item, f"{path}/{key}")
            tensors |= inner
            items.append([key, skeleton])
        return tensors, {"map": items}
    if isinstance(value, (list, tuple)):
        tensors = {}
        entries = []
        for index, item in enumerate(value):
            inner, skeleton = _split(item, f"{path}/{index}")
            tensors |= inner
            entries.append(skeleton)
        return tensors, {"list": entries}
    return {}, {"value": value}


def _join(tensors: Mapping[str, Tensor], skeleton: Any) -> Any:
    if "tensor" in skeleton:
        return tensors[skeleton["tensor"]]
    if "map" in skeleton:
        return {key: _join(tensors, item) for key, item in skeleton["map"]}
    if "list" in skeleton:
        return [_join(tensors, item) for item in skeleton["list"]]
    return skeleton["value"]


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy to the CPU; safetensors refuses tensors that share memory."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def _json(value: BaseModel) -> bytes:
    # Python's JSON, not pydantic's: a float is read as the one that was written, and a NaN is an error.
    return (json.dumps(value.model_dump(), indent=1, allow_nan=False) + "\n").encode()


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return value


ModelT = TypeVar("ModelT", bound=BaseModel)


def _validated(model: type[ModelT], path: Path, value: dict[str, Any]) -> ModelT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise CheckpointError(f"{path} is not what checkpoint format {FORMAT} holds: {problems(error)}.") from None


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from None


def _written(folder: Path) -> list[Path]:
    """Return the checkpoints that were written to their end, oldest first; they may have been damaged since."""
    return sorted(path for path in folder.glob("step-*") if not atomic.is_aside(path))


def _prune(newest: Path, keep: int) -> None:
    # A later checkpoint is a damaged one that the run fell back from: it must not take the place of a whole one.
    found = [path for path in _written(newest.parent) if path <= newest]
    for path in found[:-keep]:
        try:
            shutil.rmtree(path)
        except OSError as error:
            warnings.warn(f"Cannot remove the old checkpoint {path}: {error.strerror}.", stacklevel=2)


def export_student(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write the student alone, as a state dict that plain timm, smp or torchvision loads."""
    # One entry: safetensors writes several in random order, and two runs of one seed give one file.
    raw = pack_tensors(_own(state), metadata={"synreal": json.dumps(metadata, sort_keys=True)})
    try:
        atomic.write(path, raw)
    except OSError as error:
        raise CheckpointError(f"Cannot write {path}: {error.strerror or error}.") from None


def read_student(path: Path) -> dict[str, torch.Tensor]:
    """Read what ``export_student`` wrote.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    try:
        return load_tensors(_read(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def read_student_facts(path: Path) -> dict[str, Any]:
    """Read what ``export_student`` wrote of a student beside its weights.

    Returns:
        The facts; empty where a file holds none, as one of another program.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get("synreal")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
    return {} if found is None else _parse(path, found.encode())
