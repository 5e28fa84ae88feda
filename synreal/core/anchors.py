"""What terms share that hold weights near those at the time of ``attach``: banks of tensors, and projections."""

from __future__ import annotations

from abc import abstractmethod

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
    """Return the parameters that have an anchor, by name: those of the backbone, whether they learn yet or later.

    Raises:
        ConfigError: If none learns, or a fresh head may be among them.
    """
    if site.doubt:
        raise ConfigError(
            f"No head was found in {type(site.student).__name__}, and its last layer, {site.doubt}, looks fresh: its "
            "random start would be held as if it were pretrained. Give attach(entry=...), the path of the pretrained "
            'network inside, around which all is the head; entry="" if all of it is pretrained; or call the last layer '
            "fc, classifier, head or heads."
        )
    parameters = site.backbone_parameters()
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(
            "The backbone has no parameters that learn, so there are no weights to hold. Let at least one learn when "
            "attach is called; those that are let learn later are held, too."
        )
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
        self._seen: tuple[list[int], Tensor | None] | None = None

    @abstractmethod
    def look(self, indices: list[int], gradients: list[Tensor]) -> Tensor:
        """Return what is to be known after the step of what parameters and gradients were before it.

        Args:
            indices: Of the parameters that are about to step.
            gradients: Theirs, as the optimizer sees them: unscaled, clipped, of all losses together.

        Returns:
            (parameters, ...).
        """

    @abstractmethod
    def move(self, indices: list[int], seen: Tensor) -> None:
        """Move the parameters that have stepped.

        Args:
            indices: Of these parameters.
            seen: What ``look`` returned of them, (parameters, ...).
        """

    def before_step(self) -> None:
        """Look at gradients and weights."""
        if self.weight > 0:
            gradients = {index: p.grad for index, p in enumerate(self._weights) if p.grad is not None}
            indices = list(gradients)
            self._seen = indices, self.look(indices, list(gradients.values())) if indices else None

    def move_weights(self) -> None:
        """Move the weights that have stepped.

        Raises:
            TrainingError: If nobody called ``before_step``.
        """
        if self.weight == 0:
            return
        if self._seen is None:
            raise TrainingError(
                f"{self.name} was not told that a step begins. Call model.bind(optimizer); with an optimizer that is "
                "not torch's, model.before_step() before each of its steps and model.after_step() after it."
            )
        (indices, seen), self._seen = self._seen, None
        if seen is not None:
            self.move(indices, seen)

    def forget(self) -> None:
        """Drop what was seen before a step that did not come."""
        self._seen = None

    def release(self) -> None:
        """Let the student's parameters go."""
        self._weights = ()
        self._seen = None
