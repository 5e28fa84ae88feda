"""``synreal inspect RUN`` and ``synreal inspect FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import plugins
from .output import say

if TYPE_CHECKING:
    from synreal.engine import Insight, Plain
    from synreal.figures import Study

NAME = "look"
_FILE = "A plain state dict"
_SEVERAL = "May be given several times."


class InspectGroup(TyperGroup):
    """``synreal inspect RUN`` stands for ``synreal inspect look RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [NAME, *args]
        return super().parse_args(ctx, args)


def look(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE",
            help="A run folder, or a plain state dict of timm, torchvision or segmentation-models-pytorch.",
            show_default=False,
        ),
    ],
    measures: Annotated[
        bool, typer.Option("--measures", help="Take all measures that can be taken; so it is without --figure, too.")
    ] = False,
    measure: Annotated[list[str] | None, typer.Option(metavar="NAME", help=f"Take this measure. {_SEVERAL}")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help=f"Real data to look at. {_SEVERAL} (default: the run's)")
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="A checkpoint of the run, e.g. step-00000260, an average, e.g. ema, or last."
        ),
    ] = "last",
    imagenet: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Images of ImageNet's classes, n01440764_tench.JPEG, for acc_in."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Another run, to be looked at in the same way.")
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Draw circle, gradcam or attention. {_SEVERAL}")
    ] = None,
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Write a page of scores, mistakes, pictures and measures that needs no other file."
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER|FILE.html",
            help="Where figures and the page go. (default: RUN/figures and RUN/insight.html, or here)",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The images to look at, written as for --target.", rich_help_panel=_FILE),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="A timm name, torchvision/NAME or smp/ENCODER.", rich_help_panel=_FILE),
    ] = None,
    task: Annotated[
        str, typer.Option("--task", "-t", help='cls, seg or det, e.g. "seg(architecture=unet)".', rich_help_panel=_FILE)
    ] = "cls",
    weights: Annotated[
        str,
        typer.Option(help="What it was pretrained with: auto, timm, packaged, none or a file.", rich_help_panel=_FILE),
    ] = "auto",
    class_name: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="NAME", help=f"A class of its outputs, in order. {_SEVERAL}", rich_help_panel=_FILE
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=8, max=4096, help="In pixels, as of a run.", rich_help_panel=_FILE)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images at a time.", rich_help_panel=_FILE)] = None,
    plugin: plugins.PluginFiles = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of what was found, as JSON.")] = False,
) -> None:
    """Look into a network: how diverse its features are, how far it is from what it was pretrained as.

    Of the end of a run what was found is also kept in its folder, as insight.json.
    """
    plugins.load(plugin)
    import json

    from synreal.engine import Plain
    from synreal.errors import ConfigError

    plain = None
    if what.is_file():
        if data is None:
            raise ConfigError(f"{what} holds weights, not a run: say what to look at with --data.")
        if target or checkpoint != "last":
            raise ConfigError(f"--target and --checkpoint are for runs, and {what} is a file: use --data.")
        plain = Plain(data, task, backbone, weights, tuple(class_name or ()), image_size, batch_size, device=device)
    elif data is not None or backbone is not None or class_name or image_size is not None or batch_size is not None:
        raise ConfigError(
            f"--data, --backbone, --class, --image-size and --batch-size are for files of weights, and {what} is none: "
            "a run says all of this itself."
        )
    studies = _studies(figure or [], what, plain)
    if measures and measure:
        raise ConfigError("--measures takes all of them, --measure one: give one of the two.")
    folder, page = _places(what if plain is None else Path(), output, html=html, draws=bool(studies))
    only_drawn = bool(studies) and not measures and not measure and not html
    names = () if only_drawn else tuple(measure) if measure else None
    shared: dict[str, Any] = {"checkpoint": checkpoint, "imagenet": imagenet, "device": device}
    shared |= {"draws": bool(studies), "keep": not only_drawn}
    found = _look(what, names, against, page, targets=tuple(target or ()), plain=plain, **shared)
    drawn = _draw(studies, found, folder)
    if as_json:
        say(json.dumps([one.look.model_dump(mode="json") for one in found], indent=2))
        return
    if measures or measure or not (studies or html):
        from synreal.terminal import Console

        from .report import look_tables

        for table in look_tables([one.look for one in found]):
            Console().print(table)
        for one in found:
            for name, why in one.look.left_out.items():
                say(f"{one.look.title}: {name} was left out: {why}.")
    for path in (*drawn, *([page] if page is not None else [])):
        say(str(path))


def _places(home: Path, output: Path | None, *, html: bool, draws: bool) -> tuple[Path, Path | None]:
    """Return the folder of figures, and the file of the page if one is asked for, before anything is read."""
    from synreal.engine.run_page import PAGE_FILE
    from synreal.errors import ConfigError

    folder = output or home / "figures"
    if output is not None and output.suffix.lower() == ".html":
        if not html or draws:
            raise ConfigError(
                f"--output {output} is one page, which --html writes"
                f"{', and --figure writes other files: give a folder for both' if html else ''}."
            )
        page = output
    else:
        page = (output or home) / PAGE_FILE
    if not html:
        return folder, None
    if page.is_dir() or any(parent.exists() and not parent.is_dir() for parent in page.parents):
        raise ConfigError(f"Cannot write {page}: a folder, or a file in place of a folder, is in the way.")
    return folder, page


def _look(
    what: Path,
    names: tuple[str, ...] | None,
    against: Path | None,
    page: Path | None,
    *,
    targets: tuple[str, ...],
    plain: Plain | None,
    **shared: Any,
) -> list[Insight]:
    """Look into the network, and into the one that it stands beside; write the page if there is one."""
    from synreal.engine import look_closely, look_page
    from synreal.engine.inspecting import told_apart

    if page is not None:
        made = look_page(what, names, against=against, targets=targets, plain=plain, **shared)
        made.write(page)
        return list(made.insights)
    found = [look_closely(what, names, targets=targets, plain=plain, **shared)]
    if against is not None:
        theirs = targets or (() if plain is None else (plain.data,))
        shared.pop("checkpoint")
        found.append(look_closely(against, names, targets=theirs, **shared))
    return told_apart(found, [what, *([against] if against is not None else [])])


def _studies(names: list[str], what: Path, plain: Plain | None) -> dict[str, Study]:
    """Return the figures to draw, before anything is read."""
    if not names:
        return {}
    from synreal.config import make_config
    from synreal.engine import run_folder
    from synreal.figures import study_of

    config = plain.config() if plain is not None else make_config(run_folder.read(what, "look into").config)
    return {name: study_of(name, config.task.label) for name in names}


def _draw(studies: dict[str, Study], found: list[Insight], folder: Path) -> list[Path]:
    """Draw each figure of each set, of all networks beside each other."""
    paths = []
    for name, study in studies.items():
        for key in found[0].looked:
            looks = [one.looked[key] for one in found if key in one.looked]
            paths.append(study.draw(looks, folder / f"{name}-{key}.png"))
    return paths
