import sys

import pytest
import torch
from synreal_cli.app import main

from synreal.errors import ConfigError
from synreal.regularizers import load_plugin, plugins, registry

torch.set_num_threads(1)


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
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.setattr(plugins, "_LOADED", dict(plugins._LOADED))
    monkeypatch.setattr(plugins, "_searched", plugins._searched)
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.startswith(registry.FILE_MODULE) and name not in before]:
        del sys.modules[name]


@pytest.fixture
def call(capsys):
    """Run a command line in this process; gives exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run
