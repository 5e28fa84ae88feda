"""Runs: train and test from a configuration, stop and go on, leave a run folder. What the command line calls.

Accelerate appears here alone. What your own loop needs too (heads, views, rates, weights) stands below.
"""

from synreal.engine.evaluate import evaluate
from synreal.engine.run import RunResult, run

__all__ = ["RunResult", "evaluate", "run"]
