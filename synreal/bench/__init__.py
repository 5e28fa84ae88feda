"""Grids of runs: every regularizer on every pair of data with every seed, several at once, stopped and gone on with.

A run of a grid is a run as any other, in a process of its own; what is known of it is read from its run folder. Nothing
here trains.
"""

from synreal.bench.cells import Cell, cells_of
from synreal.bench.grid import Grid, read_grid
from synreal.bench.planning import Plan, plan
from synreal.bench.running import bench

__all__ = ["Cell", "Grid", "Plan", "bench", "cells_of", "plan", "read_grid"]
