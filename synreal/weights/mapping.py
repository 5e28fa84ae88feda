"""State dicts: read from files without running anything in them, given a network's own names, loaded."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from synreal import reading
from synreal.errors import WeightsError


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU without running anything in it."""
    content: Any
    try:
        reading.check_file(path)
        if path.suffix.lower() == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"Refused {str(path)!r}: it holds something other than tensors, and unpickling that is unsafe, "
            "since it can run any code. Expected a plain state dict. "
            "Save model.state_dict(), best as .safetensors."
        ) from error
    except Exception as error:  # whatever a damaged file makes torch's readers do
        raise WeightsError(
            f"Weights file {str(path)!r} cannot be read: {error}. It may be damaged or cut short: get it again."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"Weights file {str(path)!r} holds a {type(content).__name__} without tensors, "
            "expected a state dict. Save model.state_dict()."
        )
    strange = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise WeightsError(
            f"Weights file {str(path)!r} holds values that are not tensors, e.g. {strange[0]!r}; "
            "expected a state dict, or one under 'state_dict'. Save model.state_dict()."
        )
    return {str(key): value for key, value in content.items()}


def map_by_order(packaged: Mapping[str, Tensor], reference: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Give ``packaged`` the names of ``reference``, which lists the same tensors in the same order."""
    if len(packaged) != len(reference):
        raise WeightsError(
            f"{source} carries {len(packaged)} tensors, timm's network has {len(reference)}. "
            "Install versions of both that belong together."
        )
    mapped: dict[str, Tensor] = {}
    for (old, tensor), (new, expected) in zip(packaged.items(), reference.items(), strict=True):
        same_kind = old.rpartition(".")[2] == new.rpartition(".")[2]
        if not same_kind or tensor.shape != expected.shape:
            raise WeightsError(
                f"{source}: {old} {tuple(tensor.shape)} stands where timm's network has {new} "
                f"{tuple(expected.shape)}. Install versions of both that belong together."
            )
        mapped[new] = tensor
    return mapped


def map_by_flat_name(whole: Mapping[str, Tensor], part: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Give the tensors of ``whole`` the names of ``part``, which has some of them, flattened or wrapped."""
    return {key: whole[found] for key, found in _flat_names(whole, part, name).items()}


def fill_by_flat_name(whole: Mapping[str, Tensor], part: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Put the tensors of ``part`` in the place of those of ``whole`` that they are, flattened or wrapped."""
    return {**whole, **{found: part[key] for key, found in _flat_names(whole, part, name).items()}}


def _flat_names(whole: Mapping[str, Tensor], part: Mapping[str, Tensor], name: str) -> dict[str, str]:
    flat = {key.replace(".", "_"): key for key in whole}
    if len(flat) < len(whole):
        raise WeightsError(f"{name!r} has tensors whose names differ by dots alone. Choose another backbone.")
    mapped: dict[str, str] = {}
    for key, expected in part.items():
        # timm wraps some networks as `model` or `body` when it makes them return features.
        options = (option.replace(".", "_") for option in (key, key.removeprefix("model."), key.removeprefix("body.")))
        found = next((flat[option] for option in options if option in flat), None)
        if found is None or whole[found].shape != expected.shape:
            got = "none of that name" if found is None else f"one of {tuple(whole[found].shape)}"
            raise WeightsError(
                f"The encoder of {name!r} has a tensor {key} {tuple(expected.shape)}, the pretrained network {got}. No "
                "part may stay random: choose another backbone, or ask for random weights with weights='none'."
            )
        mapped[key] = found
    # What an encoder leaves out lies behind it: last layers, and class tokens that join there.
    used = set(mapped.values())
    inner = itertools.dropwhile(lambda key: key not in used, reversed(list(whole)))
    lost = [key for key in inner if key not in used and key != "cls_token"]
    if lost:
        raise WeightsError(
            f"The encoder of {name!r} lacks tensors from within the pretrained network: {_some(lost)}. Choose another "
            "backbone, or ask for random weights with weights='none'."
        )
    return mapped


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], source: str, classifiers: Iterable[str] | None = None
) -> bool:
    """Load ``state``: strictly, apart from a classifier for another number of classes, which stays fresh.

    Args:
        model: The network.
        state: What to load.
        source: Where it comes from, for messages.
        classifiers: Where the classifiers stand; by default a timm model says so itself.

    Returns:
        Whether the classifier was loaded too.

    Raises:
        WeightsError: If it does not fit.
    """
    own = model.state_dict()
    names = tuple(f"{name}." for name in (classifier_names(model) if classifiers is None else classifiers))
    head = {key for key in (*own, *state) if key.startswith(names)}
    keep_head = all(key in state and state[key].shape == own[key].shape for key in head & own.keys())
    given = {key: value for key, value in state.items() if keep_head or key not in head}
    given = {key: value for key, value in given.items() if key in own or key not in head}
    fresh = set() if keep_head else head
    missing = [key for key in own if key not in given and key not in fresh]
    unexpected = [key for key in given if key not in own]
    wrong = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in given.items()
        if key in own and value.shape != own[key].shape
    ]
    if missing or unexpected or wrong:
        parts = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        listed = "; ".join(f"{len(keys)} {what}: {_some(keys)}" for what, keys in parts if keys)
        raise WeightsError(
            f"Weights from {source!r} do not fit the network. Of its {len(own)} tensors, {listed}. "
            "Choose the backbone these weights were saved from; names must be this network's own."
        )
    model.load_state_dict({**own, **given})
    return keep_head


def _some(names: list[str], most: int = 4) -> str:
    """List the first few names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Return where the classifier stands, present in this model or not; a distilled transformer has two."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    names = cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
