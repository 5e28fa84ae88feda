"""Objects that have names in their files: which of them belong to which class. Imports no torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from pydantic import field_validator, model_validator
from typing_extensions import Self

from synreal.data.datasets import PARTS
from synreal.data.files.paths import some
from synreal.data.own import OwnData, read_names
from synreal.errors import DataError, unknown_name

Uses = tuple[tuple[int, bool], ...]
"""The classes that an object stands for, each with whether it is a crowd of that class; none if it is left out."""

_IGNORED: Final = 255


class Naming(NamedTuple):
    """What the names in files stand for.

    Attributes:
        classes: Class names.
        uses: What objects of a name stand for: of one class, or, where they are ignored, crowds of every class. Objects
            of names that it lacks are left out.
    """

    classes: tuple[str, ...]
    uses: Mapping[str, Uses]

    def pixel(self, name: str) -> int | None:
        """Return the class of an object's pixels, 255 where they are ignored; None where it is left out."""
        uses = self.uses.get(name)
        return None if uses is None else next((label for label, crowd in uses if not crowd), _IGNORED)


def as_found(classes: Sequence[str], ignore: Sequence[str] = ()) -> Naming:
    """Return the naming of files whose names are those of the classes."""
    left_out = set(ignore)
    return _naming({name: (name,) for name in classes if name not in left_out}, ignore)


def _naming(groups: Mapping[str, Sequence[str]], ignore: Sequence[str]) -> Naming:
    uses: dict[str, Uses] = {}
    for number, names in enumerate(groups.values()):
        uses.update({name: ((number, False),) for name in names})
    everywhere = tuple((number, True) for number in range(len(groups)))
    return Naming(tuple(groups), {**uses, **dict.fromkeys(ignore, everywhere)})


def _check_groups(groups: Mapping[str, Sequence[str | int]], ignore: Sequence[str | int]) -> None:
    """Raise ``ValueError`` if a name belongs to two classes, or to one and to what is ignored."""
    owners: dict[str | int, str] = {}
    ignored = set(ignore)
    for name, given in groups.items():
        for each in given:
            if owners.setdefault(each, name) != name:
                raise ValueError(f"{each!r} belongs to two classes, {owners[each]} and {name}; keep it in one")
            if each in ignored:
                raise ValueError(f"{each!r} belongs to class {name} and is to be ignored; keep it in one of them")


def plain_name(name: str) -> str:
    """Return a name without the number that Blender gives a copy of an object: ``bolt`` of ``bolt.001``."""
    return re.sub(r"(?<=.)\.\d{3,}$", "", name)


def copies_among(names: Sequence[str]) -> dict[str, list[str]]:
    """Return names by what they are without the number of a copy, in the order of the first of each."""
    copies: dict[str, list[str]] = {}
    for name in names:
        copies.setdefault(plain_name(name), []).append(name)
    return copies


def _warn_of_copies(copies: Mapping[str, Sequence[str]], where: object) -> None:
    """Warn of classes that are copies of one."""
    several = [some(given, 4) for given in copies.values() if len(given) > 1]
    if several:
        warnings.warn(
            f"{where}: {several[0]} are classes of their own, though Blender names copies of one object so. With "
            "merge_copies: true they are one class.",
            stacklevel=4,
        )


class NamedData(OwnData):
    """Data whose files say the name of each object.

    Attributes:
        label_map: For each class the names that belong to it, e.g. ``{"vehicle": ["car", "van"], "bike": "cyclist"}``;
            what has another name is left out and counted. ``classes`` chooses some of these classes, in its order;
            default all, in the order of the map.
        ignore: Names that are no class, e.g. ``["ignore"]``. Their boxes are crowds of every class, as COCO's
            ``iscrowd``: not trained on, and detections there are neither right nor wrong. Their pixels are ignored.
        merge_copies: Whether names that differ only in the number of a copy of Blender, ``bolt`` and ``bolt.001``,
            are one. ``label_map``, ``classes`` and ``ignore`` then give it without the number.
    """

    label_map: dict[str, tuple[str | int, ...]] | None = None
    ignore: tuple[str | int, ...] = ()
    merge_copies: bool = False

    numbered: ClassVar[bool] = False
    """Whether files hold numbers, which ``label_map`` and ``ignore`` may give in place of names."""

    @field_validator("label_map", mode="before")
    @classmethod
    def _groups(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
            raise ValueError(
                "expected the names that belong to each class, e.g. {vehicle: [car, van], bike: cyclist}; a class "
                "whose name is a number is quoted"
            )
        groups = {name: cls._listed(given) for name, given in zip(read_names(list(value)), value.values(), strict=True)}
        _check_groups(groups, ())
        return groups

    @field_validator("ignore", mode="before")
    @classmethod
    def _ignored(cls, value: Any) -> Any:
        return () if value is None or value in ((), []) else cls._listed(value)

    @classmethod
    def _listed(cls, given: Any) -> tuple[str | int, ...]:
        """Read one name or several; where files hold numbers, those stay numbers."""
        if isinstance(given, Mapping):
            raise ValueError("expected a name or a list of names, e.g. [car, van]")
        given = [given] if isinstance(given, (str, int)) else given
        names = read_names(given)
        return tuple(
            each if cls.numbered and isinstance(each, int) else name for each, name in zip(given, names, strict=True)
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.classes or () if self.label_map is not None else ():
            if name not in (self.label_map or {}) and not (name == "background" and "masks" in self.label_kinds):
                raise unknown_name("class of label_map", name, self.label_map or {})
        _check_groups(self.label_map or {}, self.ignore)
        return self

    def class_names(self, label: str) -> tuple[str, ...] | None:
        """Return the names of its classes, with the background before them in masks; None where only reading tells."""
        if self.label_map is not None:
            return self.with_background(self.classes or tuple(self.label_map), label)
        if self.classes is None or any(isinstance(each, int) for each in self.ignore):
            return None
        left_out = set(self.ignore)
        return self.with_background([name for name in self.classes if name not in left_out], label)

    def naming(
        self,
        split: str,
        listed: Callable[[Sequence[str]], Sequence[str]],
        where: object,
        *,
        label: str = "boxes",
        complete: bool = True,
    ) -> Naming:
        """Look up which names are which class.

        Args:
            split: The part that is read.
            listed: Returns the names in the files of some parts, in the order of their numbers.
            where: What gives these names, for messages.
            label: The kind of label; masks have a background, too.
            complete: Whether a format lists its names, so that one in ``classes`` that it lacks is an error.

        Raises:
            ConfigError: If a name occurs nowhere; suggests the nearest.
            DataError: If no class is left.
        """
        ignore = [str(name) for name in self.ignore]
        groups = {name: [str(each) for each in given] for name, given in (self.label_map or {}).items()}
        try:
            _check_groups(groups, ignore)  # anew: numbers have become names
        except ValueError as error:
            raise DataError(f"Data set {self.label!r}: {error}.") from None
        chosen = list(self.classes or ())
        if complete or groups or ignore or self.merge_copies or not chosen:
            names = list(listed(self.alike(split)))
            copies = copies_among(names)
            if self.merge_copies:
                ignore, groups = self._merged(copies, ignore, groups, chosen, where)
            elif not groups and not chosen:
                _warn_of_copies(copies, where)
            mapped = [*(each for given in groups.values() for each in given), *ignore]
            self._check_names(mapped, names, split, listed, f"name of {where}")
            if complete and not groups:
                own = [name for name in chosen if label != "masks" or name != "background"]
                self._check_names(own, names, split, listed, f"class of {where}")
            chosen = chosen or list(groups or names)
        if groups:
            groups = {name: groups.get(name, [name]) for name in chosen}  # the background alone is not in the map
        else:
            left_out = set(ignore)
            groups = {name: [name] for name in chosen if name not in left_out}
        if ignore and not groups:
            raise DataError(f"Data set {self.label!r}: ignore has all names, {', '.join(ignore)}: no class is left.")
        if label == "masks":
            groups = groups if "background" in groups else {"background": [], **groups}
            if not any("background" in names for names in groups.values()):
                groups["background"] = [*groups["background"], "background"]
        return _naming(groups, ignore)

    @staticmethod
    def _merged(
        copies: Mapping[str, Sequence[str]],
        ignore: Sequence[str],
        groups: Mapping[str, Sequence[str]],
        chosen: Sequence[str],
        where: object,
    ) -> tuple[list[str], dict[str, list[str]]]:
        """Return what is ignored, and the names of each class, with all copies of each name."""
        left_out = [copy for name in ignore for copy in copies.get(name, [name])]
        if groups:
            return left_out, {
                name: [copy for each in given for copy in copies.get(each, [each])] for name, given in groups.items()
            }
        merged = {name: list(given) for name, given in copies.items() if name not in ignore}
        for name in chosen:
            if name not in copies and name != "background":
                raise unknown_name(f"class of {where}", name, copies)
        return left_out, merged

    def _check_names(
        self,
        wanted: Sequence[str],
        names: Sequence[str],
        split: str,
        listed: Callable[[Sequence[str]], Sequence[str]],
        what: str,
    ) -> None:
        """Raise ``ConfigError`` if a name occurs in no part: one that this part lacks may be in another."""
        there = set(names)
        absent = [name for name in wanted if name not in there]
        if not absent:
            return
        others = [part for part in sum(PARTS.values(), ()) if part in self.splits and part not in self.alike(split)]
        known = {*names, *(listed(others) if others else ())}
        for name in absent:
            if name not in known:
                raise unknown_name(what, name, known)
