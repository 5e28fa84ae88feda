"""``attach``: put regularizers on a network; ``RegularizedModel``: the one module that is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from synreal import distributed
from synreal.core.norm_stats import (
    freeze_norm_stats,
    hold_norm_stats,
    never_trained,
    pretrained_norm_layers,
    release_norm_stats,
)
from synreal.core.stages import (
    Stage,
    find_classifier,
    find_entry,
    find_head,
    input_statistics,
    probe_input,
    resolve,
)
from synreal.core.taps import FeatureTap, tapped
from synreal.core.task_heads import WILD, WildHeadWarning, excess_over_chance, is_fresh, last_layers
from synreal.core.teachers import Average, AveragedNetwork, Reference, UntrainedTeacherWarning
from synreal.core.terms import CLASSIFIER_INPUT, REGULARIZERS, STUDENT, Pass, Regularizer, Site, Step, Term
from synreal.errors import ConfigError, StageError, TrainingError
from synreal.specs import unique_names

_UNBOUND_LIMIT = 50
_ATTACHED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def attach(
    student: nn.Module,
    regularizers: str | Regularizer | Sequence[str | Regularizer],
    *,
    reference: nn.Module | None = None,
    stages: Mapping[int | str, str] | None = None,
    entry: str | None = None,
    norm: Literal["frozen", "train"] = "frozen",
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
        reference: Another network to be the frozen teacher, copied; by default the student as it is now. If both are
            timm models that were pretrained with different input statistics, images are renormalised for it.
        stages: Stage names and module paths that go before what is found, e.g. ``{4: "layer4"}``.
        entry: Path of the module that turns images into stage maps; found by default (``encoder`` of smp,
            ``backbone.body`` of torchvision detectors, else the network itself).
        norm: ``"frozen"`` keeps the running statistics of the pretrained network's BatchNorm as they are, whoever calls
            ``train()`` on what, until ``detach()`` (CSG); fresh layers around it, such as a segmenter's decoder, learn
            theirs. ``"train"`` lets all of them follow the synthetic images (GCISG). Scale and shift learn either way.

    Returns:
        The model to train.

    Raises:
        ConfigError: If a name or setting is wrong, or the network is compiled, wrapped or attached already.
        StageError: If a stage does not exist or its hook does not fire in a trial forward pass.
    """
    specs = REGULARIZERS.specs(regularizers)
    if not specs:
        raise ConfigError("No regularizer given. Use 'none' to train without one.")
    if norm not in ("frozen", "train"):
        raise ConfigError(f"norm is {norm!r}; expected 'frozen' or 'train'.")
    if hasattr(student, "_orig_mod") or isinstance(student, nn.parallel.DistributedDataParallel):
        raise ConfigError("The network is compiled or wrapped already: attach first, then compile, then wrap in DDP.")
    if student in _ATTACHED or tapped(student) or isinstance(student, RegularizedModel):
        raise ConfigError("Regularizers are attached to this network already: give all of them to one attach().")
    known = {str(name): path for name, path in (stages or {}).items()}
    entry = find_entry(student) if entry is None else entry
    wanted = list(dict.fromkeys(name for spec in specs for name in spec.wanted_stages))
    classifier = find_classifier(student) if not entry else ""
    if CLASSIFIER_INPUT in wanted and not classifier:  # a dense task has no classifier: its last map is read instead
        wanted.append(4)
    maps = list(dict.fromkeys(name for name in wanted if name != CLASSIFIER_INPUT))
    found = resolve(student, maps, known=known, entry=entry)
    if CLASSIFIER_INPUT in wanted and classifier:
        found[CLASSIFIER_INPUT] = probe_input(student, CLASSIFIER_INPUT, classifier)
    head = find_head(student)
    frozen, frozen_stages = _frozen_reference(student, specs, reference, found, known, entry)
    settings = {needed.average for spec in specs for needed in spec.passes if needed.average is not None}
    averages = {
        one: AveragedNetwork(student.get_submodule(entry), _seen_from(entry, found), one)
        for one in sorted(settings, key=repr)
    }
    backbone = frozenset(name for name, _ in student.named_parameters()) - head
    site = Site(student, found, frozen_stages, backbone, frozen, entry)
    terms: dict[str, Term] = {}
    try:
        for name, spec in zip(unique_names(specs), specs, strict=True):
            terms[name] = spec.build(site)
    except BaseException:
        for term in terms.values():
            term.release()
        raise
    device = next(student.parameters()).device
    model = RegularizedModel(student, specs, terms, frozen, averages, list(found.values()), entry, backbone, norm)
    if norm == "frozen" and (frozen is None or reference is not None) and never_trained(model.frozen_layers):
        warnings.warn(
            "norm='frozen' keeps BatchNorm statistics that were never trained: is the network randomly initialised? "
            "Load pretrained weights before attach(), or pass norm='train'.",
            UntrainedTeacherWarning,
            stacklevel=2,
        )
    model.terms.to(device)
    if frozen is not None:
        frozen.to(device)
    # Not model.train(): each module of the student keeps its own mode.
    model.training = student.training
    model.terms.train(student.training)
    _ATTACHED.add(student)
    return model


def _frozen_reference(
    student: nn.Module,
    specs: Sequence[Regularizer],
    reference: nn.Module | None,
    found: Mapping[str, Stage],
    known: Mapping[str, str],
    entry: str,
) -> tuple[Reference | None, dict[str, Stage]]:
    """Build the frozen teacher, if some term asks for one, and find the student's stages on it."""
    reading = list(dict.fromkeys(spec.name for spec in specs if spec.needs_classifier))
    if not any(spec.needs_reference for spec in specs):
        if reference is not None:
            raise ConfigError(
                f"A reference was given, but no regularizer looks at it ({', '.join(spec.name for spec in specs)}). "
                "Leave it out, or add one that compares with a teacher, e.g. guidance."
            )
        return None, dict(found)
    teacher = student if reference is None else reference
    teacher_entry = entry if reference is None else find_entry(reference)
    if reading:
        _check_classifier(teacher, teacher_entry, reading)
    theirs = dict(found)
    if reference is not None:
        modules = dict(reference.named_modules())
        own = {name: path for name, path in known.items() if path in modules}
        names = [name for name in found if name != CLASSIFIER_INPUT]
        theirs = resolve(reference, names, known=own, entry=teacher_entry)
        if CLASSIFIER_INPUT in found:
            theirs[CLASSIFIER_INPUT] = probe_input(reference, CLASSIFIER_INPUT, find_classifier(reference))
    # Maps do not depend on the head. Of an smp model or a detector it lies outside the entry anyway.
    ignore = frozenset[str]() if teacher_entry or reading else find_head(teacher)
    frozen = Reference(
        teacher.get_submodule(teacher_entry),
        _seen_from(teacher_entry, theirs),
        ignore=ignore,
        renormalize=None if reference is None else _renormalization(student, reference),
    )
    return frozen, theirs


def _check_classifier(teacher: nn.Module, entry: str, reading: Sequence[str]) -> None:
    """Refuse a teacher without a classifier for terms that read it, and warn of one that was never trained."""
    hint = "Pass reference= with the pretrained classifier, e.g. timm.create_model('resnet50', pretrained=True)."
    if entry or not find_classifier(teacher):
        raise ConfigError(
            f"{', '.join(reading)} reads the reference's own classifier, but {type(teacher).__name__} has none. {hint}"
        )
    pretrained = (getattr(teacher, "pretrained_cfg", None) or {}).get("num_classes")
    classes = getattr(teacher, "num_classes", None)
    if pretrained and classes and pretrained != classes:
        warnings.warn(
            f"{', '.join(reading)} reads the reference's own classifier, but that has {classes} classes where the "
            f"pretrained weights have {pretrained}: it is a fresh one and knows nothing. {hint}",
            UntrainedTeacherWarning,
            stacklevel=4,
        )


def _renormalization(student: nn.Module, reference: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Return scale and shift from the student's input statistics to the reference's; None if alike or unknown."""
    own, theirs = input_statistics(student), input_statistics(reference)
    if own is None or theirs is None:
        return None
    mean, std, mean_ref, std_ref = (torch.tensor(value) for value in (*own, *theirs))
    if torch.equal(mean, mean_ref) and torch.equal(std, std_ref):
        return None
    return std / std_ref, (mean - mean_ref) / std_ref


def _seen_from(entry: str, stages: Mapping[str, Stage]) -> list[Stage]:
    """Return stages with paths as seen from inside the entry."""
    start = len(entry) + 1 if entry else 0
    return [dataclasses.replace(stage, path=stage.path[start:]) for stage in stages.values()]


@dataclasses.dataclass(frozen=True)
class _Run:
    """One forward pass and every ``Pass`` that it serves."""

    shared: Pass
    serves: tuple[Pass, ...]


def _plan(specs: Sequence[Regularizer]) -> tuple[_Run, ...]:
    """Merge what the terms ask for: no network runs twice on one view."""
    groups: dict[tuple[Any, ...], set[Pass]] = {}
    for spec in specs:
        for needed in spec.passes - {STUDENT}:
            groups.setdefault((needed.net, needed.view, needed.average), set()).add(needed)
    runs = []
    for (net, view, average), needs in groups.items():
        grad, moves = any(n.grad for n in needs), any(n.moves_stats for n in needs)
        runs.append(_Run(Pass(net, view, grad, moves, average), tuple(sorted(needs, key=repr))))
    return tuple(sorted(runs, key=lambda run: repr(run.shared)))


class RegularizedModel(nn.Module):
    """A student and its regularizers; made by ``attach``.

    In training, ``model(view0, view1)`` returns a dict: ``"output"``, the student's own output for view 0;
    ``"penalty"``, the weighted sum of all terms (0-d, float32), to be added to the task's loss; and
    ``"penalty/<term>"``, each term's weighted share, detached, for logs. In eval mode only the student runs, and the
    dict holds ``"output"`` alone.

    Everything trainable runs inside this forward, so the model may be compiled and wrapped like any other.

    Attributes:
        student: The network.
        frozen_layers: The layers of it whose running statistics this model keeps as they are; see ``attach(norm=)``.
    """

    def __init__(
        self,
        student: nn.Module,
        specs: Sequence[Regularizer],
        terms: Mapping[str, Term],
        reference: Reference | None,
        averages: Mapping[Average, AveragedNetwork],
        stages: Sequence[Stage],
        entry: str,
        backbone: frozenset[str],
        norm: Literal["frozen", "train"],
    ) -> None:
        super().__init__()
        self._detached = False
        self.student = student
        self.reference = reference
        self.averages = nn.ModuleDict({str(index): network for index, network in enumerate(averages.values())})
        self._average_names = {settings: str(index) for index, settings in enumerate(averages)}
        self.terms = nn.ModuleDict(terms)
        self.specs = tuple(specs)
        self.weights = {name: spec.weight for name, spec in zip(terms, specs, strict=True)}
        self.entry = entry
        self.extra_runs = _plan(specs)
        self.views = max(spec.views for spec in specs)
        self.tap: FeatureTap | None = FeatureTap(student, stages, entry=entry) if stages else None
        parameters = dict(student.named_parameters())
        self._backbone: tuple[nn.Parameter, ...] = tuple(parameters[name] for name in sorted(backbone))
        self.norm = norm
        self.frozen_layers: list[nn.Module] = []
        self._freeze()
        self._classifiers = tuple(last_layers(student))
        self._excess: Tensor | None = None
        self._judged = not self._classifiers
        self._handles: tuple[Any, ...] = ()
        self._bound = False  # apart from the handles, which torch.compile cannot look at
        self._unbound_forwards = 0

    def forward(self, *views: Any, **student_kwargs: Any) -> dict[str, Any]:
        """Run the student on view 0 and, in training, every term.

        Args:
            *views: The views; view 0 feeds the task. Terms that compare views need view 1 too, of the same shape. A
                torchvision detector takes each view as a list of images; view 1 is then resized and stacked as view 0
                was, also where the detector draws a size at random, and must show the same geometry in other colours.
            **student_kwargs: Passed to the student with view 0.

        Returns:
            See the class.

        Raises:
            TrainingError: If a view is missing or of another shape than view 0, gradient is switched off in train
                mode, or the model was detached.
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
            as_lists = [view for view in views[1 : self.views] if not isinstance(view, Tensor)]
            drawn = torch.get_rng_state() if as_lists else None
            with self.tap.record() as student_maps:
                output = self.student(views[0], **student_kwargs)
            entry_input = self.tap.take_input()
            self._check_grad(student_maps)
            maps = {STUDENT: student_maps}
            for run in self.extra_runs:
                # At the entry, view 0 is what the student's entry saw: a detector resizes at random before it.
                number = run.shared.view
                found = self._run(
                    run.shared, entry_input if number == 0 else self._at_entry(number, views, entry_input, drawn)
                )
                for needed in run.serves:
                    same = needed.grad == run.shared.grad
                    maps[needed] = found if same else {name: value.detach() for name, value in found.items()}
        self._look_at(output)
        return {"output": output, **self._penalties(Step(maps))}

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen statistics stay so, also of layers that were exchanged since, as for SyncBatchNorm."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.norm == "frozen" and not self._detached:
            self.frozen_layers += freeze_norm_stats(pretrained_norm_layers(self.student, self.entry))

    def _look_at(self, output: Any) -> None:
        """Measure how far from chance a classifier starts; a compiled graph cannot warn, so it leaves the figure."""
        compiling = torch.compiler.is_compiling()
        if self._classifiers and (compiling or not self._judged) and isinstance(output, Tensor) and output.ndim == 2:
            self._excess = excess_over_chance(output)
            if not compiling:
                self._judge()

    def _judge(self) -> None:
        """Warn once if a fresh classifier starts far from chance."""
        if self._excess is None:
            return
        excess, self._excess = self._excess, None
        if self._judged:
            return
        self._judged = True
        layers = [self.student.get_submodule(path) for path in self._classifiers]
        if float(excess) > WILD and all(map(is_fresh, layers)) and distributed.rank() == 0:
            names, chance = ", ".join(self._classifiers), math.log(layers[0].get_parameter("weight").shape[0])
            warnings.warn(
                f"The fresh classifier ({names}) starts far from chance: on random labels its loss "
                f"would be {chance + float(excess):.1f}, where guessing costs {chance:.1f}. Gradients of such a "
                "start shake the pretrained backbone. Call synreal.zero_head(student) before training.",
                WildHeadWarning,
                stacklevel=6,  # past nn.Module's own frames, to the loop that called the model
            )

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
        entry = self.student.get_submodule(self.entry)
        maps: Mapping[str, Tensor]
        if needed.net == "reference":
            assert self.reference is not None
            maps = self.reference(images)
            return maps
        if needed.average is not None:
            maps = self.averages[self._average_names[needed.average]](images, entry)
            return maps
        assert self.tap is not None
        hold = contextlib.nullcontext() if needed.moves_stats else hold_norm_stats(self.student)
        with torch.set_grad_enabled(needed.grad), hold, self.tap.record() as maps:
            entry(images)
        self.tap.take_input()
        if needed.grad:
            self._check_grad(maps)
        return maps

    def _at_entry(self, number: int, views: Sequence[Any], seen: Tensor, drawn: Tensor | None) -> Tensor:
        """Return a further view as the entry takes it: of the shape that it saw view 0 in."""
        images = views[number]
        if drawn is not None and not isinstance(images, Tensor):
            # The detector's own transform, with the random numbers that it drew for view 0.
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.set_rng_state(drawn)
                batch, _ = self.student.get_submodule("transform")(list(images))
            images = batch.tensors
        if images.shape != seen.shape:
            raise TrainingError(
                f"View {number} reaches {self.entry or 'the network'} as {tuple(images.shape)}, view 0 as "
                f"{tuple(seen.shape)}: views of one batch must have one shape and geometry and differ in colour alone."
            )
        found: Tensor = images
        return found

    def _check(self, views: Sequence[Any]) -> None:
        if len(views) < self.views:
            asking = [spec.name for spec in self.specs if spec.views > len(views)]
            raise TrainingError(
                f"{', '.join(asking)} needs {self.views} views, got {len(views)}. Call model(view0, view1) with two "
                "independently augmented views of the same images (synreal.views.MultiView makes them)."
            )
        for index in range(1, self.views):
            if not isinstance(views[index], Tensor) and not isinstance(
                getattr(self.student, "transform", None), nn.Module
            ):
                raise TrainingError(
                    f"View {index} is a {type(views[index]).__name__}; {type(self.student).__name__} takes a tensor. "
                    "Only torchvision's detectors, which resize images by themselves, take lists of them."
                )
            if self.entry == "" and views[index].shape != views[0].shape:
                raise TrainingError(
                    f"View {index} has shape {tuple(views[index].shape)}, view 0 {tuple(views[0].shape)}: views of one "
                    "batch must have one shape."
                )
        if not torch.is_grad_enabled():
            raise TrainingError("The model is in train mode without gradient; call model.eval() to predict.")
        waiting = [name for name, term in self._terms().items() if term.wants_images]
        if waiting:
            raise TrainingError(
                f"{', '.join(waiting)} must see images before the first step: call model.calibrate(batches) once, with "
                "batches of images (N, 3, H, W) normalised as for training."
            )
        if not self._bound and (self.averages or any(term.stateful for term in self._terms().values())):
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
        reading = [name for name, term in self._terms().items() if term.reads_gradients]
        if reading and any(group.get("fused") for group in inner.param_groups):
            raise ConfigError(
                f"{', '.join(reading)} reads gradients before each step, but a fused optimizer may be handed gradients "
                "that a GradScaler has not unscaled. Make the optimizer with fused=False."
            )
        self._unbind()
        self._handles = (
            inner.register_step_pre_hook(functools.partial(_before_step, self)),
            inner.register_step_post_hook(functools.partial(_after_step, self)),
        )
        self._bound = True
        return self

    def _unbind(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = ()
        self._bound = False

    def calibrate(self, images: Iterable[Tensor]) -> Self:
        """Show images to the terms that must see some before training, such as ``weight_l2(importance="fisher")``.

        Args:
            images: Batches (N, 3, H, W), normalised as for training; as many are read as the terms ask for.

        Returns:
            The model.
        """
        waiting = [term for term in self._terms().values() if term.wants_images]
        # Each term reads the batches from the start, so they are kept if they can be read but once.
        batches = images if len(waiting) < 2 or isinstance(images, Sequence) else list(images)
        for term in waiting:
            term.calibrate(batches)
        return self

    def before_step(self) -> None:
        """Let the terms read the gradients before an optimizer step; ``bind`` calls this."""
        self._judge()
        with torch.no_grad():
            for term in self._terms().values():
                term.before_step()

    def after_step(self) -> None:
        """Update averages and terms after an optimizer step; ``bind`` calls this, a loop that binds need not."""
        with torch.no_grad():
            for average in self.averages.values():
                cast("AveragedNetwork", average).update(self.student.get_submodule(self.entry))
            for term in self._terms().values():
                term.after_step()

    def detach(self) -> nn.Module:
        """Remove every hook and return the student; the model cannot be used afterwards."""
        if self.tap is not None:
            self.tap.remove()
        self._unbind()
        self._detached = True
        release_norm_stats(self.frozen_layers)
        self.frozen_layers = []
        for term in self._terms().values():
            term.release()
        student = self.student
        _ATTACHED.discard(student)
        self.reference = None
        self.averages = nn.ModuleDict()
        self.terms = nn.ModuleDict()
        self._backbone = ()
        return student

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not bound: it has no optimizer of its own yet.
        return {**self.__dict__, "_handles": (), "_bound": False}

    @property
    def backbone_parameters(self) -> tuple[nn.Parameter, ...]:
        """The student's parameters that belong to its pretrained backbone; empty once detached."""
        return self._backbone

    @property
    def bound(self) -> bool:
        """Whether the model hears of optimizer steps."""
        return self._bound


class UnboundWarning(UserWarning):
    """A stateful regularizer trains without hearing of optimizer steps."""


def _before_step(
    model: RegularizedModel, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
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


def _after_step(model: RegularizedModel, *_: Any) -> None:
    model.after_step()
