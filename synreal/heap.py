"""How the C library keeps the memory that a program gives back."""

from __future__ import annotations

import ctypes
import os

# Of malloc.h; each is an int.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process use freed memory again instead of giving it back to the system.

    glibc maps each large block anew and unmaps it when it is freed. A training step on a processor frees and asks for
    the same gigabyte of activations each time, and the system clears its pages each time: a quarter to a third of the
    step. The process holds its peak until it ends.

    Whoever set glibc's own variables (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``) has
    decided otherwise; nothing is changed then.

    Returns:
        Whether it was done; False where the C library is not glibc.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  # others have a mallopt that means something else
        set_option = library.mallopt
    except (AttributeError, OSError, TypeError):  # musl; macOS; Windows
        return False
    return all(set_option(option, _MOST) for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
