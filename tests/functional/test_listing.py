"""What the package lists is what its files hold: functions, and no state."""

import importlib
import inspect
import pkgutil

import pytest
from torch import nn

from synreal import functional

HELPERS = {"reduce"}
BEHIND_METRICS = {"coco_evaluate", "coco_ground_truth", "coco_results"}  # synreal.metrics.coco_ap offers them
FILES = [f"synreal.functional.{module.name}" for module in pkgutil.iter_modules(functional.__path__)]


@pytest.mark.parametrize("name", FILES)
def test_every_function_is_listed(name):
    module = importlib.import_module(name)
    public = {
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
    }
    assert public
    assert public - HELPERS - BEHIND_METRICS <= set(functional.__all__)


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_modules(name):
    module = importlib.import_module(name)
    assert not [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)]


def test_the_list_is_sorted_and_whole():
    assert functional.__all__ == sorted(functional.__all__)
    assert all(inspect.isfunction(getattr(functional, name)) for name in functional.__all__)
