"""What a network is that is looked into, which measures can be taken of it, and what was found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from accelerate import Accelerator
from torch import nn

from synreal.config import RunConfig
from synreal.core.parts import find_classifiers, find_entry
from synreal.core.task_heads import is_fresh, last_layers
from synreal.data.files.imagenet import imagenet_images
from synreal.engine import environment
from synreal.engine.close_ups import looked
from synreal.engine.examining import Examined, Shown, examine
from synreal.engine.looking import Eyes, look_at_imagenet, look_at_set, weigh
from synreal.engine.progress import RunProgress
from synreal.engine.transforming import convert, transforms_of
from synreal.errors import ConfigError, Interrupted, SynrealError
from synreal.figures import Looked, panels_of
from synreal.measures import MEASURES, Collection, check_measures, fits
from synreal.measures.energy import FeatureRows
from synreal.records import Look, Measured, SetLook
from synreal.tasks.base import Task
from synreal.weights import Student, imagenet_ids
from synreal.weights.mapping import fill_by_flat_name

_DEFAULT_SIZE: Final = 224  # of an ImageNet crop, where a network does not say


@dataclass(frozen=True)
class Subject:
    """A network that is looked into.

    Attributes:
        title: What it is, in words.
        checkpoint: Which weights it has; see ``Look``.
        sha256: Of the file of its weights; None for a network in memory.
        config: Sizes of batches and data loading.
        task: The task, with the sets.
        student: The network.
        pretrained: Builds what it was pretrained as.
        classifier: Builds that with the ImageNet classifier that it was pretrained with.
        unknown: Why predictions cannot be compared with labels; None if they can.
    """

    title: str
    checkpoint: str
    sha256: str | None
    config: RunConfig
    task: Task[Any]
    student: Student
    pretrained: Callable[[], Student]
    classifier: Callable[[], nn.Module]
    unknown: str | None = None


@dataclass(frozen=True)
class Insight:
    """What looking into a network found.

    Attributes:
        look: The measures.
        looked: What figures draw, by set; empty unless it was asked for.
        examined: What a page shows, by set; likewise.
    """

    look: Look
    looked: dict[str, Looked] = field(default_factory=dict)
    examined: dict[str, Examined] = field(default_factory=dict)

    def titled(self, title: str) -> Insight:
        """Return the same under another title."""
        looked = {name: replace(one, title=title) for name, one in self.looked.items()}
        return replace(self, look=self.look.model_copy(update={"title": title}), looked=looked)


def told_apart(found: Sequence[Insight], places: Sequence[object]) -> list[Insight]:
    """Return what was found in networks under titles that differ: where two are the same, with their places."""
    if len({one.look.title for one in found}) == len(found):
        return list(found)
    titles = [f"{one.look.title} ({place})" for one, place in zip(found, places, strict=True)]
    again = [f"{title[:-1]}, again)" if title in titles[:number] else title for number, title in enumerate(titles)]
    return [one.titled(title) for one, title in zip(found, again, strict=True)]


def check(names: Sequence[str] | None, label: str, imagenet: str | Path | None, *, draws: bool) -> None:
    """Check, before data or networks, what shall be measured.

    Args:
        names: Measures; None for all that can be taken.
        label: The kind of label that the task predicts.
        imagenet: Folder of ImageNet's images; None if there is none.
        draws: Whether figures are to be drawn: there need be no measure then.

    Raises:
        ConfigError: If a measure is unknown, does not fit, or needs the folder.
        DataError: If the folder holds no such images.
    """
    if names or (names is not None and not draws):
        check_measures(names, label, looking=True)
    asking = [name for name in names or () if MEASURES.get(name).needs == "imagenet"]
    if asking and imagenet is None:
        raise ConfigError(
            f"The measure {asking[0]!r} needs images of ImageNet: name their folder with --imagenet (imagenet=)."
        )
    if imagenet is not None:
        imagenet_images(imagenet, imagenet_ids())


class _Plan:
    """Which measures are taken, and why others are not.

    Args:
        subject: The network.
        names: Measures; None for all that can be taken.
        imagenet: Folder of ImageNet's images.

    Attributes:
        left_out: Why a measure is not taken, by its name.
    """

    def __init__(self, subject: Subject, names: Sequence[str] | None, imagenet: str | Path | None) -> None:
        self.asked = names is not None
        self.left_out: dict[str, str] = {}
        task = subject.task.spec
        label = task.label
        self.names = [name for name in MEASURES.classes() if name not in task.measures]
        if names is not None:
            self.names = list(names)
        for name in list(self.names):
            kind = MEASURES.get(name)
            if not fits(kind, label):
                self.drop(name, f"it is not defined for {label}", quiet=kind.needs == "predictions")
            elif kind.needs == "imagenet" and imagenet is None:
                self.drop(name, "it needs a folder of ImageNet's images")
            elif kind.needs == "predictions" and subject.unknown is not None:
                self.drop(name, subject.unknown)
            elif kind.collector.asks_confidence and type(subject.task).predict_sure is Task.predict_sure:
                self.drop(name, "the task does not say how sure its network is")

    def drop(self, name: str, reason: str, *, quiet: bool = False) -> None:
        """Leave a measure out.

        Raises:
            ConfigError: If it was asked for by its name.
        """
        if self.asked:
            raise ConfigError(f"The measure {name!r} cannot be taken: {reason}.")
        self.names.remove(name)
        if not quiet:
            self.left_out[name] = reason

    def taking(self, *needs: str) -> list[str]:
        """Return the measures that need one of some things."""
        return [name for name in self.names if MEASURES.get(name).needs in needs]

    def comparing(self) -> list[str]:
        """Return the measures that compare with the pretrained network."""
        return [name for name in self.names if getattr(MEASURES.get(name).collector, "asks_frozen", False)]


@contextmanager
def _dropping(plan: _Plan, measures: Sequence[str]) -> Iterator[None]:
    """Leave measures out that cannot be taken, unless they were asked for by name."""
    try:
        yield
    except Interrupted:
        raise
    except SynrealError as error:
        if plan.asked:
            raise
        for name in measures:
            plan.drop(name, str(error).rstrip("."))


def look_at(
    subject: Subject,
    names: Sequence[str] | None,
    sets: Iterable[str],
    accelerator: Accelerator,
    progress: RunProgress,
    stop: Callable[[], None],
    *,
    imagenet: str | Path | None = None,
    draws: bool = False,
    examines: bool = False,
    follow: Mapping[str, Shown] | None = None,
) -> Insight:
    """Look into a network.

    Args:
        subject: The network.
        names: Measures; None for all that can be taken: what cannot is then left out, and said.
        sets: Which of the task's sets to look at.
        accelerator: Device, precision and the other processes.
        progress: What people see.
        stop: Called after each batch, equally often in all processes; it raises if work is to end.
        imagenet: Folder of ImageNet's images.
        draws: Whether figures are to be drawn.
        examines: Whether a page is to be made.
        follow: By set, the images that a page shows of another network; those of others are chosen by this one.

    Raises:
        SynrealError: If what was asked for by name cannot be done.
    """
    plan = _Plan(subject, names, imagenet)
    pretrained = None
    if comparing := plan.comparing():
        with _dropping(plan, comparing):
            pretrained = subject.pretrained()
            pretrained.network.to(accelerator.device)
    eyes = Eyes(
        subject.title,
        subject.task,
        subject.student,
        None if pretrained is None else pretrained.network,
        subject.config,
        accelerator,
        progress,
        stop,
    )
    found: dict[str, SetLook] = {}
    alone: dict[str, Measured] = {}
    drawn: dict[str, Looked] = {}
    shown: dict[str, Examined] = {}
    sets = list(sets)
    task = subject.task.spec
    figure = panels_of(task.figures, task.label) if examines else None
    scored = task.measures if examines and subject.unknown is None else ()
    more: list[type[Any]] = [
        *([FeatureRows] if draws else []),
        *([figure.mistakes] if figure is not None and scored else []),
    ]
    if measures := plan.taking("weights"):
        with _dropping(plan, measures):
            origin = None if pretrained is None else _converted(pretrained.network, subject.config)
            alone = weigh(replace(eyes, frozen=origin), measures, subject.task.tests[sets[0]]).measured()
    measures = plan.taking("predictions", "features", "styled predictions")
    for name in sets if measures or draws or examines else ():
        collection = look_at_set(eyes, name, [*measures, *(one for one in scored if one not in measures)], *more)
        found[name] = _described(collection, measures)
        if draws and accelerator.is_main_process:
            drawn[name] = looked(eyes, name, collection.also(FeatureRows))
        if examines and accelerator.is_main_process:
            score = collection.compute(scored) if scored else None
            shown[name] = examine(eyes, name, collection, figure, score, (follow or {}).get(name))
    if measures := plan.taking("imagenet"):
        assert imagenet is not None
        with _dropping(plan, measures):
            classifier = _filled(subject).to(accelerator.device)
            images = imagenet_images(imagenet, imagenet_ids())
            looked_at = look_at_imagenet(eyes, measures, images, classifier, _size(classifier))
            found["imagenet"] = _described(looked_at, measures)
    return Insight(
        Look(
            title=subject.title,
            task=subject.task.spec.name,
            backbone=subject.task.setup.backbone,
            checkpoint=subject.checkpoint,
            weights=None if pretrained is None else pretrained.origin.as_dict(),
            sha256=subject.sha256,
            sets=found,
            measures=alone,
            left_out=plan.left_out,
            versions=environment.versions(),
        ),
        drawn,
        shown,
    )


def _converted(network: nn.Module, config: RunConfig) -> nn.Module:
    """Return a network with the layers that a run's transforms gave it, which is what the run began with."""
    if any(each.changes_state for each in transforms_of(config)):
        network = copy.deepcopy(network)
        convert(network, config)
    return network


def _described(collection: Collection, measures: Sequence[str]) -> SetLook:
    images = collection.images
    return SetLook(
        data=images.name,
        split=images.split,
        fingerprint=images.fingerprint,
        images=len(images),
        measures=collection.measured(measures),
    )


def _filled(subject: Subject) -> nn.Module:
    """Build the network with its original classifier, and put the trained backbone into it.

    Layers that a segmenter or detector leaves out, between the backbone's maps and the classifier, stay as they were.

    Raises:
        ConfigError: If there is no such classifier.
        WeightsError: If the pretrained weights are not available, or the trained backbone is another network.
    """
    classifier = subject.classifier()
    layers = last_layers(classifier)
    if not layers or all(map(is_fresh, layers.values())):
        raise ConfigError("its pretrained weights bring no ImageNet classifier, without which Acc_IN means nothing")
    convert(classifier, subject.config)
    network = subject.student.network
    path = find_entry(network)
    heads = tuple(f"{head}." for head in find_classifiers(network))
    part = network.get_submodule(path).state_dict()
    part = {key: value for key, value in part.items() if not key.startswith(heads)}
    classifier.load_state_dict(fill_by_flat_name(classifier.state_dict(), part, subject.task.setup.backbone))
    return classifier


def _size(classifier: nn.Module) -> int:
    """Return the side of the images that a network was pretrained with, in pixels."""
    config: Any = getattr(classifier, "pretrained_cfg", None) or {}
    return int(config.get("input_size", (3, _DEFAULT_SIZE))[-1])
