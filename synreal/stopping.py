"""Being asked to stop: whoever works for long calls ``poll`` now and then. Imports no torch.

The engine turns signals into the request; what lies beneath it, such as a scan of data, only looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from synreal.errors import Interrupted


class Request:
    """Whether a stop was asked for, and with which exit code.

    Attributes:
        exit_code: 0 until then.
    """

    def __init__(self) -> None:
        self.exit_code = 0


_heeded: list[Request] = []


@contextmanager
def heeding(request: Request) -> Iterator[None]:
    """Let ``poll`` look at a request."""
    _heeded.append(request)
    try:
        yield
    finally:
        _heeded.remove(request)


def poll() -> None:
    """Go on, unless a stop was asked for.

    Raises:
        Interrupted: If it was. Nothing is saved here: whoever has something to save catches it.
    """
    for request in _heeded:
        if request.exit_code:
            raise Interrupted("Stopped.", request.exit_code)
