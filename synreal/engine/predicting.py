"""``predict``: what the student of a finished run says of images that nobody labelled."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch

from synreal import atomic
from synreal.engine import preflight
from synreal.engine.loading import batches, dead_workers_named, make_loader
from synreal.engine.photos import PhotoItems, Picture, collated, find_images
from synreal.engine.predictions import Batch, Prediction, kind_of
from synreal.engine.progress import RunProgress
from synreal.engine.signals import listening
from synreal.engine.trained import LAST, Trained, read_trained
from synreal.errors import ConfigError, Interrupted, TrainingError

PREDICTIONS: Final = "predictions"
"""Name of the table and of the JSON file in a folder of predictions, without ending."""


@dataclass(frozen=True)
class Predictions(Iterable[Prediction]):
    """What a student says of images, made one by one as it is gone through, once.

    Attributes:
        classes: Names of the classes.
        kind: How they are told.
        made: The predictions.
    """

    classes: tuple[str, ...]
    kind: type[Prediction]
    made: Iterator[Prediction]

    def __iter__(self) -> Iterator[Prediction]:
        """Go on with the predictions."""
        return self.made


def predict(
    path: str | Path,
    images: Sequence[str | Path],
    *,
    average: str | None = None,
    threshold: float = 0.5,
    skip: bool = False,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    show_progress: bool = True,
) -> Predictions:
    """Predict images with the student of a finished run, prepared as the run's tests prepare them.

    Args:
        path: The run folder.
        images: As of ``find_images``.
        average: An average of weights of the run, or a checkpoint, as for ``evaluate``; by default its last weights.
        threshold: Score below which boxes are left out, in [0, 1].
        skip: Whether images that cannot be read are left out, with a line that names them.
        batch_size: Images at a time; by default as in the run's tests.
        workers: Data-loading processes; by default the run's.
        device: As in ``RunConfig``.
        show_progress: Write progress to stderr.

    Returns:
        Predictions in the order of the images, made as they are gone through.

    Raises:
        ConfigError: If there is no run, no image, or a setting is wrong.
        CheckpointError: If the student cannot be read, or is not the run's.
        DataError: If an image cannot be read.
        Interrupted: If the process was asked to stop.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold}; expected a score from 0 to 1.")
    asked = {"device": device, "eval_batch_size": batch_size, "workers": workers}
    given = {key: value for key, value in asked.items() if value is not None}
    trained = read_trained(Path(path), "predict with", average or LAST, **given)
    kind = kind_of(trained.config.task.label, trained.config.task.name)
    pictures = find_images(images)
    made = _predict(trained, kind, pictures, threshold, skip=skip, show_progress=show_progress)
    return Predictions(tuple(trained.facts.classes), kind, made)


def _predict(
    trained: Trained,
    kind: type[Prediction],
    pictures: Sequence[Picture],
    threshold: float,
    *,
    skip: bool,
    show_progress: bool,
) -> Iterator[Prediction]:
    task = trained.without_data()
    config = trained.config
    accelerator = preflight.accelerator(config)
    student = trained.student(task)
    student.network.to(accelerator.device).eval()
    items = PhotoItems([picture.file for picture in pictures], task.test_item(), skip)
    collate = partial(collated, task.collate_test)
    loader = make_loader(items, config.data.workers, collate, batch_size=config.testing.eval_batch_size)
    done = 0
    with listening() as request, RunProgress(show=show_progress) as progress, dead_workers_named():
        progress.start("predict", len(pictures), 0)
        for places, sizes, batch, faults in batches(loader):
            for fault in faults:
                progress.say(f"Left out: {fault}")
            if places:
                with torch.no_grad(), accelerator.autocast():
                    here = [pictures[place] for place in places]
                    found = list(kind.of(task, student, Batch(batch, here, sizes, threshold)))
                yield from found
            done += len(places) + len(faults)
            progress.step(done, {})
            if request.exit_code:
                raise Interrupted(f"Stopped after {done} of {len(pictures)} images.", request.exit_code)


@dataclass(frozen=True)
class Told:
    """Predictions as text.

    Attributes:
        table: As CSV.
        json: As JSON.
        files: What was written, in place of that.
        images: How many images there were.
    """

    table: str
    json: str
    files: tuple[Path, ...]
    images: int


def tell(predictions: Predictions, folder: Path | None = None) -> Told:
    """Go through predictions and tell them, in a folder of files if one is given.

    Args:
        predictions: As ``predict`` gives them.
        folder: A new or empty folder. It gets ``predictions.csv`` and ``predictions.json``; of masks also palette PNGs
            whose indices are the classes, and overlays; of boxes COCO's JSON, YOLO's texts, and drawings.

    Raises:
        ConfigError: If the folder holds something.
        TrainingError: If it cannot be written.
    """
    kind, classes = predictions.kind, predictions.classes
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty: predictions go into a new folder. Remove it, or name another one.")
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(kind.header(classes))
    found: list[dict[str, Any]] = []
    written: list[Path] = []
    try:
        names = _Names()
        for one in predictions:
            rows.writerows(one.rows())
            found.append({"file": one.picture.name, "size": list(one.size), **one.described()})
            if folder is not None:
                written += _write_pictures(folder, names(one.picture.name), one)
        about: dict[str, Any] = {"classes": list(classes), "colours": kind.colours(classes), "images": found}
        text = json.dumps({key: value for key, value in about.items() if value or key == "images"}, indent=1)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            contents = {
                f"{PREDICTIONS}.csv": table.getvalue(),
                f"{PREDICTIONS}.json": text,
                **kind.together(classes, found),
            }
            for name, content in contents.items():
                atomic.write_text(folder / name, content if isinstance(content, str) else json.dumps(content))
                written.append(folder / name)
    except OSError as error:
        raise TrainingError(f"The predictions cannot be written: {error}.") from error
    return Told(table.getvalue(), text, tuple(written), len(found))


class _Names:
    """Names of files for images: their own with another ending, or behind their own where two would be the same."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        stem = str(PurePosixPath(name).with_suffix(""))
        self.taken[stem] += 1
        return stem if self.taken[stem] == 1 else name


def _write_pictures(folder: Path, name: str, one: Prediction) -> Iterator[Path]:
    for kind, (ending, content) in one.pictures().items():
        path = folder / kind / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        yield path
