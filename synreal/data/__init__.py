"""Data sets by name: images with labels, and nothing of tasks or networks.

This package imports no torch: listing data sets and checking names stays quick. Reading imports the rest.
"""

from synreal.data.datasets import DATA, PARTS, DataSet, FolderData, Policy
from synreal.data.loading import load
from synreal.data.registry import available, check_domain, check_labels, default_targets, find, get

register = DATA.register

__all__ = [
    "DATA",
    "PARTS",
    "DataSet",
    "FolderData",
    "Policy",
    "available",
    "check_domain",
    "check_labels",
    "default_targets",
    "find",
    "get",
    "load",
    "register",
]
