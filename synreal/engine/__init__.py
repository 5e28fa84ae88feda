"""Train and test from a configuration: what the command line calls."""

from synreal.engine.loop import RunResult, evaluate, run

__all__ = ["RunResult", "evaluate", "run"]
