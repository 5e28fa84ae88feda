"""GTA5 ("Playing for Data"): rendered streets with a class per pixel. Imports no torch."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple

from pydantic import field_validator

from synreal.data.datasets import DATA, Domain, FolderData, Policy
from synreal.data.files.paths import find_tree, hold_out, inside, read_lines, scan_images, some, without_duplicates
from synreal.data.files.urban import NAMES
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.files.file_sets import MaskFiles
    from synreal.data.files.label_maps import LabelMap

FRAMES: Final = 24_966
"""How many frames GTA5 has: 00001 to 24966."""

_ARCHIVES = {"images": "01_images.zip to 10_images.zip", "labels": "01_labels.zip to 10_labels.zip"}
_ALL_ARCHIVES = f"Unpack all of {_ARCHIVES['images']} and {_ARCHIVES['labels']} into one folder"
_CONVERTED = "_labelTrainIds"  # converters leave such files beside the originals
_SPLIT = "split.mat"
_LARGEST_ID = 34
_HELD_OUT = 500
_SHOWN = 5


class _Pair(NamedTuple):
    """An image and its label file, relative to the root."""

    image: str
    label: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.image).stem


class _Tree(NamedTuple):
    """What lies in the folder.

    Attributes:
        root: The folder that holds ``images`` and ``labels``.
        pairs: Images that have a label file, sorted.
        images: How many images there are.
        labels: How many label files.
    """

    root: Path
    pairs: list[_Pair]
    images: int
    labels: int

    @property
    def left_out(self) -> dict[str, int]:
        counts = {
            "images without a label file left out": self.images - len(self.pairs),
            "label files without an image left out": self.labels - len(self.pairs),
        }
        return {what: count for what, count in counts.items() if count}


@DATA.register
class Gta5(FolderData):
    """GTA5.

    Attributes:
        root: The folder with ``images`` and ``labels``, or the one above.
        frames: ``"official"`` trains on the 12,403 frames that ``split.mat`` (in read_mapping.zip) lists as trainIds
            and holds some of its valIds out; ``"all"`` takes every frame; ``"auto"`` is the first where ``split.mat``
            is there and the second elsewhere. Or a text file below the root that lists frames, one per line:
            ``images/00001.png labels/00001.png``, ``00001.png`` or ``00001``.
        labels: What label files hold: raw ``"ids"``, as released; ``"train_ids"``; or ``"colours"``.
        heldout: How many frames are held out; default 500, of valIds where ``split.mat`` gives them.
    """

    frames: str = "auto"
    labels: Literal["ids", "train_ids", "colours"] = "ids"

    kind: ClassVar[str] = "gta5"
    domains: ClassVar[tuple[Domain, ...]] = ("source",)
    label_kinds: ClassVar[tuple[str, ...]] = ("masks",)
    summary: ClassVar[str] = "GTA5 (Playing for Data): 24,966 rendered street scenes, 1914 x 1052, 19 classes."
    needs: ClassVar[str] = "its folder with images/ and labels/, optionally split.mat"

    @field_validator("frames")
    @classmethod
    def _given(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected 'auto', 'official', 'all', or a list file below the root")
        return value

    def class_names(self, label: str) -> tuple[str, ...]:
        """The 19 classes of Cityscapes."""
        return NAMES

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> MaskFiles:
        """Find the frames of one part and look into some of their label files."""
        from synreal.data.files.file_sets import MaskFiles
        from synreal.data.files.label_maps import MaskPaths
        from synreal.data.files.urban_labels import check_some

        tree = self._tree()
        pairs, left_out = self._part(tree, split, skip=policy.bad_image == "skip")
        if not pairs:
            raise DataError(f"Data set {self.label!r}: all frames have one name, which leaves none for {split}.")
        masks = MaskPaths(tree.root, [pair.label for pair in pairs], self._label_map(), self.max_pixels)
        check_some(
            masks,
            "labels='train_ids'" if self.labels == "ids" else None,
            tolerant=policy.bad_image == "skip",
        )
        return MaskFiles(
            self.label,
            split,
            tree.root,
            [pair.image for pair in pairs],
            masks,
            NAMES,
            resize=policy.size_mismatch == "resize",
            dropped=left_out,
            max_pixels=self.max_pixels,
        )

    def _tree(self) -> _Tree:
        root = find_tree(self.root, ("images", "labels"), "GTA5", _ARCHIVES)
        images, labels = _by_frame(root, "images"), _by_frame(root, "labels")
        converted = {key.removesuffix(_CONVERTED): file for key, file in labels.items() if key.endswith(_CONVERTED)}
        originals = {key: file for key, file in labels.items() if not key.endswith(_CONVERTED)}
        labels = converted if converted and self.labels == "train_ids" else originals
        images = {key: file for key, file in images.items() if not key.endswith(_CONVERTED)}
        if converted and not labels:
            raise DataError(
                f"GTA5: {root / 'labels'} holds *{_CONVERTED} files alone. Read them with labels='train_ids', or "
                f"unpack {_ARCHIVES['labels']}."
            )
        for found, folder in ((images, "images"), (labels, "labels")):
            if not found:
                raise DataError(f"GTA5: {root / folder} holds no image file. It comes with {_ARCHIVES[folder]}.")
        pairs = [_Pair(images[key], labels[key]) for key in sorted(images.keys() & labels.keys())]
        if not pairs:
            raise DataError(
                f"GTA5: no image of {root / 'images'} has a label file of the same name, e.g. {min(images.values())} "
                f"and {min(labels.values())}. {_ALL_ARCHIVES}."
            )
        return _Tree(root, pairs, len(images), len(labels))

    def _part(self, tree: _Tree, split: str, *, skip: bool) -> tuple[list[_Pair], dict[str, int]]:
        """Return the frames of one part, and what was left out."""
        official = None if self.frames == "all" else self._split_file(tree.root)
        if self.frames == "official" and official is None:
            raise DataError(
                f"GTA5: {tree.root / _SPLIT} does not exist, which frames='official' needs. It comes with "
                "read_mapping.zip; frames='all' takes every frame."
            )
        if self.frames not in ("auto", "official", "all"):
            pairs, left_out = self._listed(tree, skip=skip)
            pairs = list(dict.fromkeys(pairs))  # a frame may be written in several ways
            return [pairs[index] for index in self.chosen([pair.name for pair in pairs], split)], left_out
        _warn_of_missing(tree)
        if official is None:
            return [tree.pairs[index] for index in self.chosen([p.name for p in tree.pairs], split)], tree.left_out
        key = "trainIds" if split == "train" else "valIds"
        wanted = {f"{number:05d}" for number in _read_split(official, key)}
        pairs = [pair for pair in tree.pairs if pair.name in wanted]
        if not pairs:
            raise DataError(f"GTA5: none of the {len(wanted)} frames that {official} lists as {key} is in {tree.root}.")
        if split == "heldout":
            held = hold_out([pair.name for pair in pairs], self.heldout or _HELD_OUT)
            pairs = [pair for pair, out in zip(pairs, held, strict=True) if out]
        return pairs, tree.left_out

    def _split_file(self, root: Path) -> Path | None:
        # read_mapping.zip unpacks into the root or, by the hand of careful people, into a folder of its own.
        places = [folder / name for folder in (root, self.root) for name in (_SPLIT, f"read_mapping/{_SPLIT}")]
        return next((path for path in places if path.is_file()), None)

    def _listed(self, tree: _Tree, *, skip: bool) -> tuple[list[_Pair], dict[str, int]]:
        path = inside(self.root, self.frames, "frames")
        if not path.is_file():
            raise DataError(
                f"GTA5: frames={self.frames!r} is neither 'auto', 'official' nor 'all', and no list file {path} exists."
            )
        known = {pair.name: pair for pair in tree.pairs}
        pairs, absent = [], []
        for number, line in without_duplicates(read_lines(path), path):
            where = f"{path}, line {number}"
            fields = line.split()
            if len(fields) > 2:
                raise DataError(
                    f"{where}: {line!r} has {len(fields)} words, expected 'images/00001.png labels/00001.png', "
                    "'00001.png' or '00001'."
                )
            files = [inside(tree.root, field, where).relative_to(tree.root).as_posix() for field in fields]
            if len(fields) == 1:
                pair = known.get(PurePosixPath(files[0]).stem)
                if pair is None:
                    absent.append(files[0])
                else:
                    pairs.append(pair)
                continue
            pair = _Pair(*files)
            if PurePosixPath(pair.label).stem.removesuffix(_CONVERTED) != pair.name:
                raise DataError(f"{where}: {line!r} pairs an image with the labels of another.")
            gone = [file for file in files if not (tree.root / file).is_file()]
            absent += gone
            if not gone:
                pairs.append(pair)
        if absent and not (skip and pairs):
            raise DataError(
                f"{path} lists {len(absent)} files that are not in {tree.root}: {some(absent, _SHOWN)}. "
                f"{_ALL_ARCHIVES}, take them off the list, or leave them out with on_bad_image: skip."
            )
        return pairs, {"listed files that do not exist left out": len(absent)} if absent else {}

    def _label_map(self) -> LabelMap:
        from synreal.data.files import urban_labels

        if self.labels == "colours":
            warnings.warn(
                "GTA5 with labels='colours': pole and polegroup have one colour, and so have car and license plate. "
                "Groups count as pole and plates as car, where ids leave both out.",
                stacklevel=2,
            )
            return urban_labels.class_colours()
        advice = f"GTA5's label files hold 0 to {_LARGEST_ID}; these are encoded in another way."
        colour_advice = (
            "GTA5's own label files have a palette; these were converted. Read them with labels='colours', or unpack "
            f"{_ARCHIVES['labels']} again."
        )
        if self.labels == "train_ids":
            return urban_labels.train_ids(_LARGEST_ID, "labels='ids', the default", advice, colour_advice)
        return urban_labels.raw_ids(_LARGEST_ID, "labels='train_ids'", advice, colour_advice)


def _by_frame(root: Path, folder: str) -> dict[str, str]:
    """Return image files, relative to the root, by their path in a folder without its ending."""
    found: dict[str, str] = {}
    for file in scan_images(root / folder):
        key = str(PurePosixPath(file).with_suffix(""))
        if key in found:
            raise DataError(f"GTA5: {root / folder} holds {key} twice: {found[key]} and {folder}/{file}. Keep one.")
        found[key] = f"{folder}/{file}"
    return found


def _warn_of_missing(tree: _Tree) -> None:
    there = {pair.name for pair in tree.pairs}
    if len(there) == FRAMES:
        return
    missing = [name for number in range(1, FRAMES + 1) if (name := f"{number:05d}") not in there]
    names = f" Missing: {some(missing, _SHOWN)}. {_ALL_ARCHIVES}." if missing else ""
    warnings.warn(
        f"GTA5: {tree.root} holds {len(there):,} of {FRAMES:,} frames ({tree.images:,} images, {tree.labels:,} label "
        f"files).{names}",
        stacklevel=2,
    )


def _read_split(path: Path, key: str) -> list[int]:
    """Read the frame numbers of a part from ``split.mat``."""
    from synreal.data.files.mat import read_numbers

    try:
        values = read_numbers(path, key)
    except KeyError:
        raise DataError(f"{path} has no {key!r}. Unpack read_mapping.zip again.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Unpack read_mapping.zip again.") from None
    except ValueError as error:
        raise DataError(f"{path} is not a MATLAB file: {error}. Unpack read_mapping.zip again.") from None
    if values.dtype.kind not in "iu" or not len(values):
        raise DataError(f"{path}: {key} holds {values.dtype} {values.shape}, expected frame numbers.")
    return [int(value) for value in values]
