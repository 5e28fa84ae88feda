"""Folders with one of each fault, and a data set that reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from synreal.data import Policy, datasets
from synreal.data.files.file_sets import BoxFiles, LabelFiles, MaskFiles
from synreal.data.files.label_maps import LabelMap, MaskPaths
from synreal.data.inspection import duplicates as comparing
from synreal.data.labels.boxes import Boxes

SIZE = (24, 32)
SKIP = Policy("skip", "skip")
CLASSES = ("bolt", "nut", "gear")


def pixels(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)


def cut(path: Path, part: float = 0.5) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])


def boxes(*corners: list[float], label: int = 0, crowd: bool = False) -> Boxes:
    number = len(corners)
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.full((number,), label),
        torch.full((number,), crowd),
        torch.ones(number),
    )


class Planted(datasets.FolderData):
    """All images of a folder, by number; the fixtures below write them."""

    kind: ClassVar[str] = "planted"
    domains: ClassVar[tuple[datasets.Domain, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("classes", "masks", "boxes")
    summary: ClassVar[str] = "For tests."
    needs: ClassVar[str] = "a folder"
    boxes: Any = None
    sizes: Any = None
    labels: Any = None

    def read(self, split: str, *, label: str, seed: int, cache: Any, policy: Policy) -> Any:
        folder = self.root / split
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        shared: dict[str, Any] = {"max_pixels": self.max_pixels, "dropped": {}}
        if label == "classes":
            labels = [self.labels[name] if self.labels else 0 for name in files]
            return LabelFiles(self.label, split, folder, files, labels, CLASSES, **shared)
        if label == "masks":
            masks = [f"masks/{Path(name).stem}.png" for name in files]
            label_map = LabelMap({0: 0, 1: 1, 2: 2, 9: 255})
            paths = MaskPaths(folder, masks, label_map)
            resize = policy.size_mismatch == "resize"
            return MaskFiles(self.label, split, folder, files, paths, CLASSES, resize=resize, **shared)
        shared["dropped"] = {"boxes without area left out": 2}
        sizes = [(self.sizes or {}).get(name) for name in files]
        objects = [boxes(*self.boxes[name][0], **self.boxes[name][1]) for name in files]
        return BoxFiles(self.label, split, folder, files, objects, sizes, CLASSES, **shared)


def labelled(root: Path) -> Planted:
    """A training part with one of each fault of an image; the held-out part is sound."""
    folder = root / "train"
    for number in range(6):
        picture(folder / f"sound{number}.png", number)
    picture(folder / "truncated.png", 10)
    cut(folder / "truncated.png")
    picture(folder / "truncated.jpg", 11)
    cut(folder / "truncated.jpg")
    (folder / "empty.png").touch()
    (folder / "page.jpg").write_text("<!DOCTYPE html><title>404</title>")
    picture(folder / "large.png", 12, (100, 100))
    Image.fromarray(np.zeros(SIZE, np.float32)).save(folder / "float.tif")
    shutil.copy(folder / "sound0.png", folder / "twice.png")
    shutil.copy(folder / "sound1.png", folder / "twice-other.png")
    Image.new("RGB", (32, 24), (7, 7, 7)).save(folder / "black.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels(13)).save(folder / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(np.arange(768, dtype=np.uint16).reshape(SIZE) * 80).save(folder / "wide.png")
    Image.fromarray(pixels(14)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels(15)).convert("P").save(folder / "palette.png")
    for number in range(20, 23):
        picture(root / "heldout" / f"sound{number}.png", number)
    shutil.copytree(root / "heldout", root / "test")
    (root / "test" / "sound22.png").unlink()
    picture(root / "test" / "other.png", 30)
    shutil.copy(folder / "sound5.png", root / "heldout")
    labels = {path.name: 0 for path in root.rglob("*.*")}
    labels |= {"sound1.png": 1, "sound2.png": 1}
    return Planted(root=root, name="parts", max_pixels=5000, labels=labels)


def names(images: Any) -> list[str]:
    return [path.name for path in comparing.paths_of(images)]


def found(findings: list[Any]) -> set[tuple[str, str, str]]:
    return {(each.kind, each.file, each.effect) for each in findings}


def masked(root: Path) -> Planted:
    folder = root / "train"
    (folder / "masks").mkdir(parents=True)
    names = ("sound", "size", "ids", "colour", "cut", "ignored", "broken", "turned")
    for number, name in enumerate(names):
        suffix = "jpg" if name == "turned" else "png"
        picture(folder / f"{name}.{suffix}", number)
        mask = np.zeros(SIZE, np.uint8)
        mask[:6] = 1
        mask[6:8] = 9
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    masks = folder / "masks"
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(masks / "size.png")
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(masks / "ids.png")
    picture(masks / "colour.png", 40)
    cut(masks / "cut.png", 0.7)
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(masks / "ignored.png")
    palette = Image.fromarray(np.zeros(SIZE, np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(masks / "sound.png")
    cut(folder / "broken.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels(13)).save(folder / "turned.jpg", exif=turned)
    return Planted(root=root)


MASK_FAULTS = {
    ("size mismatch", "size.png"),
    ("ids out of range", "masks/ids.png"),
    ("wrong mode", "masks/colour.png"),
    ("truncated", "masks/cut.png"),
    ("truncated", "broken.png"),
}
