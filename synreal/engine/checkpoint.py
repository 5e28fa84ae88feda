"""Checkpoints: safetensors and JSON, never pickles; written aside, then renamed; checked by SHA-256 when read.

A checkpoint folder is valid only with its manifest, which is written last and names every file's hash. No state of
random generators is kept: what is drawn in a step is a function of the run's seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from synreal.errors import CheckpointError

FORMAT = 2  # 1 knew the measures of classification alone
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run continues from.

    Attributes:
        step: Optimizer steps made.
        model: State of the RegularizedModel: student, heads, averages, queues.
        optimizer: ``Optimizer.state_dict()``.
        facts: Anything that JSON holds: configuration, fingerprints, evaluations so far.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    facts: Mapping[str, Any]


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
    aside = folder / f"{final.name}.tmp"
    tensors, skeleton = _split(snapshot.optimizer)
    files = {
        "model.safetensors": pack_tensors(_own(snapshot.model)),
        "optimizer.safetensors": pack_tensors(_own(tensors)),
        "state.json": _json({"step": snapshot.step, "optimizer": skeleton, "facts": snapshot.facts}),
    }
    manifest = {"format": FORMAT, "sha256": {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items()}}
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, raw in files.items():
            _write(aside / name, raw)
        _write(aside / _MANIFEST, _json(manifest))
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
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
    found = _written(folder)
    for path in reversed(found):
        try:
            return load(path)
        except CheckpointError as error:
            warnings.warn(f"{error} Falling back to the checkpoint before.", stacklevel=2)
    if found:
        raise CheckpointError(f"None of the {len(found)} checkpoints in {folder} is whole.")
    return None


def load(path: Path) -> Snapshot:
    """Read one checkpoint and check every file against the manifest.

    Raises:
        CheckpointError: If a file is missing, damaged or of another format; names it.
    """
    manifest = _parse(path / _MANIFEST, _read(path / _MANIFEST))
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {manifest.get('format')!r}, this version reads {FORMAT}.")
    hashes = manifest.get("sha256", {})
    raw: dict[str, bytes] = {}
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        raw[name] = _read(path / name)
        if hashlib.sha256(raw[name]).hexdigest() != hashes.get(name):
            raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the manifest's.")
    state = _parse(path / "state.json", raw["state.json"])
    try:
        tensors = load_tensors(raw["optimizer.safetensors"])
        model = load_tensors(raw["model.safetensors"])
    except SafetensorError as error:
        raise CheckpointError(f"{path} holds no valid safetensors: {error}") from None
    return Snapshot(state["step"], model, _join(tensors, state["optimizer"]), state["facts"])


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


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from None


def _write(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(folder: Path) -> list[Path]:
    """Return the checkpoints that were written to their end, oldest first; they may have been damaged since."""
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp")


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
    aside = path.with_suffix(".tmp")
    try:
        # One entry: safetensors writes several in random order, and two runs of one seed give one file.
        _write(aside, pack_tensors(_own(state), metadata={"synreal": json.dumps(metadata, sort_keys=True)}))
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(f"Cannot write {path}: {error.strerror or error}.") from None


def read_student(path: Path) -> dict[str, torch.Tensor]:
    """Read what ``export_student`` wrote.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    try:
        return load_tensors(_read(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}") from None
