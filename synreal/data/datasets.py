"""What can be said of a data set before it is read: its kind, its settings and what it serves as. Imports no torch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from synreal.data.files.paths import hold_out
from synreal.data.limits import MAX_PIXELS
from synreal.errors import ConfigError, DataError
from synreal.parsing import from_home
from synreal.registry import Registry, place, vars_of

if TYPE_CHECKING:
    from synreal.data.sets import ImageSet

Domain = Literal["source", "target"]

PARTS: Final[dict[Domain, tuple[str, ...]]] = {"source": ("train", "heldout"), "target": ("test",)}
"""The parts of a data set by what it serves as."""


class Policy(NamedTuple):
    """What happens to files that cannot be used.

    Attributes:
        bad_image: ``"error"`` ends the run at the first one; ``"skip"`` reads everything once beforehand, leaves such
            files out and counts them.
        size_mismatch: Of an image and its mask: ``"error"``, ``"skip"`` or ``"resize"``, which brings the image to the
            mask's size.
    """

    bad_image: Literal["error", "skip"] = "error"
    size_mismatch: Literal["error", "skip", "resize"] = "error"


STRICT: Final = Policy()


class DataSet(BaseModel, ABC):
    """A data set as somebody names it: a strict, frozen pydantic model; its fields are its settings.

    Attributes:
        kind: Its name in configurations.
        domains: What it serves as: ``"source"`` (synthetic, trained on), ``"target"`` (real, only ever tested on).
        label_kinds: Names of the kinds of label that it has, e.g. ``"masks"``; see ``synreal.data.labels``. (Not
            ``labels``: several kinds have a setting of that name.)
        summary: One line for listings.
        needs: What must be installed or given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    domains: ClassVar[tuple[Domain, ...]]
    label_kinds: ClassVar[tuple[str, ...]]
    summary: ClassVar[str]
    needs: ClassVar[str]

    @property
    def label(self) -> str:
        """What results call it."""
        return self.kind

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its parts: ``train`` and ``heldout`` of a source, ``test`` of a target."""
        return tuple(part for domain in self.domains for part in PARTS[domain])

    @property
    def apart(self) -> bool:
        """Whether it tests on other images than it trains on, where it serves as both."""
        return True

    def training_part(self) -> tuple[DataSet, str] | None:
        """Return which images of its own domain may be trained on when it is the target: a data set, and its part.

        They are others than those that are tested on. None if there is no such part.
        """
        return None

    def same_images(self, other: DataSet) -> bool:
        """Tell whether another data set describes the same images: they differ in name or ``heldout`` at most."""
        apart = {"name", "heldout"}
        return type(self) is type(other) and self.model_dump(exclude=apart) == other.model_dump(exclude=apart)

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Return the names of its classes in labels of a kind; None where only reading it tells."""
        return None

    def default_targets(self, label: str) -> tuple[str, ...]:
        """Return the data sets, as texts, that are tested on when it is the source and none was named."""
        return ()

    def check(self) -> None:
        """Look at what can be seen at once, such as whether its folder exists.

        Raises:
            DataError: If it cannot be read in any circumstances.
        """

    @abstractmethod
    def read(self, split: str, *, label: str, seed: int, cache: str | Path | None, policy: Policy) -> ImageSet[Any]:
        """Read one part with labels of a kind; ``load`` has checked split and kind.

        With ``bad_image="skip"``, files that cannot be used must not end it: those that are looked at are left out and
        counted in ``dropped``. Images that cannot be decoded are left out by ``load``.

        Raises:
            DataError: If files are missing, damaged or not in the expected format.
        """

    def text(self) -> str:
        """Write it as ``find`` reads it."""
        given = {key: getattr(self, key) for key in type(self).model_fields if key in self.model_fields_set}
        if not given:
            return self.kind
        plain = self.model_dump(mode="json", include=set(given))
        return f"{self.kind}({', '.join(f'{key}={value!r}' for key, value in plain.items())})"


class FolderData(DataSet):
    """A data set that lies in a folder.

    Attributes:
        root: The folder.
        name: What results call it; default its kind.
        heldout: As a source: how many images are tested on instead of trained on, where no split says which; default
            a tenth, 500 at most. They are chosen by a hash of their names.
        max_pixels: Images with more are refused before they are decoded.
    """

    root: Path
    name: str | None = None
    heldout: int | None = Field(default=None, ge=1)
    max_pixels: int = Field(default=MAX_PIXELS, ge=1)

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # A run is resumed from anywhere.
        return from_home(value).absolute()

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str | None) -> str | None:
        # It names figures and files of predictions, and columns of tables.
        if value is not None and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value) or value == "source"):
            raise ValueError("expected letters, digits, '_', '.' and '-', not 'source'")
        return value

    @field_validator("heldout")
    @classmethod
    def _of_a_source(cls, value: int | None) -> int | None:
        if value is not None and "source" not in cls.domains:
            raise ValueError("nothing is held out of real data, which is never trained on")
        return value

    @property
    def label(self) -> str:
        """What results call it."""
        return self.name or self.kind

    def check(self) -> None:
        """Look whether the folder is there."""
        if not self.root.is_dir():
            state = "is a file" if self.root.exists() else "does not exist"
            raise DataError(f"Data set {self.label!r}: {self.root} {state}, expected a folder. Check the path.")

    def chosen(self, names: Sequence[str], split: str) -> list[int]:
        """Choose the images of ``"train"`` or ``"heldout"`` where no split says which.

        Args:
            names: One name per image, e.g. its path below the root.
            split: ``"train"``, ``"heldout"``, or anything else for all.

        Returns:
            Indices, ascending.

        Raises:
            DataError: If nothing is left to train on.
        """
        if split not in PARTS["source"]:
            return list(range(len(names)))
        number = self.heldout if self.heldout is not None else min(500, -(-len(names) // 10))
        if len(names) == 1:
            raise DataError(
                f"Data set {self.label!r}: there is one image. A source needs two at least, one of which is held out; "
                "as a target one is enough."
            )
        if number >= len(names):
            raise DataError(
                f"Data set {self.label!r}: {number} images are to be held out of {len(names)}, which leaves none to "
                "train on. Give a smaller heldout."
            )
        out = hold_out(names, number)
        return [index for index, held in enumerate(out) if held == (split == "heldout")]

    def text(self) -> str:
        """Write it as ``find`` reads it; ``kind:root`` where there is no other setting."""
        if self.model_fields_set == {"root"}:
            return f"{self.kind}:{self.root}"
        return super().text()


class _DataSets(Registry[DataSet]):
    def _check(self, cls: Any) -> None:
        super()._check(cls)
        lacking = [key for key in ("domains", "label_kinds") if not vars_of(cls, key)]
        if lacking:
            raise ConfigError(
                f"{place(cls)} lacks {' and '.join(lacking)}: each is a tuple of names set in the body of the class, "
                'e.g. domains = ("source", "target") and label_kinds = ("masks",).'
            )


DATA: Final = _DataSets("data set", "data", DataSet, key="kind", texts=("summary", "needs"))
"""The kinds of data sets by name."""
