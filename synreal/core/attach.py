"""``attach``: put regularizers on a network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from synreal.core.anatomy import Anatomy
from synreal.core.norm_stats import never_trained
from synreal.core.parts import check_values
from synreal.core.passes import Plan
from synreal.core.regularized import ATTACHED, RegularizedModel
from synreal.core.stages import CLASSIFIER_INPUT, Stage
from synreal.core.sums import build_terms
from synreal.core.taps import tapped
from synreal.core.teachers import AveragedNetwork, Reference, UntrainedTeacherWarning
from synreal.core.terms import REGULARIZERS, Regularizer, Site
from synreal.core.trial import check_channels
from synreal.errors import ConfigError, StageError
from synreal.specs import unique_names


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
        stages: Stage names and module paths that override what is found, e.g. ``{4: "layer4"}``.
        entry: Path of the module that turns images into stage maps; found by default (``encoder`` of smp,
            ``backbone.body`` of torchvision detectors, else the network itself). Of a network of your own it also says
            what is pretrained: all around that module is the head.
        norm: ``"frozen"`` keeps the running statistics of the pretrained network's BatchNorm as they are, whoever calls
            ``train()`` on what, until ``detach()`` (CSG); fresh layers around it, such as a segmenter's decoder, learn
            theirs. ``"train"`` lets all of them follow the synthetic images (GCISG). Scale and shift learn either way.

    Returns:
        The model to train.

    Raises:
        ConfigError: If a name or setting is wrong, or the network is compiled, wrapped, attached already or has no
            weights yet.
        StageError: If a stage does not exist or its hook does not fire in a trial forward pass.
    """
    specs = REGULARIZERS.specs(regularizers)
    if not specs:
        raise ConfigError("No regularizer given. Use 'none' to train without one.")
    if norm not in ("frozen", "train"):
        raise ConfigError(f"norm is {norm!r}; expected 'frozen' or 'train'.")
    if hasattr(student, "_orig_mod") or isinstance(student, nn.parallel.DistributedDataParallel):
        raise ConfigError("The network is compiled or wrapped already: attach first, then compile, then wrap in DDP.")
    if student in ATTACHED or tapped(student) or isinstance(student, RegularizedModel):
        raise ConfigError("Regularizers are attached to this network already: give all of them to one attach().")
    check_values(student, "student")
    specs = [spec.on(student) for spec in specs]
    known = {str(name): path for name, path in (stages or {}).items()}
    wanted = [name for spec in specs for name in spec.wanted_stages]
    anatomy = Anatomy.of(student, wanted, entry=entry, known=known)
    plan = Plan.of(spec.passes for spec in specs)
    frozen, their_stages = _frozen_reference(student, anatomy, specs, reference, known)
    trunk, inner = student.get_submodule(anatomy.entry), anatomy.inner_stages()
    averages = {settings: AveragedNetwork(trunk, inner, settings) for settings in plan.averages}
    site = Site(student, anatomy.stages, their_stages, anatomy.backbone, frozen, anatomy.entry, anatomy.doubt)
    terms = build_terms(dict(zip(unique_names(specs), specs, strict=True)), site)
    model = RegularizedModel(student, anatomy, specs, terms, plan.runs, reference=frozen, averages=averages, norm=norm)
    if norm == "frozen" and (frozen is None or reference is not None) and never_trained(model.frozen_layers):
        warnings.warn(
            "norm='frozen' keeps BatchNorm statistics that were never trained: is the network randomly initialised? "
            "Load pretrained weights before attach(), or pass norm='train'.",
            UntrainedTeacherWarning,
            stacklevel=2,
        )
    device = next(student.parameters()).device
    model.terms.to(device)
    if frozen is not None:
        frozen.to(device)
    # Not model.train(): each module of the student keeps its own mode.
    model.training = student.training
    model.terms.train(student.training)
    ATTACHED.add(student)
    return model


def _frozen_reference(
    student: nn.Module,
    anatomy: Anatomy,
    specs: Sequence[Regularizer],
    reference: nn.Module | None,
    known: Mapping[str, str],
) -> tuple[Reference | None, Mapping[str, Stage]]:
    """Build the frozen teacher, if some term asks for one, and find the student's stages on it."""
    if not any(spec.needs_reference for spec in specs):
        if reference is not None:
            raise ConfigError(
                f"A reference was given, but no regularizer looks at it ({', '.join(spec.name for spec in specs)}). "
                "Leave it out, or add one that compares with a teacher, e.g. guidance."
            )
        return None, anatomy.stages
    reading = list(dict.fromkeys(spec.name for spec in specs if spec.needs_classifier))
    wanted = [str(name) for spec in specs if spec.needs_reference for name in spec.wanted_stages]
    # A student without a classifier has stage 4 in place of the input of one.
    shared = ["4" if n == CLASSIFIER_INPUT and n not in anatomy.stages else n for n in wanted]
    teacher, theirs = student, anatomy
    if reference is not None:
        check_values(reference, "reference")
        check_channels(student, reference)
        modules = dict(reference.named_modules())
        own = {name: path for name, path in known.items() if path in modules}
        teacher, theirs = reference, Anatomy.of(reference, shared, known=own)
    if reading:
        _check_classifier(theirs, reading)
    if not set(shared) <= theirs.stages.keys():
        raise StageError(
            f"A regularizer reads the input of the classifier, which {theirs.kind}, the reference, does not have. Pass "
            "a reference with a classifier."
        )
    # Maps do not depend on the head. Of a segmenter or a detector it lies outside the entry anyway.
    ignore = frozenset[str]() if theirs.entry or reading else theirs.head
    frozen = Reference(
        teacher.get_submodule(theirs.entry),
        theirs.inner_stages(),
        ignore=ignore,
        renormalize=None if reference is None else anatomy.renormalization(theirs),
    )
    return frozen, theirs.stages


def _check_classifier(anatomy: Anatomy, reading: Sequence[str]) -> None:
    """Refuse a teacher without a classifier for terms that read it, and warn of one that was never trained."""
    hint = "Pass reference= with the pretrained classifier, e.g. timm.create_model('resnet50', pretrained=True)."
    if not anatomy.classifier:
        raise ConfigError(
            f"{', '.join(reading)} reads the reference's own classifier, but {anatomy.kind} has none. {hint}"
        )
    classes, pretrained = anatomy.classes
    if classes and pretrained and classes != pretrained:
        warnings.warn(
            f"{', '.join(reading)} reads the reference's own classifier, but that has {classes} classes where the "
            f"pretrained weights have {pretrained}: it is a fresh one and knows nothing. {hint}",
            UntrainedTeacherWarning,
            stacklevel=4,
        )
