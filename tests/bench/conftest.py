import pytest

from synreal.bench import cells_of
from tests.bench import grids


@pytest.fixture(scope="session")
def like(tmp_path_factory):
    """The record of a run that was made, for others to be made of."""
    folder = grids.trees(tmp_path_factory.mktemp("like"))
    (cell,) = cells_of(grids.grid(folder))
    return grids.run_here(cell)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with images in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return grids.trees(tmp_path)
