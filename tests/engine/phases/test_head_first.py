"""The head alone on the frozen backbone: what moves, what stays to the bit, and from where averages start."""

import numpy as np
import pytest
import torch

from synreal.engine.checkpoint import load, read_student
from synreal.engine.phases import head_first
from synreal.errors import ConfigError
from synreal.functional import wise_ft
from synreal.records import read_record
from synreal.tasks.classification import Classification
from tests.engine import tiny
from tests.engine.phases.stopping import stop_after
from tests.engine.tiny import outcome, rows, run

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

SHORT = {"eval_every": 0, "checkpoint_every": 1, "keep_checkpoints": 50, "epochs": 1}
ENTRIES = {"cls": "", "seg": "encoder.", "det": "backbone.body."}
CENTRE = ("crop(place=center)",)


def state(path, step):
    return load(path / "checkpoints" / f"step-{step:08d}").model


def moved(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def losses(path, phase):
    return [row["loss"] for row in rows(path) if row.get("phase", phase) == phase and "loss" in row]


@pytest.mark.parametrize("task", ENTRIES)
def test_the_head_learns_and_no_bit_of_the_backbone_changes(task, tmp_path):
    settings = {
        **SHORT,
        "task": task,
        "regularizers": "none",
        "norm": "train",
        "lr": 0.02,
        "warmup_steps": 1,
        "momentum": 0.5,
    }
    path = run(tmp_path / "run", phases=["head_first(epochs=2)"], **settings).folder
    first, last = state(path, 1), state(path, 8)
    entry = f"student.{ENTRIES[task]}"
    changed = moved(first, last)
    inside = {name for name in first if name.startswith(entry) and not name.startswith("student.classifier.")}
    assert any(name.endswith("running_mean") for name in inside)
    assert changed.isdisjoint(inside)
    learns = [name for name in first if name.startswith("student.") and name not in inside and first[name].ndim > 1]
    assert changed >= {name for name in learns if "running" not in name}
    told = losses(path, "head_first")
    assert len(told) == 8
    assert sum(told[-4:]) < sum(told[:4])
    assert all("penalty" not in row for row in rows(path))


def test_the_head_is_the_same_for_every_method_and_their_state_stays_as_it_was(tmp_path):
    settings = {**SHORT, "phases": ["head_first(epochs=1)", "train"]}
    none, gcisg = (run(tmp_path / name, regularizers=name, **settings).folder for name in ("none", "gcisg"))
    ours, theirs = state(gcisg, 4), state(none, 4)
    assert {name: ours[name].tolist() for name in theirs} == {name: value.tolist() for name, value in theirs.items()}
    before, after, later = (state(gcisg, step) for step in (1, 4, 5))
    own = {name for name in before if name.startswith(("terms.", "averages."))}
    assert own
    assert moved(before, after).isdisjoint(own)
    assert moved(after, later) & own  # they move in training
    assert "student.conv_stem.weight" in moved(after, later)


def test_the_head_follows_the_equations_on_kept_features(tmp_path, monkeypatch):
    """Gradient descent on softmax regression, in NumPy: all images in each step, so that their order means nothing."""
    monkeypatch.setitem(tiny.COUNTS, ("digits", "train"), 20)
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    kept = []
    original = head_first._features
    monkeypatch.setattr(head_first, "_features", lambda state: kept.append(original(state)) or kept[-1])
    settings = {**SHORT, "views": CENTRE, "batch_size": 20, "schedule": "constant", "regularizers": "none"}
    settings |= {"lr": 3.0, "momentum": 0.9, "weight_decay": 0.01, "phases": ["head_first(epochs=6, lr=0.5)"]}
    path = run(tmp_path / "run", **settings).folder
    (found,) = kept
    x, y = found.features.double().numpy(), found.targets.numpy()
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    weights, velocity, told = np.zeros((10, x.shape[1])), 0.0, []
    for _ in range(6):
        logits = x @ weights.T
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        told.append(-np.log(chances[np.arange(len(y)), y]).mean())
        gradient = (chances - np.eye(10)[y]).T @ x / len(y) + 0.01 * weights
        velocity = 0.9 * velocity + gradient
        weights = weights - 0.5 * velocity
    end = read_student(path / "model.safetensors")
    got = np.concatenate([end["classifier.weight"].numpy(), end["classifier.bias"].numpy()[:, None]], 1)
    np.testing.assert_allclose(got, weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses(path, "head_first"), told, rtol=1e-5)
    assert told[-1] < told[0]


def test_features_are_kept_where_no_view_changes_an_image(tmp_path, monkeypatch):
    forwards = []
    build = Classification.build_student

    def build_student(self):
        student = build(self)
        student.network.conv_stem.register_forward_hook(lambda module, given, out: forwards.append(len(out)))
        return student

    monkeypatch.setattr(Classification, "build_student", build_student)

    def end(name, *views, most=head_first.MOST_BYTES):
        forwards.clear()
        monkeypatch.setattr(head_first, "MOST_BYTES", most)
        settings = {**SHORT, "regularizers": "none", "views": views, "phases": ["head_first(epochs=3)"]}
        path = run(tmp_path / name, **settings).folder
        return sum(forwards) - 28 - 23, read_student(path / "model.safetensors")  # tests and figures at the end

    seen, kept = end("kept", *CENTRE)
    assert seen == 1 + 24
    again, plain = end("too large", *CENTRE, most=100)
    assert again == 1 + 3 * 24
    for name, value in plain.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert end("drawn", "crop")[0] == 3 * 24


def test_what_is_averaged_with_the_end_has_the_trained_head(tmp_path):
    settings = {**SHORT, "regularizers": "none", "wise_ft": 0.5, "phases": ["head_first(epochs=1)", "train"]}
    path = run(tmp_path / "whole", **settings).folder
    probe = {name.removeprefix("student."): value for name, value in state(path, 4).items()}
    end, average = (read_student(path / f"{name}.safetensors") for name in ("model", "average-wise_ft-0.5"))
    assert moved(probe, end)
    mixed = wise_ft({name: probe[name] for name in end}, end)
    assert mixed.keys() == average.keys()
    assert moved(mixed, average) == set()
    assert list(read_record(path).averaged) == ["wise_ft(0.5)"]

    again = tmp_path / "again"
    stop_after(6, again, **settings)
    run(again, resume=True, **settings)
    assert outcome(again) == outcome(path)


def test_a_network_without_a_head_is_told(tmp_path, monkeypatch):
    original = head_first.HeadFirst.make_optimizer

    def without(self, job):
        for parameter in job.student.network.get_classifier().parameters():
            parameter.requires_grad_(False)
        return original(self, job)

    monkeypatch.setattr(head_first.HeadFirst, "make_optimizer", without)
    with pytest.raises(ConfigError, match="found no head that learns in EfficientNet"):
        run(tmp_path / "run", phases=["head_first"], **SHORT)


def test_the_rate_and_its_warmup(tmp_path):
    settings = {**SHORT, "regularizers": "none", "warmup_steps": 100, "lr": 0.5}
    path = run(tmp_path / "run", phases=["head_first(epochs=5, lr=0.1)"], **settings).folder
    rates = [row["lr"] for row in rows(path) if "lr" in row]
    assert len(rates) == 20
    assert rates.index(max(rates)) == 10  # half of the phase
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.1 * 0.5**0.9)
