"""What watches the loop that trains a model, and stops it where it leaves something out.

A loop of somebody's own can go wrong in silence: an optimizer that the model is not told of, one that steps other
parameters, a penalty that is not part of the loss, processes that train apart. All of it shows by the second step, in
facts that cost nothing: which optimizers step, which gradients flow. A sign that no sound loop gives is an error.
"""

from __future__ import annotations

import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from synreal import distributed
from synreal.core.binding import other_parameters, trained_by
from synreal.core.queues import FeatureQueue
from synreal.core.terms import Regularizer
from synreal.errors import TrainingError

_MOST = 2  # steps without what every step should have


def check_given(
    specs: Sequence[Regularizer], views: Sequence[Any], targets: Any, needed: int, *, needs_targets: bool
) -> None:
    """Check that a call of the model has what its terms read.

    Args:
        specs: The regularizers; not asked again what they need, which a compiled graph could not trace.
        views: The views that were given.
        targets: The targets; None if none were given.
        needed: How many views they need.
        needs_targets: Whether one of them reads targets.

    Raises:
        TrainingError: If a view is missing, or targets are.
    """
    if len(views) < needed:
        asking = [spec.name for spec in specs if spec.views > len(views)]
        shown = ", ".join(f"view{number}" for number in range(needed))
        raise TrainingError(
            f"{', '.join(asking)} needs {needed} views, got {len(views)}. Call model({shown}) with "
            "independently augmented views of the same images (synreal.views.MultiView makes them)."
        )
    if needs_targets and targets is None:
        asking = [spec.name for spec in specs if spec.needs_targets]
        raise TrainingError(
            f"{', '.join(asking)} needs the targets of view 0: call model(view0, targets=targets) with classes "
            "(N,), masks (N, H, W), or a detector's list of boxes and labels."
        )


class UnboundWarning(UserWarning):
    """A stateful regularizer trains and is not told of optimizer steps."""


class Watched(nn.Module, ABC):
    """A model whose loop is watched.

    Attributes:
        terms: The terms, by name.
        weights: What each term's penalty is multiplied by.
        stateful_terms: Names of the terms that must be told of optimizer steps, or look at what must be.
    """

    terms: nn.ModuleDict
    weights: Mapping[str, float]
    stateful_terms: list[str]

    @property
    @abstractmethod
    def bound(self) -> bool:
        """Whether an optimizer tells the model of its steps."""

    @abstractmethod
    def look_at_step(self, optimizer: Optimizer) -> None:
        """Look, before any optimizer steps, at what the loop did since its last step.

        Raises:
            TrainingError: If it leaves something out.
        """


class LoopGuard:
    """What is known of the loop that trains one model.

    Attributes:
        forwarded: Whether the model ran in training since the last step.
        learns: Whether the penalty of that forward had a gradient to give.
        hooked: Whether that forward could be watched; a compiled one cannot.
        reached: Whether a backward has gone through a penalty since the last step.
    """

    def __init__(self) -> None:
        self.forwarded = False
        self.learns = False
        self.hooked = False
        self.reached = False
        self._penalty_seen = False
        self._without_penalty = 0
        self._own_steps = 0
        self._untold = 0
        self._warned = False
        self._holding: weakref.WeakKeyDictionary[Optimizer, bool] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> tuple[type[LoopGuard], tuple[()]]:
        return type(self), ()  # a copy of a model begins a loop of its own

    def note(self, penalty: Tensor) -> None:
        """Note that the model ran in training, and watch for a backward through its penalty.

        Args:
            penalty: The weighted sum of all terms.
        """
        self.forwarded = True
        self.learns = penalty.requires_grad
        if torch.compiler.is_compiling():
            self.hooked = False
        elif self.learns:
            self.hooked = True
            penalty.register_hook(self._note_backward)

    def _note_backward(self, _: Tensor) -> None:
        self.reached = True

    def before_forward(self, model: Watched) -> None:
        """Look whether a model that must be told of steps and is not bound is being trained.

        Raises:
            TrainingError: If an optimizer has stepped its parameters, and nobody told it.
        """
        if self._untold:
            raise _never_told(model, None)
        if self.reached and not self._warned and distributed.rank() == 0:
            self._warned = True
            warnings.warn(
                "A backward went through the penalty, and this model was told of no optimizer: queues and moving "
                "averages do not move. Call model.bind(optimizer) once the optimizer is made, or model.after_step() "
                "after each step of one that is not torch's.",
                UnboundWarning,
                stacklevel=6,  # past nn.Module's own frames, to the loop that called the model
            )

    def before_step(self, model: Watched, optimizer: Optimizer, bound: Optimizer | None) -> None:
        """Look at what a loop did since its last step; called before any optimizer steps.

        Args:
            model: The model.
            optimizer: The optimizer that is about to step.
            bound: The one that tells the model of its steps.

        Raises:
            TrainingError: If the loop leaves something out.
        """
        if not self.forwarded:  # what other loops do, or a step that only makes an optimizer's state
            return
        own = optimizer is bound
        if not own and not self._holds(model, optimizer):
            return
        self.forwarded = False
        if own:
            self._own_steps += 1
            if self._own_steps == _MOST and not trained_by(model, optimizer):
                raise other_parameters(optimizer)  # exchanged since it was bound
        elif model.stateful_terms:
            self._untold += 1
            if self._untold == _MOST:
                raise _never_told(model, optimizer)
        if not self._penalty_seen:
            self._look_for_penalty(model)
        self.reached = False

    def after_step(self, model: Watched) -> None:
        """Note that the model was told of a step; after the second, compare what all processes trained.

        Raises:
            TrainingError: If they trained apart.
        """
        self._untold = 0
        if self._own_steps == _MOST and distributed.world_size() > 1:
            self._own_steps += 1
            _check_together(model)

    def _holds(self, model: Watched, optimizer: Optimizer) -> bool:
        if optimizer not in self._holding:
            self._holding[optimizer] = trained_by(model, optimizer)
        return self._holding[optimizer]

    def _look_for_penalty(self, model: Watched) -> None:
        heads = [p for p in model.terms.parameters() if p.requires_grad]
        if not self.learns or not any(model.weights.values()):
            return
        if self.reached or (not self.hooked and (not heads or any(p.grad is not None for p in heads))):
            self._penalty_seen = True
            return
        self._without_penalty += 1
        world = distributed.world_size()
        # Of several processes each must use what the others use: they would wait for its gradients at once.
        if self._without_penalty == _MOST or world > 1:
            where = f"In process {distributed.rank()} of {world} no" if world > 1 else "No"
            raise TrainingError(
                f"{where} backward went through the penalty, so the regularizers teach nothing. Add it to what is "
                'differentiated: (loss + output["penalty"]).backward(), in every process and step; where it is not '
                'wanted yet, add 0 * output["penalty"].'
            )


_WATCHED: Final[weakref.WeakSet[Watched]] = weakref.WeakSet()
_HANDLES: Final[list[Any]] = []


def watch(model: Watched) -> None:
    """Let a model's guard see the steps of all optimizers, until the model is gone or ``unwatch`` is called."""
    _WATCHED.add(model)
    if not _HANDLES:
        _HANDLES.append(register_optimizer_step_pre_hook(_before_any_step))


def unwatch(model: Watched) -> None:
    """End ``watch``."""
    _WATCHED.discard(model)


def _before_any_step(optimizer: Optimizer, *_: Any) -> None:
    if torch.compiler.is_compiling():
        return
    for model in list(_WATCHED):
        model.look_at_step(optimizer)


def _never_told(model: Watched, optimizer: Optimizer | None) -> TrainingError:
    kind = "An optimizer" if optimizer is None else type(optimizer).__name__
    instead = ", which is not the one that was bound," if model.bound else ""
    return TrainingError(
        f"{kind}{instead} steps this model's parameters, and the model is not told of its steps: queues and moving "
        f"averages would not move, nor would weights be held ({', '.join(model.stateful_terms)}). Call "
        "model.bind(optimizer) with the optimizer that steps, before the first step."
    )


def _check_together(model: nn.Module) -> None:
    """Compare the trained parameters of all processes, where they meet after each step anyway."""
    if not any(isinstance(module, FeatureQueue) for module in model.modules()):
        return  # processes without a queue need not step together, and one that waited for others would wait for ever
    learning = [p for p in model.parameters() if p.requires_grad]
    if any(hasattr(p, "placements") for p in learning):
        return  # of a sharded parameter each process has a part of its own
    sums = distributed.all_gather_rows(torch.stack([p.detach().double().sum() for p in learning])[None])
    apart = [index for index, other in enumerate(sums) if not torch.equal(other, sums[0])]
    if apart:
        raise TrainingError(
            f"After two steps the parameters of process {apart[0]} differ from those of process 0: gradients are not "
            "shared, so each process trains a network and heads of its own. Wrap the whole model, not its student, in "
            "DistributedDataParallel or accelerator.prepare(), and call the wrapper."
        )
