"""Where a backbone's stages are: names, module paths, channels, strides and layouts.

Stages are numbered as in the papers: 0 is the stem, 1 to 4 are the resolution groups of a ResNet
(strides 4, 8, 16 and 32), and the same strides on any other backbone. Where dilation keeps the resolution, depth
tells the groups apart: a dilated ResNet's last group is stage 4 at any stride. A plain transformer has one
resolution; its stages 1 to 4 are the blocks in which the four quarters of its depth end (blocks 2, 5, 8 and 11 of
12, counted from 0), and it has no stage 0.

Nothing here imports a model zoo: networks are recognised by what they carry (timm's ``feature_info``) and, failing
that, by one forward pass.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synreal.errors import StageError

Layout = Literal["nchw", "nhwc", "tokens", "input"]
RGB = tuple[float, float, float]

_NAME_OF_STRIDE = {2: "0", 4: "1", 8: "2", 16: "3", 32: "4"}
# Small enough to be quick, large enough that a pooled 1 x 1 map is no stage of stride 32, and not square: the shape of
# a map then tells which axis holds the channels.
_PROBE_SIZE = (128, 160)
_OTHER_SIZES = ((224, 224), (256, 256), (320, 320), (64, 64))  # for networks whose windows do not fit into the first


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


def find_entry(model: nn.Module) -> str:
    """Return the path of the module that turns images into stage maps.

    Args:
        model: A classifier, an smp model (``encoder``), or a torchvision detector or segmentation network
            (``backbone.body``, or ``backbone`` where it has no feature pyramid).

    Returns:
        The path; empty for a network that is its own entry.
    """
    if isinstance(getattr(model, "encoder", None), nn.Module) and hasattr(model, "segmentation_head"):
        return "encoder"
    backbone = getattr(model, "backbone", None)
    if isinstance(getattr(backbone, "body", None), nn.Module):
        return "backbone.body"
    # A detector resizes images in `transform`; a segmentation network's backbone names the layers that it returns.
    if isinstance(backbone, nn.Module) and (hasattr(model, "transform") or hasattr(backbone, "return_layers")):
        return "backbone"
    return ""


def find_stages(model: nn.Module, *, entry: str | None = None) -> dict[str, Stage]:
    """Find the stages of a backbone and check them by a real forward pass.

    The pass runs without gradient on one made-up image, in eval mode: weights, statistics and modes are untouched.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps; found when None.

    Returns:
        Stages by name, in order of depth. Names that the backbone lacks are absent (a ConvNeXt has no stage 0).

    Raises:
        StageError: If no stage can be found, or what is found gives no map.
    """
    entry = find_entry(model) if entry is None else entry
    network = model.get_submodule(entry)
    modules = {_join(entry, path): module for path, module in network.named_modules()}
    declared = _declared(network)
    if declared is None:
        image, seen = _watch(network, modules, model)
        found = _by_returned(image, seen) or _by_stride(image, seen)
        if len(found) < 2:  # no more than a patch embedding
            found = _by_depth(seen) or found
    else:
        found = {name: _join(entry, path) for name, path in declared.items()}
        image, seen = _watch(network, {path: modules[path] for path in found.values()}, model)
        if not all(one.final for one in seen):
            image, seen = _watch(network, modules, model)
            found = {name: _settled(path, seen) for name, path in found.items()}
    if not found:
        raise StageError(
            f"No stage with a map of stride 4 to 32 was found in {type(model).__name__}. "
            'Name modules yourself, e.g. stages={"4": "layer4"}.'
        )
    return _read(network, entry, found, image, seen)


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
        StageError: If a module never runs, runs more than once, or gives no 2-D map.
    """
    network = model.get_submodule(entry)
    image, seen = _watch(network, {path: model.get_submodule(path) for path in paths.values()}, model)
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
        _run(model, model, seen.clear)
    finally:
        handle.remove()
    if not seen or not isinstance(seen[0], Tensor) or seen[0].ndim < 2:
        raise StageError(f"The {name} ({path}) of {type(model).__name__} is not given a batch of features.")
    return Stage(name, path, int(seen[0].shape[1]), 0, "input")


def find_head(model: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that belong to the task's head rather than to the backbone.

    For an smp model or a torchvision detector that is everything outside the entry; for a classifier it is what
    ``find_classifier`` finds, and the second classifier of a distilled transformer.

    Args:
        model: The network.

    Returns:
        Parameter names as in ``named_parameters()``; empty if the network has no recognisable classifier.
    """
    entry = find_entry(model)
    if entry:
        return frozenset(name for name, _ in model.named_parameters() if not name.startswith(entry + "."))
    own = {id(parameter) for path in find_classifiers(model) for parameter in model.get_submodule(path).parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in own)


def find_classifier(model: nn.Module) -> str:
    """Return the path of the final classifier of a classification network.

    That is timm's ``get_classifier()``, else the module called ``fc``, ``classifier``, ``head`` or ``heads``, as it is:
    torchvision's ``classifier`` may be a ``Sequential`` with a normalisation or hidden layers before the last one.

    Args:
        model: The network.

    Returns:
        The path as in ``named_modules()``; of a distilled transformer's two classifiers the first. Empty if there is
        none, if it was taken away (an ``Identity`` in its place), or if the network's images enter elsewhere than at
        its root, as in an smp model or a torchvision detector.
    """
    return next(iter(find_classifiers(model)), "")


def find_classifiers(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of all final classifiers, as ``find_classifier`` finds them; a distilled transformer has two."""
    if find_entry(model):
        return ()
    classifier: Any = getattr(model, "get_classifier", None)
    heads = classifier() if callable(classifier) else None
    heads = [head for head in (heads if isinstance(heads, tuple) else (heads,)) if isinstance(head, nn.Module)]
    if not heads:
        candidates = (getattr(model, name, None) for name in ("fc", "classifier", "head", "heads"))
        heads = [head for head in candidates if isinstance(head, nn.Module)][:1]
    paths = {id(module): path for path, module in model.named_modules()}
    return tuple(paths[id(head)] for head in heads if id(head) in paths and not isinstance(head, nn.Identity))


def input_statistics(model: nn.Module) -> tuple[RGB, RGB] | None:
    """Return the mean and standard deviation of the images that a network was made for.

    Args:
        model: Any network. A torchvision detector says it in its ``transform``, a timm model, or the one inside of a
            segmentation model, in its ``pretrained_cfg``.

    Returns:
        ``(mean, std)`` per RGB channel, for images in [0, 1]; None where nothing says three-channel values.
    """
    resizing: Any = getattr(model, "transform", None)
    said = [(getattr(resizing, "image_mean", None), getattr(resizing, "image_std", None))]
    for module in model.modules():
        config = getattr(module, "pretrained_cfg", None)
        if isinstance(config, Mapping):
            said.append((config.get("mean"), config.get("std")))
    for mean, std in said:
        if all(isinstance(value, (list, tuple)) and len(value) == 3 for value in (mean, std)):
            return _rgb(mean), _rgb(std)
    return None


def _rgb(values: Any) -> RGB:
    return float(values[0]), float(values[1]), float(values[2])


def fitting_shape(model: nn.Module) -> tuple[int, ...]:
    """Return the shape (1, C, H, W) of the first made-up image that a network takes, found by running it.

    Raises:
        StageError: If the network takes no image of any size that is tried.
    """
    return tuple(_run(model, model, lambda: None).shape)


def _blank_images(model: nn.Module) -> Iterator[Tensor]:
    """Yield blank images (1, C, H, W) on the network's device and in its dtype, the most promising first.

    They are not square unless the network says that it takes one size only.
    """
    cfg = _says(model, "pretrained_cfg")
    cfg = cfg if isinstance(cfg, Mapping) else {}
    size: Any = getattr(_says(model, "patch_embed"), "img_size", None)
    if size is None and cfg.get("fixed_input_size"):
        size = cfg["input_size"][-2:]
    if size is None:
        size = getattr(model, "image_size", None)
    sizes = [_PROBE_SIZE, *_OTHER_SIZES]
    if size is not None:
        sizes.insert(0, (size, size) if isinstance(size, int) else tuple(size))
    conv = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    # A network that folds pixels into channels has a first convolution of more channels than its images.
    channels = dict.fromkeys([conv.in_channels if conv is not None else 3, 3])
    parameter = next(model.parameters(), torch.zeros(()))
    for count in channels:
        for height, width in sizes:
            yield torch.zeros(1, count, height, width, device=parameter.device, dtype=parameter.dtype)


@dataclass(frozen=True)
class _Seen:
    """What one call of a module gave in a trial pass."""

    path: str
    module: nn.Module
    output: Any
    version: int

    @property
    def final(self) -> bool:
        """Whether nothing changed the output in place afterwards."""
        return not isinstance(self.output, Tensor) or self.output._version == self.version


def _run(network: nn.Module, model: nn.Module, start: Callable[[], None]) -> Tensor:
    """Run one image through a network, in eval mode and without gradient.

    Args:
        network: What takes the image.
        model: What contains it, put into eval mode as a whole.
        start: Called before each attempt.

    Returns:
        The image that went through.

    Raises:
        StageError: If the network takes no image of any size that is tried.
    """
    first: Exception | None = None
    with _quiet_eval(model), torch.no_grad():
        for image in _blank_images(network):
            start()
            # From zeros, an untrained network would give zeros everywhere, and its maps could not be told apart.
            image += torch.linspace(-1, 1, image.shape[3], device=image.device, dtype=image.dtype)
            try:
                network(image)
                return image
            except (RuntimeError, ValueError, TypeError, AssertionError) as error:
                first = first or error
    raise StageError(
        f"{type(network).__name__} failed on an image {tuple(next(_blank_images(network)).shape)}, and on other sizes: "
        f"{type(first).__name__}: {first}. Give entry=, the path of the module that takes images (N, C, H, W)."
    ) from first


def _watch(network: nn.Module, modules: Mapping[str, nn.Module], model: nn.Module) -> tuple[Tensor, list[_Seen]]:
    """Run one image through a network; give it and what each call of a watched module gave, as they ended."""
    seen: list[_Seen] = []

    def note(path: str, module: nn.Module, output: Any) -> None:
        seen.append(_Seen(path, module, output, output._version if isinstance(output, Tensor) else 0))

    handles = [
        module.register_forward_hook(lambda module, _args, output, path=path: note(path, module, output))
        for path, module in modules.items()
    ]
    try:
        return _run(network, model, seen.clear), seen
    finally:
        for handle in handles:
            handle.remove()


def _read(
    network: nn.Module, entry: str, paths: Mapping[str, str], image: Tensor, seen: Sequence[_Seen]
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
            f"Stage {', '.join(twice)} runs several times in one forward pass, so it has no one map. Name a module "
            "that is called once."
        )
    outputs = {s.path: s.output for s in seen}
    reader = _Reader(network, entry, (image.shape[2], image.shape[3]))
    return {name: reader.describe(name, path, outputs[path]) for name, path in paths.items()}


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


def _zoo(network: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield a network and those it wraps as ``model``, as smp's encoders and timm's ``features_only`` do."""
    path = ""
    while isinstance(network, nn.Module):
        yield path, network
        path, network = _join(path, "model"), getattr(network, "model", None)


def _says(network: nn.Module, attribute: str) -> Any:
    """Return what a network, or one that it wraps, says of itself; None if it says nothing."""
    values = (getattr(inner, attribute, None) for _, inner in _zoo(network))
    return next((value for value in values if value is not None), None)


def _feature_info(network: nn.Module) -> list[tuple[str, int]] | None:
    """Return the modules and strides that timm declares, or None.

    Paths are as they are in this network; empty where there is no such module.
    """
    modules = dict(network.named_modules())
    declared = None
    for prefix, inner in _zoo(network):
        info = getattr(inner, "feature_info", None)
        info = getattr(info, "info", info)
        if not isinstance(info, (list, tuple)) or not info or not all({"module", "reduction"} <= {*i} for i in info):
            continue
        declared = []
        for item in info:
            # timm's features_only networks flatten `blocks.0` to `blocks_0`.
            paths = (_join(prefix, item["module"]), _join(prefix, item["module"].replace(".", "_")))
            declared.append((next((path for path in paths if path and path in modules), ""), int(item["reduction"])))
        if any(path for path, _ in declared):
            break
    return declared


def _declared(network: nn.Module) -> dict[str, str] | None:
    """Read stage paths from what timm declares; None if the network declares nothing.

    Raises:
        StageError: If what it declares cannot be read: then a guess from strides would be wrong too.
    """
    declared = _feature_info(network)
    if declared is None:
        return None
    info = [(path, stride) for path, stride in declared if path]
    paths = [path for path, _ in info]
    strides = {stride for _, stride in info}
    named: dict[str, str] = {}
    if len(strides) == len(info) or max(strides) > 32:
        named = {_NAME_OF_STRIDE[stride]: path for path, stride in info if stride in _NAME_OF_STRIDE}
    elif len(strides) == 1 and len(info) >= 4:
        named = _quarters(paths)
    elif len(info) in (4, 5):  # several stages share a stride, depth still tells them apart
        named = {str(i + 5 - len(info)): path for i, path in enumerate(paths)}
    if not named:
        raise StageError(
            f"What {type(network).__name__} declares in feature_info does not tell its stages 0 to 4. Name modules "
            'yourself, e.g. stages={"4": "layer4"}.'
        )
    return named


def _settled(path: str, seen: Sequence[_Seen]) -> str:
    """Return the module that gave a stage's map its final values, where one later than declared changed it in place."""
    outputs = [one.output for one in seen if one.path == path]
    later = (one.path for one in reversed(seen[:-1]) if any(one.output is output for output in outputs) and one.final)
    return next(later, path)


def _quarters(paths: Sequence[str]) -> dict[str, str]:
    """Return the blocks in which the quarters of a plain transformer's depth end."""
    return {str(i): paths[math.ceil(i * len(paths) / 4) - 1] for i in (1, 2, 3, 4)}


def _by_returned(image: Tensor, seen: Sequence[_Seen]) -> dict[str, str]:
    """Find the modules whose maps the network returns as smp's encoders do: after the image, from stride 2 on.

    Where dilation keeps the resolution, the place in the list still tells the stage.
    """
    maps = seen[-1].output
    if not isinstance(maps, (list, tuple)) or not maps or maps[0] is not image:
        return {}
    calls = Counter(one.path for one in seen)
    once = [s for s in reversed(seen) if isinstance(s.output, Tensor) and calls[s.path] == 1 and s.final]
    found: dict[str, str] = {}
    for name, given in enumerate(maps[1:6]):
        # Or a copy of a module's output; and of the modules that pass it on, the outermost.
        same = [s for s in once if s.output is given] or [s for s in once if torch.equal(s.output, given)]
        if same:
            found[str(name)] = min(same, key=lambda s: s.path.count(".")).path
    return found


def _by_stride(image: Tensor, seen: Sequence[_Seen]) -> dict[str, str]:
    """Find the outermost module that gives a map of each stride, and the last of these."""
    size = (image.shape[2], image.shape[3])
    calls = Counter(one.path for one in seen)
    found: list[tuple[_Seen, int, int]] = []
    deepest = dilation = 1
    for one in seen:
        stride = _map_stride(one.output, size)[0]
        if stride in _NAME_OF_STRIDE and stride > deepest and size[0] > stride:
            deepest, dilation = stride, 1
        if isinstance(one.module, nn.Conv2d):
            dilation = max(dilation, *map(int, one.module.dilation))
        # torchvision's DenseNet applies a ReLU in place to its last map.
        if stride and one is not seen[-1] and calls[one.path] == 1 and one.final and size[0] > stride:
            found.append((one, stride, dilation))
    last: dict[str, str] = {}
    for one, stride, dilation in found:
        # Where dilation takes the place of a stride, it tells how deep a group of the last resolution lies.
        name = _NAME_OF_STRIDE.get(min(stride * dilation, 32) if stride == deepest else stride)
        if name and (name not in last or one.path.count(".") <= last[name].count(".")):
            last[name] = one.path
    return dict(sorted(last.items()))


def _by_depth(seen: Sequence[_Seen]) -> dict[str, str]:
    """Find the blocks of a plain transformer: the outermost four or more modules of a kind that give equal tokens."""
    groups: dict[tuple[str, type, torch.Size], list[str]] = {}
    for one in seen:
        if isinstance(one.output, Tensor) and one.output.ndim == 3:
            groups.setdefault((one.path.rpartition(".")[0], type(one.module), one.output.shape), []).append(one.path)
    chains = [paths for paths in groups.values() if len(paths) >= 4]
    return _quarters(min(chains, key=lambda paths: paths[0].count("."))) if chains else {}


def _stride(size: tuple[int, int], rows: int, columns: int) -> int | None:
    """Return the pixels per cell of a grid; None unless it divides the image into squares."""
    stride = size[0] // rows if rows else 0
    return stride if stride and (rows * stride, columns * stride) == size else None


def _map_stride(output: Any, size: tuple[int, int], prefer_last: bool = False) -> tuple[int | None, bool]:
    """Return a 4-D output's stride, None if it is no map of whole cells, and whether its channels are in axis 3."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None, False
    nchw = _stride(size, output.shape[2], output.shape[3])
    nhwc = _stride(size, output.shape[1], output.shape[2])
    if nhwc is not None and (prefer_last or nchw is None):
        return nhwc, True
    return nchw, False


class _Reader:
    """Describes the outputs of a network's modules.

    Args:
        network: The module that turns images into maps.
        entry: Its path.
        size: Height and width of the image that went through it.
    """

    def __init__(self, network: nn.Module, entry: str, size: tuple[int, int]) -> None:
        self.size = size
        declared = _feature_info(network) or []
        self.declared = {_join(entry, path): stride for path, stride in declared}
        self.strides = dict.fromkeys(stride for _, stride in declared)
        # Needed where a map of a square image has as many positions along a side as channels.
        self.channels_last = any(getattr(inner, "output_fmt", None) == "NHWC" for _, inner in _zoo(network))
        prefix = _says(network, "num_prefix_tokens")
        if prefix is None:  # torchvision's have a class token and do not say so; the first DINOv2 says half of it
            prefix = 1 + int(_says(network, "num_register_tokens") or 0)
        # A class token may join late (CaiT).
        self.prefixes = (int(prefix), 0)
        # Hiera keeps tokens by mask units and not by rows; it alone knows how to put them back.
        self.scrambled = _says(network, "reroll") is not None

    def describe(self, name: str, path: str, output: Any) -> Stage:
        """Describe an output as a stage."""
        declared = self.declared.get(path)
        if isinstance(output, Tensor) and output.ndim == 4:
            stride, last = _map_stride(output, self.size, self.channels_last)
            if stride is None:  # a network without padding loses a part of a cell in each layer
                stride = declared or round(self.size[1] / output.shape[3])
            return Stage(name, path, int(output.shape[3 if last else 1]), stride, "nhwc" if last else "nchw")
        if isinstance(output, Tensor) and output.ndim == 3 and self.scrambled:
            raise StageError(
                f"Stage {name} ({path}) gives tokens in an order of the network's own, which are no 2-D map. Name a "
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
                return stride if declared or self.strides else _stride(self.size, height // stride, width // stride)
        return None
