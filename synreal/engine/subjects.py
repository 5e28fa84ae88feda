"""The networks of runs, to be looked into."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from synreal.config import RunConfig
from synreal.engine.inspecting import Subject
from synreal.engine.state import Job
from synreal.engine.trained import LAST, Trained, began_as
from synreal.errors import ConfigError
from synreal.records import label_of
from synreal.tasks.base import Task
from synreal.weights import IMAGENET_CLASSES, create_teacher
from synreal.weights.reach import file_sha256


def title_of(config: RunConfig) -> str:
    """Name a run: its regularizers with what is not at its default, and its seed."""
    terms, plain = ([spec.model_dump(mode="json") for spec in specs] for specs in (config.terms, config.plain_terms))
    return f"{label_of(terms, plain)}, seed {config.training.seed}"


def of_run(trained: Trained, task: Task[Any]) -> Subject:
    """Return the network of a run folder.

    Raises:
        CheckpointError: If the weights are not the run's.
    """
    title = title_of(trained.config)
    return Subject(
        title=title if trained.checkpoint == LAST else f"{title}, {trained.checkpoint}",
        checkpoint=trained.checkpoint,
        sha256=file_sha256(trained.weights_file),
        config=trained.config,
        task=task,
        student=trained.student(task),
        pretrained=partial(trained.pretrained, task),
        classifier=partial(imagenet_classifier, task.setup.backbone, trained.weights),
    )


def of_job(job: Job) -> Subject:
    """Return the network of a run where it stands."""
    origin = job.student.origin
    return Subject(
        title=title_of(job.config),
        checkpoint=LAST,
        sha256=None,
        config=job.config,
        task=job.task,
        student=job.student,
        pretrained=partial(began_as, job.task, job.config, origin.as_dict(), str(job.path)),
        classifier=partial(imagenet_classifier, job.task.setup.backbone, job.task.setup.weights),
    )


def imagenet_classifier(backbone: str, weights: str) -> nn.Module:
    """Build a backbone with the classifier that it was pretrained with.

    Raises:
        ConfigError: If it has none, as an encoder of smp's own, or one of other classes.
        WeightsError: If the weights are not available.
    """
    if "/" in backbone:
        raise ConfigError(f"{backbone!r} is an encoder of segmentation-models-pytorch's own, without a classifier.")
    network = create_teacher(backbone, weights=weights)[0]
    outputs = getattr(network, "num_classes", IMAGENET_CLASSES)
    if outputs != IMAGENET_CLASSES:
        raise ConfigError(f"{backbone!r} was pretrained with {outputs} classes in place of ImageNet's 1,000.")
    return network
