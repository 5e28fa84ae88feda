"""Which classes of a target are the source's, by name. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from synreal.data.files.paths import some
from synreal.errors import ConfigError

_MOST_NAMES: Final = 100  # that a message lists


class Alignment(NamedTuple):
    """How the classes of a target stand to those of the source.

    Attributes:
        table: For each class of the target its number in the source; None where the source does not have it.
        renamed: Pairs of names (target, source) that mean one class but are not written alike.
        missing: Classes of the source that the target does not have.
        extra: Classes of the target that the source does not have.
    """

    table: tuple[int | None, ...]
    renamed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def align_names(source: Sequence[str], target: Sequence[str]) -> Alignment:
    """Match class names; upper and lower case, spaces, ``_`` and ``-`` do not tell names apart.

    Args:
        source: The classes that the network knows.
        target: The classes of the data to test on.

    Returns:
        What was found, with at least one class in common.

    Raises:
        ConfigError: If no name is shared, or two names of one side mean the same.
    """
    known = {_plain(name): index for index, name in enumerate(source)}
    plain = [_plain(name) for name in target]
    for names, keys in ((source, [_plain(name) for name in source]), (target, plain)):
        if len(set(keys)) < len(keys):
            counts = Counter(keys)
            twice = next(name for name, key in zip(names, keys, strict=True) if counts[key] > 1)
            raise ConfigError(f"The class name {twice!r} occurs twice in {some(names, _MOST_NAMES)}.")
    table = tuple(known.get(key) for key in plain)
    found = {index for index in table if index is not None}
    if not found or (found == {0} and source[0] == "background" and len(source) > 1):
        near = difflib.get_close_matches(plain[-1], list(known), n=1)
        hint = f" Did you mean {source[known[near[0]]]!r} by {target[-1]!r}?" if near else ""
        raise ConfigError(
            f"Source and target share no class. Source: {some(source, _MOST_NAMES)}. Target: "
            f"{some(target, _MOST_NAMES)}.{hint} Give both the same names, e.g. with 'classes' or 'label_map' in a "
            "description of the data set."
        )
    return Alignment(
        table,
        tuple((name, source[i]) for name, i in zip(target, table, strict=True) if i is not None and source[i] != name),
        tuple(name for index, name in enumerate(source) if index not in found),
        tuple(name for name, index in zip(target, table, strict=True) if index is None),
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def differences(alignment: Alignment) -> list[str]:
    """Say how a target's classes differ, with the target as subject; none if they are the same."""
    lines = [f"calls {ours!r} {theirs!r}" for theirs, ours in alignment.renamed]
    if alignment.missing:
        lines.append(f"has no {some(alignment.missing, _MOST_NAMES)}: not measured")
    if alignment.extra:
        lines.append(f"has {some(alignment.extra, _MOST_NAMES)}, which the source does not have: left out")
    return lines
