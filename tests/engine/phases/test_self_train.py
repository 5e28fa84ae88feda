"""Self-training: which labels are made from which weights, where they are kept, and what the result says."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from synreal.engine import building, pseudo_labels
from synreal.engine.checkpoint import load
from synreal.engine.phases.self_train import SelfTrain
from synreal.engine.phases.train import Train
from synreal.engine.pseudo_labels import Confidences
from synreal.errors import CheckpointError, ConfigError, TrainingError
from synreal.functional import class_balanced_labels
from synreal.records import read_record
from synreal.tasks.items import TestItems
from tests.engine import tiny
from tests.engine.phases.stopping import stop_after
from tests.engine.tiny import outcome, rows, run

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

SHORT = {"eval_every": 0, "checkpoint_every": 1, "keep_checkpoints": 50, "epochs": 1, "regularizers": "none"}
ROUNDS = "self_train(rounds=2, share=0.6, step=0.1, cap=1, source=(0.25, 0, 0.25))"
PHASES = ["train", ROUNDS]


def manifest(path, number):
    return json.loads((path / "pseudo_labels" / f"round-{number:02d}" / "labels.json").read_text())


def predicted(path, step, task_name):
    """Probabilities of all images, float64, by the weights of a checkpoint."""
    config = tiny.make_config(path, **SHORT, task=task_name, phases=PHASES)
    task = building.load_task(config)
    student = building.build_student(task, config)
    prefix = "student."
    state = load(path / "checkpoints" / f"step-{step:08d}").model
    student.network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    student.network.eval()
    items = TestItems(task.tests["mnist"], task.test_item())
    size, found = config.testing.eval_batch_size, []
    for start in range(0, len(items), size):
        batch, _ = task.collate_test([items[index] for index in range(start, min(start + size, len(items)))])
        with torch.no_grad():
            found += task.probabilities(student, batch, torch.device("cpu"))
    return found


def labels_of(chances, rows, share):
    """What is to come of probabilities; the functions themselves are held to the equations elsewhere."""
    sure = Confidences(rows.shape[1])
    sure.update(rows)
    thresholds = sure.thresholds(share, torch.device("cpu"))
    return thresholds, [class_balanced_labels(one.reshape(len(thresholds), -1).T, thresholds) for one in chances]


def test_labels_are_those_of_the_weights_after_training_and_of_each_round(tmp_path):
    path = run(tmp_path / "run", phases=PHASES, **SHORT).folder
    for number, step, share in ((1, 4, 0.6), (2, 6, 0.7)):
        told = manifest(path, number)
        chances = predicted(path, step, "cls")
        thresholds, labels = labels_of(chances, torch.stack(chances), share)
        assert told["share"] == share
        assert told["thresholds"] == pytest.approx(thresholds.tolist(), rel=1e-6)
        assert told["labels"] == torch.cat(labels).tolist()
        assert told["counts"] == np.bincount([k for k in told["labels"] if k >= 0], minlength=10).tolist()
    found = [row for row in rows(path) if "loss" in row]
    assert [row["phase"] for row in found] == ["train"] * 4 + ["self_train 1/2"] * 2 + ["self_train 2/2"] * 2
    assert [row["lr"] for row in found[4:]] == pytest.approx([0.005] * 4)


def test_what_is_learnt_from_are_the_labels_and_some_of_the_source(tmp_path, monkeypatch):
    seen = []
    original = Train.output

    def output(self, state, views, targets):
        if isinstance(self, SelfTrain):
            seen.append((self._round, targets.tolist(), state.job.data.images))
        return original(self, state, views, targets)

    monkeypatch.setattr(Train, "output", output)
    path = run(tmp_path / "run", phases=PHASES, **SHORT).folder
    for number in (0, 1):
        told = manifest(path, number + 1)
        images = next(one for which, _, one in seen if which == number)
        real, source = 6 + number, 6  # floor(0.6 * 11), floor(0.7 * 11), a quarter of 24
        assert len(images) == real + source
        kept = [index for index, label in enumerate(told["labels"]) if label >= 0]
        chosen = [images[index] for index in range(real)]
        pool = tiny.load("mnist", "test")
        originals = [pool[index][0] for index in kept]
        for image, label in chosen:
            index = next(i for i, one in zip(kept, originals, strict=True) if torch.equal(one, image))
            assert label == told["labels"][index]
        train = tiny.load("digits", "train")
        for index in range(real, real + source):
            shown, label = images[index]
            assert any(torch.equal(shown, other) and label == k for other, k in map(train.__getitem__, range(24)))


def test_masks_are_labelled_pixel_by_pixel(tmp_path):
    path = run(tmp_path / "run", task="seg", phases=PHASES, **SHORT).folder
    told = manifest(path, 1)
    assert told["labels"] is None
    chances = predicted(path, 4, "seg")
    thresholds, labels = labels_of(chances, torch.cat([one[:, ::4, ::4].flatten(1).T for one in chances]), 0.6)
    assert told["thresholds"] == pytest.approx(thresholds.tolist(), rel=1e-6)
    for index, wanted in enumerate(labels):
        mask = pseudo_labels.read_ids(path / "pseudo_labels" / "round-01" / f"{index:06d}.png").astype(int)
        assert (np.where(mask == 255, -1, mask).ravel() == wanted.numpy()).mean() > 0.999
        assert told["labelled"][index] == (mask != 255).sum()
    again = tmp_path / "again"
    stop_after(5, again, task="seg", phases=PHASES, **SHORT)
    run(again, resume=True, task="seg", phases=PHASES, **SHORT)
    assert outcome(again) == outcome(path)


def test_true_labels_of_the_target_are_not_looked_at(tmp_path, monkeypatch):
    settings = {**SHORT, "phases": PHASES}
    path = run(tmp_path / "run", **settings).folder
    original = tiny.load

    def load_other(value, split, label="classes", **others):
        images = original(value, split, label, **others)
        if split == "test":
            images.labels = (images.labels + 3) % 10
        return images

    monkeypatch.setattr("synreal.data.load", load_other)
    other = run(tmp_path / "other", **settings).folder
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (path, other))
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def test_the_result_says_which_images_were_seen(tmp_path):
    record = read_record(run(tmp_path / "run", phases=PHASES, **SHORT).folder)
    assert record.protocol.phases == ["train", "self_train"]
    assert record.protocol.seen_of_target == "images"
    assert record.protocol.saw == "unlabelled target (mnist, the test images)"
    assert record.protocol.seen[0].fingerprint == record.targets["mnist"].fingerprint
    settings = {**SHORT, "targets": ["mnist"], "phases": ["train", "self_train(rounds=1, share=1, cap=1, images=uci)"]}
    record = read_record(run(tmp_path / "other", **settings).folder)
    assert record.protocol.saw == "unlabelled target (uci, test)"


@pytest.mark.parametrize("damage", ["gone", "changed", "not JSON", "others"])
def test_labels_that_are_gone_or_damaged_are_told(damage, tmp_path):
    path = tmp_path / "run"
    stop_after(5, path, phases=PHASES, **SHORT)
    file = path / "pseudo_labels" / "round-01" / "labels.json"
    told = json.loads(file.read_text())
    if damage == "gone":
        file.unlink()
    elif damage == "changed":
        told["labels"] = [(label + 1) % 10 for label in told["labels"]]
        file.write_text(json.dumps(told))
    elif damage == "not JSON":
        file.write_text("{")
    else:
        del told["fingerprint"]
        told["images"] = "0" * 64
        raw = json.dumps(told, sort_keys=True).encode()
        file.write_text(json.dumps(told | {"fingerprint": hashlib.sha256(raw).hexdigest()}))
    message = {"gone": "Cannot read", "changed": "is damaged", "not JSON": "is not JSON", "others": "of other images"}
    with pytest.raises(CheckpointError, match=rf"{message[damage]}.*put its own files back"):
        run(path, resume=True, phases=PHASES, **SHORT)


def test_nothing_to_learn_from_is_an_error_in_words(tmp_path):
    phases = ["train", "self_train(rounds=1, share=0.01)"]
    with pytest.raises(TrainingError, match=r"labelled none of the 11 images of mnist \(test\): .* share of 0\.01"):
        run(tmp_path / "run", phases=phases, **SHORT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "det", "phases": PHASES}, "needs a probability of each class, which the task 'detection'"),
        ({"phases": [ROUNDS]}, "labels images by a student that is trained"),
        ({"phases": ["train", "self_train", "self_train"]}, "The phase self_train is there twice"),
        ({"targets": "none", "phases": ["train", "self_train"]}, "self_train takes images of the target, and there is"),
        ({"phases": ["train", "self_train(images=digits)"]}, "'digits' is synthetic: it is not a target"),
        ({"phases": ["train", "self_train(source=(2, 0, 1))"]}, "expected three shares of the source"),
    ],
)
def test_what_does_not_suit_is_told_before_data_are_read(settings, message, tmp_path, monkeypatch):
    monkeypatch.setattr("synreal.data.load", None)
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", **{**SHORT, **settings})


def test_a_finished_run_is_started_from(tmp_path):
    first = run(tmp_path / "first", phases=["train"], **SHORT).folder
    settings = {**SHORT, "start": first, "phases": [ROUNDS], "regularizers": "gcisg", "wise_ft": 0.5}
    path = run(tmp_path / "second", **settings).folder
    whole = run(tmp_path / "whole", phases=PHASES, **SHORT).folder
    assert manifest(path, 1) == manifest(whole, 1)  # of the same weights
    record = read_record(path)
    assert record.weights["start"].startswith("none, protocol ")
    assert "start" not in read_record(whole).weights
    again = tmp_path / "again"
    stop_after(1, again, **settings)
    run(again, resume=True, **settings)
    assert outcome(again) == outcome(path)


def test_a_start_must_be_a_finished_run_of_the_same_classes(tmp_path, monkeypatch):
    first = run(tmp_path / "first", phases=["train"], **SHORT).folder
    settings = {**SHORT, "phases": ["train"]}
    with pytest.raises(ConfigError, match=r"Cannot start from .*nowhere"):
        run(tmp_path / "run", start=tmp_path / "nowhere", **settings)
    with pytest.raises(CheckpointError, match="does not fit the student of this run"):
        run(tmp_path / "run", start=first, backbone="test_resnet", **settings)
    other = shutil.copytree(first, tmp_path / "other")
    facts = json.loads((other / "run.json").read_text())
    facts["classes"] = facts["classes"][::-1]
    (other / "run.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="does not fit the run's configuration: its classes"):
        run(tmp_path / "run", start=other, **settings)
    (other / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="Cannot read"):
        run(tmp_path / "run", start=other, **settings)
