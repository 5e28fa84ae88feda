"""Runs that take a fraction of a second: a handful of random images in place of the data sets.

``python -m tests.engine.tiny '{"config": {...}}'`` makes one in a process of its own, for tests that kill it.
"""

import hashlib
import json
import math
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import torch

from synreal import data, distributed, engine
from synreal.config import RunConfig
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.data import loading
from synreal.data.labels.boxes import Boxes
from synreal.data.sets import ArrayBoxes, ArrayImages, ArrayMasks
from synreal.engine import environment
from synreal.engine.progress import RunProgress
from synreal.errors import DataError, Interrupted, TrainingError
from synreal.figures import FIGURES, Figure
from synreal.measures import Collection
from synreal.plugins import load_plugin
from synreal.tasks.classification import Classification
from synreal.tasks.items import TrainingItems
from synreal.tasks.networks import detectors
from synreal.views import derive_seed
from tests.regularizers.contract import tiny as tiny_spec

ROOT = Path(__file__).parents[2]
COUNTS = {("digits", "train"): 24, ("digits", "heldout"): 10, ("mnist", "test"): 11, ("uci", "test"): 7}
STEPS_PER_EPOCH = 4
STEPS = 8
PHASES = ["train"]  # of every run here; tests change it
BATCHES_PER_TEST = 8  # batches of 4 of 10, 11 and 7 images

drawing = {figure: figure.draw for figure in FIGURES.classes().values() if issubclass(figure, Figure)}


def load(value, split, label="classes", *, seed=0, cache=None, policy=None):
    """What ``synreal.data.load`` gives, with random images."""
    name = data.find(value).label
    if (name, split) not in COUNTS:  # files of a test's own
        return loading.load(value, split, label, seed=seed, cache=cache, policy=policy or data.Policy())
    count, classes = COUNTS[name, split], data.find(name).class_names(label)
    generator = torch.Generator().manual_seed(derive_seed(name, split, seed))
    side = 32 if label == "classes" else 64
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    if label == "classes":
        return ArrayImages(name, split, images, torch.arange(count) % 10, classes)
    corners = torch.randint(0, 40, (count, 2, 2), generator=generator).float()
    boxes = torch.cat([corners, corners + torch.randint(12, 24, (count, 2, 2), generator=generator)], 2)
    labels = torch.arange(2 * count).view(count, 2) % 10
    if label == "boxes":
        rest = torch.zeros(2, dtype=torch.bool), torch.full((2,), 200.0)
        objects = [Boxes(boxes[index], labels[index], *rest) for index in range(count)]
        return ArrayBoxes(name, split, images, objects, classes)
    masks = torch.zeros(count, side, side, dtype=torch.uint8)
    for index in range(count):
        left, top, right, bottom = boxes[index, 0].int().tolist()
        masks[index, top:bottom, left:right] = labels[index, 0] + 1
    return ArrayMasks(name, split, images, masks, classes)


def install(setattr=setattr, drop_rate=0.3):
    """Put small data and detectors in place and draw nothing; give the network dropout, which a resumed run repeats."""
    build = Classification.build_student

    def build_student(self):
        student = build(self)
        student.network.drop_rate = drop_rate
        return student

    setattr(data, "load", load)
    setattr(Classification, "build_student", build_student)
    draw_nothing(setattr)
    narrow(setattr)
    setattr(environment, "_git_commit", lambda: None)


def draw_nothing(setattr=setattr):
    """Let runs leave no figures."""
    for figure in drawing:
        setattr(figure, "draw", lambda self, outcome, path: path)


def narrow(setattr=setattr):
    """Let detectors have 64 channels in their pyramid and heads, which take a sixteenth of the time of 256."""
    setattr(detectors, "_PYRAMID_CHANNELS", 64)


def make_config(output, **changes):
    """A run of two epochs of four steps that tests after each and logs every step."""
    settings = {
        "regularizers": "csg",
        "backbone": "test_efficientnet",
        "weights": "none",
        "image_size": 32 if changes.get("task", "cls") == "cls" else 64,
        "epochs": 2,
        "batch_size": 6,
        "lr": 0.05,
        "warmup_steps": 3,
        "eval_every": 1,
        "eval_batch_size": 4,
        "log_every": 1,
        "device": "cpu",
        "workers": 0,
        "output": output,
        "phases": PHASES,
        **changes,
    }
    if isinstance(settings["regularizers"], str):
        settings["regularizers"] = tiny_spec(settings["regularizers"])
    return RunConfig(**settings)


def run(output, *, resume=False, overwrite=False, **changes):
    return engine.run(make_config(output, **changes), resume=resume, overwrite=overwrite, show_progress=False)


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def outcome(path):
    """Everything that two runs of one seed must share to the bit; digests keep a failure's message short."""
    result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    del result["seconds"], result["cost"]
    for section, free in (
        ("output", "folder"),
        ("output", "keep_checkpoints"),
        ("data", "workers"),
        ("testing", "eval_batch_size"),
    ):
        del result["config"][section][free]
    return {
        "model": hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": (path / "metrics.jsonl").read_text(encoding="utf-8"),
        "result": result,
    }


def steps_saved(path):
    return sorted(entry.name for entry in (path / "checkpoints").iterdir())


def hold(at, marker, *, deaf=False):
    """After step ``at``, leave a marker until the run's signal handler has been called; if deaf, wait on and on."""
    original = RunProgress.step

    def step(self, number, losses):
        original(self, number, losses)
        if number == at:
            Path(marker).touch()
            give_up = time.monotonic() + 60
            # The handlers of before are back as soon as the first signal was heard.
            while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL and time.monotonic() < give_up:
                time.sleep(0.01)
            Path(marker).unlink()
            while deaf and time.monotonic() < give_up:
                time.sleep(0.01)

    RunProgress.step = step


def spoil(name):
    """Let the first image that this process trains on be one that cannot be read."""

    def refuse(self, at):
        raise DataError(f"{name} cannot be read.")

    TrainingItems.__getitem__ = refuse


def ask_in_test():
    """Let this process be asked to stop in the first batch that it tests."""
    original, seen = Collection.update, []

    def update(self, output, targets):
        original(self, output, targets)
        if not seen:
            seen.append(1)
            signal.raise_signal(signal.SIGUSR1)

    Collection.update = update


def main(order):
    """Make one run as told, or several; see the callers for the keys."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UntrainedTeacherWarning)
    for one in order if isinstance(order, list) else [order]:
        single(one)
    distributed.leave()


def single(order):
    """Make one run."""
    install(drop_rate=order.get("drop_rate", 0.3))
    if "hold" in order:
        hold(order["hold"], order["marker"], deaf=order.get("deaf_hold", False))
    if "stop_in_test" in order and os.environ["RANK"] == "1":
        ask_in_test()
    if "unreadable" in order and os.environ["RANK"] == "1":
        spoil(order["unreadable"])
    if "plugin" in order:
        load_plugin(order["plugin"])
    path = Path(order["config"].pop("output"))
    try:
        result = run(path, resume=order.get("resume", False), **order["config"])
    except (DataError, TrainingError) as error:
        if "unreadable" not in order:
            raise
        Path(f"{path}.rank{distributed.rank()}").write_text(str(error))
        sys.exit(error.exit_code)
    except Interrupted as stop:
        if "stop_in_test" not in order:
            sys.exit(stop.exit_code)
        Path(order["stop_in_test"], f"rank{distributed.rank()}.txt").write_text(f"{stop.exit_code} {stop}")
        return
    if "report" in order:
        COUNTS["uci", "test"] = 1  # fewer images than processes
        again = engine.evaluate(path, device="cpu", show_progress=False)
        report = {
            "broken": broken_on_rank_1(f"{order['report']}-broken"),
            "broken in a part": broken_on_rank_1(f"{order['report']}-broken-part", accumulate=2),
            "record": result.record.model_dump(mode="json"),
            "images": {k: s.images for k, s in again.items()},
        }
        Path(order["report"], f"rank{distributed.rank()}.json").write_text(json.dumps(report), encoding="utf-8")


def broken_on_rank_1(output, **changes):
    """What is said of a run whose first loss is not finite in one of two processes."""
    original, calls = Classification.loss, []

    def loss(self, given, targets):
        calls.append(1)
        return original(self, given, targets) * (math.nan if distributed.rank() and len(calls) == 1 else 1)

    Classification.loss = loss
    try:
        run(output, regularizers="none", batch_size=3, **changes)
    except TrainingError as error:
        return str(error)
    finally:
        Classification.loss = original
    return ""


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads were seen to abort the process while the interpreter took it down
