import shutil

import pytest
import torch

from synreal.engine import preflight
from tests.engine import tiny


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNREAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        tiny.install(patch.setattr)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folders of uninterrupted runs, made once for each configuration."""
    made = {}

    def get(**changes):
        key = repr(sorted(changes.items()))
        if key not in made:
            made[key] = tiny.run(tmp_path_factory.mktemp("whole") / "run", **changes).folder
        return made[key]

    return get


@pytest.fixture
def finished(whole, tmp_path):
    """A copy of a finished run, to be tampered with."""
    return shutil.copytree(whole(), tmp_path / "finished")


@pytest.fixture
def scaled(monkeypatch):
    """Let runs scale their gradients as with fp16, which no CPU has."""
    make = preflight.accelerator

    def accelerator(config):
        made = make(config)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        return made

    monkeypatch.setattr(preflight, "accelerator", accelerator)
