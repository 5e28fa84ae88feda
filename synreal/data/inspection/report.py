"""Reading a data set once, from the first file to the last, and saying what was found."""

from __future__ import annotations

import copy
import hashlib
import itertools
import os
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from synreal.data import registry
from synreal.data.class_names import align_names, differences
from synreal.data.files.cache import cache_folder, write_whole
from synreal.data.files.decoding import MAX_PIXELS, opened, orientation, read_colours, read_ids, read_image
from synreal.data.files.file_sets import ImageFiles, SizeMismatch
from synreal.data.files.paths import is_image
from synreal.data.files.threads import in_threads
from synreal.data.registry import PARTS, STRICT, DataSet, Domain, Policy
from synreal.data.sets import IGNORE, Boxes, Images, check_boxes
from synreal.errors import ConfigError, DataError

VERSION: Final = 1
"""Raised when a scan looks for more, or says it differently: what was kept of older ones is not read."""

Setting = Literal["bad_image", "size_mismatch"]
Effect = Literal["stops", "skipped", "resized", "note"]
Progress = Callable[[str, int, int], None]
FilesType = TypeVar("FilesType", bound=ImageFiles[Any])
Model = TypeVar("Model", bound=BaseModel)

_CHUNK = 16  # images that a thread takes at a time
_TAIL = 4096  # bytes at the end of files that tell most of one size apart
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


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fault(_Kept):
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


class Scan(_Kept):
    """What reading every item of a set found, whatever the policy.

    Attributes:
        images: How many there are.
        sizes: Images by (height, width), of those that could be read.
        class_images: For each class in how many images it occurs.
        class_labels: For each class its images, pixels or boxes.
        ignored: Pixels that count nowhere, or boxes around crowds.
        unlabelled: Images without any object; of masks, those that are ignored everywhere.
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
    unlabelled: int
    encodings: dict[str, int]
    label_encodings: dict[str, int]
    turned: int
    faults: list[Fault]


class _Pairs(_Kept):
    pairs: list[tuple[int, int]]


@dataclass(frozen=True)
class Finding:
    """One fault, and what comes of it.

    Attributes:
        kind: What it is, in a few words.
        file: Where.
        message: What was found.
        effect: ``"stops"`` a training, the image is ``"skipped"`` or ``"resized"``, or it is a ``"note"`` alone.
    """

    kind: str
    file: str
    message: str
    effect: Effect


@dataclass(frozen=True)
class PartReport:
    """What was found in one part of a data set.

    Attributes:
        data: What results call the data set.
        part: ``"train"``, ``"heldout"`` or ``"test"``.
        images: How many images it has; 0 if it cannot be loaded.
        usable: How many are left under the policy.
        fingerprint: As results name it; None if it cannot be loaded.
        sizes: ``least``, ``median`` and ``greatest`` by area, as [height, width]; ``frequent`` as
            [height, width, images], most first.
        unit: What ``labels`` of a class counts: ``"images"``, ``"pixels"`` or ``"boxes"``.
        classes: For each class its name, ``images`` that show it and ``labels``.
        ignored: Pixels that count nowhere, or boxes around crowds.
        unlabelled: Images without any object.
        encodings: Image files by how they are stored.
        label_encodings: Label files by how they are stored.
        turned: Images that are turned upright by their EXIF orientation.
        warnings: What the loader warned of.
        dropped: What the loader left out, and how often.
        findings: Everything wrong or suspicious.
    """

    data: str
    part: str
    images: int = 0
    usable: int = 0
    fingerprint: str | None = None
    sizes: dict[str, list[Any]] = field(default_factory=dict)
    unit: str = "images"
    classes: list[dict[str, Any]] = field(default_factory=list)
    ignored: int = 0
    unlabelled: int = 0
    encodings: dict[str, int] = field(default_factory=dict)
    label_encodings: dict[str, int] = field(default_factory=dict)
    turned: int = 0
    warnings: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What ``check`` found.

    Attributes:
        data: The data set, as it can be written on a command line.
        target: The data set that it is tested on, if one was given.
        task: Long name of the task.
        policy: The settings.
        parts: One report for each part.
        differences: How classes of source and target differ.
        findings: What is wrong between parts: images in both, no class in common.
        fails: Whether training would fail.
    """

    data: str
    target: str | None
    task: str
    policy: dict[str, str]
    parts: list[PartReport]
    differences: list[str]
    findings: list[Finding]
    fails: bool


def check(
    value: str | DataSet,
    *,
    task: str,
    target: str | DataSet | None = None,
    domain: Domain | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    progress: Progress | None = None,
    cache: str | Path | None = None,
    fresh: bool = False,
) -> Report:
    """Read a data set once and report what is in it and what is wrong with it.

    What was read is kept in the cache, by the names, sizes and times of change of all files: asking again is quick.

    Args:
        value: A data set, as ``registry.find`` reads it.
        task: Long name of the task whose labels are read.
        target: What it will be tested on: also checked, and compared for images that are in both.
        domain: What it serves as; default the source if there is a target, else everything that it serves as. Data
            that test on the images they train on are looked at once.
        policy: What a training would do with files that cannot be used.
        workers: Threads; default one a processor, 8 at most.
        progress: Called with a name of the part, images done, and images in all.
        cache: Folder of what is kept; default ``cache_folder()``.
        fresh: Whether to read everything again.

    Returns:
        The report. Data that cannot be loaded are a finding, too.

    Raises:
        ConfigError: If a name, the task or the domain is unknown or does not fit.
        DataError: If the folder of the data set does not exist.
    """
    source, tested = registry.find(value), None if target is None else registry.find(target)
    if domain is None and tested is not None:
        domain = "source"
    plan = [(source, part) for part in _parts(source, domain)]
    if tested is not None:
        plan += [(tested, part) for part in _parts(tested, "target")]
    for entry in {id(entry): entry for entry, _ in plan}.values():
        registry.check_labels(entry, task)
        entry.check()
    store = _Store(cache, fresh)
    parts, loaded = [], {}
    for entry, part in plan:
        report, images = _check_part(entry, part, task, policy, workers, progress, store)
        parts.append(report)
        if images is not None:
            loaded[id(entry), part] = images
    mine = [loaded[id(source), part] for part in PARTS["source"] if (id(source), part) in loaded]
    theirs = [] if tested is None else [loaded[id(tested), "test"]] if (id(tested), "test") in loaded else []
    findings: list[Finding] = []
    if len(mine) == 2:
        findings += _in_both("in train and heldout", mine[0], mine[1], "results on heldout are too good", store)
    lines: list[str] = []
    for images, other in itertools.product(mine, theirs):
        where = f"in source ({images.split}) and target"
        findings += _in_both(where, images, other, "the claim to be zero-shot is broken", store)
    if mine and theirs:
        try:
            lines = differences(align_names(mine[0].classes, theirs[0].classes))
        except ConfigError as error:
            findings.append(Finding("classes differ", theirs[0].name, str(error), "stops"))
    stops = any(finding.effect == "stops" for report in parts for finding in report.findings)
    return Report(
        data=source.text(),
        target=None if tested is None else tested.text(),
        task=task,
        policy=policy._asdict(),
        parts=parts,
        differences=lines,
        findings=findings,
        fails=stops or any(finding.effect == "stops" for finding in findings),
    )


def usable(
    images: FilesType, policy: Policy, *, workers: int | None = None, cache: str | Path | None = None
) -> FilesType:
    """Leave out the images that cannot be used, as the policy says.

    Everything is read once, unless a check or an earlier run has done so.

    Args:
        images: Image files: a set with ``subset`` and ``dropped``.
        policy: What is left out.
        workers: Threads; default one a processor, 8 at most.
        cache: Folder of what is kept; default ``cache_folder()``.

    Returns:
        The set itself, or its subset; ``dropped`` counts what was left out, by kind.

    Raises:
        DataError: If no image is left; or if an image is faulty in a way that the policy makes an error.
    """
    scan = _Store(cache).scan(images, workers, None)
    lost: dict[int, str] = {}
    for fault in scan.faults:
        effect = _effect(fault, policy)
        if effect == "stops":
            raise DataError(fault.message)
        if effect == "skipped":
            lost.setdefault(fault.index, fault.kind)
    if not lost:
        return images
    kept = [index for index in range(len(images)) if index not in lost]
    if not kept:
        first = next(fault for fault in scan.faults if fault.index in lost)
        raise DataError(
            f"{images.name} ({images.split}): none of {len(images)} images can be used. The first: {first.message}"
        )
    part = images.subset(kept)
    part.dropped = {
        **part.dropped,
        **{f"images left out ({kind})": number for kind, number in sorted(Counter(lost.values()).items())},
    }
    return part


def duplicates(
    first: Images, second: Images, *, cache: str | Path | None = None, fresh: bool = False
) -> list[tuple[str, str]]:
    """Find the files of two sets whose contents are the same, byte by byte.

    Files of one size are compared by their ends, and those that agree there by a hash of everything.

    Args:
        first: A set of images; one that lies in no files shares none.
        second: Another.
        cache: Folder of what is kept; default ``cache_folder()``.
        fresh: Whether to compare again what was compared before.

    Returns:
        Pairs of paths, one for each image of ``second`` that is in ``first``.
    """
    mine, theirs = _paths(first), _paths(second)
    if not mine or not theirs:
        return []
    pairs = _Store(cache, fresh).keep(
        f"{state_of(first)} {state_of(second)} duplicates", _Pairs, lambda: _Pairs(pairs=_same(mine, theirs))
    )
    return [(str(mine[one]), str(theirs[other])) for one, other in pairs.pairs]


def state_of(images: Images) -> str:
    """Return a SHA-256 over what a scan of a set depends on: labels, and names, sizes and times of change of files."""
    limit = getattr(images, "max_pixels", None)
    digest = hashlib.sha256(f"{VERSION} {type(images).__name__} {images.fingerprint} {limit}".encode())
    for index, path in enumerate(_paths(images)):
        for file in (path, _label_file(images, index)):
            if file is None:
                continue
            try:
                found = file.stat()
                digest.update(f"{file}\0{found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            except OSError:
                digest.update(f"{file}\0-\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _parts(entry: DataSet, domain: Domain | None) -> tuple[str, ...]:
    if domain is not None:
        registry.check_domain(entry, domain)
        return PARTS[domain]
    return entry.parts if entry.apart else PARTS[entry.domains[0]]


def _unloaded(entry: DataSet, error: Exception, effect: Effect) -> Finding:
    """Say why a part cannot be loaded."""
    for cause in (error, error.__context__):
        if isinstance(cause, FileNotFoundError) and cause.filename is not None:
            return Finding("missing file", str(cause.filename), str(error), effect)
    return Finding("cannot be loaded", entry.label, str(error), effect)


def _check_part(
    entry: DataSet,
    part: str,
    task: str,
    policy: Policy,
    workers: int | None,
    progress: Progress | None,
    store: _Store,
) -> tuple[PartReport, Images | None]:
    early: list[Finding] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Strictly first, so that what a run would silently leave out is a finding.
        policies = (STRICT, policy) if policy.bad_image == "skip" else (STRICT,)
        images: Images | None = None
        for way in policies:
            try:
                images = entry.read(part, task=task, seed=0, cache=store.folder, policy=way)
                break
            except (DataError, OSError) as error:
                early = [_unloaded(entry, error, "skipped" if way != policies[-1] else "stops")]
    if images is None:
        return PartReport(entry.label, part, warnings=_texts(caught), findings=early), None
    told = None if progress is None else _named(progress, f"{entry.label} ({part})")
    scan = store.scan(images, workers, told)
    findings = [*early, *(Finding(f.kind, f.file, f.message, _effect(f, policy)) for f in scan.faults)]
    skipped = {fault.index for fault in scan.faults if _effect(fault, policy) == "skipped"}
    where = f"{entry.label} ({part})"
    if len(skipped) == scan.images:
        findings.append(Finding("nothing left", where, f"None of {scan.images} images can be used.", "stops"))
    elif scan.images - len(skipped) == 1:
        findings.append(Finding("one image only", where, "A single image is no data set.", "note"))
    background = task == "segmentation" and images.classes[0] == "background"
    for number, name in enumerate(images.classes):
        if scan.class_images[number] == 0 and not (background and number == 0):
            findings.append(Finding("class without image", name, f"No image of {where} shows {name!r}.", "note"))
    report = PartReport(
        data=entry.label,
        part=part,
        images=scan.images,
        usable=scan.images - len(skipped),
        fingerprint=images.fingerprint,
        sizes=_sizes(scan),
        unit={"classification": "images", "segmentation": "pixels", "detection": "boxes"}[task],
        classes=[
            {"name": name, "images": shown, "labels": labels}
            for name, shown, labels in zip(images.classes, scan.class_images, scan.class_labels, strict=True)
        ],
        ignored=scan.ignored,
        unlabelled=scan.unlabelled,
        encodings=scan.encodings,
        label_encodings=scan.label_encodings,
        turned=scan.turned,
        warnings=_texts(caught),
        dropped=dict(getattr(images, "dropped", {})),
        findings=findings,
    )
    return report, images


def _effect(fault: Fault, policy: Policy) -> Effect:
    if fault.setting is None:
        return "note"
    chosen = policy.bad_image if fault.setting == "bad_image" else policy.size_mismatch
    effects: dict[str, Effect] = {"error": "stops", "skip": "skipped", "resize": "resized"}
    return effects[chosen]


def _in_both(where: str, first: Images, second: Images, so: str, store: _Store) -> list[Finding]:
    return [
        Finding(where, other, f"{other} is the same file as {one}: {so}.", "note")
        for one, other in duplicates(first, second, cache=store.folder, fresh=store.fresh)
    ]


def _texts(caught: Iterable[warnings.WarningMessage]) -> list[str]:
    return list(dict.fromkeys(str(warning.message) for warning in caught))


def _named(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _sizes(scan: Scan) -> dict[str, list[Any]]:
    if not scan.sizes:
        return {}
    ordered = sorted(scan.sizes, key=lambda row: (row[0] * row[1], row))
    counts = np.cumsum([number for *_, number in ordered])
    middle = int(np.searchsorted(counts, (counts[-1] + 1) // 2))
    frequent = sorted(scan.sizes, key=lambda row: (-row[2], row))[:3]
    return {
        "least": list(ordered[0][:2]),
        "median": list(ordered[middle][:2]),
        "greatest": list(ordered[-1][:2]),
        "frequent": [list(row) for row in frequent],
    }


class _Store:
    """What was found before, in JSON files.

    Args:
        folder: Where the cache lies; default ``cache_folder()``.
        fresh: Whether nothing is read from it.
    """

    def __init__(self, folder: str | Path | None, fresh: bool = False) -> None:
        self.folder = folder
        self.fresh = fresh

    def scan(self, images: Any, workers: int | None, progress: Callable[[int, int], None] | None) -> Scan:
        """Scan a set, or read what a scan found."""
        return self.keep(f"{state_of(images)} scan", Scan, lambda: _scan(images, workers, progress))

    def keep(self, key: str, model: type[Model], make: Callable[[], Model]) -> Model:
        """Read what is kept under a key, or make and keep it."""
        name = hashlib.sha256(f"{VERSION} {key}".encode()).hexdigest()
        try:
            folder = cache_folder(self.folder)
        except ConfigError:
            return make()
        path = folder / "checks" / f"{name[:32]}.json"
        if not self.fresh:
            try:
                return model.model_validate_json(path.read_bytes())
            except (OSError, ValidationError):  # not there, or damaged
                pass
        made = make()
        try:
            write_whole(path, made.model_dump_json().encode())
        except OSError as error:
            warnings.warn(
                f"Cannot keep what was read in {path} ({error}): the next check reads everything again. "
                "Set SYNREAL_CACHE to a folder that can be written.",
                stacklevel=2,
            )
        return made


class _Item(NamedTuple):
    size: tuple[int, int] | None = None
    encoding: str | None = None
    label_encoding: str | None = None
    turned: bool = False
    counts: NDArray[np.int64] | None = None
    ignored: int = 0
    faults: tuple[Fault, ...] = ()


def _scan(images: Any, workers: int | None, progress: Callable[[int, int], None] | None) -> Scan:
    if getattr(images, "resize", False):
        # A scan tells what is there, whatever the policy makes of it.
        images = copy.copy(images)
        images.resize = False
    classes = len(images.classes)
    sizes: Counter[tuple[int, int]] = Counter()
    encodings: Counter[str] = Counter()
    label_encodings: Counter[str] = Counter()
    shown, labels = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    turned = ignored = unlabelled = 0
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
                shown += item.counts > 0
                labels += item.counts
                unlabelled += not item.counts.any()
            turned += item.turned
            ignored += item.ignored
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
        unlabelled=unlabelled,
        encodings=dict(encodings.most_common()),
        label_encodings=dict(label_encodings.most_common()),
        turned=turned,
        faults=sorted(faults, key=lambda fault: (fault.index, fault.kind)),
    )


def _read_item(images: Any, index: int) -> _Item:
    path, label_file = _path(images, index), _label_file(images, index)
    limit = getattr(images, "max_pixels", MAX_PIXELS)
    encoding, turned = _encoding(path, limit)
    label_encoding, _ = _encoding(label_file, limit)
    failure: Exception | None = None
    try:
        image, label = images[index]
    except ConfigError:  # that is no fault of the file
        raise
    except Exception as error:  # whatever a reader lets through would end a training as well
        failure = error
    if failure is not None:
        return _Item(None, encoding, label_encoding, turned, faults=(_explained(images, index, failure),))
    name = _name(images, path) if path is not None else f"image {index}"
    faults = []
    if _one_colour(image.numpy()):
        faults.append(Fault(index=index, kind="one colour", file=name, message=f"All pixels of {name} are the same."))
    counts, ignored = _counted(label, len(images.classes))
    if isinstance(label, Tensor) and ignored == label.numel():
        place = name if label_file is None else _name(images, label_file)
        faults.append(
            Fault(index=index, kind="mask ignored", file=place, message=f"No pixel of {place} has a class that counts.")
        )
    height, width = image.shape[1:]
    return _Item((height, width), encoding, label_encoding, turned, counts, ignored, tuple(faults))


def _counted(label: Any, classes: int) -> tuple[NDArray[np.int64], int]:
    """Count images, pixels or boxes by class, and what counts nowhere."""
    if isinstance(label, Boxes):
        return np.bincount(label.labels.numpy(), minlength=classes), int(label.crowd.sum())
    if isinstance(label, Tensor):
        counts = np.bincount(label.numpy().ravel(), minlength=IGNORE + 1)
        return counts[:classes], int(counts[IGNORE])
    return np.bincount([int(label)], minlength=classes), 0


def _one_colour(pixels: NDArray[np.uint8]) -> bool:
    first = pixels[:, :1, :1]
    # A few pixels tell most images apart already.
    return bool((pixels[:, ::16, ::16] == first).all()) and bool((pixels == first).all())


def _explained(images: Any, index: int, error: Exception) -> Fault:
    """Find out what is wrong with an item that could not be read."""
    path, label_file = _path(images, index), _label_file(images, index)
    limit = getattr(images, "max_pixels", MAX_PIXELS)
    place = "" if path is None else _name(images, path)
    message = str(error) if isinstance(error, DataError) else f"{path}: {type(error).__name__}: {error}"
    setting: Setting = "bad_image"
    if isinstance(error, SizeMismatch):
        kind, setting = "size mismatch", "size_mismatch"
    elif path is not None and (fault := _file_fault(path, limit, read_image)) is not None:
        kind = fault
    elif label_file is not None:
        place = _name(images, label_file)
        colours = getattr(getattr(images.masks, "label_map", None), "colours", None)
        kind = _file_fault(label_file, limit, read_colours if colours else read_ids) or "ids out of range"
    elif isinstance(getattr(images, "boxes", None), list):
        kind = _box_fault(images, index)
    else:
        kind = "bad label"
    return Fault(index=index, kind=kind, file=place or f"image {index}", message=message, setting=setting)


def _file_fault(path: Path, max_pixels: int, read: Callable[[Path, int], object]) -> str | None:
    """Name what keeps an image file from being read; None if nothing does."""
    try:
        read(path, max_pixels)
        return None
    except DataError as error:
        cause = error.__context__
    except Exception:  # a decoder that fails in a way of its own
        return "unreadable"
    try:
        if path.stat().st_size == 0:
            return "empty file"
    except FileNotFoundError:
        return "missing file"
    except OSError:
        return "unreadable"
    if isinstance(cause, UnidentifiedImageError):
        return "no image"
    if isinstance(cause, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return "too large"
    if cause is not None:  # what the system or the decoder said
        return "unreadable" if isinstance(cause, (PermissionError, IsADirectoryError)) else "truncated"
    try:
        with opened(path, sys.maxsize, decode=False) as image:
            return "too large" if image.width * image.height > max_pixels else "wrong mode"
    except DataError:
        return "no image"


def _box_fault(images: Any, index: int) -> str:
    height, width = images.size(index)
    said = images.sizes[index]
    if said is not None and sorted(said) != sorted((height, width)):
        return "size mismatch"
    try:
        check_boxes("", images.boxes[index], width, height, images.classes)
    except DataError:
        return "box outside or empty"
    return "size mismatch"


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


def _paths(images: Any) -> list[Path]:
    """Return the image files of a set; none of one that lies in memory."""
    return [images.path(index) for index in range(len(images))] if hasattr(images, "path") else []


def _path(images: Any, index: int) -> Path | None:
    return images.path(index) if hasattr(images, "path") else None


def _label_file(images: Any, index: int) -> Path | None:
    """Return the image file that holds the mask of an image; None if it stands elsewhere."""
    masks = getattr(images, "masks", None)
    if masks is None or not hasattr(masks, "place"):
        return None
    path = Path(masks.place(index))
    return path if is_image(path.name) else None


def _name(images: Any, path: Path) -> str:
    root = getattr(images, "root", None)
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return str(path)


def _repeated(images: Any) -> list[Fault]:
    """Find image files that are there twice."""
    paths = _paths(images)
    faults = []
    labels = getattr(images, "labels", None)
    for one, other in _same(paths, None):
        names = _name(images, paths[one]), _name(images, paths[other])
        unlike = labels is not None and int(labels[one]) != int(labels[other])
        faults.append(
            Fault(
                index=other,
                kind="duplicate, other class" if unlike else "duplicate",
                file=names[1],
                message=f"{names[1]} is the same file as {names[0]}{', in another class' if unlike else ''}.",
            )
        )
    return faults


def _same(first: Sequence[Path], second: Sequence[Path] | None) -> list[tuple[int, int]]:
    """Find files of one content: in two lists, or twice in one if there is no second.

    Returns:
        Pairs of indices, in the order of the second; of several in the first the earliest.
    """
    files = [*first, *(second or ())]
    groups = [list(range(len(files)))]
    for key in (_file_size, _end, _content):
        left = [group for group in groups if _spans(group, len(first), second is None)]
        flat = [index for group in left for index in group]
        chunks = [flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK)]
        keys = itertools.chain.from_iterable(in_threads(partial(_keys, files, key), chunks, None))
        groups = []
        for group in left:
            parts: dict[object, list[int]] = defaultdict(list)
            for index, found in zip(group, keys, strict=False):  # the keys go on with the next group
                if found is not None:
                    parts[found].append(index)
            groups += parts.values()
    pairs = []
    for group in groups:
        if _spans(group, len(first), second is None):
            others = group[1:] if second is None else [i - len(first) for i in group if i >= len(first)]
            pairs += [(group[0], other) for other in others]
    return sorted(pairs, key=lambda pair: pair[1])


def _spans(group: Sequence[int], border: int, alone: bool) -> bool:
    """Tell whether a group holds a pair that is looked for."""
    return len(group) > 1 and (alone or group[0] < border <= group[-1])


def _keys(files: Sequence[Path], key: Callable[[Path], object], chunk: Sequence[int]) -> list[object]:
    return [key(files[index]) for index in chunk]


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size or None  # files without content tell nothing by being alike
    except OSError:
        return None


def _end(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return None


def _content(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
