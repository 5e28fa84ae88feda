"""Images with one mask file each: palettes, numbers or colours. Imports no torch."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import field_validator

from synreal.data.files.paths import Inside, read_lines, scan_images, some, subfolders, without_duplicates
from synreal.data.own import OwnData
from synreal.data.registry import Policy, register
from synreal.errors import DataError, unknown_name
from synreal.parsing import read_mapping

if TYPE_CHECKING:
    from synreal.data.sets import Images

Code = int | tuple[int, int, int]
"""What a pixel of a mask holds: a number, or red, green and blue."""

_IMAGES: Final = ("images", "image", "imgs", "img", "rgb", "jpegimages", "frames")
_MASKS: Final = (
    "masks", "mask", "labels", "label", "annotations", "segmentationclass", "segmentation", "semantic", "gt"
)  # fmt: skip
_IGNORED: Final = 255
_LOOKED_AT: Final = 8  # masks that are opened to say what they hold
_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_COLOUR = re.compile(r"[(\[]?\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})\s*(?:[\s,]\s*\d{1,3}\s*)?[)\]]?")


@register
class MaskFolders(OwnData):
    """A folder of images and a folder of masks, matched by name.

    Masks are palette or grey PNGs whose pixels are numbers (a palette's colours do not matter), or colour PNGs. What
    their pixels stand for says ``label_map``; without it, ``classes`` names the numbers 0, 1, 2, ...

    Attributes:
        images: Folder of the images, or a pattern with one ``*``, e.g. ``"rgb_*.png"``; by default a usual name such as
            ``images``.
        masks: The same of the masks; ``*`` stands for what an image and its mask have in common.
        mask_suffix: What mask names have in addition, e.g. ``"_labelIds"``; masks without it do not count.
        label_map: ``{name: number}``, ``{number: name}``, ``{name: [red, green, blue]}``, ``{name: "#rrggbb"}``; or a
            YAML, JSON, CSV or text file with it, such as CVAT's ``labelmap.txt`` and Omniverse Replicator's
            ``semantic_segmentation_labels_0000.json``; a pattern with ``*`` unites files. By default ``labelmap.txt``,
            where it exists and there are no ``classes``.
        ignore: Names, in lower case, whose pixels count nowhere. 255 does not count either unless the map names it.
        classes: Names in the order of their numbers; or, with a label map, the names that are used: pixels of others
            count nowhere.
        splits: For each part a folder, as ``{"train": "train"}`` of ``train/images`` or ``images/train``; or a file
            that lists names, as ``ImageSets/Segmentation/train.txt``.
    """

    images: str | None = None
    masks: str | None = None
    mask_suffix: str = ""
    label_map: dict[int | str, Any] | str | None = None
    ignore: tuple[str, ...] = ("ignore", "void", "unlabelled", "unlabeled")

    kind: ClassVar[str] = "masks"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    summary: ClassVar[str] = "Your folder of images and folder of masks: palette, number or colour PNGs."
    needs: ClassVar[str] = "a folder with images/ and masks/, and a label_map or classes"

    @field_validator("images", "masks")
    @classmethod
    def _one_star(cls, value: str | None) -> str | None:
        if value is not None and value.count("*") > 1:
            raise ValueError("expected a folder, or a pattern with one '*'")
        return value

    @field_validator("label_map")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if isinstance(value, dict):
            pairs_of(value)
        return value

    def class_names(self, task: str) -> tuple[str, ...] | None:
        """Return the names of its classes; None where a label map file gives them."""
        if isinstance(self.label_map, dict):
            return self._meaning(pairs_of(self.label_map), "label_map")[0]
        if self.label_map is None and self.classes is not None:
            return self._meaning([(name, index) for index, name in enumerate(self.classes)], "classes")[0]
        return None

    def read(self, split: str, *, task: str, seed: int, cache: str | Path | None, policy: Policy) -> Images:
        """Match images and masks; they are decoded one by one, when asked for."""
        from synreal.data.files.file_sets import MaskFiles
        from synreal.data.files.label_maps import LabelMap, MaskPaths

        dropped: Counter[str] = Counter()
        images, masks = self._matched(split, policy.bad_image == "skip", dropped)
        classes, codes = self._codes(masks)
        numbers = {code: label for code, label in codes.items() if isinstance(code, int)}
        colours = {code: label for code, label in codes.items() if not isinstance(code, int)}
        label_map = LabelMap(colours=colours) if colours else LabelMap(ids={_IGNORED: _IGNORED, **numbers})
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

    def _codes(self, masks: Sequence[str]) -> tuple[tuple[str, ...], dict[Code, int]]:
        """Return class names, and the class of each number or colour."""
        if isinstance(self.label_map, dict):
            return self._meaning(pairs_of(self.label_map), "label_map")
        usual = self.root / "labelmap.txt"
        if self.label_map is not None or (self.classes is None and usual.is_file()):
            paths = [usual] if self.label_map is None else self._map_files(self.label_map)
            pairs = [pair for path in paths for pair in read_pairs(path)]
            return self._meaning(pairs, str(paths[0]))
        held = self._held(masks)
        if self.classes is None:
            raise DataError(
                f"Data set {self.label!r}: what the pixels of its masks stand for is not known. The first masks hold "
                f"{_listed(held)}. Name them with label_map, e.g. label_map: {{background: 0, car: 1}}, or with "
                "classes, the names of 0, 1, 2, ..."
            )
        if _IGNORED in held and held <= {0, _IGNORED}:
            raise DataError(
                f"Data set {self.label!r}: the first masks, such as {self.root / masks[0]}, hold 0 and 255 alone, and "
                "255 counts nowhere unless it is named. If it is a class, write e.g. label_map: {background: 0, car: "
                "255}."
            )
        return self._meaning([(name, index) for index, name in enumerate(self.classes)], "classes")

    def _map_files(self, given: str) -> list[Path]:
        paths = sorted(self.root.glob(given)) if "*" in given else [self.root / given]
        if not paths or not all(path.is_file() for path in paths):
            raise DataError(f"Data set {self.label!r}: there is no file {self.root / given}, which label_map names.")
        return paths

    def _held(self, masks: Sequence[str]) -> set[Code]:
        """Return numbers, or colours, that the first masks hold."""
        import numpy as np

        from synreal.data.files.decoding import opened, read_colours, read_ids

        held: set[Code] = set()
        for name in masks[:_LOOKED_AT]:
            with opened(self.root / name, decode=False) as image:
                coloured = image.mode in ("RGB", "RGBA")
            if coloured:
                pixels = read_colours(self.root / name).reshape(-1, 3)
                held |= {(int(r), int(g), int(b)) for r, g, b in np.unique(pixels, axis=0)}
            else:
                held |= set(np.unique(read_ids(self.root / name)).tolist())
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
        if (without or alone) and not (skip and both):
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
                if (self.root / folder).is_dir():
                    return f"{folder}/*"
        raise DataError(
            f"Data set {self.label!r}: no folder of {what} found in {self.root}: it holds the folders "
            f"{some(seen, 12) or 'none'}. Name it with {what}, e.g. {what}: my-{what}."
        )


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


def read_pairs(path: Path) -> list[tuple[str, Code]]:
    """Read a label map file.

    Args:
        path: YAML or JSON as ``pairs_of`` reads it; else text with a name and a number or colour a line, separated by
            commas, semicolons, tabs, spaces or colons, in either order. Lines that start with ``#`` are comments, a
            first line without numbers is a header.

    Returns:
        Names, and what they stand for.

    Raises:
        DataError: If the file is damaged or a line gives no name or no number; names file and line.
    """
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        if path.suffix.lower() == ".json":
            try:
                values = json.loads(path.read_bytes())
            except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path} is no JSON: {error}.") from None
        else:
            values = read_mapping(path, "label map")
        if not isinstance(values, dict):
            raise DataError(f"{path} must hold names with numbers or colours, got a {type(values).__name__}.")
        try:
            return pairs_of(values)
        except ValueError as error:
            raise DataError(f"{path}: {error}.") from None
    pairs: list[tuple[str, Code]] = []
    for place, (number, line) in enumerate(read_lines(path)):
        if line.startswith("#") and not _HEX.match(line):
            continue
        pair = _line(line)
        if pair is not None:
            pairs.append(pair)
        elif place or re.search(r"\d", line):
            raise DataError(f"{path}, line {number}: expected a name and a number or a colour, got {line!r}.")
    return pairs


def _line(line: str) -> tuple[str, Code] | None:
    """Read a line of a label map; None if it does not say one name and one code."""
    if ":" in line:  # CVAT's lines go on with parts and actions behind a second colon
        fields = [field.strip() for field in line.split(":")[:2]]
    elif re.search(r"[,;\t]", line):
        fields = re.split(r"\s*[,;\t]+\s*", line)
    else:
        fields = line.split()
        numbers = [field.isdigit() or _HEX.fullmatch(field) is not None for field in fields]
        first, last = (numbers.index(False), numbers[::-1].index(False)) if False in numbers else (0, 0)
        fields = [*fields[:first], " ".join(fields[first : len(fields) - last]), *fields[len(fields) - last :]]
    for name, rest in ((fields[0], fields[1:]), (fields[-1], fields[:-1])):
        code = _code(",".join(rest))
        if name and code is not None and _code(name) is None:
            return name, code
    return None


def pairs_of(values: Mapping[Any, Any]) -> list[tuple[str, Code]]:
    """Read a label map that is a mapping: ``{name: code}``, ``{code: name}`` or Replicator's ``{code: {kind: name}}``.

    A code is a number, ``[red, green, blue]``, ``"red, green, blue"`` with or without brackets and transparency, or
    ``"#rrggbb"``.

    Raises:
        ValueError: If it is anything else.
    """
    pairs: list[tuple[str, Code]] = []
    for key, value in values.items():
        name: Any = key
        code: Code | None = None
        if isinstance(value, Mapping):
            name, code = value.get("class", next(iter(value.values()), None)), _code(key)
        elif isinstance(value, (list, tuple)):
            code = _code(",".join(map(str, value)))
        elif isinstance(value, int) and not isinstance(key, int):
            code = _code(value)
        elif isinstance(value, str):
            code = _code(value) if not value.strip().isdigit() else None
            if code is None:
                name, code = value, _code(key)
        if code is None or not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"expected a name with a number or a colour, as in {{car: 1}} or {{car: [0, 0, 142]}}, got "
                f"{{{key!r}: {value!r}}}; quote names that YAML reads as something else"
            )
        pairs.append(("background" if name.strip().lower() == "background" else name.strip(), code))
    if not pairs:
        raise ValueError("expected at least one name")
    return pairs


def _code(given: Any) -> Code | None:
    """Read a number or a colour; None if it is neither."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        return None
    if isinstance(given, int) or given.strip().isdigit():
        number = int(given)
        return number if 0 <= number < 65_536 else None
    packed = _HEX.fullmatch(given.strip())
    if packed:
        value = int(packed[1], 16)
        return value >> 16, value >> 8 & 255, value & 255
    colour = _COLOUR.fullmatch(given.strip())
    if colour and all(int(part) <= 255 for part in colour.groups()):
        return int(colour[1]), int(colour[2]), int(colour[3])
    return None


def _listed(codes: set[Code]) -> str:
    shown = ", ".join(str(code) for code in sorted(codes, key=lambda code: (isinstance(code, tuple), code))[:20])
    kind = "the colours" if any(isinstance(code, tuple) for code in codes) else "the numbers"
    return f"{kind} {shown}{f' and {len(codes) - 20} more' if len(codes) > 20 else ''}"
