"""``synreal data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import check, plugins, prepare
from .output import say
from .plugins import PluginFiles

if TYPE_CHECKING:
    from synreal.data import DataSet

app = typer.Typer(help="Data sets: list them, look at them, check them.", no_args_is_help=True)
app.command("check")(check.check)
app.command("prepare")(prepare.prepare)


@app.callback()
def _group() -> None:
    """Data sets: list them, look at them, check them."""


@app.command("list")
def list_data(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    plugin: PluginFiles = None,
) -> None:
    """List the data sets, what they serve as, their kinds of label and what they need."""
    import json

    from synreal import data

    plugins.load(plugin)
    kinds = data.DATA.classes()
    if as_json:
        say(json.dumps([_described(kind) for kind in kinds.values()], indent=2))
        return
    width = max(map(len, kinds))
    for name, kind in kinds.items():
        domains, labels = "/".join(kind.domains), "/".join(kind.label_kinds)
        say(f"{name:<{width}} {domains:<13} {labels}  {kind.summary} Needs {kind.needs}.")


def _described(kind: type[DataSet]) -> dict[str, Any]:
    # Many kinds know their classes wherever their folder is.
    needs_root = "root" in kind.model_fields and kind.model_fields["root"].is_required()
    settings: dict[str, Any] = {"root": Path()} if needs_root else {}
    plain = kind.model_construct(**settings)
    return {
        "name": kind.kind,
        "domains": kind.domains,
        "labels": kind.label_kinds,
        "summary": kind.summary,
        "needs": kind.needs,
        "settings": list(kind.model_fields),
        "classes": {label: plain.class_names(label) for label in kind.label_kinds},
    }


@app.command()
def show(
    source: Annotated[
        str,
        typer.Argument(help="Synthetic data set: a name, KIND:FOLDER or a YAML file. Its targets are shown beside it."),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Real data set to show beside it; several times. (default: all of the source's)"),
    ] = None,
    task: Annotated[str, typer.Option("--task", "-t", help="Whose labels: cls, seg or det.")] = "cls",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG to write. (default: SOURCE.png; SOURCE-seg.png, SOURCE-det.png)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of a rendered source.")] = 0,
    plugin: PluginFiles = None,
) -> None:
    """Draw the source and its targets with a task's labels: classes, masks or boxes."""
    from synreal import data
    from synreal.config.resolution import DEFAULT_TASK
    from synreal.errors import ConfigError
    from synreal.tasks import TASKS

    plugins.load(plugin)
    spec = TASKS.get(task)
    label = spec.label
    if spec.sheet is None:
        raise ConfigError(f"The task {spec.name!r} names no sheet, the figure that draws its data.")
    suffix = "" if spec.name == DEFAULT_TASK else f"-{spec.short}"
    entry = data.find(source)
    output = output or Path(f"{entry.label}{suffix}.png")
    data.check_domain(entry, "source")
    data.check_labels(entry, label)
    targets = [data.find(text) for text in target or ()]
    if not targets:  # data of one's own may have none: then the source is shown alone
        targets = [real for real in map(data.find, entry.default_targets(label)) if label in real.label_kinds]
    for real in targets:
        data.check_domain(real, "target")
        data.check_labels(real, label)
    if output.suffix.lower() != ".png":
        raise ConfigError(f"The contact sheet is a PNG; got --output {output}.")
    from synreal.figures import sheet_of

    sheet = sheet_of(spec.sheet, label)
    rows = {f"{entry.label} (source, synthetic)": data.load(entry, "train", label=label, seed=seed)}
    rows |= {f"{real.label} (target, real)": data.load(real, "test", label=label) for real in targets}
    try:
        say(f"Wrote {sheet.draw(rows, output)}")
    except OSError as error:
        raise ConfigError(f"Cannot write {output}: {error.strerror}.") from None
