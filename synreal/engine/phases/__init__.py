"""Phases of training: one file each, and one line here that makes it known.

What phases share (batches, what is due between two steps) stands in ``synreal.engine.stepping``.
"""

from synreal.engine.phases.base import PHASES, Phase, seen_of_target

from synreal.engine.phases import few_shot, head_first, learned_rates, self_train, train  # noqa: F401  # isort: skip

__all__ = ["PHASES", "Phase", "available", "get", "register", "seen_of_target"]

register = PHASES.register
get = PHASES.get
available = PHASES.available
