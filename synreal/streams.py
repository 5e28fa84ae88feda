"""Standard output and error whose other end may be gone, or on a disk that is full: nothing depends on them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Unfailing:
    """A stream of text that drops what can no longer be written, and all that follows.

    Args:
        stream: Where it goes; None for nowhere.

    Attributes:
        lost: Why something was dropped; None as long as nothing was.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.lost: Exception | None = None

    def write(self, text: str) -> int:
        """Write a text, if that is possible."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write what is kept, if that is possible."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and bool(self._stream.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, name: str, *arguments: str) -> None:
        if self._stream is None or self.lost is not None:
            return
        try:
            getattr(self._stream, name)(*arguments)
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:  # the latter says that it is closed
            self.lost = error
            self._turn_away()

    def _turn_away(self) -> None:
        """Lead the rest to nowhere: Python writes what it keeps once more at its end, and would fail then."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._stream.fileno())
            finally:
                os.close(nowhere)


@contextlib.contextmanager
def unfailing(name: str) -> Iterator[Unfailing]:
    """Let ``sys.stdout`` or ``sys.stderr`` be one that never fails.

    Args:
        name: ``"stdout"`` or ``"stderr"``.

    Yields:
        The stream.
    """
    before = getattr(sys, name)
    stream = Unfailing(before)
    setattr(sys, name, stream)
    try:
        yield stream
        stream.flush()
    finally:
        setattr(sys, name, before)
