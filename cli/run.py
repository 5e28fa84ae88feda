"""``synreal run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import plugins
from .options import FILES, ConfigFile, Sets, with_settings
from .output import say

if TYPE_CHECKING:
    from synreal.config import RunConfig


@with_settings
def run(
    *,
    given: dict[str, Any],
    plugin: plugins.PluginFiles = None,
    config: ConfigFile = None,
    settings: Sets = None,
    then_real: Annotated[
        int | None,
        typer.Option(
            "--then-real",
            metavar="N",
            min=1,
            help="After all phases, train on N labelled images of each class of the target: --phase few_shot(n=N).",
            rich_help_panel="Run",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --output.", rich_help_panel=FILES)
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a stopped run to resume.", rich_help_panel=FILES)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole configuration and stop.", rich_help_panel=FILES)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=FILES)] = False,
) -> None:
    """Train on synthetic images with a regularizer and test on real ones.

    A setting comes from --preset or the task's own recipe, then from --config, then from the options, then from --set.
    """
    plugins.load(plugin)
    if then_real is not None and resume is not None:
        from synreal.errors import ConfigError

        raise ConfigError("--resume goes on with the phases of the run; leave out --then-real.")
    resolved = _resolve(config, given, settings or [], resume)
    if then_real is not None:
        phases = [phase.model_dump(mode="json") for phase in resolved.phases]
        resolved = resolved.updated(phases=[*phases, {"name": "few_shot", "n": then_real}])
    if dry_run:
        from synreal.engine import preflight

        preflight.check(resolved)
        _warn_of_missing(resolved)
        say(resolved.to_yaml(), nl=False)
        return
    import json

    from synreal import distributed
    from synreal.engine import run as run_engine
    from synreal.engine import run_folder
    from synreal.streams import unfailing

    from .report import print_result

    result = run_engine(resolved, resume=resume is not None, overwrite=overwrite)
    with unfailing("stdout") as stream:  # whoever reads it may be gone: the run has its result
        if as_json:
            say(json.dumps(json.loads(result.record.model_dump_json()), indent=2))  # in ASCII
        else:
            print_result(result.record, result.folder)
    if stream.lost is not None and not isinstance(stream.lost, BrokenPipeError):
        where = result.folder / run_folder.RESULT_FILE
        say(f"The result could not be printed ({stream.lost}); it is in {where}.", err=True)
    distributed.leave()


def _warn_of_missing(config: RunConfig) -> None:
    """Say which data are not where they should be: a recipe may be written down before they are fetched."""
    from synreal.errors import DataError

    for entry in (config.data.source, *config.data.targets):
        try:
            entry.check()
        except DataError as error:
            say(f"Warning: {error}", err=True)


def _resolve(config: Path | None, given: dict[str, Any], settings: list[str], resume: Path | None) -> RunConfig:
    from synreal.config import apply_settings, make_config, read_yaml, with_values
    from synreal.engine import run_folder
    from synreal.errors import ConfigError

    if resume is not None:
        if config is not None or "output.folder" in given:
            raise ConfigError("--resume takes configuration and output from the run's folder; leave out the others.")
        values = run_folder.read(resume, "resume").config
        given["output.folder"] = resume
    else:
        values = read_yaml(config) if config is not None else _of_run(given.get("student.start"))
    made = make_config(apply_settings(with_values(values, given), settings))
    if resume is not None and made.output.folder != resume:
        raise ConfigError("--resume takes the output from the run's folder; leave output.folder out of --set.")
    return made


def _of_run(start: str | None) -> dict[str, Any]:
    """Return the configuration of the run that one begins with, without its phases and its folder; empty for none."""
    from synreal.engine import run_folder

    if start is None:
        return {}
    values = {key: value for key, value in run_folder.read(Path(start), "start from").config.items() if key != "phases"}
    values["output"] = {key: value for key, value in values["output"].items() if key != "folder"}
    return values
