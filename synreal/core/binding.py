"""How a model is told of an optimizer's steps, and which optimizers can tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    @property
    def undecayed(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Parameters that are not to be decayed, by the regularizer that says so."""


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


def undecayed_groups(optimizer: Optimizer, undecayed: Mapping[str, Sequence[nn.Parameter]]) -> list[dict[str, Any]]:
    """Return those of an optimizer's groups that are not to be decayed, and would be.

    Args:
        optimizer: The optimizer, without what wraps it.
        undecayed: Parameters that are not to be decayed, by the regularizer that says so.

    Raises:
        ConfigError: If such a group also holds parameters that are to be decayed.
    """
    held = {id(parameter) for parameters in undecayed.values() for parameter in parameters}
    found = []
    for group in optimizer.param_groups if held else ():
        inside = sum(id(parameter) in held for parameter in group["params"])
        if not inside or not group.get("weight_decay"):
            continue
        if inside < len(group["params"]):
            raise ConfigError(
                f"{', '.join(undecayed)} has parameters that must not be decayed, but the optimizer has a group with "
                f"weight_decay={float(group['weight_decay']):g} that holds {inside} of them and "
                f"{len(group['params']) - inside} others. Make it from synreal.parameter_groups(model, lr=...), which "
                "parts them, or with weight_decay=0."
            )
        found.append(group)
    return found


def hook_steps(optimizer: Optimizer, model: Stepped) -> tuple[Any, ...]:
    """Let an optimizer tell a model of its steps, and not decay what the model says meanwhile.

    Returns:
        Handles whose ``remove`` ends it.
    """
    hooks = _StepHooks(model)
    return (optimizer.register_step_pre_hook(hooks.before), optimizer.register_step_post_hook(hooks.after))


class _StepHooks:
    def __init__(self, model: Stepped) -> None:
        self.model = model
        self.decays: list[tuple[dict[str, Any], Any]] = []  # what groups had, during a step
        self.stepping = False

    def before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Let the terms read the gradients; where a closure makes them within the step (Lightning), after it."""
        self._decay_again()  # a step that failed has not come to its end
        self.stepping = True
        for group in undecayed_groups(optimizer, self.model.undecayed):
            self.decays.append((group, group["weight_decay"]))
            group["weight_decay"] = 0.0
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self.model.before_step()
            return None
        waiting = [self.model]  # an optimizer that calls the closure again has moved the weights by then

        def with_gradients() -> Any:
            loss = closure()
            while waiting:
                waiting.pop().before_step()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": with_gradients}
        return (args[0], with_gradients, *args[2:]), kwargs

    def after(self, *_: Any) -> None:
        """Let the model update its state; once, where the step of a subclass calls that of its parent."""
        self._decay_again()
        if self.stepping:
            self.stepping = False
            self.model.after_step()

    def _decay_again(self) -> None:
        while self.decays:
            group, decay = self.decays.pop()
            group["weight_decay"] = decay
