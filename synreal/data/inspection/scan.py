"""Reading every item of a set once, and what was found; the gate that leaves out what cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from synreal.data.datasets import Policy
from synreal.data.files.decoding import opened, orientation, read_image
from synreal.data.files.faults import file_fault
from synreal.data.files.file_sets import SizeMismatch
from synreal.data.files.threads import in_threads
from synreal.data.inspection.duplicates import paths_of, same
from synreal.data.inspection.store import Kept, Store, state_of
from synreal.data.labels.base import Counts
from synreal.data.sets import ImageSet
from synreal.errors import ConfigError, DataError

Setting = Literal["bad_image", "size_mismatch"]
Effect = Literal["stops", "skipped", "resized", "note"]
Label = TypeVar("Label")

_CHUNK: Final = 16  # images that a thread takes at a time
_MODES: Final = {
    "1": "grey, 1 bit",
    "L": "grey, 8 bit",
    "LA": "grey with transparency, 8 bit",
    "P": "palette, 8 bit",
    "PA": "palette with transparency, 8 bit",
    "RGB": "RGB, 8 bit",
    "RGBA": "RGB with transparency, 8 bit",
    "CMYK": "CMYK, 8 bit",
    "YCbCr": "YCbCr, 8 bit",
    "I": "grey, 32 bit",
    "F": "grey, floating point",
}


class Fault(Kept):
    """Something that is wrong with an image or its label, or looks so.

    Attributes:
        index: Of the image in its set.
        kind: What it is, in a few words; the same words for the same fault.
        file: The file that is at fault, relative to the data set's folder where it lies in it.
        message: What was found.
        setting: The setting that decides what happens; None if training goes on whatever they say.
    """

    index: int
    kind: str
    file: str
    message: str
    setting: Setting | None = None


class Scan(Kept):
    """What reading every item of a set found, whatever the policy.

    Attributes:
        images: How many there are.
        sizes: Images by (height, width), of those that could be read.
        class_images: For each class in how many images it occurs.
        class_labels: For each class its images, pixels or boxes.
        ignored: Pixels that are ignored, or boxes around crowds.
        small: Boxes, or pixels, that are too little to be learned from.
        unlabelled: Images without any object; of masks, those whose pixels are all ignored.
        encodings: Image files by how they are stored.
        label_encodings: Label files by how they are stored; empty where labels lie in no image file.
        turned: Images that are turned upright by their EXIF orientation.
        faults: What is wrong or looks so.
    """

    images: int
    sizes: list[tuple[int, int, int]]
    class_images: list[int]
    class_labels: list[int]
    ignored: int
    small: int
    unlabelled: int
    encodings: dict[str, int]
    label_encodings: dict[str, int]
    turned: int
    faults: list[Fault]

    @property
    def counts(self) -> Counts:
        """What there is to learn from in all labels."""
        return Counts(np.array(self.class_labels, np.int64), self.ignored, self.small)


def usable(
    images: ImageSet[Label], policy: Policy, *, workers: int | None = None, cache: str | Path | None = None
) -> ImageSet[Label]:
    """Leave out the images that cannot be used, as the policy says.

    Everything is read once, unless a check or an earlier run has done so.

    Args:
        images: A set of images, in files or not.
        policy: What is left out.
        workers: Threads; default one per processor, 8 at most.
        cache: Folder of what is kept; default ``cache_folder()``.

    Returns:
        The set itself, or its subset; ``dropped`` counts what was left out, by kind.

    Raises:
        DataError: If no image is left; or if an image is faulty in a way that the policy makes an error.
    """
    found = scan(images, Store(cache), workers)
    lost: dict[int, str] = {}
    for fault in found.faults:
        effect = effect_of(fault, policy)
        if effect == "stops":
            raise DataError(fault.message)
        if effect == "skipped":
            lost.setdefault(fault.index, fault.kind)
    if not lost:
        return images
    kept = [index for index in range(len(images)) if index not in lost]
    if not kept:
        first = next(fault for fault in found.faults if fault.index in lost)
        raise DataError(
            f"{images.name} ({images.split}): none of {len(images)} images can be used. The first: {first.message}"
        )
    counts = {f"images left out ({kind})": number for kind, number in sorted(Counter(lost.values()).items())}
    return images.subset(kept, {**images.dropped, **counts})


def effect_of(fault: Fault, policy: Policy) -> Effect:
    """Return what comes of a fault."""
    if fault.setting is None:
        return "note"
    chosen = policy.bad_image if fault.setting == "bad_image" else policy.size_mismatch
    effects: dict[str, Effect] = {"error": "stops", "skip": "skipped", "resize": "resized"}
    return effects[chosen]


def scan(
    images: ImageSet[Any],
    store: Store,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read every item of a set, or read what was found when that was done.

    Args:
        images: The set.
        store: Where it is kept.
        workers: Threads; default one per processor, 8 at most.
        progress: Called with the images that are done, and all.
    """
    return store.keep(f"{state_of(images)} scan", Scan, lambda: _scan(images, workers, progress))


class _Item(NamedTuple):
    size: tuple[int, int] | None = None
    encoding: str | None = None
    label_encoding: str | None = None
    turned: bool = False
    counts: Counts | None = None
    faults: tuple[Fault, ...] = ()


def _scan(images: ImageSet[Any], workers: int | None, progress: Callable[[int, int], None] | None) -> Scan:
    images = images.as_stored()  # a scan tells what is there, whatever the policy makes of it
    classes = len(images.classes)
    sizes: Counter[tuple[int, int]] = Counter()
    encodings: Counter[str] = Counter()
    label_encodings: Counter[str] = Counter()
    shown, labels = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    turned = ignored = small = unlabelled = 0
    faults: list[Fault] = []
    chunks = [range(start, min(start + _CHUNK, len(images))) for start in range(0, len(images), _CHUNK)]
    done = 0
    for items in in_threads(lambda chunk: [_read_item(images, index) for index in chunk], chunks, workers):
        for item in items:
            if item.size is not None:
                sizes[item.size] += 1
            if item.encoding is not None:
                encodings[item.encoding] += 1
            if item.label_encoding is not None:
                label_encodings[item.label_encoding] += 1
            if item.counts is not None:
                shown += item.counts.labels > 0
                labels += item.counts.labels
                ignored += item.counts.ignored
                small += item.counts.small
                unlabelled += not item.counts.labels.any()
            turned += item.turned
            faults += item.faults
        done += len(items)
        if progress is not None:
            progress(done, len(images))
    faults += _repeated(images)
    return Scan(
        images=len(images),
        sizes=[(*size, number) for size, number in sorted(sizes.items())],
        class_images=shown.tolist(),
        class_labels=labels.tolist(),
        ignored=ignored,
        small=small,
        unlabelled=unlabelled,
        encodings=dict(encodings.most_common()),
        label_encodings=dict(label_encodings.most_common()),
        turned=turned,
        faults=sorted(faults, key=lambda fault: (fault.index, fault.kind)),
    )


def _read_item(images: ImageSet[Any], index: int) -> _Item:
    path, label_file = images.path(index), images.label_path(index)
    encoding, turned = _encoding(path, images.max_pixels)
    label_encoding, _ = _encoding(label_file, images.max_pixels)
    failure: Exception | None = None
    try:
        image, label = images[index]
    except ConfigError:  # that is not the fault of the file
        raise
    except Exception as error:  # whatever a reader lets through would end a training as well
        failure = error
    if failure is not None:
        return _Item(None, encoding, label_encoding, turned, faults=(_explained(images, index, failure),))
    name = f"image {index}" if path is None else _name(images, path)
    faults = []
    if _one_colour(image.numpy()):
        faults.append(Fault(index=index, kind="one colour", file=name, message=f"All pixels of {name} are the same."))
    kind, classes = images.label_kind, len(images.classes)
    place = name if label_file is None else _name(images, label_file)
    if (remark := kind.remark(label, classes, place)) is not None:
        faults.append(Fault(index=index, kind=remark[0], file=place, message=remark[1]))
    height, width = image.shape[1:]
    return _Item((height, width), encoding, label_encoding, turned, kind.count(label, classes), tuple(faults))


def _one_colour(pixels: NDArray[np.uint8]) -> bool:
    first = pixels[:, :1, :1]
    # A few pixels tell most images apart already.
    return bool((pixels[:, ::16, ::16] == first).all()) and bool((pixels == first).all())


def _explained(images: ImageSet[Any], index: int, error: Exception) -> Fault:
    """Find out what is wrong with an item that could not be read."""
    path, label_file = images.path(index), images.label_path(index)
    file = path
    setting: Setting = "bad_image"
    if isinstance(error, SizeMismatch):
        kind, setting = "size mismatch", "size_mismatch"
    elif path is not None and (fault := file_fault(path, images.max_pixels, read_image)) is not None:
        kind = fault
    else:
        kind, file = images.label_fault(index), label_file or path
    message = str(error) if isinstance(error, DataError) else f"{path}: {type(error).__name__}: {error}"
    place = f"image {index}" if file is None else _name(images, file)
    return Fault(index=index, kind=kind, file=place, message=message, setting=setting)


def _encoding(path: Path | None, max_pixels: int) -> tuple[str | None, bool]:
    """Say how a file stores its pixels, and whether it is turned upright; reads its header alone."""
    if path is None:
        return None, False
    try:
        with opened(path, max_pixels, decode=False) as image:
            kind = "grey, 16 bit" if image.mode.startswith("I;16") else _MODES.get(image.mode, image.mode)
            return f"{image.format} ({kind})", orientation(image) != 1
    except Exception:  # what is wrong shows when it is decoded
        return None, False


def _name(images: ImageSet[Any], path: Path) -> str:
    if images.root is not None and path.is_relative_to(images.root):
        return path.relative_to(images.root).as_posix()
    return str(path)


def _repeated(images: ImageSet[Any]) -> list[Fault]:
    """Find image files that are there twice."""
    paths = paths_of(images)
    noun, labels, digest = images.label_kind.noun, images.labels, images.label_kind.digest
    faults = []
    for one, other in same(paths, None):
        names = _name(images, paths[one]), _name(images, paths[other])
        unlike = labels is not None and digest(labels[one]) != digest(labels[other])
        faults.append(
            Fault(
                index=other,
                kind=f"duplicate, other {noun}" if unlike else "duplicate",
                file=names[1],
                message=f"{names[1]} is the same file as {names[0]}{f', in another {noun}' if unlike else ''}.",
            )
        )
    return faults
