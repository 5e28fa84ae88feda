"""Boxes in Pascal VOC's XML, as LabelImg, CVAT and Roboflow also write it. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from xml.etree.ElementTree import Element

from pydantic import model_validator
from typing_extensions import Self

from synreal.data.datasets import DATA, FolderData, Policy
from synreal.data.files.label_files import UNREADABLE, read_each, readable
from synreal.data.files.paths import by_stem, find_tree, inside, is_litter, read_lines, scan_files, scan_images, some
from synreal.data.files.xml_trees import parse_xml
from synreal.data.naming import NamedData, Naming
from synreal.data.own import suggested_splits
from synreal.errors import DataError
from synreal.reading import read_text

if TYPE_CHECKING:
    from synreal.data.sets import BoxedImages

_IMAGE_FOLDERS = ("JPEGImages", "images")
_LISTS = "ImageSets/Main"
_MOST_BYTES = 1 << 24


class Annotation(NamedTuple):
    """What an XML file says of an image.

    Attributes:
        filename: The image; many tools leave a wrong one.
        size: Height and width in pixels; None where the file does not say.
        names: Class name of each object.
        corners: xmin, ymin, xmax, ymax of each object, as they are written.
    """

    filename: str
    size: tuple[int, int] | None
    names: list[str]
    corners: list[tuple[float, float, float, float]]


def read_annotation(path: Path) -> Annotation:
    """Read an XML file of Pascal VOC; objects marked difficult or truncated are objects like others.

    Raises:
        DataError: If the file is missing or damaged, declares entities (a few lines of them can stand for gigabytes),
            or an object has no name or no box; names the file.
    """
    try:
        raw = read_text(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    if len(raw) > _MOST_BYTES:
        raise DataError(f"{path} is {len(raw):,} bytes long; the annotation of an image has at most {_MOST_BYTES:,}.")
    root = parse_xml(raw, path)
    if root.tag != "annotation":
        raise DataError(f"{path} holds <{root.tag}>, expected <annotation>: it is not an annotation of Pascal VOC.")
    names, corners = [], []
    for number, item in enumerate(root.iterfind("object"), 1):
        where = f"{path}, object {number}"
        name = (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        if not name or box is None:
            raise DataError(f"{where} has no <{'bndbox' if name else 'name'}>. Export it again as Pascal VOC.")
        names.append(name)
        x0, y0, x1, y1 = (_number(box, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
        corners.append((x0, y0, x1, y1))
    return Annotation((root.findtext("filename") or "").strip(), _size(root, path), names, corners)


def _number(box: Element, key: str, where: str) -> float:
    text = box.findtext(key)
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{where}: <{key}> of its box is {text!r}, expected a number of pixels.") from None


def _size(root: Element, path: Path) -> tuple[int, int] | None:
    height, width = (root.findtext(f"size/{key}") for key in ("height", "width"))
    try:
        size = int(float(height or 0)), int(float(width or 0))
    except (ValueError, OverflowError):
        raise DataError(f"{path}: <size> is {width!r} x {height!r}, expected numbers of pixels.") from None
    return size if min(size) > 0 else None  # some tools write zeros


def half_open(corners: Iterable[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """Bring corners that count pixels from 1, the last included, to half-open ones from 0: only the first move."""
    return [(x0 - 1, y0 - 1, x1, y1) for x0, y0, x1, y1 in corners]


def read_boxes(
    data: FolderData,
    split: str,
    root: Path,
    annotated: Mapping[str, Annotation],
    naming: Naming,
    *,
    policy: Policy,
    silent: Sequence[str] = (),
    dropped: Mapping[str, int] | None = None,
) -> BoxedImages:
    """Make image files with boxes of annotations.

    Args:
        data: The data set.
        split: Which part of it.
        root: The folder.
        annotated: What is said of each image, by its path relative to the folder; corners half-open, from 0.
        naming: What the names in the files stand for.
        policy: With ``bad_image="skip"`` images are left out that cannot be read although their size is needed.
        silent: Names that are left out without being counted.
        dropped: What was left out before, and how often.

    Raises:
        DataError: If there is nothing to train or test on: no object of any class; or if a file is missing.
    """
    from synreal.data.files.file_sets import BoxFiles, sizes_of
    from synreal.data.labels.boxes import boxes_of

    others: dict[str, int] = {}
    files, boxes, sizes = [], [], []
    lost: Counter[str] = Counter()
    unreadable = 0
    found = sizes_of(
        [root / file for file in annotated],
        [annotation.size for annotation in annotated.values()],
        data.max_pixels,
        skip=policy.bad_image == "skip",
    )
    for (file, annotation), size in zip(annotated.items(), found, strict=True):
        for name in annotation.names:
            if name not in naming.uses and name not in silent:
                others[name] = others.get(name, 0) + 1
        if size is None:
            unreadable += 1
            continue
        objects, out = boxes_of(annotation.corners, [naming.uses.get(name, ()) for name in annotation.names], size)
        lost.update(out)
        files.append(file)
        boxes.append(objects)
        sizes.append(annotation.size)
    counts = {
        **(dropped or {}),
        f"objects of other classes ({some(sorted(others))}) left out": sum(others.values()),
        **lost,
        "images that cannot be read left out": unreadable,
    }
    if files and split != "heldout" and all(objects.crowd.all() for objects in boxes):  # those may be few
        raise DataError(
            f"{data.label} ({split}): no image has a box of {', '.join(naming.classes)}. Other names found: "
            f"{some(sorted(others), 12) or 'none'}. Left out: "
            f"{', '.join(f'{count} {what}' for what, count in counts.items() if count) or 'nothing'}."
        )
    return BoxFiles(
        data.label,
        split,
        root,
        files,
        boxes,
        sizes,
        naming.classes,
        dropped={what: count for what, count in counts.items() if count},
        max_pixels=data.max_pixels,
    )


def names_found(annotations: Iterable[Annotation], where: str) -> tuple[str, ...]:
    """Return the class names of all objects, sorted.

    Raises:
        DataError: If there is no object.
    """
    names = sorted({name for annotation in annotations for name in annotation.names})
    if not names:
        raise DataError(f"{where}: no object is labelled in any file.")
    return tuple(names)


@DATA.register
class Voc(NamedData):
    """Boxes in Pascal VOC's XML: ``Annotations/`` and ``JPEGImages/``, or XML files beside images.

    Objects marked difficult are trained and tested on like others. Images without an object stay: a detector learns
    from background.

    Attributes:
        classes: The names that are used, in the order of their numbers; default all that are found, sorted.
        splits: For each part the name of a list in ``ImageSets/Main``, e.g. ``{"train": "train", "test": "val"}``, or
            a folder that holds the part, e.g. ``{"train": "train", "test": "valid"}``.
        images: The folder of the images; default ``JPEGImages``, ``images``, or beside the XML files. A folder that
            ``splits`` names lies in it, or holds it.
        annotations: The folder of the XML files; both or none are given.
        one_based: Whether corners count pixels from 1, the last included, as Pascal VOC does; else they are taken for
            half-open ones from 0.
    """

    images: str | None = None
    annotations: str | None = None
    one_based: bool = True

    kind: ClassVar[str] = "voc"
    label_kinds: ClassVar[tuple[str, ...]] = ("boxes",)
    summary: ClassVar[str] = "Your own boxes as Pascal VOC: one XML file per image."
    needs: ClassVar[str] = "Annotations/*.xml with JPEGImages/, or XML files beside their images"

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.images is None) != (self.annotations is None):
            raise ValueError("expected both images and annotations, or none of them")
        return self

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> BoxedImages:
        """Read the XML files; images are decoded when they are asked for."""
        part = self._open(split)
        stems = [part.stems[index] for index in self.part(part.stems, split)]
        annotated: dict[str, Annotation] = {}
        by_image: dict[str, str] = {}
        absent = []
        read, damaged = read_each(
            stems,
            lambda stem: read_annotation(part.folder / part.annotations[stem]),
            skip=policy.bad_image == "skip",
        )
        for stem, annotation in read.items():
            file = part.annotations[stem]
            image = _image(part, stem, annotation)
            if image is None:
                absent.append(file)
                continue
            if by_image.setdefault(image, file) != file:
                raise DataError(f"{self.label}: {by_image[image]} and {file} are both of {image}. Remove one.")
            corners = half_open(annotation.corners) if self.one_based else annotation.corners
            annotated[image] = annotation._replace(corners=corners)
        if absent and not (policy.bad_image == "skip" and annotated):
            raise DataError(
                f"{self.label}: {len(absent)} annotations below {part.folder} have no image, e.g. {some(absent)}. "
                f"Expected images of the same names in {' or '.join(_IMAGE_FOLDERS)}, or beside them."
            )
        return read_boxes(
            self,
            split,
            part.folder,
            annotated,
            self.naming(split, self._names, part.folder, complete=False),
            policy=policy,
            dropped={
                "images without annotation left out": part.unlabelled,
                "missing images left out": len(absent),
                UNREADABLE: damaged,
            },
        )

    def _open(self, split: str) -> _Part:
        place = self.place(split)
        if self.images is not None and self.annotations is not None:
            return _named(self.root, place, self.images, self.annotations, self.label)
        return _open(self.root if place is not None else self.folder(split), place, self.label)

    def _names(self, parts: Sequence[str]) -> tuple[str, ...]:
        """Find the names in some parts."""
        opened = [self._open(part) for part in parts]
        paths = {part.folder / file for part in opened for file in part.annotations.values()}
        return names_found(readable(sorted(paths), read_annotation), self.label)


class _Part(NamedTuple):
    folder: Path
    annotations: dict[str, str]  # all in the folder, by stem
    images: dict[str, str]
    stems: list[str]  # those of the part
    unlabelled: int


def _open(root: Path, place: str | None, what: str) -> _Part:
    """Find annotations and images of a part, relative to the folder that holds both."""
    listed = place if place is not None and not inside(root, place, f"{what}: splits").is_dir() else None
    folder = root if place is None or listed is not None else root / place
    beside = not (folder / "Annotations").is_dir() and any(not is_litter(path.name) for path in folder.glob("*.xml"))
    if not beside:
        try:
            folder = find_tree(folder, ["Annotations"], what, depth=2)
        except DataError as error:
            raise DataError(f"{error} {_advice(folder)}") from None
    annotations = _by_stem(folder, "" if beside else "Annotations", ".xml")
    image_folder = next((name for name in _IMAGE_FOLDERS if (folder / name).is_dir()), "")
    images = _by_stem(folder, image_folder, None)
    if listed is None:
        unlabelled = len(images.keys() - annotations.keys()) if beside or image_folder else 0
        return _Part(folder, annotations, images, sorted(annotations), unlabelled)
    return _Part(folder, annotations, images, listed_stems(folder, listed, annotations, what), 0)


def _advice(folder: Path) -> str:
    """Say how to name the folders of XML files and images that are there."""
    texts = {PurePosixPath(file) for file in scan_files(folder, ".xml")}
    pictures = {PurePosixPath(file).with_suffix("") for file in scan_images(folder)}
    beside = sorted({path.parent.as_posix() for path in texts if path.with_suffix("") in pictures})
    if beside:
        splits = suggested_splits(beside, f"{{train: {beside[0]}}}")
        return f"XML files lie beside images in {some(beside)}: name those folders, e.g. splits: {splits}."
    images = {path.name: path.parts for path in pictures}
    for path in sorted(texts):
        if path.stem in images and len(images[path.stem]) > 1 and len(path.parts) > 1:
            return (
                f"XML files lie below {path.parts[0]}: name that folder and that of the images, annotations: "
                f"{path.parts[0]}, images: {images[path.stem][0]}."
            )
    return "Folders with XML files beside images are named in splits." if texts else "There is no XML file."


def _named(root: Path, place: str | None, images: str, annotations: str, what: str) -> _Part:
    """Find annotations and images of a part in folders that were named."""

    def is_folder(path: str) -> bool:
        return inside(root, path, f"{what}: images, annotations or splits").is_dir()

    listed = place is not None and not is_folder(place) and not is_folder(f"{annotations}/{place}")

    def find(folder: str) -> str:
        tries = [folder] if place is None or listed else []
        tries += [] if place is None else [f"{place}/{folder}", f"{folder}/{place}"]
        for each in tries:
            if is_folder(each):
                return each
        raise DataError(f"{what}: there is no folder {' or '.join(str(root / each) for each in tries)}.")

    pictures, texts = _by_stem(root, find(images), None), _by_stem(root, find(annotations), ".xml")
    if place is not None and listed:
        return _Part(root, texts, pictures, listed_stems(root, place, texts, what), 0)
    return _Part(root, texts, pictures, sorted(texts), len(pictures.keys() - texts.keys()))


def _by_stem(folder: Path, below: str, suffix: str | None) -> dict[str, str]:
    files = scan_images(folder / below) if suffix is None else scan_files(folder / below, suffix)
    return {stem: f"{below}/{file}" if below else file for stem, file in by_stem(files, folder / below).items()}


def listed_stems(folder: Path, name: str, annotations: Mapping[str, str], what: str) -> list[str]:
    """Read which images a list in ``ImageSets/Main`` names.

    Args:
        folder: The folder that holds ``ImageSets``.
        name: Name of the list, with or without ``.txt``.
        annotations: What may be listed: annotation files by stem.
        what: Name of the data set, for messages.

    Returns:
        Stems in the order of the list, each once. Lists of one class hold a number after each, which says whether the
        class is in the image: all their images count.

    Raises:
        DataError: If there is no such list, or it names what has no annotation.
    """
    lists = folder / _LISTS
    path = inside(lists, f"{name.removesuffix('.txt')}.txt", f"{what}: name of a list")
    if not path.is_file():
        known = [file.removesuffix(".txt") for file in scan_files(lists, ".txt")] if lists.is_dir() else []
        raise DataError(
            f"{what}: {lists} has no list {path.name}. Lists there: {some(known, 12) or 'none'}. Give the name of one, "
            "or a folder."
        )
    stems: dict[str, None] = {}
    absent = []
    for _, line in read_lines(path):
        first, *rest = line.rsplit(None, 1)
        stem = first if line not in annotations and rest and rest[0] in ("1", "0", "-1") else line
        if stem in annotations:
            stems[stem] = None
        else:
            absent.append(stem)
    if absent:
        raise DataError(
            f"{what}: {len(absent)} of the {len(absent) + len(stems)} images that {path} lists have no annotation in "
            f"{folder}, e.g. {some(absent)}. One name per line is expected, without folder and ending."
        )
    return list(stems)


def _image(part: _Part, stem: str, annotation: Annotation) -> str | None:
    """Find the image of an annotation: by its own name first, since many tools leave a wrong one in the file."""
    if stem in part.images:
        return part.images[stem]
    named, _, _ = annotation.filename.replace("\\", "/").rpartition("/")[2].rpartition(".")
    return part.images.get(named) if named else None
