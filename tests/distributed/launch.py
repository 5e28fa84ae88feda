"""Two processes on this machine, through gloo."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def two_processes(*arguments, timeout=180):
    """Run a Python file, or a module after ``"-m"``, as two ranks of one thread each; fails with what they said."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    done = subprocess.run(
        [*launch, "--rdzv-endpoint", "localhost:0", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-4000:]
