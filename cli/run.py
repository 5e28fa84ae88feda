"""``synreal run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import plugins

if TYPE_CHECKING:
    from synreal.config import RunConfig

_TRAINING = "Training"
_DATA = "Data"
_FILES = "Configuration and output"


def run(
    regularizer: Annotated[
        list[str] | None,
        typer.Option(
            "--regularizer", "-r", help='Name or "name(key=value)"; may be given several times. (default: csg)'
        ),
    ] = None,
    plugin: plugins.PluginFiles = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="cls, seg or det. (default: cls)")] = None,
    preset: Annotated[
        str | None, typer.Option(help="A paper's recipe; synreal list presets. (default: the task's own recipe)")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="Around the backbone: seg deeplabv3plus, unet, ...; det fasterrcnn, retinanet, fcos. "
            "(default: deeplabv3plus; fasterrcnn)"
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="timm name. (default: tf_efficientnet_lite0)")] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, timm, packaged, none or a file. (default: auto)", metavar="SOURCE")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="timm name of another frozen teacher. (default: the backbone as it was pretrained)"),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Synthetic data to train on: a name, KIND:FOLDER or a YAML file. (default: digits)",
            rich_help_panel=_DATA,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Real data to test on, likewise; several times. (default: all of the source's)", rich_help_panel=_DATA
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="In pixels. (default: 64; seg, det 128)", rich_help_panel=_DATA)
    ] = None,
    on_bad_image: Annotated[
        str | None,
        typer.Option(
            help="error, or skip: leave out files that cannot be used, and count them. (default: error)",
            rich_help_panel=_DATA,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Data-loading processes. (default: 2)", rich_help_panel=_DATA)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="(default: 2)", rich_help_panel=_TRAINING)] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.", rich_help_panel=_TRAINING)] = None,
    batch_size: Annotated[int | None, typer.Option(help="(default: 32; seg, det 8)", rich_help_panel=_TRAINING)] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak rate of the heads. (default: 0.02)", rich_help_panel=_TRAINING)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="(default: 0)", rich_help_panel=_TRAINING)] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps. (default: auto)", rich_help_panel=_TRAINING)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16. (default: fp32)", rich_help_panel=_TRAINING)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML with any settings.", rich_help_panel=_FILES)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, e.g. warmup_steps=50 or regularizers.0.weight=0.2; goes before all else.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder. (default: a new one in runs/)", rich_help_panel=_FILES),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --output.", rich_help_panel=_FILES)
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with a stopped run: its folder.", rich_help_panel=_FILES),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole configuration and stop.", rich_help_panel=_FILES)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_FILES)] = False,
) -> None:
    """Train on synthetic images with a regularizer and test on real ones.

    A setting comes from --preset or the task's own recipe, then from --config, then from the options, then from --set.
    """
    plugins.load(plugin)
    options = {
        "regularizers": regularizer,
        "task": task,
        "preset": preset,
        "architecture": architecture,
        "backbone": backbone,
        "weights": weights,
        "reference": reference,
        "source": source,
        "targets": target,
        "image_size": image_size,
        "on_bad_image": on_bad_image,
        "workers": workers,
        "epochs": epochs,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "device": device,
        "precision": precision,
        "output": output,
    }
    resolved = _resolve(
        config, {key: value for key, value in options.items() if value is not None}, settings or [], resume
    )
    if dry_run:
        _warn_of_missing(resolved)
        typer.echo(resolved.to_yaml(), nl=False)
        return
    from synreal.engine import run as run_engine

    from .report import print_result

    result = run_engine(resolved, resume=resume is not None, overwrite=overwrite)
    if as_json:
        typer.echo(result.record.model_dump_json(indent=2))
    else:
        print_result(result.record, result.folder)


def _warn_of_missing(config: RunConfig) -> None:
    """Say which data are not where they should be: a recipe may be written down before they are fetched."""
    from synreal.data import find
    from synreal.errors import DataError

    for text in (config.source, *config.targets):
        try:
            find(text).check()
        except DataError as error:
            typer.echo(f"Warning: {error}", err=True)


def _resolve(config: Path | None, options: dict[str, Any], settings: list[str], resume: Path | None) -> RunConfig:
    from synreal.config import apply_settings, make_config, read_yaml, stored_config
    from synreal.errors import ConfigError

    if resume is not None:
        if config is not None or "output" in options:
            raise ConfigError("--resume takes configuration and output from the run's folder; leave out the others.")
        values = stored_config(resume, "resume")
        options["output"] = resume
    else:
        values = read_yaml(config) if config is not None else {}
    resolved = make_config(apply_settings({**values, **options}, settings))
    from synreal.tasks import task_class
    from synreal.weights import check

    task_class(resolved.task).check(resolved)
    if resolved.reference is not None:
        check(resolved.reference)
    return resolved
