"""The run folder: created before anything heavy starts, never overwritten by accident."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from synreal.config import RunConfig
from synreal.errors import ConfigError

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
        overwrite: Remove a run that is there already.

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
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"Cannot write the run folder {path}: {error.strerror}. Give another --output.") from None
    return path


def truncate_metrics(path: Path, step: int) -> None:
    """Drop rows past a step, so that a resumed run writes each step once."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # the row that was being written when the run died
        if row["step"] <= step:
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


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Describe machine and software; two runs of one seed are bit-equal only where these agree."""
    return {
        "versions": versions(),
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
