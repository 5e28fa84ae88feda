"""Where a backbone's stages are: names, module paths, channels, strides and layouts.

Stages are numbered as in the papers: 0 is the stem, 1 to 4 are the resolution groups of a ResNet
(strides 4, 8, 16 and 32), and the same strides on any other backbone. Nothing here imports a model zoo:
networks are recognised by what they carry (timm's ``feature_info``) and, failing that, by one forward pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synreal.errors import StageError

Layout = Literal["nchw", "nhwc", "tokens"]

_NAME_OF_STRIDE = {2: "0", 4: "1", 8: "2", 16: "3", 32: "4"}
_PROBE_SIZE = 128  # small enough to be quick, large enough that a pooled 1 x 1 map is no stage of stride 32


@dataclass(frozen=True)
class Stage:
    """One place where features are read.

    Attributes:
        name: ``"0"`` to ``"4"``, or the module path when the user named one.
        path: Module path from the root of the network, as in ``named_modules()``.
        channels: Number of channels C of the map.
        stride: Input size over map size, in pixels per cell.
        layout: Order of the module's output: ``(N, C, H, W)``, ``(N, H, W, C)`` or ``(N, L, C)``.
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
    """Bring a stage's output to the order (N, C, H, W), as a view.

    Args:
        output: What the stage's module returned.
        stage: The stage.
        input_size: Height and width of the network's input in pixels; gives the grid of a token map.

    Returns:
        The map, (N, C, H, W).

    Raises:
        StageError: If the output does not have the stage's layout.
    """
    if stage.layout == "tokens":
        rows, columns = input_size[0] // stage.stride, input_size[1] // stage.stride
        tokens = output[:, stage.prefix_tokens :]
        if tokens.ndim != 3 or tokens.shape[1] != rows * columns:
            raise StageError(
                f"Stage {stage.name} ({stage.path}) gave {tuple(output.shape)}; expected "
                f"{stage.prefix_tokens} + {rows} x {columns} tokens for an input of {input_size}."
            )
        return tokens.transpose(1, 2).view(output.shape[0], tokens.shape[2], rows, columns)
    channel_axis = 1 if stage.layout == "nchw" else 3
    if output.ndim != 4 or output.shape[channel_axis] != stage.channels:
        raise StageError(
            f"Stage {stage.name} ({stage.path}) gave {tuple(output.shape)}; expected a 4-D map with "
            f"{stage.channels} channels in axis {channel_axis}."
        )
    return output if stage.layout == "nchw" else output.permute(0, 3, 1, 2)


def find_entry(model: nn.Module) -> str:
    """Return the path of the module that turns images into stage maps.

    Args:
        model: A classifier, an smp model (``encoder``) or a torchvision detector (``backbone.body``).

    Returns:
        The path; empty for a network that is its own entry.
    """
    if isinstance(getattr(model, "encoder", None), nn.Module) and hasattr(model, "segmentation_head"):
        return "encoder"
    if isinstance(getattr(getattr(model, "backbone", None), "body", None), nn.Module):
        return "backbone.body"
    return ""


def find_stages(model: nn.Module, *, entry: str | None = None) -> dict[str, Stage]:
    """Find the stages of a backbone and check them by a real forward pass.

    The pass runs without gradient on one blank image, in eval mode: weights, statistics and modes are untouched.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps; found when None.

    Returns:
        Stages by name, in order of depth. Names that the backbone lacks are absent (a ConvNeXt has no stage 0).

    Raises:
        StageError: If no stage can be found.
    """
    entry = find_entry(model) if entry is None else entry
    found = _declared(model.get_submodule(entry))
    if found is None:
        found = _by_stride(model.get_submodule(entry))
    if not found:
        raise StageError(
            f"No stage with a map of stride 4 to 32 was found in {type(model).__name__}. "
            'Name modules yourself, e.g. stages={"4": "layer4"}.'
        )
    return probe(model, {name: _join(entry, path) for name, path in found.items()}, entry=entry)


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
        known: The user's own stage names and module paths; they go before what is found.
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
    return probe(model, {name: paths[name] for name in names}, entry=entry)


def probe(model: nn.Module, paths: Mapping[str, str], *, entry: str = "") -> dict[str, Stage]:
    """Run one blank image through the entry and read each path's channels, stride and layout.

    Args:
        model: The network.
        paths: Module path by stage name.
        entry: Path of the module that turns images into maps.

    Returns:
        Stages by name, in the order given.

    Raises:
        StageError: If a module never runs or gives no 2-D map.
    """
    image = blank_image(model.get_submodule(entry))
    outputs: dict[str, Any] = {}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda _module, _args, output, name=name: outputs.__setitem__(name, output)
        )
        for name, path in paths.items()
    ]
    try:
        with _quiet_eval(model), torch.no_grad():
            model.get_submodule(entry)(image)
    finally:
        for handle in handles:
            handle.remove()
    silent = [f"{name} ({path})" for name, path in paths.items() if name not in outputs]
    if silent:
        raise StageError(
            f"No hook fired at stage {', '.join(silent)}: the forward pass goes around that module. With timm's "
            "set_grad_checkpointing(True), ResNet, EfficientNet and MobileNet do this; switch it off, or name a "
            "module that is called."
        )
    width = image.shape[-1]
    tokens = _prefix_tokens(model.get_submodule(entry))
    # timm says so; needed where a map has as many positions along a side as channels.
    last = getattr(model.get_submodule(entry), "output_fmt", None) == "NHWC"
    return {
        name: _describe(name, path, outputs[name], width, tokens, _declared_channels(model, entry, path), last)
        for name, path in paths.items()
    }


def find_head(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that belong to the task's head rather than to the backbone.

    For an smp model or a torchvision detector that is everything outside the entry; for a classifier it is the
    final classifier (timm's ``get_classifier()``, else ``fc``, ``classifier``, ``head`` or ``heads``).

    Args:
        model: The network.

    Returns:
        Parameter names as in ``named_parameters()``; empty if the network has no recognisable classifier.
    """
    entry = find_entry(model)
    names = [name for name, _ in model.named_parameters()]
    if entry:
        return frozenset(name for name in names if not name.startswith(entry + "."))
    classifier: Any = getattr(model, "get_classifier", None)
    head = classifier() if callable(classifier) else None
    if not isinstance(head, nn.Module):
        candidates = (getattr(model, name, None) for name in ("fc", "classifier", "head", "heads"))
        head = next((module for module in candidates if isinstance(module, nn.Module)), None)
    if head is None:
        return frozenset()
    own = {id(parameter) for parameter in head.parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in own)


def blank_image(model: nn.Module) -> Tensor:
    """Return one image of zeros of a size and channel count that the network takes, on its device and dtype."""
    cfg = getattr(model, "pretrained_cfg", None) or {}
    embed = getattr(model, "patch_embed", None)
    size: Any = getattr(embed, "img_size", None)
    if size is None and cfg.get("fixed_input_size"):
        size = cfg["input_size"][-2:]
    if size is None:
        size = getattr(model, "image_size", None) or _PROBE_SIZE
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    channels = conv.in_channels if conv is not None else 3
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, channels, height, width, device=parameter.device, dtype=parameter.dtype)


@contextmanager
def _quiet_eval(model: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for a probe, then give every module its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _join(entry: str, path: str) -> str:
    return f"{entry}.{path}" if entry else path


def _no_such_path(path: str, modules: Mapping[str, nn.Module]) -> StageError:
    near = difflib.get_close_matches(path, list(modules), n=3, cutoff=0.4)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return StageError(f"The network has no module {path!r}.{hint} A stage is 0 to 4 or a module path.")


def _feature_info(model: nn.Module) -> list[dict[str, Any]] | None:
    info = getattr(model, "feature_info", None)
    info = getattr(info, "info", info)
    if not isinstance(info, (list, tuple)) or not info or not all("module" in entry for entry in info):
        return None
    return [dict(entry) for entry in info]


def _declared(model: nn.Module) -> dict[str, str] | None:
    """Read stage paths from what timm declares; None if the network declares nothing usable."""
    for prefix in ("", "model"):  # smp's timm encoders keep the timm network under `model`
        inner = model if not prefix else getattr(model, prefix, None)
        info = _feature_info(inner) if isinstance(inner, nn.Module) else None
        if info is None:
            continue
        modules = dict(model.named_modules())
        paths = []
        for entry in info:
            path = _join(prefix, entry["module"])
            # timm's features_only networks flatten `blocks.0` to `blocks_0`.
            flat = _join(prefix, entry["module"].replace(".", "_"))
            paths.append(path if path in modules else flat)
        if not all(path in modules for path in paths):
            return None
        strides = [int(entry["reduction"]) for entry in info]
        if len(set(strides)) == len(strides):
            return {_NAME_OF_STRIDE[s]: p for s, p in zip(strides, paths, strict=True) if s in _NAME_OF_STRIDE}
        if len(set(strides)) == 1:  # a plain transformer: the four quarters of its depth
            quarter = len(paths) / 4
            return {str(i): paths[round(i * quarter) - 1] for i in (1, 2, 3, 4)} if len(paths) >= 4 else None
        if len(paths) in (4, 5):  # dilated: several stages share a stride, depth still tells them apart
            return {str(i + 5 - len(paths)): path for i, path in enumerate(paths)}
        return None
    return None


def _declared_channels(model: nn.Module, entry: str, path: str) -> int | None:
    """Return the channels that timm declares for a path; settles which axis of a square output is which."""
    module = model.get_submodule(entry)
    for inner in (module, getattr(module, "model", None)):
        info = _feature_info(inner) if isinstance(inner, nn.Module) else None
        for item in info or []:
            if path.endswith(item["module"]) or path.endswith(item["module"].replace(".", "_")):
                return int(item["num_chs"])
    return None


def _by_stride(model: nn.Module) -> dict[str, str]:
    """Find, by one forward pass, the outermost module that gives a map of each stride, and the last of these."""
    image = blank_image(model)
    seen: list[tuple[str, str, Tensor, int]] = []

    def note(path: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            stride = image.shape[-1] / output.shape[-1]
            name = _NAME_OF_STRIDE.get(int(stride)) if stride.is_integer() else None
            if name:
                seen.append((name, path, output, output._version))

    handles = [
        module.register_forward_hook(lambda _module, _args, output, path=path: note(path, output))
        for path, module in model.named_modules()
        if path
    ]
    try:
        with _quiet_eval(model), torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    last: dict[str, str] = {}
    for name, path, output, version in seen:
        final = output._version == version  # torchvision's DenseNet applies a ReLU in place to its last map
        if final and (name not in last or path.count(".") <= last[name].count(".")):
            last[name] = path
    return dict(sorted(last.items()))


def _prefix_tokens(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0) or 0)


def _describe(
    name: str, path: str, output: Any, width: int, prefix_tokens: int, channels: int | None, channels_last: bool
) -> Stage:
    if isinstance(output, Tensor) and output.ndim == 4:
        nhwc = channels is not None and output.shape[3] == channels and (channels_last or output.shape[1] != channels)
        size = output.shape[2] if nhwc else output.shape[3]
        return Stage(name, path, int(output.shape[3 if nhwc else 1]), round(width / size), "nhwc" if nhwc else "nchw")
    if isinstance(output, Tensor) and output.ndim == 3:
        side = round((output.shape[1] - prefix_tokens) ** 0.5)
        if side > 0 and side * side == output.shape[1] - prefix_tokens:
            return Stage(name, path, int(output.shape[2]), round(width / side), "tokens", prefix_tokens)
    got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise StageError(f"No 2-D map at stage {name} ({path}): the module gave {got}. Name another module.")
