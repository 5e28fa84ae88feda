"""How a model is told of an optimizer's steps, and which optimizers can tell it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from synreal.errors import ConfigError, TrainingError


class Stepped(Protocol):
    """What is told of steps."""

    def before_step(self) -> None:
        """Read the gradients."""

    def after_step(self) -> None:
        """Update state."""


def check_optimizer(optimizer: Any, model: nn.Module, terms: nn.Module, reading: Sequence[str]) -> None:
    """Check that an optimizer trains a model and can tell it of its steps.

    Args:
        optimizer: The optimizer, without what wraps it.
        model: The model.
        terms: Those of its modules that the regularizers train.
        reading: Names of regularizers that read gradients before each step.

    Raises:
        ConfigError: If it is no optimizer, or one that unscales gradients by itself.
        TrainingError: If it holds nothing of the model's, or not all that the regularizers train.
    """
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"bind() takes an optimizer, got {type(optimizer).__name__}.")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    lost = [name for name, p in terms.named_parameters() if p.requires_grad and id(p) not in held]
    if lost:
        raise TrainingError(
            f"{len(lost)} parameters of the regularizers are not in the optimizer and would never learn, e.g. "
            f"{lost[0]}. Make it from [p for p in model.parameters() if p.requires_grad], not from the student's."
        )
    if not trained_by(model, optimizer):
        raise other_parameters(optimizer)
    if reading and any(group.get("fused") for group in optimizer.param_groups):
        raise ConfigError(
            f"{', '.join(reading)} reads gradients before each step, but a fused optimizer may be handed gradients "
            "that a GradScaler has not unscaled. Make the optimizer with fused=False."
        )


def trained_by(model: nn.Module, optimizer: Optimizer) -> bool:
    """Return whether an optimizer holds any parameter of a model that learns; also if the model has none."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    learning = [id(p) for p in model.parameters() if p.requires_grad]
    return not learning or any(p in held for p in learning)


def other_parameters(optimizer: Optimizer) -> TrainingError:
    """Build the error for an optimizer that trains something else."""
    return TrainingError(
        f"The bound {type(optimizer).__name__} steps none of this model's parameters that learn. Make it from "
        "[p for p in model.parameters() if p.requires_grad] once the model has its final form and device, then call "
        "model.bind(optimizer)."
    )


def hook_steps(optimizer: Optimizer, model: Stepped) -> tuple[Any, ...]:
    """Let an optimizer tell a model of its steps.

    Returns:
        Handles whose ``remove`` ends it.
    """
    return (
        optimizer.register_step_pre_hook(functools.partial(_before_step, model)),
        optimizer.register_step_post_hook(functools.partial(_after_step, model)),
    )


def _before_step(
    model: Stepped, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Let the terms read the gradients; where a closure makes them within the step (Lightning), right after it."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if closure is None:
        model.before_step()
        return None
    waiting = [model]  # an optimizer that calls the closure again has moved the weights by then

    def with_gradients() -> Any:
        loss = closure()
        while waiting:
            waiting.pop().before_step()
        return loss

    if "closure" in kwargs:
        return args, {**kwargs, "closure": with_gradients}
    return (args[0], with_gradients, *args[2:]), kwargs


def _after_step(model: Stepped, *_: Any) -> None:
    model.after_step()
