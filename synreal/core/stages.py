"""Where a backbone's stages are: names, module paths, channels, strides and layouts.

Stages are numbered as in the papers: 0 is the stem, 1 to 4 are the resolution groups of a ResNet
(strides 4, 8, 16 and 32), and the same strides on any other backbone. Where dilation keeps the resolution, depth
tells the groups apart: a dilated ResNet's last group is stage 4 at any stride. A plain transformer has one
resolution; its stages 1 to 4 are the blocks in which the four quarters of its depth end (blocks 2, 5, 8 and 11 of
12, counted from 0), and it has no stage 0.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import Tensor, nn

from synreal.core.declarations import feature_info_of, join, says, token_strides_of, tokens_of, wrapped
from synreal.core.discovery import discover, grid_stride, map_stride
from synreal.core.parts import find_entry, model_config
from synreal.core.trial import Seen, try_image, watch
from synreal.errors import StageError

CLASSIFIER_INPUT: Final = "classifier input"
"""Name of the stage that is the input of the final classifier; the blank in it keeps it apart from module paths."""

Layout = Literal["nchw", "nhwc", "tokens", "input"]


@dataclass(frozen=True)
class Stage:
    """One place where features are read.

    Attributes:
        name: ``"0"`` to ``"4"``, or the module path when the user named one.
        path: Module path from the root of the network, as in ``named_modules()``.
        channels: Number of channels C of the map.
        stride: Input size over map size, in pixels per cell.
        layout: Order of the module's output: ``(N, C, H, W)``, ``(N, H, W, C)`` or ``(N, L, C)``; ``"input"`` marks
            a place where the module's input is read, as it is.
        prefix_tokens: Class and register tokens before the patch tokens; 0 unless layout is ``"tokens"``.
    """

    name: str
    path: str
    channels: int
    stride: int
    layout: Layout
    prefix_tokens: int = 0

    @property
    def key(self) -> str:
        """Name that is legal as a key of ``nn.ModuleDict``, where dots are refused."""
        return "stage_" + self.name.replace(".", "_")


def as_map(output: Tensor, stage: Stage, input_size: tuple[int, int]) -> Tensor:
    """Bring a stage's output to the order (N, C, H, W), as a view; an ``"input"`` stays as it is.

    Args:
        output: What the stage's module returned.
        stage: The stage.
        input_size: Height and width of the network's input in pixels; gives the grid of a token map.

    Returns:
        The map, (N, C, H, W).

    Raises:
        StageError: If the output does not have the stage's layout.
    """
    if stage.layout == "input":
        return output
    if stage.layout == "tokens":
        tokens = output[:, stage.prefix_tokens :]
        rows, columns = (side // stage.stride for side in input_size)
        if tokens.ndim == 3 and tokens.shape[1] != rows * columns:  # a network may pad its input to whole patches
            rows, columns = (-(-side // stage.stride) for side in input_size)
        if tokens.ndim != 3 or tokens.shape[1:] != (rows * columns, stage.channels):
            raise StageError(
                f"Stage {stage.name} ({stage.path}) gave {tuple(output.shape)}; expected {stage.prefix_tokens} + "
                f"{rows} x {columns} tokens of {stage.channels} channels for an input of {input_size[0]} x "
                f"{input_size[1]} pixels."
            )
        return tokens.transpose(1, 2).view(output.shape[0], stage.channels, rows, columns)
    channel_axis = 1 if stage.layout == "nchw" else 3
    if output.ndim != 4 or output.shape[channel_axis] != stage.channels:
        raise StageError(
            f"Stage {stage.name} ({stage.path}) gave {tuple(output.shape)}; expected a 4-D map with "
            f"{stage.channels} channels in axis {channel_axis}."
        )
    return output if stage.layout == "nchw" else output.permute(0, 3, 1, 2)


def find_stages(model: nn.Module, *, entry: str | None = None) -> dict[str, Stage]:
    """Find the stages of a backbone and check them by a real forward pass.

    The pass runs without gradient on one made-up image, in eval mode: weights, statistics and modes are untouched.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps; found when None.

    Returns:
        Stages by name, in order of depth. Names that the backbone lacks are absent (a ConvNeXt has no stage 0).

    Raises:
        StageError: If no stage can be found, or what is found does not give a map.
    """
    entry = find_entry(model) if entry is None else entry
    found, image, seen = discover(model, entry)
    if not found:
        raise StageError(
            f"No stage with a map of stride 4 to 32 was found in {type(model).__name__}. "
            'Name modules yourself, e.g. stages={"4": "layer4"}.'
        )
    return _read(model.get_submodule(entry), entry, found, image, seen)


def resolve(
    model: nn.Module,
    wanted: Sequence[int | str],
    *,
    known: Mapping[str, str] | None = None,
    entry: str | None = None,
) -> dict[str, Stage]:
    """Turn stage numbers and module paths into checked stages.

    Args:
        model: The network.
        wanted: Numbers 0 to 4 or module paths.
        known: The user's own stage names and module paths; they override what is found.
        entry: Path of the module that turns images into maps; found when None.

    Returns:
        The wanted stages by name.

    Raises:
        StageError: If a stage does not exist; lists the valid ones and the nearest module path.
    """
    known = dict(known or {})
    names = list(dict.fromkeys(str(name) for name in wanted))
    if not names:
        return {}
    entry = find_entry(model) if entry is None else entry
    modules = dict(model.named_modules())
    for path in [*known.values(), *([entry] if entry else [])]:
        if path not in modules:
            raise _no_such_path(path, modules)
    paths = {name: known[name] for name in names if name in known}
    rest = [name for name in names if name not in paths]
    numbers = [name for name in rest if name.isdecimal()]
    found = find_stages(model, entry=entry) if numbers else {}
    for name in rest:
        if name in found:
            paths[name] = found[name].path
        elif name in modules and name and not name.isdecimal():
            paths[name] = name
        elif name.isdecimal():
            raise StageError(
                f"{type(model).__name__} has no stage {name}. It has: "
                + ", ".join(f"{s.name} ({s.path}, stride {s.stride})" for s in found.values())
                + "."
            )
        else:
            raise _no_such_path(name, modules)
    if all(name in found and found[name].path == path for name, path in paths.items()):
        return {name: found[name] for name in names}
    return probe(model, {name: paths[name] for name in names}, entry=entry)


def probe(model: nn.Module, paths: Mapping[str, str], *, entry: str = "") -> dict[str, Stage]:
    """Run one made-up image through the entry and read each path's channels, stride and layout.

    Args:
        model: The network.
        paths: Module path by stage name.
        entry: Path of the module that turns images into maps.

    Returns:
        Stages by name, in the order given.

    Raises:
        StageError: If a module never runs, runs more than once, or does not give a 2-D map.
    """
    network = model.get_submodule(entry)
    image, seen = watch(network, {path: model.get_submodule(path) for path in paths.values()}, model)
    return _read(network, entry, paths, image, seen)


def probe_input(model: nn.Module, name: str, path: str) -> Stage:
    """Describe the input of a module as a stage, by one forward pass.

    Args:
        model: The network, which is its own entry.
        name: Name of the stage.
        path: Module path.

    Returns:
        A stage of layout ``"input"`` and stride 0; its channels are the size of axis 1.

    Raises:
        StageError: If the module does not run or is not given a batch of vectors or maps.
    """
    seen: list[Any] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        try_image(model, model, seen.clear)
    finally:
        handle.remove()
    if not seen or not isinstance(seen[0], Tensor) or seen[0].ndim < 2:
        raise StageError(f"The {name} ({path}) of {type(model).__name__} is not given a batch of features.")
    return Stage(name, path, int(seen[0].shape[1]), 0, "input")


def _read(
    network: nn.Module, entry: str, paths: Mapping[str, str], image: Tensor, seen: Sequence[Seen]
) -> dict[str, Stage]:
    """Describe what the modules of some stages gave in a trial pass."""
    silent = [f"{name} ({path})" for name, path in paths.items() if all(s.path != path for s in seen)]
    if silent:
        raise StageError(
            f"No hook fired at stage {', '.join(silent)}: the forward pass goes around that module. With timm's "
            "set_grad_checkpointing(True), ResNet, EfficientNet and MobileNet do this; switch it off, or name a "
            "module that is called."
        )
    twice = [f"{name} ({path})" for name, path in paths.items() if sum(s.path == path for s in seen) > 1]
    if twice:
        raise StageError(
            f"Stage {', '.join(twice)} runs several times in one forward pass, so it has no single map. Name a module "
            "that is called once."
        )
    outputs = {s.path: s.output for s in seen}
    reader = _Reader(network, entry, (image.shape[2], image.shape[3]))
    return {name: reader.describe(name, path, outputs[path]) for name, path in paths.items()}


def _no_such_path(path: str, modules: Mapping[str, nn.Module]) -> StageError:
    near = difflib.get_close_matches(path, list(modules), n=3, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return StageError(f"The network has no module {path!r}.{hint} A stage is 0 to 4 or a module path.")


class _Reader:
    """Describes the outputs of a network's modules.

    Args:
        network: The module that turns images into maps.
        entry: Its path.
        size: Height and width of the image that went through it.
    """

    def __init__(self, network: nn.Module, entry: str, size: tuple[int, int]) -> None:
        self.size = size
        declared = feature_info_of(network) or []
        self.declared = {join(entry, path): stride for path, stride in declared}
        self.strides = dict.fromkeys([stride for _, stride in declared] or token_strides_of(network))
        # Needed where a map of a square image has as many positions along a side as channels.
        self.channels_last = any(getattr(inner, "output_fmt", None) == "NHWC" for _, inner in wrapped(network))
        prefix = says(network, "num_prefix_tokens")
        if prefix is None:  # torchvision's have a class token and do not say so; the first DINOv2 says half of it
            registers = (says(network, "num_register_tokens"), getattr(model_config(network), "num_register_tokens", 0))
            prefix = 1 + int(registers[0] or registers[1] or 0)
        # A class token may join late (CaiT), or another one for distillation, which transformers' DeiT does not say.
        self.prefixes = (int(prefix), 0, 2)
        # Hiera keeps tokens by mask units and not by rows; it alone knows how to put them back.
        self.scrambled = says(network, "reroll") is not None

    def describe(self, name: str, path: str, output: Any) -> Stage:
        """Describe an output as a stage."""
        declared = self.declared.get(path)
        output = tokens_of(output)
        if isinstance(output, Tensor) and output.ndim == 4:
            stride, last = map_stride(output, self.size, self.channels_last)
            if stride is None:  # a network without padding loses a part of a cell in each layer
                stride = declared or round(self.size[1] / output.shape[3])
            return Stage(name, path, int(output.shape[3 if last else 1]), stride, "nhwc" if last else "nchw")
        if isinstance(output, Tensor) and output.ndim == 3 and self.scrambled:
            raise StageError(
                f"Stage {name} ({path}) gives tokens in an order of the network's own, not in rows. Name a "
                "module that gives maps."
            )
        if isinstance(output, Tensor) and output.ndim == 3:
            for prefix in self.prefixes:
                stride = self._token_stride(output.shape[1] - prefix, declared)
                if stride is not None:
                    return Stage(name, path, int(output.shape[2]), stride, "tokens", prefix)
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise StageError(f"No 2-D map at stage {name} ({path}): the module gave {got}. Name another module.")

    def _token_stride(self, count: int, declared: int | None) -> int | None:
        height, width = self.size
        if count < 2:
            return None
        # Guessed only where the network is silent: other grids than the right one may have as many cells.
        for stride in [declared] if declared else self.strides or [math.isqrt(height * width // count)]:
            if stride and (height // stride) * (width // stride) == count:
                return stride if declared or self.strides else grid_stride(self.size, height // stride, width // stride)
        return None
