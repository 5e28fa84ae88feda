"""Grids on a handful of small images, and runs that seem to have been made."""

import json
import warnings
from pathlib import Path

import yaml

from synreal import engine
from synreal.bench import read_grid
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.engine import run_folder
from tests.data.simple_trees import imagefolder_tree

STEPS = 8  # of a run: two epochs of four


def trees(folder: Path) -> Path:
    """Write drawn images to train on and photographs to test on."""
    imagefolder_tree(folder / "drawn", per_class=6)
    imagefolder_tree(folder / "photo", per_class=2, seed=1)
    return folder


def pair(images: Path, /, **changes):
    """A run configuration on ``trees``."""
    sections = {
        "task": "classification",
        "data": {
            "source": f"imagefolder(root='{images / 'drawn'}', name='drawn', heldout=2)",
            "targets": [f"imagefolder(root='{images / 'photo'}', name='photo')"],
            "image_size": 32,
            "workers": 0,
        },
        "student": {"backbone": "test_efficientnet", "weights": "none"},
        "training": {"epochs": 2, "batch_size": 4, "lr": 0.05, "warmup_steps": 2, "device": "cpu"},
        "testing": {"eval_batch_size": 8},
        "output": {"log_every": 1},
    }
    return {
        key: {**value, **changes.pop(key, {})} if isinstance(value, dict) else value for key, value in sections.items()
    } | changes


def write_grid(folder: Path, values=None, /, pairs=None, **keys) -> Path:
    """Write a grid and its pairs into a folder.

    Args:
        folder: Where; it holds ``trees``, unless ``pairs`` are given.
        values: Keys of the grid.
        pairs: Run configurations by name; default one, ``"small"``.
        **keys: More keys of the grid.
    """
    pairs = {"small": pair(folder)} if pairs is None else pairs
    for name, one in pairs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(one, sort_keys=False))
    keys = {
        "pairs": [f"{name}.yaml" for name in pairs],
        "regularizers": ["none"],
        "seeds": [0],
        **(values or {}),
        **keys,
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"output": str(folder / "runs"), **keys}, sort_keys=False))
    return path


def grid(folder: Path, values=None, /, **keys):
    """Write a grid and read it."""
    return read_grid(write_grid(folder, values, **keys))


def run_here(cell):
    """Make the run of a cell in this process; gives its record."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedTeacherWarning)
        return engine.run(cell.config, show_progress=False).record


def pretend(cell, like, headline=None, *, write=True):
    """Return the record of a cell's run as it may be, and put it into its folder.

    Args:
        cell: The cell.
        like: The record of another run.
        headline: Of held-out source, its styles and the targets.
        write: Leave a run folder.
    """
    plain = cell.config.model_dump(mode="json")
    values = json.loads(like.model_dump_json())
    values["config"], values["regularizers"] = plain, plain["regularizers"]
    values["defaults"] = [spec.model_dump(mode="json") for spec in cell.config.plain_terms]
    values["protocol"]["seed"] = cell.seed
    values["shifted"] = {spec["name"]: values["source_heldout"] for spec in plain["testing"]["shifts"]}
    values = json.loads(json.dumps(values))  # no two scores are one
    if headline is not None:
        for score in (values["source_heldout"], *values["shifted"].values(), *values["targets"].values()):
            score["measures"]["mean_class_accuracy"] = headline
    record = type(like).model_validate(values)
    if write:
        cell.folder.mkdir(parents=True, exist_ok=True)
        (cell.folder / run_folder.RESULT_FILE).write_text(record.model_dump_json())
    return record
