"""What the transforms share that put InstanceNorm into a network: which layers to exchange, and how."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from synreal.core.parts import find_entry
from synreal.core.stages import Stage, find_stages
from synreal.core.trial import Seen, watch
from synreal.core.whitening import InstanceNorm
from synreal.errors import ConfigError
from synreal.transforms.places import groups

ACTIVATIONS: Final = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus),
)
_NORM: Final = re.compile(r"Norm(\dd)?$")
_SHORTCUT: Final = re.compile(r"(^|\.)(downsample|shortcut)(\.|$)")
_DENSE_LAYER: Final = re.compile(r"(^|\.)denselayer\d+$")


def is_batch_norm(layer: nn.Module) -> bool:
    """Return whether a layer is BatchNorm, also torchvision's frozen one or timm's with an activation in it."""
    return isinstance(layer, _BatchNorm) or (
        type(layer).__name__ == "FrozenBatchNorm2d" and isinstance(getattr(layer, "running_var", None), Tensor)
    )


def width(layer: nn.Module) -> int:
    """Return the channels of a BatchNorm."""
    return layer.num_features if isinstance(layer, _BatchNorm) else len(layer.get_buffer("running_var"))


def epsilon(layer: nn.Module) -> float:
    """Return what a BatchNorm adds to the variance."""
    return float(vars(layer)["eps"])


def device(layer: nn.Module) -> torch.device:
    """Return where a layer is; the CPU if it has no tensor."""
    return next((value.device for value in (*layer.parameters(), *layer.buffers())), torch.device("cpu"))


class Fused(nn.Module):
    """A normalisation, and what a layer that it takes the place of did behind its own, e.g. timm's ``BatchNormAct2d``.

    Args:
        norm: The normalisation.
        drop: Dropout of the layer.
        act: Its activation.
    """

    def __init__(self, norm: nn.Module, drop: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.drop = drop
        self.act = act

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise, drop, activate; (N, C, H, W)."""
        output: Tensor = self.act(self.drop(self.norm(maps)))
        return output


def exchanged(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Return what takes the place of a BatchNorm: a normalisation, with the activation that the layer held."""
    parts = [getattr(layer, name, None) for name in ("drop", "act")]
    drop, act = (part if isinstance(part, nn.Module) else nn.Identity() for part in parts)
    if isinstance(drop, nn.Identity) and isinstance(act, nn.Identity):
        return norm.train(layer.training)
    return Fused(norm, drop, act).train(layer.training)


def instance_norm(layer: nn.Module, channels: slice) -> InstanceNorm:
    """Return an InstanceNorm with the scale and shift that a BatchNorm has for some of its channels."""
    norm = InstanceNorm(len(range(width(layer))[channels]), eps=epsilon(layer), affine=True)
    own = {name: value for name in ("weight", "bias") if isinstance(value := getattr(layer, name, None), Tensor)}
    with torch.no_grad():
        for name, value in own.items():
            norm.get_parameter(name).copy_(value[channels])
    learns = all(isinstance(value, nn.Parameter) and value.requires_grad for value in own.values())
    return norm.to(device(layer)).requires_grad_(learns)


def batch_norm(layer: nn.Module, channels: slice) -> nn.Module:
    """Return a BatchNorm's parameters and statistics for some of its channels, as a layer of its kind."""
    part = copy.deepcopy(layer)
    count = width(layer)
    for name, parameter in part.named_parameters(recurse=False):
        part.register_parameter(name, nn.Parameter(parameter.detach()[channels].clone(), parameter.requires_grad))
    for name, buffer in part.named_buffers(recurse=False):
        if buffer.shape == (count,):
            part.register_buffer(name, buffer[channels].clone())
    if isinstance(part, _BatchNorm):
        part.num_features = len(range(count)[channels])
    for name in ("drop", "act"):
        if isinstance(getattr(part, name, None), nn.Module):
            setattr(part, name, nn.Identity())
    return part


class SummedNorm(nn.Module):
    """Takes the place of the activation behind a residual sum: normalises the sum, then activates it.

    torchvision's blocks call one activation several times; the last call is the one behind the sum.

    Args:
        norm: The normalisation.
        act: The activation.
        calls: How often the block calls it in a forward pass.
    """

    def __init__(self, norm: nn.Module, act: nn.Module, calls: int) -> None:
        super().__init__()
        self.IN = norm
        self.act = act
        self.calls = calls
        self.made = 0

    def forward(self, maps: Tensor) -> Tensor:
        """Activate, and normalise before that in the last call; (N, C, H, W)."""
        self.made += 1
        if self.made == self.calls:
            self.made = 0
            maps = self.IN(maps)
        output: Tensor = self.act(maps)
        return output


class _FromStart:
    """A hook on a block: a pass that an error ended must not shift the calls of the next one."""

    def __init__(self, act: SummedNorm) -> None:
        self.act = act

    def __call__(self, block: nn.Module, args: Any) -> None:
        self.act.made = 0


class _Behind:
    """A hook on a block without an activation behind its sum: its output is normalised by the layer ``IN`` in it."""

    def __call__(self, block: nn.Module, args: Any, output: Tensor) -> Tensor:
        normalised: Tensor = block.IN(output)  # type: ignore[operator]
        return normalised


class Sites:
    """A network's BatchNorms by stage, and its residual sums.

    Args:
        network: The network.
        name: The transform, for messages.

    Raises:
        ConfigError: If the network has no BatchNorm.
        StageError: If its stages are not found.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        self.network = network
        self.name = name
        self.entry = find_entry(network)
        trunk = network.get_submodule(self.entry)
        if not any(is_batch_norm(module) for module in trunk.modules()):
            kinds = sorted({type(m).__name__ for m in trunk.modules() if _NORM.search(type(m).__name__)})
            raise ConfigError(
                f"{name} puts InstanceNorm in the place of BatchNorm, but {type(trunk).__name__} has none; it has "
                f"{', '.join(kinds) or 'no normalisation'}. Use a network with BatchNorm, such as a ResNet or an "
                "EfficientNet."
            )
        self.stages = find_stages(network)
        self.groups = groups(network, self.stages)
        self.depth = {path: index for index, (path, _) in enumerate(network.named_modules())}

    def first_norms(self, stage: str) -> list[tuple[str, nn.Module]]:
        """Return the first BatchNorm of each residual block of a stage; of dense layers, every third one's.

        Raises:
            ConfigError: If there is no such stage, or it has no block with several BatchNorms.
        """
        found = [self._first(path, block) for path, block in self._blocks(stage)]
        if not found:
            raise ConfigError(
                f"{self.name} finds no block with BatchNorm in stage {stage} ({self._stage(stage).path}) of "
                f"{type(self.network).__name__}. Use a network of residual or dense blocks, or other stages."
            )
        return found

    def dense(self, path: str) -> bool:
        """Return whether a BatchNorm is part of a dense layer, whose input grows from one to the next."""
        return bool(_DENSE_LAYER.search(path.rpartition(".")[0]))

    def stem_norm(self) -> tuple[str, nn.Module]:
        """Return the network's own ``bn1``, or else the first BatchNorm."""
        norms = self.stem_norms()
        return next((one for one in norms if one[0].rpartition(".")[2] == "bn1"), norms[0])

    def stem_norms(self) -> list[tuple[str, nn.Module]]:
        """Return the BatchNorms before any block, in order of depth."""
        blocks = [path for stage in self.stages for path, _ in self._blocks(stage)]
        norms = [(path, m) for path, m in self.network.named_modules() if is_batch_norm(m) and self._inside(path)]
        first = min((self.depth[path] for path in blocks), default=len(self.depth))
        stem = [one for one in norms if self.depth[one[0]] < first]
        if not stem:
            raise ConfigError(
                f"{self.name} finds no BatchNorm before the first block of {type(self.network).__name__}."
            )
        return stem

    def sums(self, wanted: Sequence[str]) -> dict[str, tuple[str, int, int]]:
        """Find what ends stages behind their last residual sum.

        Returns:
            By the name of the stage: the path of the activation behind the sum, or of the last block where the sum has
            none, how often it is called (0 for a block), and the channels.

        Raises:
            ConfigError: If there is no such stage, or it ends in no residual sum.
        """
        places = {name: self._stage(name) for name in wanted}
        if any(_DENSE_LAYER.search(path) for name in wanted for path, _ in self.groups[name]):
            raise ConfigError(f"{self.name} needs residual sums, which {type(self.network).__name__} does not have.")
        inside = {
            path: module
            for path, module in self.network.named_modules()
            if any(f"{path}.".startswith(f"{place.path}.") for place in places.values())
        }
        _, seen = watch(self.network.get_submodule(self.entry), inside, self.network)
        return {name: self._sum(place, seen) for name, place in places.items()}

    def put_behind_sum(self, place: tuple[str, int, int], norm: nn.Module) -> str:
        """Put a normalisation behind a residual sum, before its activation if there is one.

        Args:
            place: From ``sums``.
            norm: The normalisation.

        Returns:
            Path of the normalisation.
        """
        path, calls, _ = place
        owner = self.network.get_submodule(path)
        norm.to(device(self.network)).train(owner.training)
        if not calls:
            owner.IN = norm
            owner.register_forward_hook(_Behind())
            return f"{path}.IN"
        summed = SummedNorm(norm, owner, calls)
        summed.training = owner.training
        self.network.set_submodule(path, summed)
        if calls > 1:
            self.network.get_submodule(path.rpartition(".")[0]).register_forward_pre_hook(_FromStart(summed))
        return f"{path}.IN"

    def _sum(self, place: Stage, seen: Sequence[Seen]) -> tuple[str, int, int]:
        """Find what ends one stage."""
        ends = [one for one in seen if f"{one.path}.".startswith(f"{place.path}.")]
        output = ends[-1].output
        blocks = [path for path, _ in self._blocks(place.name) if f"{path}.".startswith(f"{place.path}.")]
        acts = [one.path for one in ends if isinstance(one.module, ACTIVATIONS) and one.output is output]
        if blocks and acts:
            return acts[-1], sum(one.path == acts[-1] for one in ends), place.channels
        # The innermost module that ends with the sum: an addition in place changes the output of what is inside of it.
        last = [
            one.path
            for one in ends
            if one.output is output
            and one.final
            and not isinstance(one.module, nn.Sequential)
            and any(f"{path}.".startswith(f"{one.path}.") for path in blocks[-1:])
        ]
        if not last:
            raise ConfigError(
                f"{self.name} finds no residual sum at the end of stage {place.name} ({place.path}) of "
                f"{type(self.network).__name__}."
            )
        return last[0], 0, place.channels

    def _stage(self, name: str) -> Stage:
        if name not in self.stages:
            raise ConfigError(
                f"{type(self.network).__name__} has no stage {name}. It has: "
                + ", ".join(f"{s.name} ({s.path}, stride {s.stride})" for s in self.stages.values())
                + "."
            )
        return self.stages[name]

    def _inside(self, path: str) -> bool:
        return f"{path}.".startswith(f"{self.entry}." if self.entry else "")

    def _blocks(self, stage: str) -> Iterator[tuple[str, nn.Module]]:
        """Yield the blocks of a stage: the innermost modules that hold several BatchNorms in parts of their own."""
        self._stage(stage)
        taken = ""
        for path, module in self.groups[stage]:
            if taken and f"{path}.".startswith(taken):
                continue
            if _norms(module) > 1:
                taken = f"{path}."
                yield from _inner_blocks(path, module)

    def _first(self, path: str, block: nn.Module) -> tuple[str, nn.Module]:
        norms = [(name, module) for name, module in block.named_modules() if is_batch_norm(module)]
        inner, norm = next((one for one in norms if not _SHORTCUT.search(one[0])), norms[0])
        return f"{path}.{inner}", norm


def replaced(network: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put layers in the place of others, by path."""
    for path, layer in layers.items():
        network.set_submodule(path, layer)


def _norms(module: nn.Module) -> int:
    return sum(is_batch_norm(part) for part in module.modules())


def _inner_blocks(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    parts = [(name, part) for name, part in module.named_children() if _norms(part)]
    if isinstance(module, nn.Sequential) and all(is_batch_norm(part) for _, part in parts):
        return  # a plain chain of layers, such as a stem of three convolutions
    if all(_norms(part) > 1 for _, part in parts):
        for name, part in parts:
            yield from _inner_blocks(f"{path}.{name}", part)
    else:
        yield path, module
