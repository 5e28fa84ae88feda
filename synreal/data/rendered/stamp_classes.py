"""The classes of Tux Paint's stamps, known before anything is read. Imports no torch."""

from __future__ import annotations

from typing import Final

CLASSES: Final = ("animals", "food", "household", "town", "vehicles")
"""Folders of stamps with a score or so of drawings and a dozen photographs at least.

``plants``, ``people`` and ``clothes`` lack one side: a single drawn plant, two people in photographs, and in
``clothes`` nothing photographed but two clothes pegs.
"""
