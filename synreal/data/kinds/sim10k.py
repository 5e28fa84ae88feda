"""Sim10k (driving in the matrix): frames of GTA V with boxes around cars. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import field_validator

from synreal.data.datasets import DATA, Domain, FolderData, Policy
from synreal.data.files.label_files import UNREADABLE, read_each
from synreal.data.files.paths import by_stem, find_tree, scan_files, scan_images, some
from synreal.data.kinds.voc import half_open, listed_stems, read_annotation, read_boxes
from synreal.data.naming import as_found
from synreal.errors import DataError

if TYPE_CHECKING:
    from synreal.data.sets import BoxedImages

NAMES: Final = ("car", "motorbike", "person")
"""What is labelled."""

_ARCHIVES = {
    "Annotations": "repro_10k_annotations.tgz",
    "JPEGImages": "repro_10k_images.tgz",
    "ImageSets/Main": "repro_image_sets.tgz",
}


@DATA.register
class Sim10k(FolderData):
    """Sim10k: 10,000 frames of a game.

    Objects marked difficult are trained on like others, and images without an object stay: a detector learns from
    background.

    Attributes:
        classes: What is detected: ``car``, ``motorbike`` and ``person`` are labelled; papers use cars alone.
        image_set: The list in ``ImageSets/Main`` that names the images. Those of larger releases lie beside it.
    """

    classes: tuple[str, ...] = ("car",)
    image_set: str = "trainval10k"

    kind: ClassVar[str] = "sim10k"
    domains: ClassVar[tuple[Domain, ...]] = ("source",)
    label_kinds: ClassVar[tuple[str, ...]] = ("boxes",)
    summary: ClassVar[str] = "10,000 frames of GTA V with boxes around cars (also motorbikes and persons)."
    needs: ClassVar[str] = (
        "repro_10k_images.tgz, repro_10k_annotations.tgz and repro_image_sets.tgz of Sim10k, unpacked"
    )

    @field_validator("classes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> Any:
        names = tuple(name.strip().lower() for name in value)
        if not names or len(set(names)) < len(names) or not set(names) <= set(NAMES):
            raise ValueError(f"expected some of {', '.join(NAMES)}, each once")
        return names

    def class_names(self, label: str) -> tuple[str, ...]:
        """Return ``classes``."""
        return self.classes

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> BoxedImages:
        """Read the XML files; images are decoded when they are asked for."""
        folder = find_tree(self.root, list(_ARCHIVES), "sim10k", _ARCHIVES, depth=2)
        images = by_stem(scan_images(folder / "JPEGImages"), folder / "JPEGImages")
        annotations = by_stem(scan_files(folder / "Annotations", ".xml"), folder / "Annotations")
        stems = self._listed(folder, annotations)
        absent = [stem for stem in stems if stem not in images]
        if absent and (policy.bad_image == "error" or len(absent) == len(stems)):
            raise DataError(
                f"sim10k: {len(absent)} of the {len(stems)} images of {self.image_set} are not in "
                f"{folder / 'JPEGImages'}: {some(absent)}. Unpack {_ARCHIVES['JPEGImages']} again."
            )
        stems = [stem for stem in stems if stem in images]
        read, damaged = read_each(
            [stems[index] for index in self.chosen(stems, split)],
            lambda stem: read_annotation(folder / "Annotations" / annotations[stem]),
            skip=policy.bad_image == "skip",
        )
        annotated = {
            f"JPEGImages/{images[stem]}": found._replace(
                names=[name.lower() for name in found.names], corners=half_open(found.corners)
            )
            for stem, found in read.items()
        }
        dropped = {"missing images left out": len(absent), UNREADABLE: damaged}
        naming = as_found(self.classes)
        return read_boxes(self, split, folder, annotated, naming, policy=policy, silent=NAMES, dropped=dropped)

    def _listed(self, folder: Path, annotations: dict[str, str]) -> list[str]:
        try:
            return listed_stems(folder, self.image_set, annotations, "sim10k")
        except DataError as error:
            if self.image_set == "trainval10k":
                raise
            raise DataError(f"{error} The list of the 10,000 images is trainval10k.") from None
