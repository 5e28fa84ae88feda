"""What is refused before it is read. Imports nothing."""

from __future__ import annotations

from typing import Final

MAX_PIXELS: Final = 100_000_000
"""Largest image that is decoded; a file of a few kilobytes can claim to be gigabytes."""
