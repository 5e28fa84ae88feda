"""Images of ImageNet in a folder of the user's, recognised by the WordNet ids of their classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from synreal.data.files.file_sets import LabelFiles
from synreal.data.files.paths import scan_images
from synreal.errors import DataError
from synreal.parsing import from_home

_ID: Final = re.compile(r"n\d{8}")


def imagenet_images(folder: str | Path, ids: Sequence[str]) -> LabelFiles:
    """Read a folder of images of ImageNet's classes.

    The class of an image is the WordNet id (``n01440764``) that its name begins with, or else that of its folder: one
    flat folder of ``n01440764_tench.JPEG`` is read, and so is a tree of ``n01440764/ILSVRC2012_val_00000293.JPEG``.

    Args:
        folder: The folder.
        ids: WordNet ids of the classes, in the order of a classifier's outputs.

    Returns:
        The images, by name; the classes are the ids. Images of none of them are left out and counted.

    Raises:
        DataError: If the folder is missing, or no image in it says that it is of one of the classes.
    """
    root = from_home(str(folder)).absolute()
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The folder of ImageNet's images {root} {state}. Check the path.")
    known = {name: index for index, name in enumerate(ids)}
    found = {name: _class_of(name, known) for name in scan_images(root)}
    files = [name for name, label in found.items() if label is not None]
    if not files:
        raise DataError(
            f"{root} holds {len(found)} images, and none says that it is of one of ImageNet's {len(ids):,} classes. "
            "Expected files such as n01440764_tench.JPEG, or folders such as n01440764."
        )
    dropped = len(found) - len(files)
    return LabelFiles(
        "imagenet",
        "given",
        root,
        files,
        [label for label in found.values() if label is not None],
        ids,
        dropped={"images of no known class": dropped} if dropped else {},
    )


def _class_of(name: str, known: dict[str, int]) -> int | None:
    """Return the class that an image's name, or else its folder's, begins with."""
    for part in reversed(Path(name).parts[-2:]):
        match = _ID.match(part)
        if match is not None and match[0] in known:
            return known[match[0]]
    return None
