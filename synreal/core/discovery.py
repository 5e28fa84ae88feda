"""Which modules are the stages: what timm declares or, failing that, what one forward pass shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from synreal.core.declarations import feature_info_of, join, token_strides_of, tokens_of
from synreal.core.trial import Seen, watch
from synreal.errors import StageError

_NAME_OF_STRIDE: Final = {2: "0", 4: "1", 8: "2", 16: "3", 32: "4"}


def discover(model: nn.Module, entry: str) -> tuple[dict[str, str], Tensor, list[Seen]]:
    """Find the modules that are a network's stages, by one trial pass or two.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps; may be empty.

    Returns:
        Module paths by the names of the stages, in order of depth, and the last trial pass: the image (1, C, H, W) and
        what was seen of it. No path if no stage was found.

    Raises:
        StageError: If the network declares what cannot be read, or takes no image.
    """
    network = model.get_submodule(entry)
    modules = {join(entry, path): module for path, module in network.named_modules()}
    declared = _declared(network)
    if declared is None:
        image, seen = watch(network, modules, model)
        found = _by_returned(image, seen) or _by_stride(image, seen)
        if len(found) < 2:  # no more than a patch embedding
            found = _by_tokens(image, seen, token_strides_of(network)) or _by_depth(seen) or found
        return found, image, seen
    found = {name: join(entry, path) for name, path in declared.items()}
    image, seen = watch(network, {path: modules[path] for path in found.values()}, model)
    if not all(one.final for one in seen):
        image, seen = watch(network, modules, model)
        found = {name: _settled(path, seen) for name, path in found.items()}
    return found, image, seen


def _declared(network: nn.Module) -> dict[str, str] | None:
    """Read stage paths from what timm declares; None if the network declares nothing.

    Raises:
        StageError: If what it declares cannot be read: then a guess from strides would be wrong too.
    """
    declared = feature_info_of(network)
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


def _settled(path: str, seen: Sequence[Seen]) -> str:
    """Return the module that gave a stage's map its final values, where one later than declared changed it in place."""
    outputs = [one.output for one in seen if one.path == path]
    later = (one.path for one in reversed(seen[:-1]) if any(one.output is output for output in outputs) and one.final)
    return next(later, path)


def _quarters(paths: Sequence[str]) -> dict[str, str]:
    """Return the blocks in which the quarters of a plain transformer's depth end."""
    return {str(i): paths[math.ceil(i * len(paths) / 4) - 1] for i in (1, 2, 3, 4)}


def _by_returned(image: Tensor, seen: Sequence[Seen]) -> dict[str, str]:
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


def _by_stride(image: Tensor, seen: Sequence[Seen]) -> dict[str, str]:
    """Find the outermost module that gives a map of each stride, and the last of these."""
    size = (image.shape[2], image.shape[3])
    calls = Counter(one.path for one in seen)
    found: list[tuple[Seen, int, int]] = []
    deepest = dilation = 1
    for one in seen:
        stride = map_stride(one.output, size)[0]
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


def _by_tokens(image: Tensor, seen: Sequence[Seen], strides: Sequence[int]) -> dict[str, str]:
    """Find the last block of each stride in a transformer that merges tokens, as transformers' Swin does.

    A block is of the outermost kind of module with parts of its own that gives tokens of every stride.
    """
    height, width = image.shape[2:]
    counts = {(height // stride) * (width // stride): stride for stride in strides}
    calls = Counter(one.path for one in seen)
    kinds: dict[type, dict[int, str]] = {}
    for one in seen:
        output = tokens_of(one.output)
        tokens = output.shape[1] if isinstance(output, Tensor) and output.ndim == 3 else 0
        if tokens in counts and calls[one.path] == 1 and any(True for _ in one.module.children()):
            kinds.setdefault(type(one.module), {})[counts[tokens]] = one.path
    most = max(map(len, kinds.values()), default=0)
    if most < 2:
        return {}
    whole = [paths for paths in kinds.values() if len(paths) == most]
    paths = min(whole, key=lambda found: max(path.count(".") for path in found.values()))
    return {_NAME_OF_STRIDE[stride]: path for stride, path in sorted(paths.items()) if stride in _NAME_OF_STRIDE}


def _by_depth(seen: Sequence[Seen]) -> dict[str, str]:
    """Find the blocks of a plain transformer: the outermost four or more modules of a kind that give equal tokens."""
    groups: dict[tuple[str, type, torch.Size], list[str]] = {}
    for one in seen:
        output = tokens_of(one.output)
        if isinstance(output, Tensor) and output.ndim == 3:
            groups.setdefault((one.path.rpartition(".")[0], type(one.module), output.shape), []).append(one.path)
    chains = [paths for paths in groups.values() if len(paths) >= 4]
    return _quarters(min(chains, key=lambda paths: paths[0].count("."))) if chains else {}


def grid_stride(size: tuple[int, int], rows: int, columns: int) -> int | None:
    """Return the pixels per cell of a grid; None unless it divides the image into squares."""
    stride = size[0] // rows if rows else 0
    return stride if stride and (rows * stride, columns * stride) == size else None


def map_stride(output: Any, size: tuple[int, int], prefer_last: bool = False) -> tuple[int | None, bool]:
    """Return a 4-D output's stride, None unless it is a map of whole cells, and whether its channels are in axis 3."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None, False
    nchw = grid_stride(size, output.shape[2], output.shape[3])
    nhwc = grid_stride(size, output.shape[1], output.shape[2])
    if nhwc is not None and (prefer_last or nchw is None):
        return nhwc, True
    return nchw, False
