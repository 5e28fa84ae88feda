"""What is said of images that a data-loading process cannot read, and of processes that die."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synreal.engine.loading import batches, dead_workers_named, make_loader, named
from synreal.errors import DataError, TrainingError


class Images:
    """Images in files, as a set of ``synreal.data`` names them."""

    name, split = "photos", "train"

    def __init__(self, folder="photos"):
        self.folder = folder

    def path(self, index):
        return None if self.folder is None else Path(self.folder, f"{index}.png")


class Items(torch.utils.data.Dataset):
    """Six items, the fourth of which does what it is told."""

    def __init__(self, act):
        self.images = Images()
        self.act = act

    def __len__(self):
        return 6

    def __getitem__(self, position):
        index = position[1] if isinstance(position, tuple) else position
        if index == 3:
            self.act()
        return torch.tensor(index)


def out_of_memory():
    raise MemoryError


def too_deep():
    return too_deep()


def broken():
    raise TypeError("a view's own fault")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(3)


def read(act, workers, **how):
    with dead_workers_named():
        return list(batches(make_loader(Items(act), workers, torch.stack, batch_size=2, **how)))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("act", "kind"), [(out_of_memory, "MemoryError"), (too_deep, "RecursionError")])
def test_an_image_that_memory_or_stack_does_not_suffice_for_is_named(act, kind, workers):
    with pytest.raises(DataError, match=rf"photos.3\.png cannot be read: {kind}.*fewer workers.*max_pixels"):
        read(act, workers)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions take notes since Python 3.11")
def test_an_error_of_something_else_keeps_its_traceback_and_says_at_which_image():
    with pytest.raises(TypeError, match="a view's own fault") as error:
        read(broken, 0)
    assert any("while reading" in note and "3.png" in note for note in error.value.__notes__)
    with pytest.raises(TypeError, match=r"in broken[\s\S]*while reading photos.3\.png"):
        read(broken, 1)


@pytest.mark.parametrize("act", [die, leave])
def test_a_worker_that_dies_leaves_the_name_of_its_image(act):
    sampler = [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4), (0, 5)]]
    said = r"process \(pid \d+\) ended .*The last image that it began to read: photos.3\.png\. .*fewer workers"
    loader = make_loader(Items(act), 1, torch.stack, batch_sampler=sampler)
    with pytest.raises(TrainingError, match=said), dead_workers_named():
        list(batches(loader))


FAILING = """
import torch
from synreal.engine.loading import batches, make_loader

def train():
    seen = batches(make_loader(list(range(100)), 2, torch.tensor))
    next(seen)
    raise RuntimeError("somebody's own network failed")

train()
"""


def test_a_traceback_that_keeps_the_loader_does_not_keep_the_process():
    ended = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: somebody's own network failed\n")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="something else"), dead_workers_named():
        raise RuntimeError("something else")
    with pytest.raises(TrainingError, match="DataLoader worker"), dead_workers_named():
        raise TrainingError("DataLoader worker (pid 1) in words of synreal")


def test_images_are_named_by_file_or_by_number():
    items = Items(None)
    assert named(items, [(0, 1), 2]) == f"{Path('photos', '1.png')}, {Path('photos', '2.png')}"
    assert named(items, range(20)).endswith("15.png and 4 more")
    items.images.folder = None
    assert named(items, [(2, 5)]) == "image 5 of photos (train)"
    assert named([1, 2], [1]) == "image 1 of the data (all)"
