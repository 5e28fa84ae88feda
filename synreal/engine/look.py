"""``look``: look into the network of a run, of a file or in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from synreal.config import make_config
from synreal.distributed import lost_peers_told
from synreal.engine import preflight, run_folder, saving
from synreal.engine.examining import Shown
from synreal.engine.inspecting import Insight, Subject, check, look_at
from synreal.engine.loading import dead_workers_named
from synreal.engine.plain import Plain, of_file, of_network
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.state import RunState
from synreal.engine.subjects import of_job, of_run
from synreal.engine.trained import LAST, read_trained
from synreal.errors import ConfigError, Interrupted
from synreal.records import INSIGHT_FILE, Look, read_look, write_json
from synreal.weights.reach import file_sha256


def look(what: str | Path | nn.Module, measures: Sequence[str] | None = None, **settings: Any) -> Look:
    """Look into a network: measure its features, its weights and how its predictions hold.

    Args:
        what: A run folder; a file with a plain state dict (.safetensors, .pth, .pt); or a network in memory.
        measures: Names; by default all that can be taken, and ``Look.left_out`` says why others were not.
        **settings: As of ``look_closely``.

    Returns:
        What was found. Of the end of a run it is also kept in the run folder, as ``insight.json``.

    Raises:
        SynrealError: As ``look_closely``.
    """
    return look_closely(what, measures, **settings).look


def look_closely(
    what: str | Path | nn.Module,
    measures: Sequence[str] | None = None,
    *,
    targets: Iterable[str] = (),
    checkpoint: str = LAST,
    imagenet: str | Path | None = None,
    plain: Plain | None = None,
    frozen: nn.Module | None = None,
    draws: bool = False,
    examines: bool = False,
    follow: Mapping[str, Shown] | None = None,
    keep: bool = True,
    device: str = "auto",
    show_progress: bool = True,
) -> Insight:
    """Look into a network, and return also what figures draw and a page shows.

    Images go through the task's own test preparation, and the network is compared with what it was pretrained as. It
    is the same over any number of processes.

    Args:
        what: As of ``look``.
        measures: As of ``look``; none at all where figures alone are to be drawn.
        targets: Of a run: real data to look at; by default those of the run, or its held-out source if it has
            none.
        checkpoint: Of a run: a checkpoint, such as ``"step-00000260"``, or an average of weights, such as ``"ema"``; by
            default the end.
        imagenet: Folder of images of ImageNet's classes, for ``acc_in``: files such as ``n01440764_tench.JPEG``, or
            folders such as ``n01440764``.
        plain: Of a file or a network in memory: how it is to be understood, and the data.
        frozen: Of a network in memory: the same network as it was pretrained.
        draws: Whether figures are to be drawn.
        examines: Whether a page is to be made: the task's own measures are taken, and its mistakes shown.
        follow: By set, the images that a page shows of another network; by default they are chosen here.
        keep: Of a run: whether to keep what was found in its folder.
        device: Of a run: as in ``RunConfig``.
        show_progress: Write progress to stderr.

    Raises:
        ConfigError: If a name or setting is wrong, or a measure that was asked for cannot be taken.
        CheckpointError: If the weights cannot be read, or are not the run's.
        WeightsError: If weights of a file do not fit, or pretrained ones that are needed are not available.
        DataError: If data are missing or damaged.
        Interrupted: If the process was asked to stop.
    """
    measures = None if measures is None else tuple(measures)
    shows: dict[str, Any] = {"draws": draws, "examines": examines, "follow": follow}
    if isinstance(what, nn.Module) or (path := Path(what)).is_file():
        if plain is None:
            raise ConfigError(
                "A plain network says neither what it does nor what to look at: give --task, --backbone and --data "
                "(plain=Plain(...))."
            )
        config = plain.config()
        check(measures, config.task.label, imagenet, draws=draws or examines)
        accelerator = preflight.accelerator(config)
        if isinstance(what, nn.Module):
            subject = of_network(what, plain, config, frozen)
        else:
            subject = of_file(path, plain, config)
        return _looked_at(subject, measures, accelerator, imagenet, shows, show_progress)
    if plain is not None:
        raise ConfigError(f"{path} is no file. Give a state dict, or a run folder without what plain networks need.")
    given: dict[str, Any] = {"device": device, **({"targets": tuple(targets)} if targets else {})}
    config = make_config({**run_folder.read(path, "look into").config, **given})
    check(measures, config.task.label, imagenet, draws=draws or examines)
    trained = read_trained(path, "look into", checkpoint, **given)
    accelerator = preflight.accelerator(trained.config)
    task = trained.load_tests(source=not trained.config.data.targets)
    subject = of_run(trained, task)
    insight = _looked_at(subject, measures, accelerator, imagenet, shows, show_progress)
    if keep and checkpoint == LAST and accelerator.is_main_process:
        _keep(path, insight.look)
    return insight


def _looked_at(
    subject: Subject,
    measures: Sequence[str] | None,
    accelerator: Accelerator,
    imagenet: str | Path | None,
    shows: Mapping[str, Any],
    show_progress: bool,
) -> Insight:
    subject.student.network.to(accelerator.device)
    show = show_progress and accelerator.is_main_process
    with listening() as request, RunProgress(show=show) as progress, dead_workers_named(), lost_peers_told():

        def stop() -> None:
            if request.agreed(accelerator.device):
                raise Interrupted("Stopped while looking; nothing is written.", request.exit_code)

        return look_at(subject, measures, _sets(subject), accelerator, progress, stop, imagenet=imagenet, **shows)


def _sets(subject: Subject) -> list[str]:
    """Return the sets that are looked at: the real ones, and the held-out source where there is none."""
    return [name for name in subject.task.tests if name != "source"] or ["source"]


def look_at_end(state: RunState) -> Look | None:
    """Look into the student of a run where it stands, as ``testing.look`` says.

    Returns:
        What was found; None if nothing is asked for.

    Raises:
        Interrupted: If the run was asked to stop; it has a checkpoint.
    """
    job = state.job
    if not job.config.testing.look:
        return None

    def stop() -> None:
        if job.stop_asked():
            state.count_testing()
            raise saving.stop(state)

    subject = of_job(job)
    found = look_at(subject, job.config.testing.look, _sets(subject), job.accelerator, job.progress, stop).look
    state.count_testing()
    return found


def keep_end(path: Path, found: Look) -> None:
    """Write what was found at the end of a run, whose folder is locked and holds the student."""
    sha256 = file_sha256(path / run_folder.STUDENT_FILE)
    write_json(path / INSIGHT_FILE, found.model_copy(update={"sha256": sha256}).model_dump(mode="json"))


def _keep(path: Path, found: Look) -> None:
    """Keep what was found in a run folder, beside what was found earlier, if nobody else is at work there."""
    file = path / INSIGHT_FILE
    try:
        with run_folder.claim(path, resume=True, overwrite=False):
            if file_sha256(path / run_folder.STUDENT_FILE) != found.sha256:
                raise ConfigError("the network was exchanged meanwhile")
            with suppress(ConfigError):  # what is there is none: it is replaced
                found = found.joined(read_look(file))
            write_json(file, found.model_dump(mode="json"))
    except (ConfigError, OSError) as error:
        warnings.warn(f"What was found is not kept in {file}: {error}", stacklevel=2)
