"""What happens to running statistics of normalisation layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from synreal.core.parts import find_classifiers, find_entry, find_inner
from synreal.errors import TrainingError


def norm_layers(model: nn.Module | Iterable[nn.Module]) -> list[_NormBase]:
    """Return the layers of a network or of several that keep running statistics.

    These are BatchNorm and its relatives, and InstanceNorm that tracks.
    """
    modules = model.modules() if isinstance(model, nn.Module) else (m for one in model for m in one.modules())
    return [m for m in modules if isinstance(m, _NormBase) and m.track_running_stats]


def pretrained_norm_layers(model: nn.Module, entry: str | None = None, head: Collection[str] = ()) -> list[_NormBase]:
    """Return the layers with running statistics that belong to the pretrained network.

    That is the module which turns images into stage maps, without its classifier: of a segmenter the encoder, of a
    detector the backbone, of a module of the user's the network inside. What lies around it is fresh and has no
    statistics worth keeping.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps; found when None.
        head: Names of parameters that are known to be the head's.
    """
    entry = find_entry(model) if entry is None else entry
    network = model.get_submodule(entry or find_inner(model))
    fresh = [] if entry else [network.get_submodule(path) for path in find_classifiers(network)]
    outside = {layer for part in fresh for layer in norm_layers(part)}
    owners = {name.rpartition(".")[0] for name in head}
    outside |= {layer for path, layer in model.named_modules() if path in owners and isinstance(layer, _NormBase)}
    return [layer for layer in norm_layers(network) if layer not in outside]


class _Held:
    """Takes the place of a layer's ``train``: the layer normalises with its stored statistics in either mode.

    Whoever switches a network's mode calls ``train`` on each module, so the layer holds wherever the call begins. A
    class rather than a closure, so that copies and pickles of the layer hold themselves and not the original.
    """

    def __init__(self, layer: _NormBase) -> None:
        self.layer = layer
        self.asked = layer.training
        layer.training = False

    def __call__(self, mode: bool = True) -> nn.Module:
        type(self.layer).train(self.layer, mode)  # what the layer contains follows
        self.asked = mode
        self.layer.training = False
        return self.layer


class _Refusal:
    """Takes the place of a frozen layer's ``reset_running_stats``: what it reset would never be gathered again."""

    def __call__(self) -> None:
        raise TrainingError(
            "The running statistics of this layer are frozen, so they need no update and would be lost by a reset "
            "(torch.optim.swa_utils.update_bn does that). Leave it out, attach with norm='train', or detach() first."
        )


def freeze_norm_stats(layers: nn.Module | Iterable[nn.Module]) -> list[_NormBase]:
    """Let layers normalise with their stored statistics and never change them, whoever calls ``train()`` on what.

    The affine parameters still learn: this is how CSG trains (Chen et al., ICLR 2021, published code).

    Args:
        layers: A network, or the layers themselves.

    Returns:
        The layers that were not frozen before, for ``release_norm_stats``.
    """
    fresh = [layer for layer in norm_layers(layers) if not frozen(layer)]
    for layer in fresh:
        layer.__dict__.update(train=_Held(layer), reset_running_stats=_Refusal())
    return fresh


def release_norm_stats(layers: nn.Module | Iterable[nn.Module]) -> None:
    """Undo ``freeze_norm_stats``: each layer gets the mode that it was last asked for.

    Args:
        layers: A network, or the layers themselves.
    """
    for layer in norm_layers(layers):
        if frozen(layer):
            layer.training = layer.__dict__.pop("train").asked
            del layer.__dict__["reset_running_stats"]


def frozen(layer: nn.Module) -> bool:
    """Return whether a layer's statistics are frozen by ``freeze_norm_stats``."""
    return isinstance(layer.__dict__.get("train"), _Held)


def never_trained(layers: Iterable[nn.Module]) -> bool:
    """Return whether there are layers with running statistics, all of them as they were made: mean 0, variance 1."""
    states = [layer.state_dict() for layer in layers if isinstance(getattr(layer, "running_mean", None), Tensor)]
    return bool(states) and all(
        not bool(s["running_mean"].any()) and torch.equal(s["running_var"], torch.ones_like(s["running_var"]))
        for s in states
    )


@contextmanager
def hold_norm_stats(model: nn.Module) -> Iterator[None]:
    """Keep running statistics still during an extra forward pass; the pass's own output does not change."""
    held = [layer for layer in norm_layers(model) if layer.training]
    for layer in held:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in held:
            layer.track_running_stats = True


def learning_norm_layers(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers whose running statistics follow the images: those that are not frozen."""
    return [layer for layer in norm_layers(model) if isinstance(layer, _BatchNorm) and not frozen(layer)]


@contextmanager
def gathered_norm_stats(model: nn.Module) -> Iterator[None]:
    """Compute running statistics anew, as a cumulative mean over the batches that run meanwhile, in train mode.

    SWA (Izmailov et al., UAI 2018, section 3.2) asks for this after averaging. ``torch.optim.swa_utils.update_bn`` does
    it for all layers; here frozen ones stay as they are, and so do those that no batch reaches.

    Args:
        model: Runs meanwhile; its modes are afterwards as they were.
    """
    layers = learning_norm_layers(model)
    modes = {module: _asked(module) for module in model.modules()}
    before = [(layer.momentum, [(buffer, buffer.clone()) for buffer in layer.buffers()]) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    try:
        yield
    finally:
        for layer, (momentum, buffers) in zip(layers, before, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked is None or not int(layer.num_batches_tracked):
                for buffer, value in buffers:
                    buffer.copy_(value)
        for module, mode in modes.items():
            if frozen(module):
                module.__dict__["train"].asked = mode
            else:
                module.training = mode


def _asked(module: nn.Module) -> bool:
    """Return the mode that a module was last asked for, frozen or not."""
    return bool(module.__dict__["train"].asked if frozen(module) else module.training)


@contextmanager
def small_batches_told(model: nn.Module) -> Iterator[None]:
    """Say which layer a batch is too small for, and what to do, where torch says that it is.

    Args:
        model: What runs meanwhile.

    Raises:
        TrainingError: If a layer normalises over the batch and gets one value for each channel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"The batch is too small: {_raised_in(model, error)} normalises over the batch and gets one value for each "
            "channel. Use at least 2 images in each batch and process, the last one of an epoch included (drop_last="
            "True of a DataLoader), or put that layer in eval mode."
        ) from None


def _raised_in(model: nn.Module, error: BaseException) -> str:
    """Name the layer with running statistics whose forward raised an error."""
    names = {layer: name for name, layer in model.named_modules() if isinstance(layer, _NormBase)}
    trace, found = error.__traceback__, "a normalisation layer"
    while trace is not None:
        layer = trace.tb_frame.f_locals.get("self")
        if isinstance(layer, _NormBase) and layer in names:
            found = f"layer {names[layer]}"
        trace = trace.tb_next
    return found
