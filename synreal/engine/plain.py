"""Plain networks of timm, torchvision and segmentation-models-pytorch, to be looked into: from a file or in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torchvision import models

from synreal import data as datasets
from synreal.config import RunConfig, make_config
from synreal.core.parts import class_counts, find_classifiers
from synreal.core.task_heads import last_layers
from synreal.data import DataSet
from synreal.data.aligned import aligned
from synreal.data.class_names import align_names
from synreal.data.sets import ImageSet
from synreal.engine import checkpoint
from synreal.engine.inspecting import Subject
from synreal.engine.subjects import imagenet_classifier
from synreal.engine.trained import with_weights
from synreal.engine.transforming import convert
from synreal.errors import ConfigError, WeightsError, unknown_name
from synreal.tasks.base import Task
from synreal.tasks.batches import memory_format
from synreal.weights import IMAGENET_CLASSES, Student, WeightsOrigin, check_file, normalization
from synreal.weights.mapping import load_state, read_state
from synreal.weights.reach import file_sha256

_TORCHVISION: Final = "torchvision/"
_SIDE: Final = 224  # of ImageNet's crops, in pixels
_DETECTOR_SIDE: Final = 800  # short side of the images that torchvision's detectors are made for


@dataclass(frozen=True)
class Plain:
    """How a plain network is to be understood.

    Attributes:
        data: The images to look at, as text; real ones, or the held-out part of synthetic ones.
        task: What the network does, with its settings, e.g. ``"seg(architecture='unet')"``.
        backbone: A timm name, ``smp/NAME`` or, of a classifier, ``torchvision/NAME``; None for a network in memory.
        weights: What it was pretrained with, as for a run; ``"none"`` compares with nothing.
        classes: The classes of its outputs, in order; by default what the file says, else those of the data.
        image_size: In pixels, as for a run; by default what ImageNet's networks, or torchvision's detectors, take.
        batch_size: Images at a time.
        workers: Data-loading processes.
        device: As in ``RunConfig``.
        title: What it is called; by default the file's name.
    """

    data: str
    task: str = "cls"
    backbone: str | None = None
    weights: str = "auto"
    classes: Sequence[str] = ()
    image_size: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    title: str | None = None

    def config(self) -> RunConfig:
        """Return the configuration of a run with such a network.

        Raises:
            ConfigError: If a setting is wrong.
        """
        given: dict[str, Any] = {
            "task": self.task,
            "backbone": self.backbone,
            "weights": self.weights,
            "device": self.device,
            "eval_batch_size": self.batch_size,
            "workers": self.workers,
        }
        config = make_config({key: value for key, value in given.items() if value is not None})
        side = self.image_size or (_DETECTOR_SIDE if config.task.label == "boxes" else _SIDE)
        return config.updated(image_size=side)


def of_file(path: Path, plain: Plain, config: RunConfig) -> Subject:
    """Return the network whose weights a file holds, a plain state dict.

    Raises:
        ConfigError: If a name is unknown, or the classes fit neither the data nor the network.
        WeightsError: If the weights cannot be read, or do not fit the network.
        DataError: If data are missing or damaged.
    """
    if plain.backbone is None:
        raise ConfigError(f"{path} holds weights: say of which network with --backbone (backbone=).")
    of_torchvision = plain.backbone.startswith(_TORCHVISION)
    if of_torchvision:
        _check_torchvision(plain.backbone, config, plain.weights)
    else:
        config.task.check(config.setup)
    file = check_file(str(path))
    state = read_state(file)
    told = checkpoint.read_student_facts(file) if file.suffix.lower() == ".safetensors" else {}
    config = config.updated(transforms=told.get("transforms", ()))  # what a run of synreal's says of its network
    said = told.get("classes")
    known = list(plain.classes) or (said if isinstance(said, list) else None)
    task = _task(plain, config, known)
    made = _Torchvision(task) if of_torchvision else _Tasks(task)
    network = made.bare()
    convert(network, config)
    with_head = load_state(network, state, path.name, find_classifiers(network))
    unknown = None
    if not with_head:
        unknown = f"the classifier in {path.name} is not one of the {len(task.classes)} classes that are looked at"
    return Subject(
        title=plain.title or path.stem,
        checkpoint=path.name,
        sha256=file_sha256(file),
        config=config,
        task=task,
        student=made.ready(
            Student(network, WeightsOrigin("file", path.name, file_sha256(file)), normalization(network))
        ),
        pretrained=made.pretrained,
        classifier=made.classifier,
        unknown=unknown,
    )


def of_network(network: nn.Module, plain: Plain, config: RunConfig, frozen: nn.Module | None) -> Subject:
    """Return a network in memory; it is moved to the device and back into its mode, and else stays as it is.

    Args:
        network: Of the kind that the task trains: a classifier, an smp model or a torchvision detector.
        plain: How it is to be understood.
        config: Of a run with such a network.
        frozen: The same network as it was pretrained; None compares with nothing.

    Raises:
        ConfigError: If the classes do not fit the data.
        DataError: If data are missing or damaged.
    """
    task = _task(plain, config, list(plain.classes) or None)
    outputs = _outputs(network)
    unknown = None
    if outputs not in (None, len(task.classes)):
        unknown = f"the network has {outputs} outputs, and {len(task.classes)} classes are looked at"

    def pretrained() -> Student:
        if frozen is None:
            raise ConfigError("there is nothing to compare with: give the network as it was pretrained as frozen")
        return Student(frozen, WeightsOrigin("none", "given in memory", None), normalization(frozen))

    def classifier() -> nn.Module:
        if frozen is None or _outputs(frozen) != IMAGENET_CLASSES:
            raise ConfigError("there is no ImageNet classifier: give the pretrained network with its own as frozen")
        return copy.deepcopy(frozen)

    origin = WeightsOrigin("none", "given in memory", None)
    return Subject(
        title=plain.title or type(network).__name__,
        checkpoint="network",
        sha256=None,
        config=config,
        task=task,
        student=Student(network, origin, normalization(network)),
        pretrained=pretrained,
        classifier=classifier,
        unknown=unknown,
    )


def _task(plain: Plain, config: RunConfig, known: Sequence[str] | None) -> Task[Any]:
    """Read the data with the classes that a network knows."""
    entry = datasets.find(plain.data)
    datasets.check_labels(entry, config.task.label)
    setup = replace(config.setup, source=entry, targets=(entry,))
    images = _read(entry, config)
    if known is None:
        return config.task.runtime()(config.task, setup, None, {entry.label: images}, images.classes)
    names = [str(name) for name in known]
    images = aligned(images, names, align_names(names, images.classes))
    return config.task.runtime()(config.task, setup, None, {entry.label: images}, names)


def _read(entry: DataSet, config: RunConfig) -> ImageSet:
    split = "test" if "test" in entry.parts else "heldout"
    return datasets.load(entry, split, label=config.task.label, policy=config.setup.policy)


def _outputs(network: nn.Module) -> int | None:
    """Return how many classes a classifier has; None where nothing says so."""
    layers = [getattr(layer, "out_features", None) for layer in last_layers(network).values()]
    return next((number for number in (*layers, class_counts(network)[0]) if number), None)


class _Tasks:
    """Builds the networks that a task trains."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def bare(self) -> nn.Module:
        """Build the network with weights that are overwritten."""
        with torch.random.fork_rng(devices=[]):
            return with_weights(self.task, "none").build_student().network

    def pretrained(self) -> Student:
        """Build it with its pretrained weights."""
        if self.task.setup.weights == "none":
            raise ConfigError("there are no pretrained weights to compare with (weights: none)")
        with torch.random.fork_rng(devices=[]):
            return self.ready(self.task.build_student())

    def ready(self, student: Student) -> Student:
        """Order a network in memory as its images will be, which is faster."""
        student.network.to(memory_format=memory_format(self.task.setup.memory_format))
        return student

    def classifier(self) -> nn.Module:
        """Build the backbone with its ImageNet classifier."""
        return imagenet_classifier(self.task.setup.backbone, self.task.setup.weights)


class _Torchvision(_Tasks):
    """Builds a classifier of torchvision's."""

    def bare(self) -> nn.Module:
        """Build the network with weights that are overwritten."""
        return self._built(len(self.task.classes))

    def pretrained(self) -> Student:
        """Build it with its pretrained weights, of ImageNet's classes."""
        name, weights = self._name, self.task.setup.weights
        if weights == "none":
            raise ConfigError("there are no pretrained weights to compare with (weights: none)")
        network = self._built(IMAGENET_CLASSES)
        if weights == "auto":
            origin = _load_torchvision(network, name)
        else:
            file = check_file(weights)
            load_state(network, read_state(file), file.name, find_classifiers(network))
            origin = WeightsOrigin("file", file.name, file_sha256(file))
        return self.ready(Student(network, origin, normalization(network)))

    def classifier(self) -> nn.Module:
        """Build the backbone with its ImageNet classifier."""
        return self.pretrained().network

    @property
    def _name(self) -> str:
        return self.task.setup.backbone.removeprefix(_TORCHVISION)

    def _built(self, classes: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = models.get_model(self._name, weights=None, num_classes=classes)
        return network


def _check_torchvision(backbone: str, config: RunConfig, weights: str) -> None:
    name, known = backbone.removeprefix(_TORCHVISION), models.list_models(module=models)
    if name not in known:
        raise unknown_name("torchvision classifier", name, known)
    if config.task.name != "classification":
        raise ConfigError(
            f"{backbone!r} is a classifier; for {config.task.name} name the timm backbone that the network is built "
            "around."
        )
    if weights not in ("auto", "none"):
        check_file(weights)


def _load_torchvision(network: nn.Module, name: str) -> WeightsOrigin:
    """Load torchvision's own weights, from its cache or its server."""
    weights = models.get_model_weights(name)["DEFAULT"]
    try:
        state = weights.get_state_dict(check_hash=True)
    except Exception as error:  # the client raises whatever the network does
        raise WeightsError(
            f"torchvision's weights of {name!r} cannot be had: {type(error).__name__}: {error}. Give the path of a "
            "state dict as weights, or none."
        ) from error
    load_state(network, state, str(weights), find_classifiers(network))
    return WeightsOrigin("file", f"torchvision/{name}.{weights.name}", None)
