"""The parts of a network: where images enter, its task's head and classifiers, the images that it was made for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from synreal.errors import ConfigError

RGB = tuple[float, float, float]


def check_values(network: nn.Module, role: str = "network") -> None:
    """Refuse a network whose weights have no values yet.

    Args:
        network: Any network.
        role: What it is, for the message.

    Raises:
        ConfigError: If a parameter or buffer is on the device ``meta``, or is made when the first image comes.
    """
    held = [*network.named_parameters(), *network.named_buffers()]
    empty = [name for name, value in held if is_lazy(value) or value.is_meta]
    if empty:
        raise ConfigError(
            f"The {role}, {type(network).__name__}, has no values for {len(empty)} of its {len(held)} parameters and "
            f"buffers, e.g. {empty[0]}: they are on the device meta or are made by the first image. Give it weights "
            'first: network.to_empty(device="cpu") and load_state_dict(), or an image for lazy layers.'
        )


def find_entry(model: nn.Module) -> str:
    """Return the path of the module that turns images into stage maps.

    Args:
        model: A classifier, an smp model (``encoder``), a torchvision detector or segmentation network
            (``backbone.body``, or ``backbone`` where it has no feature pyramid), or a segmenter of transformers.

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
    prefix = base_model_prefix(model)
    inside = bool(prefix) and isinstance(getattr(model, prefix or "", None), nn.Module)
    return prefix if prefix and inside and not _by_name(model) else ""


def declares_backbone(module: nn.Module) -> bool:
    """Return whether a module says that it is a pretrained network, as those of timm and of transformers do."""
    return getattr(module, "feature_info", None) is not None or isinstance(base_model_prefix(module), str)


def base_model_prefix(module: nn.Module) -> str | None:
    """Return the name under which a model of transformers with a head holds the model without; None for others."""
    prefix = getattr(module, "base_model_prefix", None)
    said = isinstance(prefix, str) and hasattr(module, "config") and hasattr(module, "main_input_name")
    return prefix if said else None


def model_config(network: nn.Module) -> Any:
    """Return the configuration of a model of transformers, or of the one that a network contains; None for others."""
    inner = network.get_submodule(find_inner(network))
    return getattr(inner, "config", None) if base_model_prefix(inner) is not None else None


def logits_of(output: Any) -> Any:
    """Return the logits of what a network returned: models of transformers return them in an object."""
    found = getattr(output, "logits", None)
    return found if isinstance(found, Tensor) else output


def find_inner(model: nn.Module) -> str:
    """Return the path of the one pretrained network that a module contains, around which layers of its own lie.

    Args:
        model: A module of the user's around a timm network or a model of transformers, or a model of transformers with
            a task's head.

    Returns:
        The path; empty if the module declares itself what is pretrained, or contains none or several.
    """
    if declares_backbone(model):
        prefix = base_model_prefix(model)
        return prefix if prefix and isinstance(getattr(model, prefix, None), nn.Module) else ""
    found: list[str] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if path and not inside and declares_backbone(module):
            found.append(path)
    return found[0] if len(found) == 1 else ""


def find_head(model: nn.Module, entry: str | None = None) -> frozenset[str]:
    """Return the names of the parameters that belong to the task's head rather than to the backbone.

    For an smp model or a torchvision detector that is everything outside the entry, and everything outside of the one
    pretrained network that a module of the user's contains; for a classifier it is what ``find_classifier`` finds, and
    the second classifier of a distilled transformer.

    Args:
        model: The network.
        entry: Path of the module that turns images into maps, where the user gave it; found when None.

    Returns:
        Parameter names as in ``named_parameters()``; empty if the network has no recognisable head.
    """
    inner = (find_entry(model) if entry is None else entry) or find_inner(model)
    names = [name for name, _ in model.named_parameters()]
    outside = frozenset(name for name in names if inner and not name.startswith(f"{inner}."))
    if outside or entry:
        return outside
    if inner:  # what contains it only passes it on
        return frozenset(f"{inner}.{name}" for name in find_head(model.get_submodule(inner)))
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
    heads = heads or _by_name(model)
    paths = {id(module): path for path, module in model.named_modules()}
    return tuple(paths[id(head)] for head in heads if id(head) in paths and not isinstance(head, nn.Identity))


def _by_name(model: nn.Module) -> list[nn.Module]:
    """Return the module that is called as classifiers are, if there is one."""
    candidates = (getattr(model, name, None) for name in ("fc", "classifier", "head", "heads"))
    return [head for head in candidates if isinstance(head, nn.Module)][:1]


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


def takes(network: nn.Module, argument: str) -> bool:
    """Return whether a network's forward takes an argument by name; also if nothing says what it takes."""
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)


def class_counts(model: nn.Module) -> tuple[int | None, int | None]:
    """Return how many classes a timm network's classifier has, and its pretrained weights; None where it says nothing.

    Two counts that differ mean that the classifier is a fresh one.
    """
    config = getattr(model, "pretrained_cfg", None)
    pretrained = config.get("num_classes") if isinstance(config, Mapping) else None
    own = getattr(model, "num_classes", None)
    return (own if isinstance(own, int) else None), (pretrained if isinstance(pretrained, int) else None)
