"""``synreal inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import look
from .output import say

if TYPE_CHECKING:
    from torch import nn

app = typer.Typer(help="Look inside backbones and runs.", no_args_is_help=True, cls=look.InspectGroup)
app.command(look.NAME)(look.look)


@app.callback()
def _group() -> None:
    """Look inside backbones and runs."""


@app.command()
def curves(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, or folders of them.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG or SVG to write.", show_default=False)],
) -> None:
    """Draw the scores on held-out source and on targets over the steps of runs, finished or not.

    Seeds of one method are joined: their mean, and the range from the worst to the best.
    """
    from synreal.figures import chart_of, drawing_path
    from synreal.records import find_histories

    drawing_path(output)
    histories = find_histories(runs)
    chart_of("curves", "histories").draw(histories, output)
    labels = len({one.label for one in histories})
    say(
        f"{output}: {len(histories)} {'run' if len(histories) == 1 else 'runs'} of {labels} "
        f"{'method' if labels == 1 else 'methods'}."
    )


@app.command()
def stages(
    backbone: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A timm name, torchvision/NAME or smp/ENCODER, e.g. torchvision/swin_t."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print a backbone's stages, checked by a real forward pass in which each one's hook must fire.

    Of an smp encoder the module paths are those in an smp model, which calls it encoder.
    """
    import json
    from dataclasses import asdict, replace

    from rich.table import Table

    from synreal.core.stages import find_stages
    from synreal.terminal import Console

    model, entry = _create(backbone)
    found = [replace(stage, path=entry + stage.path) for stage in find_stages(model).values()]
    if as_json:
        say(json.dumps([asdict(stage) for stage in found], indent=2))
        return
    table = Table(title=backbone, title_justify="left")
    for heading in ("stage", "module", "channels", "stride", "layout"):
        table.add_column(heading, justify="right" if heading in ("channels", "stride") else "left")
    for stage in found:
        table.add_row(stage.name, stage.path, str(stage.channels), str(stage.stride), stage.layout)
    Console().print(table)


def _create(name: str) -> tuple[nn.Module, str]:
    """Build a network with random weights; give it and what stands before its module paths."""
    from synreal.errors import ConfigError, unknown_name
    from synreal.weights import create_backbone

    zoo, slash, rest = name.partition("/")
    if not slash:
        return create_backbone(name, num_classes=1000, weights="none")[0], ""
    if zoo == "torchvision":
        return _torchvision(rest), ""
    if zoo == "smp":
        return _smp(rest), "encoder."
    raise ConfigError(f"{unknown_name('collection', zoo, ['torchvision', 'smp'])} A timm model is named without one.")


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    from synreal.errors import unknown_name

    whole = models.list_models(module=models)
    on_backbone = [*models.list_models(module=models.detection), *models.list_models(module=models.segmentation)]
    if name not in whole and name not in on_backbone:
        raise unknown_name("torchvision model", name, [*whole, *on_backbone])
    settings: dict[str, Any] = {"weights_backbone": None} if name in on_backbone else {}
    model: nn.Module = models.get_model(name, weights=None, **settings)
    return model


def _smp(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp
    import timm

    from synreal.errors import ConfigError, unknown_name

    own = smp.encoders.get_encoder_names()
    from_timm = name.startswith("tu-")
    if name not in own and not (from_timm and timm.is_model(name[3:].partition(".")[0])):
        raise unknown_name("smp encoder", name, [f"tu-{known}" for known in timm.list_models()] if from_timm else own)
    try:
        encoder: nn.Module = smp.encoders.get_encoder(name, weights=None)
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:  # smp's checks and timm's share none
        raise ConfigError(f"smp cannot make an encoder of {name!r}: {error} Choose another one.") from error
    return encoder
