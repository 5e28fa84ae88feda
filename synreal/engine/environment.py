"""What else a run's numbers depend on: versions, plugins, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from synreal.registry import loaded

PACKAGES = ("synreal", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "safetensors")


class Environment(BaseModel):
    """The machine of a run, and how the run was spread over it; two runs of one seed are bit-equal where these agree.

    Attributes:
        device: As torch calls it, e.g. ``"cuda:0"``.
        device_name: The GPU's or the processor's name.
        threads: Of torch, in each process.
        processes: How many trained together.
        platform: Operating system and machine.
        git_commit: Of the checkout that synreal runs from, with ``+`` if it was changed; None elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    device: str
    device_name: str
    threads: int
    processes: int
    platform: str
    git_commit: str | None


def describe(device: torch.device, processes: int) -> Environment:
    """Describe this machine.

    Args:
        device: Where the run trains.
        processes: How many train together.
    """
    return Environment(
        device=str(device),
        device_name=device_name(device),
        threads=torch.get_num_threads(),
        processes=processes,
        platform=platform.platform(),
        git_commit=_git_commit(),
    )


def device_name(device: torch.device) -> str:
    """Return the GPU's or the processor's name, as far as it is known."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()


def device_kind(device: torch.device) -> str:
    """Return ``"cpu"``, or an accelerator's name: processors give nearly the same numbers, accelerators do not."""
    return "cpu" if device.type == "cpu" else device_name(device)


def step_clock(device: torch.device) -> Literal["processor", "wall"]:
    """Return what measures a step: the time of a processor, which other work does not lengthen, or that on the wall.

    Args:
        device: Where the run trains.
    """
    return "processor" if device.type == "cpu" else "wall"


def now(device: torch.device) -> float:
    """Return the seconds of ``step_clock``, from an unknown start.

    Args:
        device: Where the run trains.
    """
    return time.process_time() if step_clock(device) == "processor" else time.monotonic()


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory in bytes that this process has held so far, on a GPU or, without one, in all.

    Args:
        device: Where the run trains.

    Returns:
        The number; None where it is not known.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type != "cpu" or sys.platform not in ("linux", "darwin"):
        return None
    import resource  # Windows has none

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def plugins(used: Mapping[str, Iterable[str]]) -> dict[str, str | None]:
    """Return what tells each plugin that a run uses from others: its file's SHA-256, or its version.

    Args:
        used: Names of what the run uses, by the kind's plural.
    """
    return dict(plugin.identity for plugin in loaded(used))


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
