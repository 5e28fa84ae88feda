"""What the optimizer is told: which parameters learn at which rate, and how rates change over a run."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from synreal.core.parts import find_head
from synreal.core.regularized import RegularizedModel
from synreal.core.terms import Term
from synreal.errors import ConfigError


def parameter_groups(model: nn.Module, *, lr: float, backbone_lr_scale: float = 0.1) -> list[dict[str, Any]]:
    """Split what learns into the pretrained backbone and the rest, each with its own rate.

    CSG and ASG train the backbone at a tenth of the head's rate (Chen et al., ICLR 2021 and ICML 2020, published code).

    Args:
        model: What ``attach`` returned, also inside a module of your own, compiled or wrapped in DDP; or a plain
            network, for a baseline without synreal.
        lr: Rate of the head and of the regularizers' heads.
        backbone_lr_scale: Rate of the backbone over ``lr``.

    Returns:
        Groups for any ``torch.optim`` optimizer: the backbone's parameters, then all others, then those of them that
        weight decay would spoil, with a decay of 0; a group in which nothing learns is left out.

    Raises:
        ConfigError: If nothing learns.

    Example:
        >>> import timm, torch
        >>> student = timm.create_model("resnet18", num_classes=3)
        >>> backbone, head = parameter_groups(student, lr=0.02)
        >>> len(backbone["params"]), backbone["lr"], len(head["params"]), head["lr"]
        (60, 0.002, 2, 0.02)
    """
    attached = next((module for module in model.modules() if isinstance(module, RegularizedModel)), None)
    if attached is None:
        head = find_head(model)
        backbone = {id(parameter) for name, parameter in model.named_parameters() if name not in head}
    else:
        backbone = {id(parameter) for parameter in attached.backbone_parameters}
    terms = [] if attached is None else [part for part in attached.terms.modules() if isinstance(part, Term)]
    undecayed = {id(parameter) for term in terms for parameter in term.undecayed}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ConfigError("No parameter of the model takes gradient, so there is nothing to train.")
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learning if id(parameter) in backbone], "lr": lr * backbone_lr_scale},
        {"params": [parameter for parameter in learning if id(parameter) not in backbone | undecayed], "lr": lr},
        {
            "params": [parameter for parameter in learning if id(parameter) in undecayed - backbone],
            "lr": lr,
            "weight_decay": 0.0,
        },
    ]
    return [group for group in groups if group["params"]]


def warmup_poly_schedule(
    optimizer: Optimizer, total: int, *, warmup: int = 100, power: float = 0.9, until: float = 1.0
) -> LambdaLR:
    """Return a scheduler that follows ``warmup_poly`` from the optimizer's present rates.

    Args:
        optimizer: The optimizer; each group's present rate is its peak.
        total: Optimizer steps of the whole run; call ``step()`` once after each.
        warmup: As for ``warmup_poly``.
        power: As for ``warmup_poly``.
        until: As for ``warmup_poly``.

    Returns:
        The scheduler.

    Raises:
        ConfigError: If ``total`` is below 1.
    """
    if total < 1:
        raise ConfigError(f"total is {total!r}; expected the number of optimizer steps of the whole run, at least 1.")
    return LambdaLR(
        optimizer, lambda step: warmup_poly(min(step, total), total, warmup=warmup, power=power, until=until)
    )


def warmup_poly(step: int, total: int, *, warmup: int = 100, power: float = 0.9, until: float = 1.0) -> float:
    """CSG's schedule (Chen et al., ICLR 2021, published code): quadratic warm-up, polynomial decay.

    ``min(0.01 + 0.99 (i / warmup)^2, 1) * (1 - min(i / total, until))^power``.

    Args:
        step: i, from 0.
        total: Steps of the whole run.
        warmup: Steps of the warm-up; 0 for none.
        power: Exponent of the decay.
        until: Share of the run after which the rate stops decaying; ASG's published code stops at 0.8.

    Returns:
        Factor on the peak rate, in [0, 1].
    """
    rise = min(0.01 + 0.99 * (step / warmup) ** 2, 1.0) if warmup else 1.0
    return float(rise * (1 - min(step / total, until)) ** power)
