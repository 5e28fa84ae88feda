"""Benchmarks of several domains with the same classes, as PACS has them: one is trained on. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from synreal.data.datasets import DATA
from synreal.data.files.paths import some, subfolders
from synreal.data.kinds.imagefolder import ImageFolder
from synreal.data.own import composed
from synreal.errors import DataError, unknown_name

_LONGEST_NAME = 64


@DATA.register
class Pacs(ImageFolder):
    """One domain of a folder of domains: ``ROOT/DOMAIN/CLASS/**/*.png``.

    PACS, Office-Home, VLCS, DomainNet and TerraIncognita are unpacked like this. Source and target may be two domains
    of one root.

    Attributes:
        root: The folder that holds the folders of the domains.
        domain: The folder of the domain, e.g. ``"cartoon"``.
        name: What results call it; default the kind and the domain, e.g. ``"pacs-cartoon"``.
        splits: For each part the folder in the domain's that holds its class folders.
    """

    domain: str | None = None

    kind: ClassVar[str] = "pacs"
    summary: ClassVar[str] = "One domain of PACS, Office-Home, VLCS or DomainNet: domain= names its folder."
    needs: ClassVar[str] = "a folder of domains, each with class folders, and domain="

    @property
    def label(self) -> str:
        """What results call it."""
        domain = re.sub(r"[^a-z0-9_.]+", "-", (self.domain or "").lower()).strip("-._")
        return self.name or f"{self.kind}-{domain}"[:_LONGEST_NAME].strip("-._")

    @property
    def base(self) -> Path:
        """The folder of the domain.

        Raises:
            ConfigError: If there is no such domain; suggests the nearest.
            DataError: If none was named, or the root is another folder than that of the domains.
        """
        there = {composed(name): name for name in subfolders(self.root)}
        found = f"Folders in {self.root}: {some(sorted(there), 12) or 'none'}."
        if self.domain is None:
            example = next((name for name in there if _names(self.root / there[name])), "cartoon")
            raise DataError(
                f"Data set {self.label!r}: say which domain, e.g. {self.kind}(root={str(self.root)!r}, "
                f"domain={example!r}). {found}"
            )
        wanted = composed(self.domain)
        if wanted in there:
            return self.root / there[wanted]
        if wanted in _names(self.root.parent):
            raise DataError(
                f"Data set {self.label!r}: {self.root} has no domain {self.domain!r}, but the folder above it has. "
                f"Give the folder that holds all domains: root={str(self.root.parent)!r}."
            )
        below = [name for name in there.values() if wanted in _names(self.root / name)]
        if below:
            raise DataError(
                f"Data set {self.label!r}: {self.root} has no domain {self.domain!r}, but {some(below)} in it has. "
                f"Give the folder that holds the domains: root={str(self.root / below[0])!r}."
            )
        if not there:
            raise DataError(
                f"Data set {self.label!r}: {self.root} has no folders, expected one per domain, with class "
                "folders in it."
            )
        raise unknown_name(f"domain of {self.root}", self.domain, there)

    def check(self) -> None:
        """Look whether the folder and the domain are there."""
        super().check()
        _ = self.base

    def _alone(self, folder: Path) -> str:
        return ""


def _names(folder: Path) -> set[str]:
    """Return the names of the folders in a folder, none where it cannot be read: they only help a message."""
    try:
        return {composed(name) for name in subfolders(folder)}
    except DataError:
        return set()
