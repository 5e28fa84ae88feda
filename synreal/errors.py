"""The errors that users meet, and the exit code each one gives the command line.

Every message says what was wrong, where, what was expected and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class SynrealError(Exception):
    """Base of every error that synreal raises on purpose; its message is meant for people."""

    exit_code: ClassVar[int] = 1


class ConfigError(SynrealError, ValueError):
    """A setting is wrong: unknown name or key, wrong type, impossible combination, unusable folder."""

    exit_code: ClassVar[int] = 2


class StageError(SynrealError, ValueError):
    """A stage does not exist, did not give a 2-D map, never ran, or was changed after it was recorded."""

    exit_code: ClassVar[int] = 2


class WeightsError(SynrealError, RuntimeError):
    """Pretrained weights are not available or do not fit the network."""

    exit_code: ClassVar[int] = 2


class DataError(SynrealError, ValueError):
    """Data are missing, empty, unreadable or not in the expected format."""

    exit_code: ClassVar[int] = 2


class CheckpointError(SynrealError, RuntimeError):
    """A checkpoint is damaged, unsafe, or belongs to another configuration."""


class TrainingError(SynrealError, RuntimeError):
    """A run cannot go on: a loss is not finite, an optimizer was never bound, a second view is missing."""


class ExportError(SynrealError, RuntimeError):
    """A network cannot be written in a format, or what was written does not compute what the network does."""


class Interrupted(SynrealError):
    """The run was asked to stop (Ctrl-C, SIGTERM, SIGHUP or SIGUSR1) and has stopped cleanly.

    Args:
        message: What was saved and how to go on.
        exit_code: 128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP, 138 for SIGUSR1.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # the signal decides


_MOST_NAMES = 50  # known names beyond which the nearest ones alone are listed
_NEAREST = 8
_LONGEST_NAME = 100  # characters of a name that are compared and shown: comparing takes their product


def unknown_name(kind: str, given: str, known: Iterable[str]) -> ConfigError:
    """Build the error for a name that is not in a list, with the nearest name first.

    Args:
        kind: What the name stands for, e.g. ``"regularizer"``.
        given: The name the user wrote.
        known: Every valid name; of more than 50 the nearest 8 are listed.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in known)
    given = given if len(given) <= _LONGEST_NAME else f"{given[:_LONGEST_NAME]}..."
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    more = ""
    if len(names) > _MOST_NAMES:
        more = f" These are the nearest of {len(names)}."
        names = sorted(difflib.get_close_matches(given, names, n=_NEAREST, cutoff=0.0))
    return ConfigError(f"Unknown {kind} {given!r}.{hint} Known: {', '.join(names) or 'none'}.{more}")
