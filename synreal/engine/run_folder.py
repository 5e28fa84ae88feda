"""The run folder: created before anything heavy starts, never overwritten by accident."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from synreal.config import RunConfig
from synreal.errors import ConfigError
from synreal.registry import loaded

PACKAGES = ("synreal", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")


def default_output(config: RunConfig) -> Path:
    """Name a new folder under ``runs/`` after task, regularizers, seed and time."""
    methods = "+".join(spec.name for spec in config.regularizers)
    stem = f"{config.task}-{methods}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path("runs") / stem, 2
    while path.exists():
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


def create(path: Path, *, overwrite: bool) -> Path:
    """Make the run folder.

    Args:
        path: Where.
        overwrite: Accept a run that is there already; it goes when ``clear`` is called.

    Raises:
        ConfigError: If it cannot be written, or holds something and ``overwrite`` is off.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not path.is_dir():
                raise ConfigError(f"The output {path} is a file; a run needs a folder.")
            if not overwrite:
                raise ConfigError(
                    f"The run folder {path} exists and is not empty. Give another --output, --overwrite it, or go on "
                    f"with --resume {path}."
                )
            if not (path / "config.yaml").is_file():
                raise ConfigError(f"{path} is not empty and holds no config.yaml: it is no run, and is not removed.")
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_text("")
        probe.unlink()
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot write the run folder {path}: {reason}. Give another --output.") from None
    return path


def clear(path: Path) -> None:
    """Remove what an earlier run left in the folder, once it is sure that the new one can start."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def discard(path: Path) -> None:
    """Remove the folder of a run that could not start; an earlier run in it stays."""
    with contextlib.suppress(OSError):
        path.rmdir()


def truncate_metrics(path: Path, step: int, tested: Collection[int] = ()) -> None:
    """Drop rows past a step and tests that a resumed run makes again, so that it writes each row once.

    Args:
        path: The ``metrics.jsonl``.
        step: The step that the run goes on from.
        tested: Steps whose test it does not make again.
    """
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # the row that was being written when the run died
        again = any(key.startswith("eval/") for key in row) and row["step"] not in tested
        if row["step"] <= step and not again:
            kept.append(line)
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    os.replace(aside, path)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def plugins(config: RunConfig) -> dict[str, str | None]:
    """Return what tells each plugin with a regularizer of the run from others: its file's SHA-256, or its version."""
    return dict(plugin.identity for plugin in loaded({"regularizers": [spec.name for spec in config.regularizers]}))


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Describe machine and software; two runs of one seed are bit-equal only where these agree."""
    return {
        "versions": versions(),
        "plugins": [plugin.facts() for plugin in loaded()],
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "platform": platform.platform(),
        "git_commit": _git_commit(),
        "command": Path(sys.argv[0]).name,
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout that synreal runs from, with ``+`` if it was changed; None elsewhere."""
    home = Path(__file__).resolve().parents[2]
    if not (home / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(home), "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(home), "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")
