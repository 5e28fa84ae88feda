"""Tux Paint's stamps: drawn ones (source) and photographed ones of the same classes (target). Imports no torch.

The art is GPL-2. It is read from the package that the user has installed, never bundled.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import field_validator

from synreal.data.datasets import DATA, DataSet, Domain, Policy
from synreal.data.rendered.stamp_classes import CLASSES
from synreal.parsing import from_home

if TYPE_CHECKING:
    from synreal.data.sets import ImageSet


@DATA.register
class Stamps(DataSet):
    """Tux Paint's stamps.

    Attributes:
        root: The folder of the stamps, or one that was unpacked from their package; default where the package
            installs them, else what ``synreal data prepare stamps`` has cached.
    """

    root: Path | None = None

    kind: ClassVar[str] = "stamps"
    domains: ClassVar[tuple[Domain, ...]] = ("source", "target")
    label_kinds: ClassVar[tuple[str, ...]] = ("classes", "masks", "boxes")
    summary: ClassVar[str] = (
        "Tux Paint's stamps in 5 classes, drawn (source) and photographed (target), 128 x 128 RGB; "
        "one on each image, or scenes of up to 4."
    )
    needs: ClassVar[str] = "the stamps (apt install tuxpaint-stamps-default) and pip install 'synreal[stamps]'"

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # A run is resumed from anywhere.
        return None if value is None else from_home(value).absolute()

    def class_names(self, label: str) -> tuple[str, ...]:
        """The five folders; a mask also has the background."""
        return ("background", *CLASSES) if label == "masks" else CLASSES

    def default_targets(self, label: str) -> tuple[str, ...]:
        """The photographed stamps of the same folder."""
        return (self.text(),)

    def check(self) -> None:
        """Look whether a given folder holds the stamps."""
        from synreal.data.rendered.stamp_files import find_folder

        if self.root is not None:
            find_folder(self.root)

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Compose, or read from the cache."""
        from synreal.data.rendered import stamp_images
        from synreal.data.rendered.stamp_files import load_cutouts

        cutouts = load_cutouts(self.root, cache=cache)
        if cutouts.skipped:
            few = "; ".join(list(cutouts.skipped.values())[:3])
            warnings.warn(f"stamps: {len(cutouts.skipped)} files left out: {few}.", stacklevel=2)
        if split == "test":
            return stamp_images.load_target(cutouts, label=label, cache=cache)
        return stamp_images.load_source(cutouts, split, label=label, seed=seed, cache=cache)

    def text(self) -> str:
        """Write it as ``find`` reads it."""
        return self.kind if self.root is None else f"{self.kind}:{self.root}"
