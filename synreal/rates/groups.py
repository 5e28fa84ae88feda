"""The groups of layers whose rates a policy sets, and the weight that it looks at."""

from __future__ import annotations

from typing import Any

from torch import nn

from synreal.core.parts import find_head
from synreal.core.regularized import RegularizedModel
from synreal.core.stage_groups import stage_groups
from synreal.core.stages import find_stages
from synreal.errors import ConfigError
from synreal.rates.policy import GROUPS


def rate_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Split what learns into the groups whose rates a policy sets, each at the base rate.

    Head and backbone have one base rate: there is no tenth for the backbone here.

    Args:
        model: What ``attach`` returned, or a plain network.
        lr: The base rate.

    Returns:
        Groups for any ``torch.optim`` optimizer, each with a ``name`` of ``GROUPS``; one in which nothing learns is
        left out.

    Raises:
        ConfigError: If nothing learns.
        StageError: If the network's stages cannot be found.
    """
    attached = next((module for module in model.modules() if isinstance(module, RegularizedModel)), None)
    network = model if attached is None else attached.student
    head = find_head(network) if attached is None else attached.anatomy.head
    names = {name: parameter for name, parameter in network.named_parameters() if name not in head}
    stages = find_stages(network, entry=None if attached is None else attached.entry)
    of = {}
    for group, inside in stage_groups(network, stages.values(), names.keys()).items():
        if group != "backbone":
            of.update({id(names[name]): group.removeprefix("after ") for name in inside})
    found: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for parameter in model.parameters():
        if parameter.requires_grad:
            found[of.get(id(parameter), "head")].append(parameter)
    if not any(found.values()):
        raise ConfigError("No parameter of the model takes gradient, so there is nothing to train.")
    return [{"params": held, "lr": lr, "name": name} for name, held in found.items() if held]


def last_weight(model: nn.Module) -> nn.Parameter:
    """Return the last weight of a network's head, which a policy sees the mean and deviation of.

    Raises:
        ConfigError: If no head was found.
    """
    attached = next((module for module in model.modules() if isinstance(module, RegularizedModel)), None)
    network = model if attached is None else attached.student
    head = find_head(network) if attached is None else attached.anatomy.head
    weights = [value for name, value in network.named_parameters() if name in head and value.ndim > 1]
    if not weights:
        raise ConfigError(
            "Learned rates look at the head's last weight, but no head was found: the network has no get_classifier(), "
            "fc, classifier, head or heads. Give the final layer one of these names."
        )
    return weights[-1]
