"""Images with one mask file each: palettes, numbers or colours. Imports no torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import ValidationInfo, field_validator

from synreal.data.datasets import DATA, Policy
from synreal.data.files.map_texts import Channel, Code, pairs_of, read_pairs
from synreal.data.files.paths import Inside, read_lines, scan_images, some, subfolders, without_duplicates
from synreal.data.own import OwnData
from synreal.errors import DataError, unknown_name

if TYPE_CHECKING:
    from synreal.data.files.label_maps import LabelMap
    from synreal.data.sets import SegmentedImages

_IMAGES: Final = ("images", "image", "imgs", "img", "rgb", "jpegimages", "frames")
_MASKS: Final = (
    "masks", "mask", "labels", "label", "annotations", "segmentationclass", "segmentation", "semantic", "gt"
)  # fmt: skip
_IGNORED: Final = 255
_LOOKED_AT: Final = 8  # masks that are opened to say what they hold
_NUMBERS: Final = "A list of three numbers is a colour; where they are numbers of one class, write {1: car, 2: car}."


@DATA.register
class MaskFolders(OwnData):
    """A folder of images and a folder of masks, matched by name.

    Masks are palette or grey PNGs whose pixels are numbers (a palette's colours do not matter), colour PNGs, or colour
    PNGs with numbers in one channel. What their pixels stand for says ``label_map``; without it, ``classes`` names the
    numbers 0, 1, 2, ... Masks without an image are left out and counted.

    Attributes:
        images: Folder of the images, or a pattern with one ``*``, e.g. ``"rgb_*.png"``; by default a usual name such as
            ``images``.
        masks: The same of the masks; ``*`` stands for what an image and its mask have in common.
        mask_suffix: What mask names have in addition, e.g. ``"_labelIds"``; masks without it do not count.
        channel: ``"red"``, ``"green"``, ``"blue"`` or ``"alpha"``: the channel that holds the numbers, as CARLA's
            masks have them in red; the others do not matter.
        label_map: ``{name: number}``, ``{number: name}``, ``{name: [red, green, blue]}``, ``{name: "#rrggbb"}``, and
            several for one name, ``{name: [1, 11]}``, ``{name: ["#00008e", "#000046"]}``. Three numbers in a list are
            a colour unless ``channel`` is given or the map has other numbers. Or a YAML, JSON, CSV or text file with
            it, such as CVAT's ``labelmap.txt`` and Omniverse Replicator's
            ``semantic_segmentation_labels_0000.json``; a pattern with ``*`` unites files. By default ``labelmap.txt``,
            where it exists and there are no ``classes``.
        others: What a number or colour that has no name is: ``"error"``, or ``"ignore"``, whose pixels are ignored.
        ignore: Names, in lower case, whose pixels are ignored. 255 is ignored too unless the map names it.
        classes: Names in the order of their numbers; or, with a label map, the names that are used: pixels of others
            are ignored.
        splits: For each part a folder, as ``{"train": "train"}`` of ``train/images`` or ``images/train``; or a file
            that lists names, as ``ImageSets/Segmentation/train.txt``.
    """

    images: str | None = None
    masks: str | None = None
    mask_suffix: str = ""
    channel: Channel | None = None
    label_map: dict[int | str, Any] | str | None = None
    others: Literal["error", "ignore"] = "error"
    ignore: tuple[str, ...] = ("ignore", "void", "unlabelled", "unlabeled")

    kind: ClassVar[str] = "masks"
    label_kinds: ClassVar[tuple[str, ...]] = ("masks",)
    summary: ClassVar[str] = (
        "Your folder of images and folder of masks: palette, number or colour PNGs, also numbers in one channel."
    )
    needs: ClassVar[str] = "a folder with images/ and masks/, and a label_map or classes"

    @field_validator("images", "masks")
    @classmethod
    def _one_star(cls, value: str | None) -> str | None:
        if value is not None and value.count("*") > 1:
            raise ValueError("expected a folder, or a pattern with one '*'")
        return value

    @field_validator("label_map")
    @classmethod
    def _readable(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict):
            pairs_of(value, numbers=info.data.get("channel") is not None)
        return value

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Return the names of its classes; None where a label map file gives them."""
        if isinstance(self.label_map, dict):
            return self._meaning(self._pairs(self.label_map), "label_map")[0]
        if self.label_map is None and self.classes is not None:
            return self._meaning([(name, index) for index, name in enumerate(self.classes)], "classes")[0]
        return None

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> SegmentedImages:
        """Match images and masks; they are decoded one by one, when asked for."""
        from synreal.data.files.file_sets import MaskFiles
        from synreal.data.files.label_maps import MaskPaths

        dropped: Counter[str] = Counter()
        images, masks = self._matched(split, policy.bad_image == "skip", dropped)
        classes, codes = self._codes(masks)
        label_map = self._table(codes, masks)
        kept = self.part(images, split)
        return MaskFiles(
            self.label,
            split,
            self.root,
            [images[index] for index in kept],
            MaskPaths(self.root, [masks[index] for index in kept], label_map, self.max_pixels),
            classes,
            resize=policy.size_mismatch == "resize",
            dropped=dropped,
            max_pixels=self.max_pixels,
        )

    def _table(self, codes: Mapping[Code, int], masks: Sequence[str]) -> LabelMap:
        """Make what looks up pixels; what is said of masks of another sort goes by the first ones."""
        from synreal.data.files.decoding import opened
        from synreal.data.files.label_maps import LabelMap, channel_advice

        numbers = {code: label for code, label in codes.items() if isinstance(code, int)}
        colours = {code: label for code, label in codes.items() if not isinstance(code, int)}
        advice = None
        paths = [self.root / name for name in masks[:_LOOKED_AT]]
        try:
            if colours:
                with opened(paths[0], self.max_pixels, decode=False) as image:
                    grey = image.mode not in ("RGB", "RGBA", "P")
                advice = _NUMBERS if grey else None
            elif self.channel is None:
                advice = channel_advice(paths, {_IGNORED, *numbers}, self.max_pixels)
        except DataError:
            pass  # a damaged mask is named when it is its turn
        return LabelMap(
            ids=None if colours else {_IGNORED: _IGNORED, **numbers},
            colours=colours or None,
            channel=self.channel,
            ignore_others=self.others == "ignore",
            advice="Add them to the map, as classes or as ignored, or ignore all others with others: ignore.",
            colour_advice=advice,
        )

    def _pairs(self, given: Mapping[Any, Any]) -> list[tuple[str, Code]]:
        return pairs_of(given, numbers=self.channel is not None)

    def _codes(self, masks: Sequence[str]) -> tuple[tuple[str, ...], dict[Code, int]]:
        """Return class names, and the class of each number or colour."""
        if isinstance(self.label_map, dict):
            return self._meaning(self._pairs(self.label_map), "label_map")
        usual = self.root / "labelmap.txt"
        if self.label_map is not None or (self.classes is None and usual.is_file()):
            paths = [usual] if self.label_map is None else self._map_files(self.label_map)
            pairs = [pair for path in paths for pair in read_pairs(path, numbers=self.channel is not None)]
            return self._meaning(pairs, str(paths[0]))
        held = self._held(masks)
        if self.classes is None:
            raise DataError(
                f"Data set {self.label!r}: what the pixels of its masks stand for is not known. The first masks hold "
                f"{_listed(held)}. {_how_to_name(held)}"
            )
        if _IGNORED in held and held <= {0, _IGNORED}:
            raise DataError(
                f"Data set {self.label!r}: the first masks, such as {self.root / masks[0]}, hold 0 and 255 alone, and "
                "255 is ignored unless it is named. If it is a class, write e.g. label_map: {background: 0, car: "
                "255}."
            )
        return self._meaning([(name, index) for index, name in enumerate(self.classes)], "classes")

    def _map_files(self, given: str) -> list[Path]:
        paths = sorted(self.root.glob(given)) if "*" in given else [self.root / given]
        if not paths or not all(path.is_file() for path in paths):
            raise DataError(f"Data set {self.label!r}: there is no file {self.root / given}, which label_map names.")
        return paths

    def _held(self, masks: Sequence[str]) -> set[Code]:
        """Return numbers, or colours, that the first masks hold of those that can be read."""
        held: set[Code] = set()
        failed: list[DataError] = []
        first = masks[:_LOOKED_AT]
        for name in first:
            try:
                held |= _codes_in(self.root / name, self.channel)
            except DataError as error:  # it is named, or left out, when it is its turn
                failed.append(error)
        if len(failed) == len(first):
            raise failed[0]
        return held

    def _meaning(self, pairs: Sequence[tuple[str, Code]], where: str) -> tuple[tuple[str, ...], dict[Code, int]]:
        """Return class names, and the class of each number or colour.

        Raises:
            DataError: If a number or colour has two names, there are both numbers and colours, or no class is left.
            ConfigError: If ``classes`` has a name that the map lacks.
        """
        by_code: dict[Code, str] = {}
        for name, code in pairs:
            other = by_code.setdefault(code, name)
            if other == name:
                continue
            # Replicator writes both in black, and tells them apart by transparency alone: nothing labelled is there.
            if not {other, name} <= {"background", "UNLABELLED"}:
                raise DataError(f"{where}: {other!r} and {name!r} are both {code}; a number or colour has one name.")
            by_code[code] = "background"
        if len({isinstance(code, int) for code in by_code}) > 1:
            raise DataError(f"{where} gives numbers and colours; masks hold either.")
        if self.channel is not None and not all(isinstance(code, int) for code in by_code):
            raise DataError(f"{where} gives colours, but the {self.channel} channel holds numbers, as in {{car: 10}}.")
        ordered = sorted(by_code) if all(isinstance(code, int) for code in by_code) else list(by_code)
        names = dict.fromkeys(by_code[code] for code in ordered if by_code[code].lower() not in self.ignore)
        for name in self.classes or ():
            if name not in names and name.lower() not in self.ignore:
                raise unknown_name(f"class of {where}", name, names)
        classes = tuple(name for name in self.classes or names if name in names)
        if not classes:
            raise DataError(f"{where} names no class.")
        known = {name: index for index, name in enumerate(classes)}
        return classes, {code: known.get(name, _IGNORED) for code, name in by_code.items()}

    def _matched(self, split: str, skip: bool, dropped: Counter[str]) -> tuple[list[str], list[str]]:
        """Return images and their masks, relative to the root, sorted."""
        place = self.place(split)
        listed = self.root / place if place is not None and (self.root / place).is_file() else None
        folder = None if listed else place
        images = self._found(self.images, _IMAGES, folder, "images", "")
        masks = self._found(self.masks, _MASKS, folder, "masks", self.mask_suffix)
        if listed is not None:
            rows = without_duplicates(read_lines(listed), listed)
            chosen = _listed_keys(rows, listed, self.root, images)
            images = {key: file for key, file in images.items() if key in chosen}
            masks = {key: file for key, file in masks.items() if key in chosen}
        without = [file for key, file in images.items() if key not in masks]
        alone = [file for key, file in masks.items() if key not in images]
        both = sorted(images.keys() & masks.keys())
        if not both or (without and not skip):
            raise DataError(self._unmatched(without, alone, len(both)))
        if without:
            dropped["images without a mask left out"] = len(without)
        if alone:
            dropped["masks without an image left out"] = len(alone)
        return [images[key] for key in both], [masks[key] for key in both]

    def _unmatched(self, without: Sequence[str], alone: Sequence[str], both: int) -> str:
        lines = [
            f"{len(files)} {what}, e.g. {some(files, 5)}"
            for files, what in ((without, "images without a mask"), (alone, "masks without an image"))
            if files
        ]
        hint = "Complete them, or leave them out with on_bad_image: skip."
        if without and alone and not both:
            image, mask = Path(without[0]).stem, Path(alone[0]).stem
            suffix = mask.removeprefix(image)
            hint = "Images and masks are matched by name without the ending"
            hint += (
                f": try mask_suffix: {suffix}."
                if suffix != mask
                else "; masks may be a pattern such as masks/*_id.png."
            )
        return f"Data set {self.label!r}: {' and '.join(lines)}; {both} pairs match. {hint}"

    def _found(
        self, given: str | None, usual: Sequence[str], place: str | None, what: str, suffix: str
    ) -> dict[str, str]:
        """Find images or masks: by what their names have in common, their paths relative to the root."""
        if given is not None and "*" not in given:
            given = f"{given}/*"
        pattern = self._usual(usual, place, what) if given is None else self._placed(given, place, what)
        base, _, name = pattern.rpartition("/")
        start, _, end = name.partition("*")
        end = re.sub(r"\.\w+$", "", end) if "." in end else end
        end += suffix
        found: dict[str, str] = {}
        for file in scan_images(self.root / base):
            parent, _, last = file.rpartition("/")
            stem = last.rpartition(".")[0]
            if len(stem) < len(start) + len(end) or not stem.startswith(start) or not stem.endswith(end):
                continue
            key = f"{parent}/{stem[len(start) : len(stem) - len(end)]}".lstrip("/")
            path = f"{base}/{file}" if base else file
            if key in found:
                raise DataError(
                    f"Data set {self.label!r}: {found[key]} and {path} have the same name; keep one of them."
                )
            found[key] = path
        if not found:
            raise DataError(
                f"Data set {self.label!r}: no {what} found as {pattern}{suffix and f' with mask_suffix {suffix!r}'} in "
                f"{self.root}."
            )
        return found

    def _placed(self, given: str, place: str | None, what: str) -> str:
        """Join a pattern and the folder of a part; the folder is before or behind the pattern's own."""
        base, _, name = given.rpartition("/")
        tries = [base] if place is None else [f"{place}/{base}".rstrip("/"), f"{base}/{place}".lstrip("/")]
        for folder in tries:
            if (self.root / folder).is_dir():
                return f"{folder}/{name}" if folder else name
        raise DataError(
            f"Data set {self.label!r}: there is no folder {' or '.join(str(self.root / each) for each in tries)}, "
            f"which {what} names."
        )

    def _usual(self, usual: Sequence[str], place: str | None, what: str) -> str:
        """Find a folder with a usual name."""
        bases = [""] if place is None else [place, ""]
        seen: list[str] = []
        for base in bases:
            folders = subfolders(self.root / base) if (self.root / base).is_dir() else []
            seen += [f"{base}/{name}".lstrip("/") for name in folders]
            by_name = {name.lower(): name for name in reversed(folders)}
            for name in usual:
                if name not in by_name:
                    continue
                folder = f"{base}/{by_name[name]}".lstrip("/")
                if place is not None and not base:
                    folder = f"{folder}/{place}"
                # In Annotations there may be XML or JSON, and masks elsewhere.
                if (self.root / folder).is_dir() and scan_images(self.root / folder):
                    return f"{folder}/*"
        raise DataError(
            f"Data set {self.label!r}: no folder of {what} found in {self.root}: it holds the folders "
            f"{some(seen, 12) or 'none'}. Name it with {what}, e.g. {what}: my-{what}."
        )


def _codes_in(path: Path, channel: Channel | None) -> set[Code]:
    import numpy as np

    from synreal.data.files.decoding import opened, read_channel, read_colours, read_ids

    if channel is not None:
        return set(np.unique(read_channel(path, channel)).tolist())
    with opened(path, decode=False) as image:
        coloured = image.mode in ("RGB", "RGBA")
    if coloured:
        pixels = np.unique(read_colours(path).reshape(-1, 3), axis=0)
        return {(int(r), int(g), int(b)) for r, g, b in pixels}
    return set(np.unique(read_ids(path)).tolist())


def _listed_keys(rows: Sequence[tuple[int, str]], listed: Path, root: Path, images: Mapping[str, str]) -> set[str]:
    """Find the images that a list file names, with or without their folders and ending."""
    by_name: dict[str, list[str]] = {}
    for key in images:
        by_name.setdefault(key.rpartition("/")[2], []).append(key)
    within = Inside(root)
    chosen: set[str] = set()
    gone: list[str] = []
    for number, line in rows:
        within.check(line, f"{listed}, line {number}")
        full = "/" + line.replace("\\", "/").removeprefix("./")
        stem = os.path.splitext(full)[0]
        keys = {key for name in (full, stem) for key in by_name.get(name.rpartition("/")[2], [])}
        fit = [key for key in keys if f"/{key}" in (full, stem)]
        fit = fit or [key for key in keys if f"/{key}".endswith((full, stem))]
        # A line may give the folder of the images too; of "a" and "b/a" it then means the longer one.
        fit = fit or sorted((key for key in keys if full.endswith(f"/{key}") or stem.endswith(f"/{key}")), key=len)[-1:]
        if len(fit) == 1:
            chosen.add(fit[0])
        else:
            gone.append(f"{line} (line {number}{', several' if fit else ''})")
    if gone:
        raise DataError(f"{listed} names {len(gone)} of {len(rows)} images that are not there once: {some(gone, 5)}.")
    return chosen


def _listed(codes: set[Code]) -> str:
    shown = ", ".join(str(code) for code in sorted(codes, key=lambda code: (isinstance(code, tuple), code))[:20])
    kind = "the colours" if any(isinstance(code, tuple) for code in codes) else "the numbers"
    return f"{kind} {shown}{f' and {len(codes) - 20} more' if len(codes) > 20 else ''}"


def _how_to_name(held: set[Code]) -> str:
    """Say how the numbers or colours of masks are named."""
    colours = sorted(code for code in held if not isinstance(code, int))
    if not colours:
        numbers = sorted(code for code in held if isinstance(code, int))
        first = ", ".join(f"{name}: {number}" for name, number in zip(("background", "car"), numbers, strict=False))
        plain = " or with classes, the names of 0, 1, 2, ..." if numbers == list(range(len(numbers))) else ""
        return f"Name them with label_map, e.g. label_map: {{{first}}}{plain and ','}{plain or '.'}"
    if all(code[1] == code[2] == 0 for code in colours) and len(colours) > 1:
        return (
            "Red alone differs: where it holds numbers, as CARLA's masks do, write channel: red, and name them with "
            f"label_map, e.g. label_map: {{car: {colours[-1][0]}}}."
        )
    names = zip(("background", "car"), colours, strict=False)
    return f"Name them with label_map, e.g. label_map: {{{', '.join(f'{n}: {list(code)}' for n, code in names)}}}."
