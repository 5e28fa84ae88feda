"""COCO's JSON, which BlenderProc, Omniverse Replicator and most labelling tools write. Imports no torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from synreal.data.datasets import DATA, Policy
from synreal.data.files.paths import Inside, is_litter, some, subfolders
from synreal.data.naming import NamedData, Uses, plain_name
from synreal.data.own import suggested_splits
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.sets import ImageSet

_SPLITS: Final = "{train: annotations/train.json}"


@DATA.register
class Coco(NamedData):
    """Images with objects in one JSON file.

    Classes go by the categories' names, in the order of their ids. In masks, pixels without an object are
    ``"background"``, as are objects of classes that are not used; crowds are drawn, too. Names of one id are one class
    where ``label_map`` or ``merge_copies`` says so.

    Attributes:
        annotations: The JSON file, relative to ``root``; by default the only one in the root or in a folder of it.
            ``splits`` gives one per part.
        images: The folder that file names are relative to, relative to ``root``; by default it is found: beside the
            JSON, the root, ``images``, or a folder whose name is part of the JSON's, e.g. ``val2017``.
        overlap: Which object is on top where masks overlap: ``"later"``, the later in the file, or ``"smaller"``.
    """

    annotations: str | None = None
    images: str | None = None
    overlap: Literal["later", "smaller"] = "later"

    kind: ClassVar[str] = "coco"
    label_kinds: ClassVar[tuple[str, ...]] = ("masks", "boxes")
    summary: ClassVar[str] = "Your images with objects in COCO's JSON: boxes, polygons or run lengths."
    needs: ClassVar[str] = "a JSON file with images, annotations and categories, and the images, in one folder"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read the JSON; images and masks are decoded one by one, when asked for."""
        from synreal.data.files.coco_json import by_image, parse, read_records
        from synreal.data.files.coco_labels import Drawings, boxes_of, check_drawn, drawing_of, warn_of_hidden
        from synreal.data.files.file_sets import BoxFiles, MaskFiles, existing, sizes_of

        path, masks, skip = self._json(split), label == "masks", policy.bad_image == "skip"
        content = parse(path, masks)
        classes, used = self._classes(split, path, content["categories"], label)
        records = read_records(path, content["images"], self.max_pixels)
        folder = self._folder(path, [record.file for record in records])
        files = self._relative(folder, [record.file for record in records], path)
        dropped: Counter[str] = Counter()

        there = existing(self.root, files, str(path), skip=skip)
        if len(there) < len(files):
            dropped["missing images left out"] = len(files) - len(there)
        chosen = self.part([files[index] for index in there], split)
        kept = [there[index] for index in chosen]
        objects = by_image(path, content["annotations"], records, used, dropped)
        del content

        said = [records[index].size for index in kept]
        found = sizes_of([self.root / files[index] for index in kept], said, self.max_pixels, skip=skip)
        usable = [(index, size) for index, size in zip(kept, found, strict=True) if size is not None]
        if len(usable) < len(kept):
            dropped["images that cannot be read left out"] = len(kept) - len(usable)
        where = (self.label, split, self.root, [files[index] for index, _ in usable])
        if not masks:
            boxes = [boxes_of(path, size, objects[index], dropped) for index, size in usable]
            sizes = [records[index].size for index, _ in usable]
            return BoxFiles(*where, boxes, sizes, classes, dropped=dropped, max_pixels=self.max_pixels)
        drawn = [objects[index] for index, _ in usable]
        check_drawn(path, drawn)
        smaller = self.overlap == "smaller"
        drawings = [drawing_of(path, size, objects[index], smaller=smaller) for index, size in usable]
        if not smaller:
            warn_of_hidden(path, drawings)
        few = sum(each.shape.few for drawing in drawn for each in drawing if each.shape is not None)
        if few:
            dropped["polygons with fewer than 3 corners left out"] = few
        return MaskFiles(
            *where,
            Drawings(path, drawings, classes.index("background")),
            classes,
            resize=policy.size_mismatch == "resize",
            dropped=dropped,
            max_pixels=self.max_pixels,
        )

    def _json(self, split: str) -> Path:
        given = self.place(split, self.annotations)
        found = [path for folder in ("", "*/") for path in sorted(self.root.glob(f"{folder}*.*"))]
        found = [path for path in found if path.suffix.lower() == ".json" and not is_litter(path.name)]
        names = some([path.relative_to(self.root).as_posix() for path in found], 12) or "none"
        if given is not None:
            if os.path.isfile(self.root / given):
                return self.root / given
            raise DataError(
                f"Data set {self.label!r}: there is no file {self.root / given}. JSON files there: {names}."
            )
        if len(found) == 1:
            return found[0]
        places = [path.relative_to(self.root).as_posix() for path in found]
        raise DataError(
            f"Data set {self.label!r}: expected one JSON file in {self.root} or a folder of it, found {names}. Choose "
            f"one with annotations, or one per part with splits, e.g. splits: {suggested_splits(places, _SPLITS)}."
        )

    def _classes(self, split: str, path: Path, categories: Any, label: str) -> tuple[tuple[str, ...], dict[Any, Uses]]:
        """Return class names, and by category id what its objects stand for."""
        from synreal.data.files.coco_json import key_in

        listed: dict[Any, list[str]] = {}
        for index, entry in enumerate(categories):
            key = key_in(entry, "id", f"{path}: categories[{index}]", "an object with id and name")
            name = entry.get("name")
            if not isinstance(name, (str, int)):  # BlenderProc: numbers
                raise DataError(f"{path}: categories[{index}] is {entry!r}, expected an object with id and name.")
            names_here = listed.setdefault(key, [])
            if str(name) not in names_here:
                names_here.append(str(name))
        # BlenderProc gives an id to every object, and lists the name of each.
        shared = {key: given for key, given in listed.items() if len(given) > 1}
        for key, given in shared.items() if self.label_map is None and not self.ignore else ():
            if not self.merge_copies or len({plain_name(name) for name in given}) > 1:
                raise self._same_id(path, key, given)
        # Two categories may share a name: Roboflow lists the name of the project besides its classes.
        ordered = sorted(listed, key=lambda key: (isinstance(key, str), key))
        names = tuple(dict.fromkeys(name for key in ordered for name in listed[key]))
        if not names:
            raise DataError(f"{path} lists no categories, expected [{{'id': 1, 'name': 'car'}}, ...].")
        naming = self.naming(split, lambda _: names, path, label=label)

        def uses_of(name: str) -> Uses:
            if label == "boxes":
                return naming.uses.get(name, ())
            pixel = naming.pixel(name)
            return () if pixel is None else ((pixel, False),)

        for key, given in shared.items():
            if len({uses_of(name) for name in given}) > 1:
                raise self._same_id(path, key, given)
        return naming.classes, {key: uses_of(given[0]) for key, given in listed.items()}

    @staticmethod
    def _same_id(path: Path, key: Any, names: Sequence[str]) -> DataError:
        """Say that objects of several categories cannot be told apart."""
        copied = len({plain_name(name) for name in names}) == 1
        group = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        remedy = (
            "With merge_copies: true they are one class."
            if copied
            else f"If they are one class, say so with label_map: {{my-class: [{group}]}}; else write them with ids of "
            "their own (BlenderProc: the custom property category_id)."
        )
        quoted = [repr(name) for name in names]
        listed = " and ".join(quoted) if len(quoted) == 2 else some(quoted, 4)
        return DataError(
            f"{path}: categories {listed} have the same id {key!r}, so their objects cannot be told apart. {remedy}"
        )

    def _folder(self, path: Path, files: Sequence[str]) -> Path:
        if self.images is not None:
            if os.path.isdir(self.root / self.images):
                return self.root / self.images
            raise DataError(
                f"Data set {self.label!r}: there is no folder {self.root / self.images}, which images names."
            )
        around = [path.parent, self.root, path.parent / "images", self.root / "images"]
        named = [
            base / name
            for base in (*around, path.parent.parent)
            if base.is_dir()
            for name in subfolders(base)
            if name.lower() in path.stem.lower()
        ]
        candidates = list(dict.fromkeys([*around, *named]))
        sample = [file.replace("\\", "/") for file in files[:20]]
        counts = [sum(os.path.isfile(folder / file) for file in sample) for folder in candidates]
        if not any(counts):
            looked = ", ".join(str(folder) for folder in candidates if folder.is_dir())
            raise DataError(
                f"{path}: no image that it lists was found, e.g. {files[0]!r}. Looked in {looked}. Name the folder "
                "that file names are relative to with images."
            )
        return candidates[counts.index(max(counts))]

    def _relative(self, folder: Path, files: Sequence[str], path: Path) -> list[str]:
        """Return files relative to the root, which none may leave."""
        below, inside = os.path.relpath(folder, self.root), Inside(self.root)
        found: list[str] = []
        for file in files:
            absolute = re.match(r"[/\\]|[A-Za-z]:", file)
            joined = (file if absolute else f"{below}/{file}").replace("\\", "/").removeprefix("./")
            inside.check(joined, str(path))
            found.append(joined)
        return found
