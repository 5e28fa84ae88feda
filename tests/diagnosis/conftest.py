import warnings
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from synreal import engine
from synreal.config import make_config
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.diagnosis.tries import tries_of
from tests.bench import grids
from tests.data.own_trees import coco_tree

REGULARIZERS = ["csg(queue_size=8)", "feature_l2"]
STEPS = 3
MORE = {
    "cls": {},
    "seg": {"architecture": "fpn", "output_stride": None},
    "det": {"architecture": "fcos"},
}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of weights: without any, there is no knowledge to lose."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "pretrained.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=10).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Drawn images and photographs of the same classes, and photographs that nobody labelled."""
    folder = grids.trees(tmp_path_factory.mktemp("images"))
    coco_tree(folder / "drawn-scenes")
    coco_tree(folder / "photo-scenes", seed=1)
    for number, file in enumerate(sorted((folder / "photo").rglob("*.png"))[:4]):
        (folder / "found").mkdir(exist_ok=True)
        Image.open(file).save(folder / "found" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def asked(images, weights):
    """The configuration of a task's run."""

    def get(task="cls", **changes):
        scenes = "" if task == "cls" else "-scenes"
        kind = "imagefolder" if task == "cls" else "coco"
        values = {
            "task": task,
            "source": f"{kind}(root='{images / f'drawn{scenes}'}', name='drawn', heldout=4)",
            "targets": [f"{kind}(root='{images / f'photo{scenes}'}', name='photo')"],
            "image_size": 32 if task == "cls" else 64,
            "workers": 0,
            "backbone": "test_efficientnet",
            "weights": str(weights),
            "epochs": 2,
            "batch_size": 4,
            "eval_batch_size": 4,
            "device": "cpu",
            **MORE[task],
        }
        return make_config({**values, **changes})

    return get


def make(config, output: Path, **settings):
    """Make the runs of a diagnosis in this process, as its workers would."""
    settings = {"regularizers": REGULARIZERS, "steps": STEPS, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedTeacherWarning)
        for one in tries_of(config, output, **settings):
            engine.run(one.cell.config, show_progress=False)
    return output
