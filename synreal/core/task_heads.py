"""The last layers of a classifier: which they are, whether they are fresh, and how they start."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from synreal.core.parts import check_values, find_classifiers, find_entry
from synreal.errors import ConfigError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)

WILD = 1.0
"""Nats by which a fresh classifier's loss on random labels may lie above chance before it is called wild."""


def zero_head(student: nn.Module, *, force: bool = False) -> tuple[str, ...]:
    """Let the last layer of a fresh classifier start at zero, so that its first gradients do not shake the backbone.

    With weights at zero every class gets the same logit, the loss starts at chance, and no gradient reaches the
    backbone until the head has learnt something. A random start can be far from that: timm draws the classifier of an
    EfficientNet so that logits differ by around 12. Layers of the head before the last one stay as they are.

    Segmenters and detectors are refused: their last layers start close to chance, and at zero they would keep the
    gradient from the fresh decoder or pyramid in front of them, which learns more slowly then.

    Args:
        student: A classifier of timm or torchvision, or any whose last layer is called ``fc``, ``classifier``, ``head``
            or ``heads``.
        force: Zero a classifier that looks trained as well.

    Returns:
        The parameters that are zero now, as in ``named_parameters()``.

    Raises:
        ConfigError: If there is no classifier, it looks trained, or has no values yet.

    Example:
        >>> import timm
        >>> zero_head(timm.create_model("resnet18", num_classes=3))
        ('fc.weight', 'fc.bias')
    """
    check_values(student)
    layers = last_layers(student)
    if not layers:
        name = type(student).__name__
        raise ConfigError(
            f"zero_head is for classifiers, and {name} has a backbone inside: the fresh layers around it would get no "
            "gradient from a last layer at zero. Leave its heads as they are."
            if find_entry(student)
            else f"zero_head found no classifier in {name}: no get_classifier(), fc, classifier, head or heads. "
            "Zero the last layer yourself with torch.nn.init.zeros_."
        )
    trained = [path for path, layer in layers.items() if not is_fresh(layer)]
    if trained and not force:
        raise ConfigError(
            f"{', '.join(trained)} of {type(student).__name__} looks trained: its weights and biases are not as a "
            "fresh layer's are drawn, and zero_head would erase what it knows. Leave it as it is, or pass force=True."
        )
    names = []
    for path, layer in layers.items():
        for name, parameter in layer.named_parameters():
            nn.init.zeros_(parameter)
            names.append(f"{path}.{name}")
    return tuple(names)


def last_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the last linear or convolutional layer of each classifier, by path.

    Args:
        model: Any network. A distilled transformer has two classifiers; segmenters and detectors have none.

    Returns:
        Layers by their paths as in ``named_modules()``.
    """
    found: dict[str, nn.Module] = {}
    for head in find_classifiers(model):
        inside = [
            (f"{head}.{name}" if name else head, layer)
            for name, layer in model.get_submodule(head).named_modules()
            if isinstance(layer, _LAYERS)
        ]
        found.update(inside[-1:])
    return found


@torch.no_grad()
def is_fresh(layer: nn.Module) -> bool:
    """Return whether a linear or convolutional layer looks as if it had never been trained.

    Layers are drawn either with biases at zero, which the first step of training moves, or as PyTorch does by default:
    weights and biases uniform within one over the root of the inputs, which training oversteps.

    Args:
        layer: Has ``weight`` and may have ``bias``.
    """
    weight: Tensor = layer.get_parameter("weight")
    bias = None if getattr(layer, "bias", None) is None else layer.get_parameter("bias")
    if not bool(weight.any()) or (bias is not None and not bool(bias.any())):
        return True
    bound = 1 / math.sqrt(weight[0].numel())
    slack = 1 + torch.finfo(weight.dtype).eps
    largest = float(weight.abs().max())
    # Of n uniform draws the largest lies within a few n-ths of the bound; weight decay alone would take it further.
    reaches = largest >= bound * (1 - 30 / weight.numel()) / slack
    return reaches and largest <= bound * slack and (bias is None or float(bias.abs().max()) <= bound * slack)


def excess_over_chance(logits: Tensor) -> Tensor:
    """Return by how much cross-entropy on labels drawn at random exceeds that of a guess.

    ``mean_n(logsumexp_k z_nk - mean_k z_nk) - log K``: 0 where all classes have one logit, about half the variance
    of logits that differ little.

    Args:
        logits: (N, K).

    Returns:
        0-d float32, at least 0, in nats; without gradient.
    """
    values = logits.detach().float()
    return (values.logsumexp(1) - values.mean(1)).mean() - math.log(values.shape[1])


class WildHeadWarning(UserWarning):
    """A fresh classifier starts far from chance."""
