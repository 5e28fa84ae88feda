"""The head of a network whose parts have names of their own: what a trial pass shows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from synreal.core.parts import declares_backbone, find_head
from synreal.core.task_heads import is_fresh
from synreal.core.trial import try_image
from synreal.errors import StageError


class Head(NamedTuple):
    """What was found of a task's head.

    Attributes:
        names: Names of its parameters as in ``named_parameters()``; empty where none was found.
        doubt: Path of the network's last layer where no head was found and that layer looks fresh; else empty.
    """

    names: frozenset[str]
    doubt: str = ""


def search_head(network: nn.Module, entry: str | None = None) -> Head:
    """Find the parameters of the task's head, by what parts are called and, failing that, by a trial pass.

    The pass tells the layers that make logits of vectors, at the end of a classifier whose last layer has a name of its
    own: the last layer, and those before it that look fresh.

    Args:
        network: The network; it stays as it is.
        entry: The path that the user gave of the module that turns images into maps, all around which is the head;
            ``""`` says that there is nothing but that module. Looked for when None.
    """
    names = find_head(network, entry)
    if names or entry is not None or declares_backbone(network):
        return Head(names)
    layers = {path: module for path, module in network.named_modules() if path and module._parameters}
    calls = _calls(network, layers)
    vectors = []  # of the layers at the end, the last one first
    for path, axes in reversed(calls):
        if axes != 2:
            break
        vectors.append(path)
    head = _fresh_end([layers[path] for path in vectors])
    if head:
        own = {id(parameter) for layer in head for parameter in layer.parameters()}
        return Head(frozenset(name for name, parameter in network.named_parameters() if id(parameter) in own))
    last = calls[-1][0] if calls else next(reversed(layers), "")
    return Head(names, last if last and _looks_fresh(layers[last]) else "")


def _calls(network: nn.Module, layers: dict[str, nn.Module]) -> list[tuple[str, int]]:
    """Return which layers run, in their order, and how many axes their input has; nothing if no image goes through."""
    calls: list[tuple[str, int]] = []

    def note(path: str, args: Any, kwargs: Any) -> None:
        given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        calls.append((path, next((value.ndim for value in given), 0)))

    handles = [
        layer.register_forward_pre_hook(lambda _, args, kwargs, path=path: note(path, args, kwargs), with_kwargs=True)
        for path, layer in layers.items()
    ]
    try:
        try_image(network, network, calls.clear)
    except StageError:
        return []
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fresh_end(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the last layer with a weight matrix, what follows it, and the fresh layers before it.

    Args:
        layers: Those that were given vectors, the last one first.
    """
    last = next((at for at, layer in enumerate(layers) if _is_matrix(layer)), None)
    if last is None:
        return []  # no more than a pooled map that is normalised
    end = last + 1
    while end < len(layers) and _looks_fresh(layers[end]):
        end += 1
    return list(layers[:end])


def _is_matrix(layer: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in layer.parameters(recurse=False))


@torch.no_grad()
def _looks_fresh(layer: nn.Module) -> bool:
    """Return whether a layer is as made: drawn at random, or a normalisation that scales by 1 and shifts by 0."""
    weight = layer._parameters.get("weight")
    if weight is None:
        return False
    if weight.ndim > 1:
        return is_fresh(layer)
    bias = layer._parameters.get("bias")
    return bool((weight == 1).all()) and (bias is None or not bool(bias.any()))
