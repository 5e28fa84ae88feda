"""What terms share that hold weights near those at the time of ``attach``: banks of tensors, and projections."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from synreal.core.terms import NoPenalty, Site
from synreal.errors import ConfigError, TrainingError


class Bank(nn.Module):
    """One buffer for each parameter, by the parameter's name.

    Args:
        values: Tensors by parameter name; they are copied.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.keys = [name.replace(".", "/") for name in values]  # a buffer's name has no dots
        for key, value in zip(self.keys, values.values(), strict=True):
            self.register_buffer(key, value.detach().clone())

    def tensors(self) -> list[Tensor]:
        """Return the buffers in the order of the parameters."""
        return [self.get_buffer(key) for key in self.keys]


def held_parameters(site: Site) -> dict[str, nn.Parameter]:
    """Return the parameters that have an anchor: those of the backbone that learn, by name.

    Raises:
        ConfigError: If there is none.
    """
    parameters = site.backbone_parameters()
    if not parameters:
        raise ConfigError("The backbone has no parameters that learn, so there are no weights to hold.")
    return parameters


class ProjectingTerm(NoPenalty):
    """Adds nothing to the loss and moves the backbone's weights after each step of the optimizer.

    A parameter without a gradient does not step, so it is not moved, and what is kept of it stays as it is.

    Args:
        site: Where the term is built; its weights as they are now are the anchors.
        name: Of the regularizer, for messages.
        weight: How strongly weights are moved; 0 leaves them alone.
    """

    def __init__(self, site: Site, name: str, weight: float) -> None:
        super().__init__()
        parameters = held_parameters(site)
        self.name = name
        self.weight = weight
        # In a tuple, so that the student's parameters are not registered twice.
        self._weights: tuple[nn.Parameter, ...] = tuple(parameters.values())
        self.anchors = Bank(dict(parameters))
        self._seen: list[Tensor | None] = []

    @abstractmethod
    def look(self, index: int, gradient: Tensor) -> Tensor:
        """Return what is to be known after the step of what a parameter and its gradient were before it.

        Args:
            index: Of the parameter.
            gradient: As the optimizer sees it: unscaled, clipped, of all losses together.

        Returns:
            A tensor of the same shape for each parameter.
        """

    @abstractmethod
    def move(self, indices: list[int], seen: Tensor) -> None:
        """Move the parameters that have stepped.

        Args:
            indices: Of these parameters.
            seen: What ``look`` returned of each, (parameters, ...).
        """

    def before_step(self) -> None:
        """Look at gradients and weights."""
        if self.weight > 0:
            gradients = [parameter.grad for parameter in self._weights]
            self._seen = [None if g is None else self.look(i, g) for i, g in enumerate(gradients)]

    def move_weights(self) -> None:
        """Move the weights that have stepped.

        Raises:
            TrainingError: If nobody called ``before_step``.
        """
        if self.weight == 0:
            return
        seen, self._seen = self._seen, []
        if len(seen) != len(self._weights):
            raise TrainingError(
                f"{self.name} was not told that a step begins. Call model.bind(optimizer); with an optimizer that is "
                "not torch's, model.before_step() before each of its steps and model.after_step() after it."
            )
        stepped = {index: value for index, value in enumerate(seen) if value is not None}
        if stepped:
            self.move(list(stepped), torch.stack(list(stepped.values())))

    def forget(self) -> None:
        """Drop what was seen before a step that did not come."""
        self._seen = []

    def release(self) -> None:
        """Let the student's parameters go."""
        self._weights = ()
        self._seen = []
