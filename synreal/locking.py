"""Locks between processes: one writer of a file or folder at a time. Imports no torch.

The system holds the lock and lets it go when the process ends, however it ends, so a killed one leaves none behind. It
is a POSIX record lock: data-loading processes do not inherit it, and NFS shares it between hosts. What the file of the
lock says is for people, and for file systems that have no locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from synreal.errors import ConfigError

_MOST_BYTES: Final = 4096
_BETWEEN_TRIES: Final = 0.05  # seconds
_TAKEN: Final = frozenset({errno.EACCES, errno.EAGAIN, errno.EDEADLK})
_NO_LOCKS: Final = frozenset(
    getattr(errno, name) for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL") if hasattr(errno, name)
)
_SHARED: Final = frozenset({"tmpfs", "ramfs", "overlay", "zfs", "btrfs", "ceph", "gpfs"})
_FAR: Final = 1 << 30  # Windows lets nobody read a byte that is locked

_OURS: dict[Path, Holder] = {}  # a process never hinders itself, and loses a lock when it closes another descriptor


class Holder(NamedTuple):
    """Who holds a lock.

    Attributes:
        host: Name of the machine.
        pid: Number of the process; 0 if it is not known.
        since: When it was taken, in words.
    """

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        if not self.pid:
            return "another process"
        return f"process {self.pid} on host {self.host}, since {self.since}"


class Lock:
    """A lock on something, e.g. a run folder.

    Args:
        path: The file of the lock; its folder exists. It is removed when the lock is let go.
        what: What it protects, for messages, e.g. ``"The run folder runs/mine"``.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = Path(os.path.abspath(path))
        self.what = what
        self._descriptor: int | None = None

    def acquire(self, patience: float = 1.0) -> None:
        """Take the lock; one that a dead process left is taken over.

        Args:
            patience: Seconds to wait for whoever holds it.

        Raises:
            ConfigError: If somebody else holds it, or if that cannot be told; names host and process.
            OSError: If the file cannot be written.
        """
        give_up = time.monotonic() + patience
        while not self._taken():
            if time.monotonic() > give_up:
                found = holder(self.path) or Holder("", 0, "")
                raise ConfigError(f"{self.what} is in use by {found}. Wait until it ends, or stop it.")
            time.sleep(_BETWEEN_TRIES)

    def release(self) -> None:
        """Let the lock go; again, or without it, nothing happens."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # removed first: whoever opens it from here on finds another file
            if self.held:
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        _OURS.pop(self.path, None)
        with contextlib.suppress(OSError):  # Windows removes no file that is open
            if os.name == "nt":
                self.path.unlink()

    @property
    def held(self) -> bool:
        """Whether the lock is held and its file still there: it goes with the folder that it lies in."""
        return self._descriptor is not None and _same(self._descriptor, self.path)

    def _taken(self) -> bool:
        if self.path in _OURS:
            return False
        descriptor, fresh = _opened(self.path)
        try:
            return self._took(descriptor, fresh=fresh)
        except OSError:
            if fresh:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            raise
        finally:
            if self._descriptor is None:
                os.close(descriptor)

    def _took(self, descriptor: int, *, fresh: bool) -> bool:
        """Take the lock by its open file, if nobody holds it."""
        locked = _lock(descriptor)
        if locked is False or not _same(descriptor, self.path):
            return False  # held, or let go and removed just now
        found = None if fresh else _read(descriptor)
        if found is not None and found.host != socket.gethostname():
            if not (locked and reaches_other_hosts(self.path)):
                raise ConfigError(
                    f"{self.what} is marked as in use by {found}, and on this host, {socket.gethostname()}, it cannot "
                    "be found out whether that process still runs: this file system shares no locks between hosts. If "
                    f"it has ended, remove {self.path} and start again."
                )
        elif not locked and found is not None and _alive(found.pid):
            return False
        mine = Holder(socket.gethostname(), os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S"))
        # In place: a file that is renamed into its place would be one without the lock.
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, (json.dumps(mine._asdict()) + "\n").encode())
        self._descriptor = descriptor
        _OURS[self.path] = mine
        return True


def holder(path: Path) -> Holder | None:
    """Look who holds a lock.

    Args:
        path: The file of the lock; it need not exist.

    Returns:
        Who does, or may do where it cannot be told; None if nobody does.
    """
    path = Path(os.path.abspath(path))
    if path in _OURS:
        return _OURS[path]
    try:
        _check_file(path)
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return Holder("", 0, "")
    try:
        locked, found = _lock(descriptor), _read(descriptor)
    finally:
        os.close(descriptor)
    if locked is False:
        return found or Holder("", 0, "")
    if found is None:
        return None
    if found.host != socket.gethostname():
        return None if locked and reaches_other_hosts(path) else found
    return None if locked or not _alive(found.pid) else found


def reaches_other_hosts(path: Path, mounts: str | None = None) -> bool:
    """Return whether a lock on a file is seen by every host that can open it; False where that is not known.

    Args:
        path: The file.
        mounts: What ``/proc/self/mountinfo`` holds; by default it is read.
    """
    try:
        text = Path("/proc/self/mountinfo").read_text("utf-8", "replace") if mounts is None else mounts
        disks = [line.strip() for line in Path("/proc/filesystems").read_text().splitlines() if "nodev" not in line]
    except OSError:
        return False
    found: tuple[int, str, str] = (-1, "", "")
    for line in text.splitlines():
        place, _, rest = line.partition(" - ")
        if len(place.split()) < 5 or len(rest.split()) < 3:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place.split()[4])
        if path.is_relative_to(mount) and len(mount) >= found[0]:
            found = (len(mount), rest.split()[0], rest.split()[2])
    kind, options = found[1], set(found[2].split(","))
    if kind in ("nfs", "nfs4"):
        return not options & {"nolock", "local_lock=all", "local_lock=posix"}
    if kind == "lustre":
        return "flock" in options
    return kind in _SHARED or kind in disks


def _opened(path: Path) -> tuple[int, bool]:
    """Open the file of a lock; also tell whether it was made."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):  # let go just now
            _check_file(path)
        return os.open(path, flags | os.O_CREAT, 0o666), False


def _check_file(path: Path) -> None:
    """Look without opening: a process that closes a file loses its locks on it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> bool | None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool | None:
        """Lock a file; None if its file system has no locks."""
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno in _NO_LOCKS:
                return None
            raise
        return True


def _same(descriptor: int, path: Path) -> bool:
    """Whether a file that is open is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _read(descriptor: int) -> Holder | None:
    """Read who wrote the file of a lock; None if nobody did, or what is there is nothing of the kind."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        value = json.loads(os.read(descriptor, _MOST_BYTES))
        host, pid, since = value["host"], value["pid"], value["since"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if isinstance(host, str) and isinstance(pid, int) and isinstance(since, str) and pid > 0:
        return Holder(host, pid, since)
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
