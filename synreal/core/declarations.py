"""What a network says of itself: timm's ``feature_info``, transformers' ``config``, and attributes of a network.

Nothing here imports a model zoo: networks are recognised by what they carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from synreal.core.parts import model_config


def join(entry: str, path: str) -> str:
    """Join the path of an entry, which may be empty, and a path inside it."""
    return f"{entry}.{path}" if entry else path


def wrapped(network: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield a network and those it wraps as ``model``, as smp's encoders and timm's ``features_only`` do."""
    path = ""
    while isinstance(network, nn.Module):
        yield path, network
        path, network = join(path, "model"), getattr(network, "model", None)


def says(network: nn.Module, attribute: str) -> Any:
    """Return what a network, or one that it wraps, says of itself; None if it says nothing."""
    values = (getattr(inner, attribute, None) for _, inner in wrapped(network))
    return next((value for value in values if value is not None), None)


def feature_info_of(network: nn.Module) -> list[tuple[str, int]] | None:
    """Return the modules and strides that timm declares, or None.

    Paths are as they are in this network; empty where there is no such module.
    """
    modules = dict(network.named_modules())
    declared = None
    for prefix, inner in wrapped(network):
        info = getattr(inner, "feature_info", None)
        info = getattr(info, "info", info)
        if not isinstance(info, (list, tuple)) or not info or not all({"module", "reduction"} <= {*i} for i in info):
            continue
        declared = []
        for item in info:
            # timm's features_only networks flatten `blocks.0` to `blocks_0`.
            paths = (join(prefix, item["module"]), join(prefix, item["module"].replace(".", "_")))
            declared.append((next((path for path in paths if path and path in modules), ""), int(item["reduction"])))
        if any(path for path, _ in declared):
            break
    return declared


def token_strides_of(network: nn.Module) -> list[int]:
    """Return the strides that tokens of a model of transformers may have: its patches', and 2, 4 and 8 times it."""
    patch: Any = getattr(model_config(network), "patch_size", None)
    return [patch << times for times in range(4)] if isinstance(patch, int) and not isinstance(patch, bool) else []


def tokens_of(output: Any) -> Any:
    """Return the tokens (N, L, C) that stand first in a tuple, as transformers' layers return them; else the output."""
    first = output[0] if isinstance(output, tuple) and output else None
    return first if isinstance(first, Tensor) and first.ndim == 3 else output
