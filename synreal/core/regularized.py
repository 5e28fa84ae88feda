"""``RegularizedModel``: a student and its regularizers, the one module that is trained."""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from synreal import distributed
from synreal.core.anatomy import Anatomy
from synreal.core.binding import check_optimizer, hook_steps, undecayed_groups
from synreal.core.guards import LoopGuard, UnboundWarning, Watched, check_given, unwatch, watch
from synreal.core.noise import HeldNoise, noise_of
from synreal.core.norm_stats import (
    freeze_norm_stats,
    hold_norm_stats,
    pretrained_norm_layers,
    release_norm_stats,
    small_batches_told,
)
from synreal.core.parts import logits_of
from synreal.core.passes import STUDENT, Pass, Run, Step
from synreal.core.sums import calibrate
from synreal.core.taps import FeatureTap
from synreal.core.task_heads import WILD, WildHeadWarning, excess_over_chance, is_fresh
from synreal.core.teachers import Average, AveragedNetwork, Reference
from synreal.core.terms import Regularizer, Term
from synreal.errors import StageError, TrainingError

ATTACHED: Final[weakref.WeakSet[nn.Module]] = weakref.WeakSet()
"""Networks that a model holds now, until it is detached."""

__all__ = ["ATTACHED", "RegularizedModel", "UnboundWarning"]


class RegularizedModel(Watched):
    """A student and its regularizers; made by ``attach``.

    In training, ``model(view0, view1)`` returns a dict: ``"output"``, the student's own output for view 0;
    ``"penalty"``, the weighted sum of all terms (0-d, float32), to be added to the task's loss; and
    ``"penalty/<term>"``, each term's weighted share, detached, for logs. In eval mode only the student runs, and the
    dict holds ``"output"`` alone.

    Everything trainable runs inside this forward, so the model may be compiled and wrapped like any other.

    Args:
        student: The network.
        anatomy: What it is made of.
        specs: The regularizers.
        terms: Their running sides by name, in the order of ``specs``.
        runs: The passes that they need beside the student's own on view 0.
        reference: The frozen teacher, if one of them reads it.
        averages: The moving averages that they read.
        norm: As for ``attach``.

    Attributes:
        student: The network.
        frozen_layers: The layers of it whose running statistics this model keeps as they are; see ``attach(norm=)``.
    """

    def __init__(
        self,
        student: nn.Module,
        anatomy: Anatomy,
        specs: Sequence[Regularizer],
        terms: Mapping[str, Term],
        runs: Sequence[Run],
        *,
        reference: Reference | None,
        averages: Mapping[Average, AveragedNetwork],
        norm: Literal["frozen", "train"],
    ) -> None:
        super().__init__()
        self._detached = False
        self.student = student
        self.anatomy = anatomy
        self.reference = reference
        self.averages = nn.ModuleDict({str(index): network for index, network in enumerate(averages.values())})
        self._average_names = {settings: str(index) for index, settings in enumerate(averages)}
        self.terms = nn.ModuleDict(terms)
        self.specs = tuple(specs)
        self.weights = {name: spec.weight for name, spec in zip(terms, specs, strict=True)}
        averaged = [any(needed.average is not None for needed in spec.passes) for spec in specs]
        self.stateful_terms = [n for (n, term), a in zip(terms.items(), averaged, strict=True) if a or term.stateful]
        self.extra_runs = tuple(runs)
        passes = dict(zip(terms, (spec.passes for spec in specs), strict=True))
        self._asking = [[name for name in terms if passes[name] & set(run.serves)] for run in self.extra_runs]
        self.views = max(spec.views for spec in specs)
        self.needs_targets = any(spec.needs_targets for spec in specs)
        stages = list(anatomy.stages.values())
        self.tap: FeatureTap | None = FeatureTap(student, stages, entry=anatomy.entry) if stages else None
        parameters = dict(student.named_parameters())
        self._backbone: tuple[nn.Parameter, ...] = tuple(parameters[name] for name in sorted(anatomy.backbone))
        self.norm = norm
        self.frozen_layers: list[nn.Module] = []
        self._freeze()
        self.noise = HeldNoise(student) if noise_of(student) else None
        self._excess: Tensor | None = None
        self._judged = not anatomy.last_layers
        self._handles: tuple[Any, ...] = ()
        self._bound = False  # apart from the handles, which torch.compile cannot look at
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._guard = LoopGuard()
        watch(self)

    def forward(self, *views: Any, targets: Any = None, **student_kwargs: Any) -> dict[str, Any]:
        """Run the student on view 0 and, in training, every term.

        Args:
            *views: The views; view 0 feeds the task. Terms that compare views need view 1 too, of the same shape. A
                torchvision detector takes each view as a list of images; view 1 is then resized and stacked as view 0
                was, also where the detector draws a size at random, and must show the same geometry in other colours.
            targets: Those of view 0, for terms that read them: classes (N,), masks (N, H, W), or a detector's list of
                boxes and labels. The student gets them too if its ``forward`` takes ``targets``.
            **student_kwargs: Passed to the student with view 0.

        Returns:
            See the class.

        Raises:
            TrainingError: If a view is missing or of another shape than view 0, targets are missing, gradient is
                switched off in train mode, or the model was detached.
            StageError: If a stage did not run or was changed in place.
        """
        if self._detached:
            raise TrainingError("This model was detached: use the student that detach() returned, or attach again.")
        if not views:
            raise TrainingError("No image was given: call model(images), by position, whatever the student calls them.")
        if targets is not None and self.anatomy.takes_targets:
            student_kwargs["targets"] = targets
        if not self.training:
            return {"output": self._run_student(views[0], student_kwargs)}
        self._check(views, targets)
        size: tuple[int, int] | None = None
        if self.tap is None:
            output = self._see(views[0], student_kwargs)
            maps: dict[Pass, Mapping[str, Tensor]] = {}
        else:
            drawn = self.anatomy.drawn(views[: self.views], targets=self.needs_targets)
            with self.tap.record() as student_maps:
                output = self._see(views[0], student_kwargs)
            entry_input = self.tap.take_input()
            self._check_grad(student_maps)
            maps = {STUDENT: student_maps}
            if self.needs_targets:
                targets = self.anatomy.targets(self.student, views[0], targets, drawn)
                size = (entry_input.shape[-2], entry_input.shape[-1])
            for run, asking in zip(self.extra_runs, self._asking, strict=True):
                if not any(self._terms()[name].awake for name in asking):
                    continue
                # At the entry, view 0 is what the student's entry saw: a detector resizes at random before it.
                images = self.anatomy.batch(self.student, run.shared.view, views, entry_input, drawn)
                maps.update(run.maps(self._run(run.shared, images)))
        self._look_at(output)
        penalties = self._penalties(Step(maps, targets, size))
        self._guard.note(penalties["penalty"])
        return {"output": output, **penalties}

    def _run_student(self, view: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run the student; outside of a compiled graph, say what to do about a batch that is too small."""
        if torch.compiler.is_compiling():
            return self.student(view, **kwargs)
        with small_batches_told(self.student):
            return self.student(view, **kwargs)

    def _see(self, view: Any, kwargs: Mapping[str, Any]) -> Any:
        """Run the student on view 0 in training."""
        output = self._run_student(view, kwargs)
        if self.noise is not None and not torch.compiler.is_compiling():
            self.noise.check_ran()
        return output

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen statistics stay so, also of layers that were exchanged since, as for SyncBatchNorm."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.norm == "frozen" and not self._detached:
            layers = pretrained_norm_layers(self.student, self.anatomy.entry, self.anatomy.head)
            self.frozen_layers += freeze_norm_stats(layers)

    def _look_at(self, output: Any) -> None:
        """Measure how far from chance a classifier starts; a compiled graph cannot warn, so it leaves the figure."""
        compiling = torch.compiler.is_compiling()
        watched = self.anatomy.last_layers and (compiling or not self._judged)
        output = logits_of(output)
        if watched and isinstance(output, Tensor) and output.ndim == 2:
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
        layers = [self.student.get_submodule(path) for path in self.anatomy.last_layers]
        if float(excess) > WILD and all(map(is_fresh, layers)) and distributed.rank() == 0:
            names, chance = ", ".join(self.anatomy.last_layers), math.log(layers[0].get_parameter("weight").shape[0])
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
        entry = self.student.get_submodule(self.anatomy.entry)
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
        quiet = contextlib.nullcontext() if self.noise is None else self.noise.held()
        with torch.set_grad_enabled(needed.grad), hold, quiet, self.tap.record() as maps:
            entry(images)
        self.tap.take_input()
        if needed.grad:
            self._check_grad(maps)
        return maps

    def _check(self, views: Sequence[Any], targets: Any) -> None:
        check_given(self.specs, views, targets, self.views, needs_targets=self.needs_targets)
        self.anatomy.check_views(views[: self.views])
        if not torch.is_grad_enabled():
            raise TrainingError("The model is in train mode without gradient; call model.eval() to predict.")
        waiting = [name for name, term in self._terms().items() if term.wants_images]
        if waiting:
            raise TrainingError(
                f"{', '.join(waiting)} must see images before the first step: call model.calibrate(batches) once, with "
                "batches of images (N, 3, H, W) normalised as for training."
            )
        if not self._bound and self.stateful_terms:
            for term in self._terms().values():
                term.forget()
            if not torch.compiler.is_compiling():
                self._guard.before_forward(self)

    def _check_grad(self, maps: Mapping[str, Tensor]) -> None:
        silent = [name for name, value in maps.items() if not value.requires_grad]
        if silent and any(parameter.requires_grad for parameter in self._backbone):
            raise StageError(
                f"The map of stage {', '.join(silent)} carries no gradient although the backbone trains, so the "
                "penalty could not reach it. Reentrant gradient checkpointing does this: use use_reentrant=False. If "
                "the layers before that stage are frozen on purpose, choose a later stage."
            )

    def bind(self, optimizer: Optimizer) -> Self:
        """Tell the model of optimizer steps: queues and moving averages move after each.

        Steps that a GradScaler skips are not steps. Binding another optimizer replaces the first.

        Args:
            optimizer: Any torch optimizer, or Accelerate's wrapper of one.

        Returns:
            The model.

        Raises:
            TrainingError: If trainable parameters of a term are not in the optimizer: they would never learn; or if it
                holds none of the model's.
            ConfigError: If it is fused and a term reads gradients, or would decay what a term does not want decayed in
                one group with what should be.
        """
        inner = getattr(optimizer, "optimizer", optimizer)
        reading = [name for name, term in self._terms().items() if term.reads_gradients]
        check_optimizer(inner, self, self.terms, reading)
        undecayed_groups(inner, self.undecayed)
        self._unbind()
        if self.noise is not None:
            self.noise.agree()
        self._handles = hook_steps(inner, self)
        self._bound, self._optimizer = True, weakref.ref(inner)
        return self

    def _unbind(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = ()
        self._bound, self._optimizer = False, None

    def look_at_step(self, optimizer: Optimizer) -> None:
        """Look, before any optimizer steps, at what the loop did since its last step; see ``synreal.core.guards``.

        Raises:
            TrainingError: If it leaves something out.
        """
        self._guard.before_step(self, optimizer, None if self._optimizer is None else self._optimizer())

    def forget(self) -> None:
        """Drop what was set aside for ``after_step``, where a batch is run again whose step was skipped."""
        for term in self._terms().values():
            term.forget()

    def calibrate(self, images: Iterable[Tensor]) -> Self:
        """Show images to the terms that must see some before training, such as ``weight_l2(importance="fisher")``.

        Args:
            images: Batches (N, 3, H, W), normalised as for training; as many are read as the terms ask for.

        Returns:
            The model.
        """
        calibrate(self._terms().values(), images)
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
            for term in self._terms().values():
                term.move_weights()
            for average in self.averages.values():
                cast("AveragedNetwork", average).update(self.student.get_submodule(self.anatomy.entry))
            for term in self._terms().values():
                term.after_step()
        self._guard.after_step(self)

    def restart(self, state: Mapping[str, Tensor]) -> None:
        """Begin with other weights of the student, before the first step: moving averages begin there, too.

        The teacher, and what keeps weights near the pretrained ones, stay as they were.

        Args:
            state: The student's state dict.

        Raises:
            RuntimeError: If it does not fit the student.
        """
        self.student.load_state_dict(state)
        for average in self.averages.values():
            cast("AveragedNetwork", average).restart(self.student.get_submodule(self.anatomy.entry))

    def detach(self) -> nn.Module:
        """Remove every hook of ours and return the student; the model cannot be used afterwards.

        What a transform changed before stays: layers, and noise in training (``synreal.transforms.remove_noise``).
        """
        if self.tap is not None:
            self.tap.remove()
        self._unbind()
        unwatch(self)
        self._detached = True
        release_norm_stats(self.frozen_layers)
        self.frozen_layers = []
        for term in self._terms().values():
            term.release()
        student = self.student
        ATTACHED.discard(student)
        self.reference = self.noise = None
        self.averages = nn.ModuleDict()
        self.terms = nn.ModuleDict()
        self._backbone = ()
        return student

    def __getstate__(self) -> dict[str, Any]:
        # A copy is not bound: it has no optimizer of its own yet.
        return {**self.__dict__, "_handles": (), "_bound": False, "_optimizer": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        watch(self)

    @property
    def entry(self) -> str:
        """Path of the module that turns images into stage maps; empty for the student itself."""
        return self.anatomy.entry

    @property
    def backbone_parameters(self) -> tuple[nn.Parameter, ...]:
        """The student's parameters that belong to its pretrained backbone; empty once detached."""
        return self._backbone

    @property
    def undecayed(self) -> dict[str, tuple[nn.Parameter, ...]]:
        """Parameters that the bound optimizer does not decay, by the term that has something else in place of it."""
        return {name: found for name, term in self._terms().items() if (found := term.undecayed)}

    @property
    def bound(self) -> bool:
        """Whether an optimizer tells the model of its steps."""
        return self._bound
