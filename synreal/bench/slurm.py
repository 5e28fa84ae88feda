"""A grid as a job array of Slurm."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from synreal.bench.planning import Plan
from synreal.errors import ConfigError

_SECONDS_TO_SAVE = 300


def script(planned: Plan, words: Sequence[str], *, threads: int, output: Path) -> str:
    """Write a script for ``sbatch``: one task for each cell.

    A task that Slurm stops, for want of time or for another job, saves what it has; submitted again it goes on.

    Args:
        planned: The grid; what is open of it is run.
        words: The arguments of ``synreal bench`` that lead to these cells, without ``--cell`` and ``--threads``.
        threads: Processors of each task.
        output: The grid's folder, for the logs.

    Raises:
        ConfigError: If nothing is to be run.
    """
    cells = [row.cell for row in planned.open]
    if not cells:
        raise ConfigError("There is nothing to submit: every run of the grid is done.")
    logs = output / "slurm"
    command = shlex.join([sys.executable, "-m", "synreal_cli", "bench", *words])
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={shlex.quote(f'synreal-{output.name}')}",
        f"#SBATCH --array=0-{len(cells) - 1}",
        f"#SBATCH --cpus-per-task={threads}",
        f"#SBATCH --signal=B:TERM@{_SECONDS_TO_SAVE}",
        "#SBATCH --output=/dev/null",
        "# Time, memory, GPUs and how many run at once are your cluster's: add them here, or give them to sbatch.",
        "set -euo pipefail",
        f"cd {shlex.quote(str(Path.cwd()))}",
        f"mkdir -p {shlex.quote(str(logs))}",
        "cells=(",
        *(f"  {shlex.quote(cell.name)}" for cell in cells),
        ")",
        "cell=${cells[$SLURM_ARRAY_TASK_ID]}",
        f'exec > {shlex.quote(str(logs))}/"${{SLURM_ARRAY_JOB_ID:-0}}_$SLURM_ARRAY_TASK_ID.log" 2>&1',
        "# The command takes the place of the shell, so that Slurm's signal reaches it.",
        f'exec {command} --cell "$cell" --threads {threads}',
    ]
    return "\n".join(lines) + "\n"
