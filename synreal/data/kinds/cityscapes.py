"""Cityscapes: real streets with a class per pixel, and with objects. Imports no torch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import field_validator

from synreal.data.datasets import DATA, DataSet, Domain, FolderData, Policy
from synreal.data.files.paths import is_image, is_litter, subfolders
from synreal.data.files.urban import NAMES, THING_NAMES
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.files.file_sets import BoxFiles, MaskFiles, MaskSource

COUNTS: Final = {"train": 2975, "val": 500}
"""How many images each split with labels has."""

_IMAGES = "leftImg8bit"
_LABELS = "gtFine"
_ARCHIVES = {_IMAGES: "leftImg8bit_trainvaltest.zip", _LABELS: "gtFine_trainvaltest.zip"}
_FLAT = "images"  # converters for detection gather the images of all cities here
_MASK_ENDS = {
    "label_ids": "_gtFine_labelIds.png",
    "train_ids": "_gtFine_labelTrainIds.png",
    "polygons": "_gtFine_polygons.json",
}
_BOX_ENDS = {"instance_ids": "_gtFine_instanceIds.png", "polygons": "_gtFine_polygons.json"}
_LARGEST_ID = 33


class _Pair(NamedTuple):
    """An image and its label file, relative to the root."""

    image: str
    label: str


class _Tree(NamedTuple):
    """What lies in the folder.

    Attributes:
        images: Images of the split, relative to the root, by ``city_sequence_frame``.
        labels: Files of ``gtFine``, relative to the root, by their names.
        place: Where the label files are.
    """

    images: dict[str, str]
    labels: dict[str, str]
    place: Path


@DATA.register
class Cityscapes(FolderData):
    """Cityscapes.

    Attributes:
        root: The folder with ``leftImg8bit`` and ``gtFine``, or the one above.
        split: ``"val"``, the 500 images that papers report on, or ``"train"``.
        labels: Which files give masks: ``"label_ids"``, ``"train_ids"``, ``"polygons"``, or ``"auto"``, the first of
            these that is there for every image.
        boxes: Which files give boxes: ``"instance_ids"``, ``"polygons"``, or ``"auto"``, as before. A box encloses the
            visible pixels of an object; a group of objects is one that matches as often as one likes.
    """

    split: Literal["val", "train"] = "val"
    labels: Literal["auto", "label_ids", "train_ids", "polygons"] = "auto"
    boxes: Literal["auto", "instance_ids", "polygons"] = "auto"

    kind: ClassVar[str] = "cityscapes"
    domains: ClassVar[tuple[Domain, ...]] = ("target",)
    label_kinds: ClassVar[tuple[str, ...]] = ("masks", "boxes")
    summary: ClassVar[str] = "Cityscapes: 500 real street scenes (val), 2048 x 1024; 19 classes, 8 of them with boxes."
    needs: ClassVar[str] = "its folder with leftImg8bit/ and gtFine/"

    @field_validator("split", mode="before")
    @classmethod
    def _labelled(cls, value: Any) -> Any:
        if value == "test":
            raise ValueError(
                "the labels of the test split are kept secret; its files mark the borders of the image alone, and "
                "every measure would be wrong. Expected 'val' or 'train'"
            )
        return value

    def training_part(self) -> tuple[DataSet, str] | None:
        """Return the split ``"train"``, where ``"val"`` is tested on."""
        return (self.model_copy(update={"split": "train"}), "test") if self.split == "val" else None

    def class_names(self, label: str) -> tuple[str, ...]:
        """The 19 classes; of boxes the 8 whose objects are told apart."""
        return THING_NAMES if label == "boxes" else NAMES

    def read(
        self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy
    ) -> MaskFiles | BoxFiles:
        """Find the images of the split with their label files."""
        if label == "boxes":
            return self._boxed(cache, policy)
        return self._segmented(policy)

    def _segmented(self, policy: Policy) -> MaskFiles:
        from synreal.data.files.file_sets import MaskFiles

        kind, pairs, left_out = self._pairs(self.labels, "labels", _MASK_ENDS)
        return MaskFiles(
            self.label,
            self.split,
            self.root,
            [pair.image for pair in pairs],
            self._masks(kind, [pair.label for pair in pairs], tolerant=policy.bad_image == "skip"),
            NAMES,
            resize=policy.size_mismatch == "resize",
            dropped=left_out,
            max_pixels=self.max_pixels,
        )

    def _masks(self, kind: str, files: list[str], tolerant: bool) -> MaskSource:
        from synreal.data.files import urban_labels
        from synreal.data.files.label_maps import MaskPaths

        if kind == "polygons":
            return urban_labels.PolygonMasks(self.root, files, self.max_pixels)
        advice = f"Cityscapes' labelIds files hold 0 to {_LARGEST_ID}; these are encoded in another way."
        colours = f"Colours are in *_gtFine_color.png: was it renamed? Unpack {_ARCHIVES[_LABELS]} again."
        if kind == "train_ids":
            label_map = urban_labels.train_ids(_LARGEST_ID, "labels='label_ids'", advice, colours)
        else:
            label_map = urban_labels.raw_ids(
                _LARGEST_ID, "the ending labelTrainIds and labels='train_ids'", advice, colours
            )
        masks = MaskPaths(self.root, files, label_map, self.max_pixels)
        setting = "the ending labelTrainIds and labels='train_ids'" if kind == "label_ids" else None
        urban_labels.check_some(masks, setting, tolerant=tolerant)
        return masks

    def _boxed(self, cache: str | Path | None, policy: Policy) -> BoxFiles:
        from synreal.data.files.file_sets import BoxFiles
        from synreal.data.files.urban_labels import find_boxes

        kind, pairs, left_out = self._pairs(self.boxes, "boxes", _BOX_ENDS)
        found = find_boxes(
            self.root,
            [pair.label for pair in pairs],
            polygons=kind == "polygons",
            tolerant=policy.bad_image == "skip",
            cache=cache,
            max_pixels=self.max_pixels,
        )
        kept = [(pair, each) for pair, each in zip(pairs, found, strict=True) if each is not None]
        if len(kept) < len(pairs):
            left_out["images whose label file cannot be read left out"] = len(pairs) - len(kept)
        return BoxFiles(
            self.label,
            self.split,
            self.root,
            [pair.image for pair, _ in kept],
            [each.boxes for _, each in kept],
            [each.size for _, each in kept],
            THING_NAMES,
            dropped=left_out,
            max_pixels=self.max_pixels,
        )

    def _pairs(self, wanted: str, field: str, ends: Mapping[str, str]) -> tuple[str, list[_Pair], dict[str, int]]:
        """Return the kind of label files that is read, the pairs, and what was left out."""
        tree = self._tree()
        labelled = {kind: {n.removesuffix(end) for n in tree.labels if n.endswith(end)} for kind, end in ends.items()}
        stems = set(tree.images)
        # Of kinds that cover as many images, the first.
        kind = max(ends, key=lambda kind: len(stems & labelled[kind])) if wanted == "auto" else wanted
        pairs = [_Pair(tree.images[s], tree.labels[s + ends[kind]]) for s in sorted(stems & labelled[kind])]
        if not pairs:
            raise self._no_pairs(tree, kind, field, labelled, ends)
        if len(pairs) != COUNTS[self.split]:
            warnings.warn(
                f"Cityscapes: {self.root} holds {len(pairs):,} of the {COUNTS[self.split]:,} images of {self.split!r} "
                f"with labels ({len(stems):,} images, {len(labelled[kind]):,} label files): measures do not compare "
                "with published ones.",
                stacklevel=2,
            )
        counts = {
            "images without a label file left out": len(stems) - len(pairs),
            "label files without an image left out": len(labelled[kind]) - len(pairs),
        }
        return kind, pairs, {what: count for what, count in counts.items() if count}

    def _no_pairs(
        self, tree: _Tree, kind: str, field: str, labelled: Mapping[str, set[str]], ends: Mapping[str, str]
    ) -> DataError:
        there = [name for name in ends if labelled[name]]
        if there and kind not in there:
            made = (
                " They are not in the download: csCreateTrainIdLabelImgs of cityscapesscripts makes them, and synreal "
                "does not need them."
                if kind == "train_ids"
                else ""
            )
            return DataError(
                f"Cityscapes: {tree.place} holds no *{ends[kind]}, which {field}={kind!r} asks for.{made} "
                f"Use {' or '.join(f'{field}={name!r}' for name in there)}, or leave {field} out."
            )
        example = next(iter(tree.images))
        return DataError(
            f"Cityscapes: no image of {self.split!r} has a label file of its name: {example}{ends[kind]} is not in "
            f"{tree.place}. Unpack {_ARCHIVES[_LABELS]} again."
        )

    def _tree(self) -> _Tree:
        labels = self._folder(_LABELS)
        label_files = {path.name: self._relative(path) for path in _city_files(labels)}
        end = f"_{_IMAGES}"
        flat = [base / _FLAT for base in self._bases() if (base / _FLAT).is_dir()]
        if flat and not self._candidates(_IMAGES):
            # The folder holds the images of all splits: those that have labels are meant.
            stems = {name.partition(f"_{_LABELS}_")[0] for name in label_files}
            files = [path for path in sorted(flat[0].iterdir()) if path.stem.removesuffix(end) in stems]
            place = flat[0]
        else:
            place = self._folder(_IMAGES)
            files = _city_files(place)
        images = {
            p.stem.removesuffix(end): self._relative(p) for p in files if is_image(p.name) and p.stem.endswith(end)
        }
        if not images:
            raise DataError(
                f"Cityscapes: {place} holds no image CITY/CITY_SEQUENCE_FRAME{end}.png. They come with "
                f"{_ARCHIVES[_IMAGES]}."
            )
        return _Tree(images, label_files, labels)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _bases(self) -> Iterator[Path]:
        """The root, and the folders in it, since archives are often unpacked into folders of their own."""
        yield self.root
        yield from (self.root / name for name in subfolders(self.root))

    def _candidates(self, name: str) -> list[Path]:
        return [folder for base in self._bases() if (folder := base / name).is_dir()]

    def _folder(self, name: str) -> Path:
        """Return where the images or label files of the split are."""
        candidates = self._candidates(name)
        for folder in candidates:
            if (folder / self.split).is_dir():
                return folder / self.split
        if candidates:
            inside = ", ".join(subfolders(candidates[0])) or "no folder"
            raise DataError(
                f"Cityscapes: {candidates[0]} has no folder {self.split!r}, it holds {inside}. It comes with "
                f"{_ARCHIVES[name]}."
            )
        found = ", ".join(subfolders(self.root)) or "no folder"
        raise DataError(
            f"Cityscapes: {self.root} lacks {name}/{self.split}, it holds {found}. It comes with {_ARCHIVES[name]}."
        )


def _city_files(folder: Path) -> list[Path]:
    """List the files of all cities, sorted; without what systems leave behind."""
    return sorted(
        folder / city / entry.name
        for city in subfolders(folder)
        for entry in os.scandir(folder / city)
        if not is_litter(entry.name)
    )
