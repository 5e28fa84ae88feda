"""Data sets by name: what can be said of one before it is read, and the ways to write one down. Imports no torch."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from synreal.data.files.paths import hold_out
from synreal.errors import ConfigError, DataError, unknown_name
from synreal.parsing import problems, read_call, read_mapping

if TYPE_CHECKING:
    from synreal.data.sets import BoxedImages, Images, LabelledImages, SegmentedImages

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
        tasks: Long names of the tasks that it has labels for.
        summary: One line for listings.
        needs: What must be installed or given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    domains: ClassVar[tuple[Domain, ...]]
    tasks: ClassVar[tuple[str, ...]]
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

    def class_names(self, task: str) -> tuple[str, ...] | None:
        """Return the names of its classes in a task; None where only reading it tells."""
        return None

    def default_targets(self, task: str) -> tuple[str, ...]:
        """Return the data sets, as texts, that are tested on when it is the source and none was named."""
        return ()

    def check(self) -> None:
        """Look at what can be seen at once, such as whether its folder exists.

        Raises:
            DataError: If it cannot be read in any circumstances.
        """

    @abstractmethod
    def read(self, split: str, *, task: str, seed: int, cache: str | Path | None, policy: Policy) -> Images:
        """Read one part; ``load`` has checked split and task.

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
    max_pixels: int = Field(default=100_000_000, ge=1)

    @field_validator("root")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        # A run is resumed from anywhere.
        return Path(value).expanduser().absolute()

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
            names: One name an image, e.g. its path below the root.
            split: ``"train"``, ``"heldout"``, or anything else for all.

        Returns:
            Indices, ascending.

        Raises:
            DataError: If nothing is left to train on.
        """
        if split not in PARTS["source"]:
            return list(range(len(names)))
        number = self.heldout if self.heldout is not None else min(500, -(-len(names) // 10))
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


_KINDS: dict[str, type[DataSet]] = {}

KindType = TypeVar("KindType", bound=type[DataSet])


def register(kind: KindType) -> KindType:
    """Class decorator: make a kind of data set known by its name."""
    _KINDS[kind.kind] = kind
    return kind


def kinds() -> dict[str, type[DataSet]]:
    """Return the classes of all kinds by name, sorted."""
    return dict(sorted(_KINDS.items()))


def available(domain: str | None = None, task: str | None = None) -> list[str]:
    """List the kinds of data sets.

    Args:
        domain: Only those that serve as ``"source"`` or ``"target"``.
        task: Only those that have labels for this task.

    Returns:
        Their names, sorted.

    Raises:
        ConfigError: If no data set knows this domain or task.
    """
    if domain is not None and domain not in PARTS:
        raise unknown_name("domain", domain, PARTS)
    if task is not None:
        check_task(task)
    return [
        name
        for name, kind in kinds().items()
        if (domain is None or domain in kind.domains) and (task is None or task in kind.tasks)
    ]


def get(name: str) -> type[DataSet]:
    """Return the class of a kind.

    Raises:
        ConfigError: If there is none of this name; suggests the nearest.
    """
    if name not in _KINDS:
        raise unknown_name("data set", name, _KINDS)
    return _KINDS[name]


def find(value: str | DataSet) -> DataSet:
    """Read how a data set is written down.

    Args:
        value: ``"digits"``; ``"gta5:/data/gta5"``; ``"gta5(root='/data/gta5', frames='all')"``; a YAML file that
            describes one, ``"parts.yaml"``; or a data set, which is returned.

    Raises:
        ConfigError: If a name or setting is unknown (the nearest is suggested), or a value does not fit.
    """
    if isinstance(value, DataSet):
        return value
    text = value.strip()
    if text.lower().endswith((".yaml", ".yml")) and text.partition(":")[0] not in _KINDS and "(" not in text:
        return _described(Path(text).expanduser().absolute())
    if text not in _KINDS and text and Path(text).expanduser().exists():
        raise ConfigError(
            f"{text!r} is a path: write the kind of data before it, e.g. imagefolder:{text}. "
            f"Kinds: {', '.join(name for name, kind in kinds().items() if 'root' in kind.model_fields)}."
        )
    name, colon, root = text.partition(":")
    if colon and "(" not in name:
        return _build(name.strip(), {"root": root.strip()}, text)
    return _build(*read_call(text, "gta5(root='/data/gta5')"), text)


def _build(name: str, settings: Mapping[str, Any], text: str, kind: str = "setting") -> DataSet:
    found = get(name)
    if "root" in settings and "root" not in found.model_fields:
        raise ConfigError(f"Data set {name!r} lies in no folder of yours, got {text!r}. Write {name!r} alone.")
    for key in settings:
        if key not in found.model_fields:
            raise unknown_name(f"{kind} of data set {name}", str(key), found.model_fields)
    field = found.model_fields.get("root")
    if field is not None and (field.is_required() or "root" in settings) and not settings.get("root"):
        raise ConfigError(f"Data set {name!r} needs its folder: write {name}:/path/to/it. It needs {found.needs}.")
    try:
        return found(**settings)
    except ValidationError as error:
        raise ConfigError(f"Data set {name}: {problems(error)}.") from None


def _described(path: Path) -> DataSet:
    """Read the YAML file that describes a data set; its ``root`` is relative to the file."""
    values = read_mapping(path, "data set description")
    if not isinstance(values.get("format"), str):
        raise ConfigError(
            f"{path} must describe a data set with 'format: NAME' and 'root: FOLDER', where NAME is one of "
            f"{', '.join(available())}."
        )
    settings = {key: value for key, value in values.items() if key != "format"}
    try:
        fields = get(values["format"]).model_fields
        if "root" in settings or ("root" in fields and fields["root"].is_required()):
            settings["root"] = path.parent / str(settings.get("root", "."))
        if "name" in fields:
            settings.setdefault("name", re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-._") or None)
        return _build(values["format"], settings, str(path), kind="key")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_task(task: str) -> None:
    """Raise ``ConfigError`` unless some data set has labels for a task, by its long name."""
    tasks = {name for kind in _KINDS.values() for name in kind.tasks}
    if task not in tasks:
        raise unknown_name("task of a data set", task, tasks)


def check_labels(entry: DataSet, task: str) -> None:
    """Raise ``ConfigError`` unless a data set has labels for a task."""
    check_task(task)
    if task not in entry.tasks:
        domain = entry.domains[0]
        others = ", ".join(available(domain, task)) or "none"
        raise ConfigError(
            f"Data set {entry.label!r} has no labels for {task}, only for {', '.join(entry.tasks)}. "
            f"A {domain} with labels for {task}: {others}."
        )


def check_domain(entry: DataSet, domain: Domain) -> None:
    """Raise ``ConfigError`` unless a data set serves as this domain."""
    if domain in entry.domains:
        return
    if domain == "source":
        raise ConfigError(
            f"{entry.label!r} is real data: it is tested on, never trained on. Sources: {_names('source')}."
        )
    raise ConfigError(f"{entry.label!r} is synthetic: it is no target. Targets: {_names('target')}.")


def _names(domain: Domain) -> str:
    return ", ".join(available(domain))


def default_targets(source: str | DataSet, task: str = "classification") -> tuple[str, ...]:
    """Return the targets that share a source's classes in a task, the main one first.

    Args:
        source: A source, as ``find`` reads it.
        task: Long name of the task; targets without labels for it are left out.

    Raises:
        ConfigError: If there is no such data set, it is not a source, it has no labels for this task, or no target
            goes with it by itself.
    """
    entry = find(source)
    check_domain(entry, "source")
    check_labels(entry, task)
    targets = tuple(name for name in entry.default_targets(task) if task in find(name).tasks)
    if not targets:
        raise ConfigError(f"No target goes with source {entry.label!r} by itself: name the real data to test on.")
    return targets


@overload
def load(
    value: str | DataSet,
    split: str,
    *,
    task: Literal["classification"] = "classification",
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> LabelledImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    *,
    task: Literal["segmentation"],
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> SegmentedImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    *,
    task: Literal["detection"],
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> BoxedImages: ...


@overload
def load(
    value: str | DataSet,
    split: str,
    *,
    task: str,
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> Images: ...


def load(
    value: str | DataSet,
    split: str,
    *,
    task: str = "classification",
    seed: int = 0,
    cache: str | Path | None = None,
    policy: Policy = STRICT,
) -> Images:
    """Load one split of a data set.

    Args:
        value: A data set, as ``find`` reads it.
        split: One of its ``parts``.
        task: One of its ``tasks``: what the images are labelled for.
        seed: Seed of a rendered source; recorded data have none and ignore it.
        cache: Folder for arrays that are slow to make; default ``synreal.data.files.cache.cache_folder()``.
        policy: What happens to files that cannot be used.

    Returns:
        The images with a class (``LabelledImages``), a mask (``SegmentedImages``) or boxes (``BoxedImages``) each.

    Raises:
        ConfigError: If the name, the split or the task is unknown, or the data set has no labels for the task.
        DataError: If a package or file that the data set needs is missing or damaged.
    """
    entry = find(value)
    if split not in entry.parts:
        raise ConfigError(
            f"Data set {entry.label!r} is a {' and '.join(entry.domains)} and has no split {split!r}. "
            f"Known: {', '.join(entry.parts)}."
        )
    check_labels(entry, task)
    entry.check()
    images = entry.read(split, task=task, seed=seed, cache=cache, policy=policy)
    if "skip" in policy:
        from synreal.data.files.file_sets import ImageFiles
        from synreal.data.inspection.report import usable

        if isinstance(images, ImageFiles):
            images = usable(images, policy, cache=cache)
    dropped: Mapping[str, int] = getattr(images, "dropped", {})
    if dropped:
        counts = ", ".join(f"{number} {what}" for what, number in dropped.items())
        warnings.warn(f"{entry.label} ({split}): {counts}.", stacklevel=2)
    return images
