import shutil

import pytest

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
