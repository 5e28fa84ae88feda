"""Reading a part of a data set. Imports no torch before it is called."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from synreal.data.datasets import STRICT, DataSet, Policy
from synreal.data.files.paths import some
from synreal.data.registry import check_labels, find
from synreal.errors import ConfigError, DataError

if TYPE_CHECKING:
    from synreal.data.sets import BoxedImages, ImageSet, LabelledImages, SegmentedImages


@overload
def load(
    value: str | DataSet,
    split: str,
    label: Literal["classes"] = "classes",
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> LabelledImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    label: Literal["masks"],
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> SegmentedImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    label: Literal["boxes"],
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> BoxedImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    label: str,
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> ImageSet[Any]: ...


def load(
    value: str | DataSet,
    split: str,
    label: str = "classes",
    *,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> ImageSet[Any]:
    """Load one split of a data set.

    Args:
        value: A data set, as ``find`` reads it.
        split: One of its ``parts``.
        label: One of its ``label_kinds``: what the images are labelled with.
        seed: Seed of a rendered source; recorded data have none and ignore it.
        cache: Folder for arrays that are slow to make; default ``synreal.data.files.cache.cache_folder()``.
        policy: What happens to files that cannot be used. Data that are rendered, or come with a package, are checked
            while they are made: with ``"skip"`` they are read like any other, and nothing is left out.

    Returns:
        The images with a class (``LabelledImages``), a mask (``SegmentedImages``), boxes (``BoxedImages``) or another
        label each.

    Raises:
        ConfigError: If the name, the split or the kind of label is unknown, or the data set has no labels of that kind.
        DataError: If a package or file that the data set needs is missing or damaged.
    """
    entry = find(value)
    if split not in entry.parts:
        raise ConfigError(
            f"Data set {entry.label!r} is a {' and '.join(entry.domains)} and has no split {split!r}. "
            f"Known: {', '.join(entry.parts)}."
        )
    check_labels(entry, label)
    entry.check()
    images = entry.read(split, label=label, seed=seed, cache=cache, policy=policy)
    if images.label_kind.name != label:
        raise ConfigError(
            f"Data set {entry.label!r} gave {images.label_kind.name} where {label} were asked for: its kind, "
            f"{entry.kind}, declares label_kinds ({', '.join(entry.label_kinds)}) that its read() does not tell apart."
        )
    if policy.bad_image == "error":
        _check_links(images)
    if "skip" in policy:
        from synreal.data.inspection.scan import usable

        images = usable(images, policy, cache=cache)
    if images.dropped:
        counts = ", ".join(f"{number} {what}" for what, number in images.dropped.items())
        warnings.warn(f"{entry.label} ({split}): {counts}.", stacklevel=2)
    return images


def _check_links(images: ImageSet[Any]) -> None:
    """Raise ``DataError`` if files are links that lead nowhere, which a scan of folders lists like others."""
    files = (file for index in range(len(images)) for file in (images.path(index), images.label_path(index)))
    gone = [str(file) for file in files if file is not None and os.path.islink(file) and not os.path.exists(file)]
    if gone:
        raise DataError(
            f"{images.name} ({images.split}): {len(gone)} files are links that lead nowhere, e.g. {some(gone)}, to "
            f"{os.readlink(gone[0])}. Restore what they lead to, or leave them out with on_bad_image: skip."
        )
