"""Averages of weights: one file each, which follows a network through its training, and one line here.

They read weights and move no number of the training. No file here may know a task, a trainer, a model zoo or data.
"""

from synreal.averages.base import AVERAGES, Average, Averaging, Course, MeanWeights
from synreal.averages.loop import WeightAverage

from synreal.averages import ema, swa, swad, wise_ft  # noqa: F401  # isort: skip

__all__ = [
    "AVERAGES",
    "Average",
    "Averaging",
    "Course",
    "MeanWeights",
    "WeightAverage",
    "available",
    "get",
    "register",
]

register = AVERAGES.register
get = AVERAGES.get
available = AVERAGES.available
