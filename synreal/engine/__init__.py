"""Runs: train and test from a configuration, stop and go on, leave a run folder. What the command line calls.

Accelerate appears here alone. What your own loop needs too (heads, views, rates, weights) stands below.
"""

from synreal.engine.evaluate import evaluate
from synreal.engine.exporting import Export, export
from synreal.engine.inspecting import Insight
from synreal.engine.look import look, look_closely
from synreal.engine.photos import find_images
from synreal.engine.plain import Plain
from synreal.engine.predicting import predict, tell
from synreal.engine.rate_training import learn_rates
from synreal.engine.run import RunResult, run
from synreal.engine.run_page import RunPage, look_page

__all__ = [
    "Export",
    "Insight",
    "Plain",
    "RunPage",
    "RunResult",
    "evaluate",
    "export",
    "find_images",
    "learn_rates",
    "look",
    "look_closely",
    "look_page",
    "predict",
    "run",
    "tell",
]
