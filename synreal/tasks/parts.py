"""The sets of images that a task trains and tests on, all with the classes of one network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from synreal import data
from synreal.data import DataSet
from synreal.data.aligned import aligned
from synreal.data.class_names import Alignment, align_names, differences
from synreal.data.files.copies import Resized
from synreal.data.inspection.duplicates import duplicates
from synreal.data.inspection.teaching import check_teaches
from synreal.data.sets import ImageSet, evenly
from synreal.errors import ConfigError, DataError
from synreal.specs import unique_names
from synreal.tasks.setup import Setup
from synreal.views import View


def to_train_and_test(
    label: str, setup: Setup, check: Callable[[tuple[str, ...], str], None]
) -> tuple[Any, dict[str, Any]]:
    """Read what a run trains on, and what it tests on by name, with the classes of the source.

    Args:
        label: The kind of label that the task needs.
        setup: What the task is told of the run.
        check: Checks settings against the source's classes, given these and the source's name.

    Raises:
        ConfigError: If source and target share no class, or a setting does not fit the source's classes.
        DataError: If data are missing or damaged, or the source can teach nothing.
    """
    train, heldout = (_part(label, setup, part) for part in ("train", "heldout"))
    check_teaches(train)
    # Parts of one data set may lie in files of their own, which number classes as they please.
    heldout = aligned(heldout, train.classes, align_names(train.classes, heldout.classes))
    check(train.classes, setup.source.label)
    targets = _targets(label, setup, train.classes, train)
    if setup.cache_size is not None:
        train = Resized(train, setup.cache_size)
    return train, {"source": heldout, **targets}


def to_test(label: str, setup: Setup, classes: Sequence[str], *, source: bool) -> tuple[Any, dict[str, Any]]:
    """Read what a trained student is tested on; see ``Task.load_tests``.

    Returns:
        What it was trained on, None if that is not there; and what to test on by name.

    Raises:
        ConfigError: If a set and the student share no class.
        DataError: If data are missing or damaged.
    """
    tests, train = {}, None
    try:
        heldout = _part(label, setup, "heldout")
        alignment = align_names(classes, heldout.classes)
        tests["source"] = aligned(heldout, classes, alignment)
        _tell(f"Source {setup.source.label!r}", alignment)
    except (ConfigError, DataError) as error:
        if source:
            raise
        warnings.warn(f"The held-out source is not tested: {error}", stacklevel=2)
    try:
        train = _part(label, setup, "train")
    except (ConfigError, DataError) as error:
        warnings.warn(f"Targets are not compared with the images that were trained on: {error}", stacklevel=2)
    return train, tests | _targets(label, setup, classes, train)


def as_many(tests: Mapping[str, Any], most: int | None) -> dict[str, Any]:
    """Return so many images of each set at most, spread evenly; all where ``most`` is None."""
    return {
        name: images if most is None or len(images) <= most else images.subset(evenly(len(images), most))
        for name, images in tests.items()
    }


def lent_images(views: Iterable[View], tests: Mapping[str, Any]) -> dict[str, Any]:
    """Read the real images that views use, by the view's name, and refuse those that are tested on.

    Args:
        views: The views of a run.
        tests: What it tests on by name.

    Raises:
        ConfigError: If images of a target are among them.
        DataError: If one of them cannot be used.
    """
    using = [view for view in views if view.uses_real_images]
    found = {}
    for name, view in zip(unique_names(using), using, strict=True):
        images = view.real_images()
        for target, tested in tests.items():
            if target != "source" and (shared := duplicates(images, tested)):
                raise ConfigError(
                    f"The view {view.name} uses {len(shared)} images that are tested on as {target!r}, e.g. "
                    f"{shared[0][0]}: nothing of a target may be trained with. Give it other real images."
                )
        found[name] = images
    return found


def _part(label: str, setup: Setup, part: str) -> Any:
    return data.load(setup.source, part, label=label, seed=setup.data_seed, policy=setup.policy)


def _targets(label: str, setup: Setup, classes: Sequence[str], train: Any) -> dict[str, Any]:
    """Read the targets with the classes of a network; ``train`` is what it was trained on, where that is there."""
    targets = {}
    for target in setup.targets:
        images, alignment = _matched(label, setup, target, "test", classes)
        if train is not None and (shared := duplicates(train, images)):
            warnings.warn(
                f"{len(shared)} images of target {target.label!r} are also trained on, e.g. {shared[0][1]}: what "
                "is measured on them is not a zero-shot result.",
                stacklevel=2,
            )
        targets[target.label] = aligned(images, classes, alignment)
    return targets


def real_images(label: str, setup: Setup, entry: DataSet, part: str, classes: Sequence[str]) -> Any:
    """Read a part of real data with the classes of a network; a warning lists each difference.

    Raises:
        ConfigError: If the two share no class.
        DataError: If data are missing or damaged.
    """
    images, alignment = _matched(label, setup, entry, part, classes)
    return aligned(images, classes, alignment)


def _matched(
    label: str, setup: Setup, entry: DataSet, part: str, classes: Sequence[str]
) -> tuple[ImageSet[Any], Alignment]:
    images = data.load(entry, part, label=label, policy=setup.policy)
    alignment = align_names(classes, images.classes)
    _tell(f"Target {entry.label!r}", alignment)
    return images, alignment


def _tell(name: str, alignment: Alignment) -> None:
    for line in differences(alignment):
        warnings.warn(f"{name} {line}.", stacklevel=4)
