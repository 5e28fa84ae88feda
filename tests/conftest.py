import gc
import os
import sys

import pytest
import torch
from synreal_cli.app import main

from synreal.errors import ConfigError
from synreal.heap import keep_freed_memory
from synreal.plugins import load_plugin
from synreal.registry import FILE_MODULE, LOADED, REGISTRIES
from tests import browser
from tests.faults import Faults

torch.set_num_threads(1)
keep_freed_memory()


def pytest_addoption(parser):
    parser.addoption(
        "--plugin", action="append", default=[], metavar="FILE.py",
        help="a regularizer from elsewhere, to be held to the contract tests",
    )  # fmt: skip


def pytest_configure(config):
    for file in config.getoption("--plugin"):
        try:
            load_plugin(file)
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from None


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers or loads is unknown again after it."""
    for registry in list(REGISTRIES.values()):
        registry._room()  # what is registered when it is first imported is to be known afterwards, too
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
        monkeypatch.setattr(registry, "_searched", registry._searched)
    before, loaded = set(sys.modules), dict(LOADED)
    yield
    LOADED.clear()
    LOADED.update(loaded)
    for name in [name for name in sys.modules if name.startswith(FILE_MODULE) and name not in before]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def settled():
    """Spare the collector all that was there before the tests of a module that call it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def faults(monkeypatch):
    """A file system that fails when told to."""
    return Faults(monkeypatch)


@pytest.fixture
def call(capsys):
    """Run a command line in this process; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


@pytest.fixture(scope="session")
def chromium():
    """A browser; without one these tests are skipped, but not where everything is to be checked."""
    path = browser.find()
    if path is None and not os.environ.get("CI"):
        pytest.skip("needs Chromium: apt-get install chromium-headless-shell, or any of " + ", ".join(browser.NAMES))
    assert path is not None, f"none of {', '.join(browser.NAMES)} is installed"
    started = browser.Browser(path)
    yield started
    started.close()


def pytest_collection_finish():
    """Spare the collector what lives as long as the tests: modules and the tests themselves."""
    gc.collect()
    gc.freeze()
