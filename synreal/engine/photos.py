"""Image files that nobody labelled, prepared as a task's tests prepare theirs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from synreal.data.files.decoding import read_image
from synreal.data.files.paths import SUFFIXES, is_image, scan_images
from synreal.errors import ConfigError, DataError
from synreal.parsing import shortened


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        file: Where it lies.
        name: Its path below the folder that all images share, with ``/`` between folders.
    """

    file: Path
    name: str


@dataclass(frozen=True)
class _Fault:
    """What is wrong with a file that is left out."""

    said: str


_Item = tuple[int, tuple[int, int], Any] | _Fault


def find_images(given: Sequence[str | Path]) -> list[Picture]:
    """Find image files.

    Args:
        given: Files, folders, whose images are taken with those of all folders below, and patterns such as
            ``"frames/*.png"``.

    Returns:
        Each file once; those of a folder or pattern in the order that people count in, 2 before 10.

    Raises:
        ConfigError: If there is no such file, or no image in a folder.
        DataError: If a folder cannot be read.
    """
    files = list(dict.fromkeys(Path(os.path.abspath(file)) for one in given for file in _files(str(one))))
    if not files:
        raise ConfigError("No image was given. Name files, folders, or patterns such as 'frames/*.png'.")
    shared = os.path.commonpath([file.parent for file in files])
    return [Picture(file, file.relative_to(shared).as_posix()) for file in files]


def _files(given: str) -> list[str]:
    if os.path.isdir(given):
        found = [os.path.join(given, name) for name in scan_images(Path(given))]
    elif os.path.lexists(given):
        return [given]
    else:
        found = [name for name in glob.glob(given, recursive=True) if is_image(os.path.basename(name))]
    if found:
        return sorted(found, key=_counted)
    if not os.path.isdir(given) and not glob.has_magic(given):
        raise ConfigError(f"{shortened(given)} does not exist.")
    raise ConfigError(f"{shortened(given)} holds no image: none ends in {', '.join(SUFFIXES)}.")


def _counted(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part) if number % 2 else 0, part) for number, part in enumerate(parts)]


class PhotoItems(Dataset[_Item]):
    """Test items of image files: place, height and width, item; or what is wrong with a file that is left out."""

    def __init__(self, images: Sequence[Path], item: Callable[[int, Tensor, Any], Any], skip: bool) -> None:
        self.files = images
        self.item = item
        self.skip = skip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> _Item:
        try:
            image = read_image(self.files[index])
        except DataError as fault:
            if not self.skip:
                raise
            return _Fault(str(fault))
        return index, (int(image.shape[1]), int(image.shape[2])), self.item(index, image, 0)  # no label is looked at


def collated(collate: Callable[[Sequence[Any]], Any], items: Sequence[_Item]) -> Any:
    """Make a batch: places, sizes, the task's images, and the faults of files that are left out."""
    sound = [item for item in items if not isinstance(item, _Fault)]
    images = collate([item for _, _, item in sound])[0] if sound else None
    faults = [item.said for item in items if isinstance(item, _Fault)]
    return [place for place, _, _ in sound], [size for _, size, _ in sound], images, faults
