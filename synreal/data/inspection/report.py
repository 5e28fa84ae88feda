"""What ``synreal data check`` says of a data set: everything is read once, from the first file to the last."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from synreal.data import registry
from synreal.data.class_names import align_names, differences
from synreal.data.datasets import PARTS, STRICT, DataSet, Domain, Policy
from synreal.data.files.fingerprints import hash_list
from synreal.data.inspection.duplicates import duplicates
from synreal.data.inspection.scan import Effect, Scan, effect_of, scan
from synreal.data.inspection.store import Store
from synreal.data.inspection.teaching import nothing_taught
from synreal.data.sets import ImageSet
from synreal.errors import ConfigError, DataError

Progress = Callable[[str, int, int], None]


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
        fingerprint: SHA-256 over labels and a sample of each file; None if it cannot be loaded.
        sha256: Of all its files, with ``strict``; None if it lies in none.
        sizes: ``least``, ``median`` and ``greatest`` by area, as [height, width]; ``frequent`` as
            [height, width, images], most first.
        unit: What ``labels`` of a class counts: ``"images"``, ``"pixels"`` or ``"boxes"``.
        classes: For each class its name, ``images`` that show it and ``labels``.
        ignored: Pixels that are ignored, or boxes around crowds.
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
    sha256: str | None = None
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
        label: Name of the kind of label.
        policy: The settings.
        parts: One report for each part.
        differences: How classes of source and target differ.
        findings: What is wrong between parts: images in both, no class in common.
        fails: Whether training would fail.
    """

    data: str
    target: str | None
    label: str
    policy: dict[str, str]
    parts: list[PartReport]
    differences: list[str]
    findings: list[Finding]
    fails: bool


def check(
    value: str | DataSet,
    label: str,
    *,
    target: str | DataSet | None = None,
    domain: Domain | None = None,
    policy: Policy = STRICT,
    workers: int | None = None,
    progress: Progress | None = None,
    cache: str | Path | None = None,
    fresh: bool = False,
    strict: bool = False,
) -> Report:
    """Read a data set once and report what is in it and what is wrong with it.

    What was read is kept in the cache, by the names, sizes and times of change of all files: asking again is quick.

    Args:
        value: A data set, as ``registry.find`` reads it.
        label: Name of the kind of label that is read.
        target: What it will be tested on: also checked, and compared for images that are in both.
        domain: What it serves as; default the source if there is a target, else everything that it serves as. Data
            that test on the images they train on are looked at once.
        policy: What a training would do with files that cannot be used.
        workers: Threads; default one per processor, 8 at most.
        progress: Called with a name of the part, images done, and images in all.
        cache: Folder of what is kept; default ``cache_folder()``.
        fresh: Whether to read everything again.
        strict: Whether to hash all files, too.

    Returns:
        The report. Data that cannot be loaded are a finding, too.

    Raises:
        ConfigError: If a name, the kind of label or the domain is unknown or does not fit.
        DataError: If the folder of the data set does not exist.
    """
    source, tested = registry.find(value), None if target is None else registry.find(target)
    if domain is None and tested is not None:
        domain = "source"
    plan = [(source, part) for part in _parts(source, domain)]
    if tested is not None:
        plan += [(tested, part) for part in _parts(tested, "target")]
    for entry in {id(entry): entry for entry, _ in plan}.values():
        registry.check_labels(entry, label)
        entry.check()
    store = Store(cache, fresh)
    parts, loaded = [], {}
    for entry, part in plan:
        report, images = _check_part(entry, part, label, policy, workers, progress, store)
        if strict and images is not None:
            report = replace(report, sha256=_hashed(images))
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
        label=label,
        policy=policy._asdict(),
        parts=parts,
        differences=lines,
        findings=findings,
        fails=stops or any(finding.effect == "stops" for finding in findings),
    )


def _hashed(images: ImageSet[Any]) -> str | None:
    try:
        lines = hash_list(images)
    except DataError:  # a file that cannot be read is a finding of its own
        return None
    return None if lines is None else hashlib.sha256(lines).hexdigest()


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
    label: str,
    policy: Policy,
    workers: int | None,
    progress: Progress | None,
    store: Store,
) -> tuple[PartReport, ImageSet[Any] | None]:
    early: list[Finding] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Strictly first, so that what a run would silently leave out is a finding.
        policies = (STRICT, policy) if policy.bad_image == "skip" else (STRICT,)
        images: ImageSet[Any] | None = None
        for way in policies:
            try:
                images = entry.read(part, label=label, seed=0, cache=store.folder, policy=way)
                break
            except (DataError, OSError) as error:
                early = [_unloaded(entry, error, "skipped" if way != policies[-1] else "stops")]
    if images is None:
        return PartReport(entry.label, part, warnings=_texts(caught), findings=early), None
    told = None if progress is None else _named(progress, f"{entry.label} ({part})")
    found = scan(images, store, workers, told)
    findings = [*early, *(Finding(f.kind, f.file, f.message, effect_of(f, policy)) for f in found.faults)]
    skipped = {fault.index for fault in found.faults if effect_of(fault, policy) == "skipped"}
    where = f"{entry.label} ({part})"
    if len(skipped) == found.images:
        findings.append(Finding("nothing left", where, f"None of {found.images} images can be used.", "stops"))
    elif found.images - len(skipped) == 1:
        findings.append(Finding("one image only", where, "A single image is not a data set.", "note"))
    kind = images.label_kind
    if part == "train" and (why := nothing_taught(images, found.counts)) is not None:
        findings.append(Finding("teaches nothing", where, why, "stops"))
    background = kind.background and images.classes[0] == "background"
    for number, name in enumerate(images.classes):
        if found.class_images[number] == 0 and not (background and number == 0):
            findings.append(Finding("class without image", name, f"No image of {where} shows {name!r}.", "note"))
    report = PartReport(
        data=entry.label,
        part=part,
        images=found.images,
        usable=found.images - len(skipped),
        fingerprint=images.fingerprint,
        sizes=_sizes(found),
        unit=kind.unit,
        classes=[
            {"name": name, "images": shown, "labels": labels}
            for name, shown, labels in zip(images.classes, found.class_images, found.class_labels, strict=True)
        ],
        ignored=found.ignored,
        unlabelled=found.unlabelled,
        encodings=found.encodings,
        label_encodings=found.label_encodings,
        turned=found.turned,
        warnings=_texts(caught),
        dropped=dict(images.dropped),
        findings=findings,
    )
    return report, images


def _in_both(where: str, first: ImageSet[Any], second: ImageSet[Any], so: str, store: Store) -> list[Finding]:
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
