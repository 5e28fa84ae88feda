"""Measure what fingerprints of data and the lock on a run folder cost.

    python benchmarks/fingerprints.py --images PACS

The run is that of ``make run``, made here; calls of what is measured are timed in it. The files are those of a folder
of images, or 2,000 JPEGs that are written first: they are fingerprinted in the system's cache, and from the disk once
they were dropped from it (which Linux does where nobody else uses them), and compared with decoding all of them once.
Writes ``benchmarks/results/fingerprints.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from synreal.config import RunConfig
from synreal.data import sets
from synreal.data.files import fingerprints
from synreal.data.files.decoding import read_image
from synreal.data.files.file_sets import LabelFiles
from synreal.data.files.fingerprints import fingerprint_files, hash_list
from synreal.data.files.paths import scan_images
from synreal.data.files.threads import in_threads
from synreal.engine import run
from synreal.locking import Lock

RESULTS = Path(__file__).parent / "results"
GOAL = 0.01
WRITTEN = 2000
DECODED = 1000  # of the files, at most; decoding all is reckoned from them
RUN: dict[str, Any] = {"task": "classification", "regularizers": "csg"}


@contextmanager
def timed(owner: Any, name: str, calls: list[float]) -> Iterator[None]:
    """Add the seconds of each call of a function, method or property to a list."""
    before = vars(owner)[name]
    call = before.fget if isinstance(before, property) else before

    def measured(*arguments: Any, **more: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **more)
        finally:
            calls.append(time.perf_counter() - start)

    with mock.patch.object(owner, name, property(measured) if isinstance(before, property) else measured):
        yield


def measure_run(**changes: Any) -> dict[str, Any]:
    """Make the run, and tell how much of its time fingerprints and the lock took."""
    prints: list[float] = []
    lock: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        warnings.simplefilter("ignore")
        stack.enter_context(timed(sets, "_fingerprint", prints))
        for name in ("acquire", "held", "release"):
            stack.enter_context(timed(Lock, name, lock))
        start = time.perf_counter()
        result = run(RunConfig(**RUN, output=Path(folder) / "run", **changes), show_progress=False)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "steps": result.record.protocol.steps,
        "fingerprints": sum(prints),
        "sets": len(prints),
        "lock": sum(lock),
        "looks": len(lock),
    }


def write_files(root: Path, number: int) -> None:
    """Write JPEGs of about 20 kB."""
    generator = np.random.default_rng(0)
    for index in range(number):
        rough = generator.integers(0, 256, (76, 76, 3), np.uint8)
        Image.fromarray(rough).resize((227, 227), Image.Resampling.BICUBIC).save(root / f"{index:05}.jpg", quality=90)


def drop(root: Path, files: list[str]) -> None:
    """Take files out of the system's cache."""
    for name in files:
        descriptor = os.open(root / name, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def taken(call: Callable[[], object], rounds: int, before: Callable[[], object] = lambda: None) -> float:
    """Return the median of the seconds that a call takes."""
    times = []
    for _ in range(rounds):
        fingerprints._KNOWN.clear()
        before()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_files(root: Path, rounds: int) -> dict[str, Any]:
    """Fingerprint the images of a folder."""
    files = scan_images(root)
    images = LabelFiles("files", "test", root, files, [0] * len(files), ["any"])
    some = [root / name for name in files[:: -(-len(files) // DECODED)]]
    fingerprint_files(root, files)

    def cold() -> None:
        drop(root, files)

    return {
        "files": len(files),
        "bytes": sum((root / name).stat().st_size for name in files),
        "names": taken(lambda: [os.stat(root / name) for name in files], rounds),
        "sample": taken(lambda: fingerprint_files(root, files), rounds),
        "sample_cold": taken(lambda: fingerprint_files(root, files), rounds, cold),
        "all": taken(lambda: hash_list(images), rounds),
        "all_cold": taken(lambda: hash_list(images), rounds, cold),
        "decoding": taken(lambda: list(in_threads(read_image, some)), rounds) * len(files) / len(some),
    }


def render(found: dict[str, Any]) -> str:
    """Write what was measured as Markdown."""
    run, files = found["run"], found["files"]
    cost = (run["fingerprints"] + run["lock"]) / run["seconds"]
    kilobytes = files["bytes"] / files["files"] / 1000
    lines = [
        "# fingerprints",
        "",
        f"| in `make run`, {run['seconds']:.0f} s | seconds | share |",
        "|---|---|---|",
        f"| fingerprints of {run['sets']} sets of images in memory | {run['fingerprints']:.3f} "
        f"| {run['fingerprints'] / run['seconds']:.3%} |",
        f"| the lock: taken, looked at {run['looks'] - 2} times in {run['steps']} steps, let go | {run['lock']:.4f} "
        f"| {run['lock'] / run['seconds']:.4%} |",
        f"| both: under {GOAL:.0%} {'met' if cost < GOAL else 'not met'} | {run['fingerprints'] + run['lock']:.3f} "
        f"| {cost:.3%} |",
        "",
        f"| {files['files']:,} images in files of {kilobytes:.0f} kB | in the system's cache | from the disk |",
        "|---|---|---|",
        f"| names and sizes | {files['names']:.2f} s | |",
        f"| the fingerprint | {files['sample']:.2f} s | {files['sample_cold']:.2f} s |",
        f"| `--strict`: all bytes | {files['all']:.2f} s | {files['all_cold']:.2f} s |",
        f"| decoding them once | {files['decoding']:.2f} s | |",
        "",
        "Median of {rounds} rounds, {processors} processors, torch {torch}, {threads} threads in the run. Times depend "
        "on the machine, its disk and what else they do.".format(**found),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=Path, help="a folder of images; written when left out")
    parser.add_argument("--written", type=int, default=WRITTEN, help="how many are written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.images or Path(folder)
        if arguments.images is None:
            write_files(root, arguments.written)
        files = measure_files(root, arguments.rounds)
    found = {
        "rounds": arguments.rounds,
        "processors": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "run": measure_run(),
        "files": files,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "fingerprints.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "fingerprints.md").write_text(render(found), encoding="utf-8")
    print(render(found))


if __name__ == "__main__":
    main()
