"""Freed memory is used again."""

import os
import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"

# Pages of 64 MiB that are written three times, each time in a block of its own: the system clears them once, or thrice.
PROGRAM = """
import mmap, resource, sys
from synreal.heap import keep_freed_memory
done = keep_freed_memory() if sys.argv[1] == "keep" else None
size = 64 << 20
bytearray(size)  # zeros come by calloc, which need not write; a copy writes
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytes(bytearray(b"x") * size)
    faults.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (size / mmap.PAGESIZE))
    del block
print(done, min(faults[1:]))
"""


def _run(keep, **variables):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    } | variables
    command = [sys.executable, "-c", PROGRAM, "keep" if keep else "leave"]
    done, again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return done, float(again)


@pytest.mark.skipif(not GLIBC, reason="glibc alone is told")
def test_pages_of_freed_blocks_are_not_cleared_again():
    assert _run(keep=False)[1] > 0.5
    done, again = _run(keep=True)
    assert done == "True"
    assert again < 0.05


@pytest.mark.parametrize(
    "variables", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_who_has_decided_is_left_alone(variables):
    assert _run(keep=True, **variables)[0] == "False"


def test_a_library_without_it_is_left_alone(monkeypatch):
    from synreal import heap

    class Other:
        def mallopt(self, option, value):
            raise AssertionError("means something else there")

    for name in list(os.environ):
        if name.startswith(("MALLOC_", "GLIBC_TUNABLES")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Other())
    assert heap.keep_freed_memory() is False
