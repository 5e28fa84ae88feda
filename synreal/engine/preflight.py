"""What is checked before data are read or networks built: the configuration's names, then the machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from synreal import distributed, weights
from synreal.config import RunConfig
from synreal.data.labels import LABELS
from synreal.engine.phases import Phase
from synreal.engine.transforming import transforms_of
from synreal.errors import ConfigError
from synreal.figures import figures_of
from synreal.measures import MEASURES, check_measures
from synreal.tasks.base import Task
from synreal.views import View, ViewPipeline


def check(config: RunConfig) -> None:
    """Check what a configuration names, without data, network or the machine that will run it.

    Raises:
        ConfigError: If a network is unknown, or a view, measure or figure does not suit the task.
        WeightsError: If pretrained weights are not available in any circumstances.
    """
    config.task.check(config.setup)
    ViewPipeline(config.setup.views, 1, config.data.image_size, LABELS.get(config.task.label)())
    for shift in cast("tuple[View, ...]", config.testing.shifts):
        shift.build(None)  # it is built again after the training: too late to find that it does not suit
    names = (*config.task.measures, *config.testing.measures)
    check_measures(names, config.task.label)
    asking = [name for name in (*names, *config.testing.look) if MEASURES.get(name).collector.asks_confidence]
    if asking and config.task.runtime().predict_sure is Task.predict_sure:
        raise ConfigError(
            f"The measure {asking[0]!r} asks how sure the network is, which the task {config.task.name!r} does not "
            "say. Leave it out, or give the task a method predict_sure."
        )
    if config.testing.look:
        check_measures(config.testing.look, config.task.label, looking=True)
        if given := [name for name in config.testing.look if MEASURES.get(name).needs == "imagenet"]:
            raise ConfigError(
                f"look: the measure {given[0]!r} needs a folder of ImageNet's images, which a run is not given. Take "
                "it of the finished run: synreal inspect RUN --measures --imagenet FOLDER."
            )
    figures_of((*config.task.figures, *config.testing.figures), config.task.label)
    for transform in transforms_of(config):
        if config.training.batch_size < transform.least_images:
            raise ConfigError(
                f"The transform {transform.name!r} compares the images of a batch and does nothing with batch_size "
                f"{config.training.batch_size}. Set training.batch_size={transform.least_images} or more, or leave it "
                "out."
            )
    if config.reference is not None:
        weights.check(config.reference)
    for phase in cast("tuple[Phase, ...]", config.phases):
        phase.check(config)


def accelerator(config: RunConfig) -> Accelerator:
    """Check that this machine can do what is asked for, and make the Accelerator that does it.

    Raises:
        ConfigError: If device or precision is not available here.
    """
    device, precision = config.training.device, config.training.precision
    kind = device.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} was asked for, but this machine has no CUDA device.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' was asked for, but this machine has none.")
    if device.startswith("cuda:"):
        if int(device[5:]) >= torch.cuda.device_count():
            raise ConfigError(f"device {device!r}: this machine has {torch.cuda.device_count()} CUDA device(s).")
        torch.cuda.set_device(device)
    if not distributed.is_distributed():
        # Accelerate keeps the first run's precision and device for the whole process otherwise.
        AcceleratorState._reset_state(reset_partial_state=True)
    check_launch(os.environ)
    made = Accelerator(
        cpu=kind == "cpu",
        mixed_precision={"fp32": "no"}.get(precision, precision),
        # Queues are equal on all ranks by construction: sending them each step would cost megabytes.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    check_world(os.environ, made.num_processes)
    if precision == "fp16" and made.device.type == "cpu":
        raise ConfigError("precision 'fp16' needs a GPU: on a CPU it would silently run in float32. Use bf16 or fp32.")
    return made


def check_launch(environ: Mapping[str, str]) -> None:
    """Refuse a launcher that was asked for several processes and started one.

    Without several GPUs, ``accelerate launch --num_processes N`` starts the program once. It then tells it the address
    of the other processes, but neither how many there are nor which one it is.

    Args:
        environ: Environment variables.

    Raises:
        ConfigError: If it did so.
    """
    alone = not {"WORLD_SIZE", "RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"} & set(environ)
    if alone and "ACCELERATE_DYNAMO_MODE" in environ and "MASTER_ADDR" in environ:
        raise ConfigError(
            "accelerate launch was asked for several processes and started one: without several GPUs it does not start "
            "more. Use torchrun --nproc-per-node N -m synreal_cli run ..., or, for one process, accelerate launch "
            "--num_processes 1 with MASTER_ADDR unset."
        )


def check_world(environ: Mapping[str, str], processes: int) -> None:
    """Refuse to train with another number of processes than the launcher was asked for.

    Args:
        environ: Environment variables.
        processes: How many found each other.

    Raises:
        ConfigError: If that is not what ``WORLD_SIZE`` says.
    """
    asked = environ.get("WORLD_SIZE", str(processes))
    if asked != str(processes):
        raise ConfigError(
            f"The launcher says that there are {asked} processes (WORLD_SIZE), but {processes} found each other: each "
            f"would train by itself. Start the run with torchrun --nproc-per-node {asked}, or unset WORLD_SIZE."
        )
