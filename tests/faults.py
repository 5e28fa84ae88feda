"""A file system that fails when a test says so: full, broken, or unable to rename or to sync."""

import errno
import os
import signal
from pathlib import Path

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir")


class Faults:
    """Lets one call of the system fail, for files below a folder.

    ``plan`` chooses the call by its number among those of its name, ``plan_kill`` among all; a write that fails leaves
    half of it behind, as a full disk does.
    """

    def __init__(self, patch):
        self.folder, self.name, self.at, self.number = None, None, 0, 0
        self.last = None  # the call in which this process is killed
        self.met = []  # what failed
        self.seen = []  # every call
        self._paths = {}  # of descriptors that are open
        self._real = {name: getattr(os, name) for name in (*CALLS, "close")}
        patch.setattr(os, "close", self._close)
        for name in CALLS:
            patch.setattr(os, name, self._failing(name))

    def plan(self, folder, name, at, number=errno.ENOSPC):
        """From now on let the ``at``-th call of a name fail, counted from 0; ``None`` for no fault."""
        self.folder, self.name, self.at, self.number = Path(folder), name, at, number
        self.met, self.seen = [], []

    def plan_kill(self, folder, last):
        """From now on let this very process be killed in a call, counted from 0; ``None`` for never."""
        self.plan(folder, None, 0)
        self.last = last

    def heal(self):
        """From now on let nothing fail."""
        self.name = None

    def _failing(self, name):
        real = self._real[name]

        def call(first, *rest, **more):
            path = self._paths.get(first) if isinstance(first, int) else os.fspath(first)
            if "dir_fd" in more or not self._below(path):  # the first is how a folder is removed
                return real(first, *rest, **more)
            count = sum(each == name for each, _ in self.seen)
            killed = len(self.seen) == self.last
            self.seen.append((name, path))
            if killed or (name == self.name and count == self.at):
                self.met.append(path)
                if name == "write":
                    real(first, bytes(rest[0])[: len(rest[0]) // 2])
                if killed:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(self.number, os.strerror(self.number))
            result = real(first, *rest, **more)
            if name == "open":
                self._paths[result] = path
            return result

        return call

    def _close(self, descriptor):
        self._paths.pop(descriptor, None)
        self._real["close"](descriptor)

    def _below(self, path):
        return isinstance(path, str) and self.folder is not None and Path(path).is_relative_to(self.folder)


def moments(faults, folder, act):
    """Do something once without a fault, and give each call that may fail, as ``(name, at)``."""
    faults.plan(folder, None, 0)
    act()
    counts = {name: sum(each == name for each, _ in faults.seen) for name in CALLS}
    return [(name, at) for name, count in counts.items() for at in range(count)]
