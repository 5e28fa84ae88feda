"""``attach``: put regularizers on a network; ``RegularizedModel``: the one module that is trained."""

from __future__ import annotations

import dataclasses
import functools
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from synreal.errors import ConfigError, StageError, TrainingError
from synreal.norm import hold_norm_stats
from synreal.regularizers import Pass, Regularizer, Site, Step, Term
from synreal.regularizers.base import STUDENT
from synreal.regularizers.registry import as_specs, unique_names
from synreal.stages import Stage, find_entry, find_head, resolve
from synreal.taps import FeatureTap, tapped
from synreal.teachers import Reference

_UNBOUND_LIMIT = 50
_ATTACHED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def attach(
    student: nn.Module,
    regularizers: str | Regularizer | Sequence[str | Regularizer],
    *,
    reference: nn.Module | None = None,
    stages: Mapping[int | str, str] | None = None,
    entry: str | None = None,
) -> RegularizedModel:
    """Attach regularizers to a network and return the module to train.

    The network stays the caller's: its class, state-dict keys and eval behaviour do not change, and ``detach()``
    gives it back. Attach first, then compile or wrap in DDP.

    Example:
        >>> import timm, torch, synreal
        >>> student = timm.create_model("resnet18", num_classes=3)
        >>> model = synreal.attach(student, "none")
        >>> sorted(model(torch.rand(2, 3, 64, 64)))
        ['output', 'penalty', 'penalty/none']

    Args:
        student: A timm or torchvision classifier, an smp model or a torchvision detector, on any device. Load its
            pretrained weights before: the frozen reference is copied from it now.
        regularizers: One or several of: a name (``"csg"``), a text (``"csg(stages=(3, 4))"``), a spec
            (``synreal.CSG(queue_size=4096)``).
        reference: Another network to be the frozen teacher, copied; by default the student as it is now.
        stages: Stage names and module paths that go before what is found, e.g. ``{4: "layer4"}``.
        entry: Path of the module that turns images into stage maps; found by default (``encoder`` of smp,
            ``backbone.body`` of torchvision detectors, else the network itself).

    Returns:
        The model to train.

    Raises:
        ConfigError: If a name or setting is wrong, or the network is compiled, wrapped or attached already.
        StageError: If a stage does not exist or its hook does not fire in a trial forward pass.
    """
    specs = as_specs(regularizers)
    if not specs:
        raise ConfigError("No regularizer given. Use 'none' to train without one.")
    if hasattr(student, "_orig_mod") or isinstance(student, nn.parallel.DistributedDataParallel):
        raise ConfigError("The network is compiled or wrapped already: attach first, then compile, then wrap in DDP.")
    if student in _ATTACHED or tapped(student) or isinstance(student, RegularizedModel):
        raise ConfigError("Regularizers are attached to this network already: give all of them to one attach().")
    known = {str(name): path for name, path in (stages or {}).items()}
    wanted = list(dict.fromkeys(name for spec in specs for name in spec.wanted_stages))
    entry = find_entry(student) if entry is None else entry
    found = resolve(student, wanted, known=known, entry=entry)
    head = find_head(student)
    frozen, frozen_stages = None, found
    if any(needed.net == "reference" for spec in specs for needed in spec.passes):
        teacher = student if reference is None else reference
        teacher_entry = entry if reference is None else find_entry(reference)
        if reference is not None:
            modules = dict(reference.named_modules())
            theirs = {name: path for name, path in known.items() if path in modules}
            frozen_stages = resolve(reference, wanted, known=theirs, entry=teacher_entry)
        # Of an smp model or a detector the head lies outside the entry; a classifier's lies inside.
        ignore = find_head(teacher) if not teacher_entry else frozenset[str]()
        frozen = Reference(
            teacher.get_submodule(teacher_entry),
            [dataclasses.replace(s, path=_inside(s.path, teacher_entry)) for s in frozen_stages.values()],
            ignore=ignore,
        )
    elif reference is not None:
        raise ConfigError(
            f"A reference was given, but {', '.join(spec.name for spec in specs)} compares with no teacher."
        )
    backbone = frozenset(name for name, _ in student.named_parameters()) - head
    site = Site(student, found, frozen_stages, backbone)
    terms: dict[str, Term] = {}
    try:
        for name, spec in zip(unique_names(specs), specs, strict=True):
            terms[name] = spec.build(site)
    except BaseException:
        for term in terms.values():
            term.release()
        raise
    device = next(student.parameters()).device
    model = RegularizedModel(student, specs, terms, frozen, list(found.values()), entry, backbone)
    model.terms.to(device)
    if frozen is not None:
        frozen.to(device)
    # Not model.train(): each module of the student keeps its own mode.
    model.training = student.training
    model.terms.train(student.training)
    _ATTACHED.add(student)
    return model


class RegularizedModel(nn.Module):
    """A student and its regularizers; made by ``attach``.

    In training, ``model(view0, view1)`` returns a dict: ``"output"``, the student's own output for view 0;
    ``"penalty"``, the weighted sum of all terms (0-d, float32), to be added to the task's loss; and
    ``"penalty/<term>"``, each term's weighted share, detached, for logs. In eval mode only the student runs, and the
    dict holds ``"output"`` alone.

    Everything trainable runs inside this forward, so the model may be compiled and wrapped like any other.
    """

    def __init__(
        self,
        student: nn.Module,
        specs: Sequence[Regularizer],
        terms: Mapping[str, Term],
        reference: Reference | None,
        stages: Sequence[Stage],
        entry: str,
        backbone: frozenset[str],
    ) -> None:
        super().__init__()
        self.student = student
        self.reference = reference
        self.terms = nn.ModuleDict(terms)
        self.specs = tuple(specs)
        self.weights = {name: spec.weight for name, spec in zip(terms, specs, strict=True)}
        self.entry = entry
        passes = frozenset[Pass]().union(*(spec.passes for spec in specs))
        self.extra_passes = tuple(sorted(passes - {STUDENT}, key=lambda p: (p.net, p.view)))
        self.views = max(spec.views for spec in specs)
        self.tap: FeatureTap | None = FeatureTap(student, stages, entry=entry) if stages else None
        parameters = dict(student.named_parameters())
        self._backbone = tuple(parameters[name] for name in sorted(backbone))
        self._handle: Any = None
        self._unbound_forwards = 0
        self._detached = False

    def forward(self, *views: Any, **student_kwargs: Any) -> dict[str, Any]:
        """Run the student on view 0 and, in training, every term.

        Args:
            *views: The views; view 0 feeds the task. Terms that compare views need view 1 too, of the same shape.
            **student_kwargs: Passed to the student with view 0.

        Returns:
            See the class.

        Raises:
            TrainingError: If a view is missing, gradient is switched off in train mode, or the model was detached.
            StageError: If a stage did not run or was changed in place.
        """
        if self._detached:
            raise TrainingError("This model was detached: use the student that detach() returned, or attach again.")
        if not self.training:
            return {"output": self.student(views[0], **student_kwargs)}
        self._check(views)
        if self.tap is None:
            output = self.student(views[0], **student_kwargs)
            maps: dict[Pass, Mapping[str, Tensor]] = {}
        else:
            with self.tap.record() as student_maps:
                output = self.student(views[0], **student_kwargs)
            entry_input = self.tap.take_input()
            self._check_grad(student_maps)
            maps = {STUDENT: student_maps}
            for needed in self.extra_passes:
                # At the entry, view 0 is what the student's entry saw: a detector resizes at random before it.
                maps[needed] = self._run(needed, entry_input if needed.view == 0 else views[needed.view])
        return {"output": output, **self._penalties(Step(maps))}

    def _terms(self) -> dict[str, Term]:
        return cast("dict[str, Term]", dict(self.terms.items()))

    def _penalties(self, step: Step) -> dict[str, Tensor]:
        shares = {}
        device = next(self.student.parameters()).device
        with torch.autocast(device.type, enabled=False):
            for name, term in self._terms().items():
                shares[name] = self.weights[name] * term(step)
        total = torch.stack(list(shares.values())).sum()
        return {"penalty": total, **{f"penalty/{name}": share.detach() for name, share in shares.items()}}

    def _run(self, needed: Pass, images: Tensor) -> Mapping[str, Tensor]:
        if needed.net == "reference":
            assert self.reference is not None
            maps: Mapping[str, Tensor] = self.reference(images)
            return maps
        assert self.tap is not None
        with torch.no_grad(), hold_norm_stats(self.student), self.tap.record() as maps:
            self.student.get_submodule(self.entry)(images)
        self.tap.take_input()
        return maps

    def _check(self, views: Sequence[Any]) -> None:
        if len(views) < self.views:
            asking = [spec.name for spec in self.specs if spec.views > len(views)]
            raise TrainingError(
                f"{', '.join(asking)} needs {self.views} views, got {len(views)}. Call model(view0, view1) with two "
                "independently augmented views of the same images (synreal.views.MultiView makes them)."
            )
        for index in range(1, self.views):
            if self.entry == "" and views[index].shape != views[0].shape:
                raise TrainingError(
                    f"View {index} has shape {tuple(views[index].shape)}, view 0 {tuple(views[0].shape)}: views of one "
                    "batch must have one shape."
                )
        if not torch.is_grad_enabled():
            raise TrainingError("The model is in train mode without gradient; call model.eval() to predict.")
        if self._handle is None and any(term.stateful for term in self._terms().values()):
            for term in self._terms().values():
                term.forget()
            self._unbound_forwards += 1
            if self._unbound_forwards == _UNBOUND_LIMIT:
                warnings.warn(
                    f"{_UNBOUND_LIMIT} training forwards without an optimizer step that this model could hear of: "
                    "queues and moving averages stand still. Call model.bind(optimizer) once the optimizer is made.",
                    UnboundWarning,
                    stacklevel=3,
                )

    def _check_grad(self, maps: Mapping[str, Tensor]) -> None:
        silent = [name for name, value in maps.items() if not value.requires_grad]
        if silent and any(parameter.requires_grad for parameter in self._backbone):
            raise StageError(
                f"The map of stage {', '.join(silent)} carries no gradient although the backbone trains, so the "
                "penalty could not reach it. Reentrant gradient checkpointing does this: use use_reentrant=False. If "
                "the layers before that stage are frozen on purpose, choose a later stage."
            )

    def bind(self, optimizer: Optimizer) -> Self:
        """Let the model hear of optimizer steps: queues and moving averages move after each.

        Steps that a GradScaler skips are not steps. Binding another optimizer replaces the first.

        Args:
            optimizer: Any torch optimizer, or Accelerate's wrapper of one.

        Returns:
            The model.

        Raises:
            TrainingError: If trainable parameters of a term are not in the optimizer: they would never learn.
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        if not isinstance(inner, Optimizer):
            raise ConfigError(f"bind() takes an optimizer, got {type(optimizer).__name__}.")
        held = {id(p) for group in inner.param_groups for p in group["params"]}
        lost = [name for name, p in self.terms.named_parameters() if p.requires_grad and id(p) not in held]
        if lost:
            raise TrainingError(
                f"{len(lost)} parameters of the regularizers are not in the optimizer and would never learn, e.g. "
                f"{lost[0]}. Make it from [p for p in model.parameters() if p.requires_grad], not from the student's."
            )
        if self._handle is not None:
            self._handle.remove()
        self._handle = inner.register_step_post_hook(functools.partial(_after_step, self))
        return self

    def after_step(self) -> None:
        """Update the terms after an optimizer step; ``bind`` calls this, a loop that binds need not."""
        with torch.no_grad():
            for term in self._terms().values():
                term.after_step()

    def detach(self) -> nn.Module:
        """Remove every hook and return the student; the model cannot be used afterwards."""
        if self.tap is not None:
            self.tap.remove()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        for term in self._terms().values():
            term.release()
        student = self.student
        self._detached = True
        _ATTACHED.discard(student)
        self.reference = None
        self.terms = nn.ModuleDict()
        return student

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not bound: it has no optimizer of its own yet.
        return {**self.__dict__, "_handle": None}

    @property
    def bound(self) -> bool:
        """Whether the model hears of optimizer steps."""
        return self._handle is not None


def _inside(path: str, entry: str) -> str:
    """Return a path as seen from inside the entry."""
    return path[len(entry) + 1 :] if entry else path


class UnboundWarning(UserWarning):
    """A stateful regularizer trains without hearing of optimizer steps."""


def _after_step(model: RegularizedModel, *_: Any) -> None:
    model.after_step()
