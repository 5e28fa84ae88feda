"""A trained network as a file that runs without synreal, checked against the network itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from synreal import atomic, data
from synreal.data.files.decoding import read_image
from synreal.data.files.paths import SUFFIXES, scan_images
from synreal.data.sets import evenly
from synreal.engine import environment, export_formats, model_card
from synreal.engine.looking import in_eval_mode
from synreal.engine.progress import RunProgress
from synreal.engine.trained import LAST, Trained, read_trained
from synreal.errors import ConfigError, DataError, ExportError
from synreal.tasks.base import Task
from synreal.tasks.exported import Agreement, Exportable
from synreal.weights import Student

TOLERANCE: Final = 1e-3
IMAGES: Final = 32
_BATCH: Final = 3


@dataclass(frozen=True)
class Export:
    """What was written, and how far it agrees with the network.

    Attributes:
        file: The file.
        card: The model card beside it.
        format: One of ``FORMATS``.
        told: What the file tells of itself.
        agreement: Of the file with the network, on images.
        checked_on: What these images are, in words.
        tolerance: What was accepted.
    """

    file: Path
    card: Path
    format: str
    told: dict[str, Any]
    agreement: Agreement
    checked_on: str
    tolerance: float

    def as_dict(self) -> dict[str, Any]:
        """Return everything in values that JSON can hold."""
        found = {**asdict(self), "file": str(self.file), "card": str(self.card)}
        found["agreement"]["share"] = self.agreement.share
        return found


def export(
    path: str | Path,
    output: str | Path,
    *,
    format: str | None = None,
    average: str | None = None,
    images: str | Path | None = None,
    count: int = IMAGES,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Export:
    """Write the student of a run as ONNX, for ``torch.export`` or as TorchScript, with a model card beside it.

    Images are prepared as in a test, and go through the network and through the file, on the CPU. The file appears only
    if the two agree: no probability, score or side of a box (as a share of the image's longer side) differs by more
    than ``tolerance``, and no larger share of the classes, pixels or boxes is another one.

    Args:
        path: The run folder.
        output: The file; its ending, .onnx, .pt2 or .ts, says the format.
        format: ``"onnx"``, ``"torch.export"`` or ``"torchscript"``; by default as the ending says.
        average: As for ``evaluate``.
        images: A folder of images to check with; by default those of the run's first target.
        count: With how many of them, evenly spread.
        tolerance: See above.
        overwrite: Whether files that are there already are replaced.
        show_progress: Write progress to stderr.

    Returns:
        What was written.

    Raises:
        ConfigError: If a setting is wrong, the folder holds no run, or networks of this kind have no such format.
        CheckpointError: If the student cannot be read, or is not the run's.
        DataError: If there are no images to check with.
        ExportError: If this network cannot be written so, or the file does not agree with it.
    """
    path, output = Path(path), Path(output)
    name = export_formats.format_of(output, format)
    card = output.with_name(f"{output.name}.md")
    _check(output, card, count, tolerance, overwrite=overwrite)
    files = None if images is None else _listed(Path(images))
    trained = read_trained(path, "export", average or LAST)
    task = trained.without_data()
    with torch.random.fork_rng(devices=[]):
        student = trained.student(task)
    student.network.to(memory_format=torch.contiguous_format)
    with in_eval_mode(student.network), RunProgress(show=show_progress) as progress:
        exportable = task.exported(student)
        told = _told(trained, student, task, exportable)
        checked = _Images(trained, files, count)
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / output.name
            export_formats.write(name, exportable, draft, told)
            run = export_formats.reader(name, exportable, draft)
            other = replace(student, network=exportable.stand_in(run).eval())
            agreement = _compared(task, exportable, student, other, checked, progress)
            if not agreement.total:
                raise ExportError(
                    f"The network found no {agreement.unit} on {checked.what}, so the file could not be checked. Give "
                    "images where it finds some (--images)."
                )
            if not agreement.within(tolerance):
                raise ExportError(
                    f"The {name} file does not agree with the network on {checked.what}: {told_of(agreement)}; "
                    f"accepted is {tolerance:g} (--tolerance). Nothing was written. Try another format."
                )
            done = Export(output, card, name, told, agreement, checked.what, tolerance)
            text = model_card.written(trained, task, student, exportable, done.as_dict())
            try:
                atomic.write(output, draft.read_bytes())
                atomic.write_text(card, text)
            except OSError as error:
                raise ConfigError(f"Cannot write {error.filename}: {error.strerror}. Give another --output.") from None
    return done


def told_of(agreement: Agreement) -> str:
    """Say in words how far two agree."""
    return (
        f"largest difference {agreement.difference:.2g}, {agreement.equal} of {agreement.total} {agreement.unit} "
        f"equal ({100 * agreement.share:.2f} %)"
    )


def _check(output: Path, card: Path, count: int, tolerance: float, *, overwrite: bool) -> None:
    if not tolerance >= 0:
        raise ConfigError(f"tolerance is {tolerance!r}; expected a number >= 0.")
    if count < 1:
        raise ConfigError(f"count is {count!r}; expected a whole number >= 1.")
    if not output.parent.is_dir():
        raise ConfigError(
            f"Cannot write {output}: there is no folder {output.parent}. Make it, or give another --output."
        )
    for file in (output, card):
        if file.is_dir() or (file.exists() and not overwrite):
            raise ConfigError(f"{file} exists. Give another --output, or --overwrite it.")


def _listed(folder: Path) -> tuple[Path, list[str]]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder. Give --images a folder of images to check with.")
    found = scan_images(folder)
    if not found:
        raise DataError(f"{folder} holds no image to check with. Read are {', '.join(SUFFIXES)}.")
    return folder, found


class _Images:
    """The images to check with, uint8 (3, H, W) each.

    Args:
        trained: The run.
        files: A folder, and the names of the files in it; None for the run's first target.
        count: How many are taken, evenly spread.

    Attributes:
        what: What they are, in words.
    """

    def __init__(self, trained: Trained, files: tuple[Path, list[str]] | None, count: int) -> None:
        setup = trained.config.setup
        if files is None and not setup.targets:
            raise ConfigError(f"{trained.path} tested on no target. Give a folder of images to check with (--images).")
        self.files = files
        self.set: Any = None
        if files is None:
            target = setup.targets[0]
            self.set = data.load(target, "test", label=trained.config.task.label, policy=setup.policy)
        whole = len(self.set) if files is None else len(files[1])
        self.indices = evenly(whole, count)
        origin = f"target {setup.targets[0].label!r}" if files is None else f"the folder {files[0].name!r}"
        self.what = f"{len(self.indices)} images of {origin}"

    def __iter__(self) -> Iterator[Tensor]:
        for index in self.indices:
            yield self.set[index][0] if self.files is None else read_image(self.files[0] / self.files[1][index])


def _compared(
    task: Task[Any], exportable: Exportable, student: Student, other: Student, images: _Images, progress: RunProgress
) -> Agreement:
    """Compare two networks on images that are prepared as in a test, in batches of other lengths than the example."""
    item = task.test_item()
    found: Agreement | None = None
    progress.start("checking", len(images.indices), 0)
    pending: list[Any] = []
    with torch.no_grad():
        for number, image in enumerate(images, start=1):
            pending.append(item(number - 1, image, 0))  # there is no label
            if len(pending) < _BATCH and number < len(images.indices):
                continue
            batch, _ = task.collate_test(pending)
            pending = []
            agreement = exportable.compare(student, other, batch)
            found = agreement if found is None else found.and_of(agreement)
            progress.step(number, {})
    assert found is not None
    return found


def _told(trained: Trained, student: Student, task: Task[Any], exportable: Exportable) -> dict[str, Any]:
    """Return what a file tells of itself."""
    return {
        "task": task.spec.name,
        "classes": list(task.classes),
        "preparation": dict(exportable.preparation),
        "backbone": task.setup.backbone,
        "architecture": task.spec.built_around or "",
        "regularizers": [spec.name for spec in trained.config.regularizers],
        "weights": trained.checkpoint,
        "pretrained": trained.facts.weights,
        "synreal": environment.versions()["synreal"],
    }
