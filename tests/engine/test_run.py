import contextlib
import dataclasses
import errno
import importlib
import json
import math
import os
import re
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
import timm
import torch
import yaml
from torch.utils.data import DataLoader

import synreal
from synreal import data, distributed, engine
from synreal.engine import building, checkpoint, environment, evaluate, preflight
from synreal.engine.checkpoint import load_latest, read_student
from synreal.engine.progress import RunProgress
from synreal.engine.signals import StopRequest
from synreal.engine.testing import score_student
from synreal.errors import CheckpointError, ConfigError, Interrupted, SynrealError, TrainingError, WeightsError
from synreal.measures import Collection
from synreal.optim import warmup_poly
from synreal.records import Change, RunRecord, read_record
from synreal.tasks.classification import Classification
from synreal.tasks.items import TrainingItems
from synreal.views import VIEWS, View
from tests.engine import tiny
from tests.engine.tiny import outcome, rows, run, steps_saved
from tests.faults import moments

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

REGULARIZERS = synreal.list_regularizers()
running = importlib.import_module("synreal.engine.run")  # as an attribute of the package it is the function
evaluating = importlib.import_module("synreal.engine.evaluate")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def snapshot_of(folder):
    """Every file's bytes and time of change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def student(folder):
    return read_student(folder / "model.safetensors")


def changed(first, second):
    """Names of the tensors that differ between two finished runs."""
    before, after = student(first), student(second)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


class Crash(Exception):
    """Stands for what nobody foresaw: a killed process leaves the same files."""


def after_step(patch, number, act):
    """Call ``act(request)`` once step ``number`` is made."""
    original, requests = RunProgress.step, []

    @contextlib.contextmanager
    def listening():
        requests.append(StopRequest())
        yield requests[-1]

    def step(self, made, losses):
        original(self, made, losses)
        if made == number:
            act(requests[-1])

    patch.setattr(running, "listening", listening)
    patch.setattr(RunProgress, "step", step)


def ask(request):
    request.exit_code = 143


def crash(request):
    raise Crash


def stop_run(output, step, *, resume=False, act=ask, error=Interrupted, **changes):
    """Make a run that ends after a step."""
    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, step, act)
        with pytest.raises(error):
            run(output, resume=resume, **changes)


def stop_in_test(output, batch, **changes):
    """Make a run that is asked to stop in the ``batch``-th batch that it tests."""
    original, seen = Collection.update, []
    with pytest.MonkeyPatch.context() as patch:
        requests = []

        @contextlib.contextmanager
        def listening():
            requests.append(StopRequest())
            yield requests[-1]

        def update(self, output, targets):
            original(self, output, targets)
            seen.append(1)
            if len(seen) == batch:
                ask(requests[-1])

        patch.setattr(running, "listening", listening)
        patch.setattr(Collection, "update", update)
        with pytest.raises(Interrupted):
            run(output, **changes)
    assert len(seen) == batch


@pytest.fixture(scope="module")
def _halfway(tmp_path_factory):
    output = tmp_path_factory.mktemp("halfway") / "run"
    stop_run(output, 6)
    return output


@pytest.fixture
def halfway(_halfway, tmp_path):
    """A run that was stopped after step 6 of 8."""
    return shutil.copytree(_halfway, tmp_path / "halfway")


@pytest.fixture
def no_data(monkeypatch):
    """Any reading of data fails the test."""
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("data were read"))


# ---------------------------------------------------------------------------------------------- what a run leaves


def test_a_run_leaves_its_folder(tmp_path, monkeypatch):
    for figure, draw in tiny.drawing.items():
        monkeypatch.setattr(figure, "draw", draw)
    output = tmp_path / "some" / "run"
    result = run(output)
    assert result.folder == output
    files = {"config.yaml", "run.json", "metrics.jsonl", "model.safetensors", "result.json"}
    assert {path.name for path in output.iterdir()} == files | {"checkpoints", "figures"}
    assert steps_saved(output) == ["step-00000004", "step-00000008"]
    pictures = sorted((output / "figures").iterdir())
    assert [path.name for path in pictures] == [
        f"{kind}-{name}.png" for kind in ("confusion", "predictions") for name in ("mnist", "source", "uci")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    config = tiny.make_config(output).model_dump(mode="json")
    assert yaml.safe_load((output / "config.yaml").read_text()) == config
    assert result.record == read_record(output)

    facts = json.loads((output / "run.json").read_text())
    assert facts["format"] == 1
    assert facts["config"] == config
    assert facts["classes"] == [str(digit) for digit in range(10)]
    assert facts["environment"]["threads"] == torch.get_num_threads()
    assert facts["environment"]["processes"] == 1
    assert facts["environment"]["device"] == "cpu"
    assert torch.__version__.startswith(facts["versions"]["torch"])
    assert facts["weights"] == {"source": "none", "detail": "random initialisation", "sha256": None}
    prints = {name: tiny.load(*name).fingerprint for name in tiny.COUNTS}
    assert facts["reference"] is None
    assert facts["plugins"] == []
    assert facts["data"] == {
        "train": prints["digits", "train"], "source": prints["digits", "heldout"],
        "mnist": prints["mnist", "test"], "uci": prints["uci", "test"],
    }  # fmt: skip


def test_metrics_hold_each_step_once(whole):
    found = rows(whole())
    training = [row for row in found if "loss" in row]
    tests = [row for row in found if "eval/mnist/accuracy" in row]
    assert len(training) + len(tests) == len(found)
    assert [row["step"] for row in training] == list(range(1, 9))
    assert [row["epoch"] for row in training] == [1] * 4 + [2] * 4
    assert [row["step"] for row in tests] == [4, 8]
    assert [row["step"] for row in found] == sorted(row["step"] for row in found)
    for row in training:
        assert row.keys() == {"step", "epoch", "loss", "penalty", "penalty/csg", "lr"}
        assert row["penalty"] == row["penalty/csg"]
        # The row of step i + 1 shows the rate that it was made with.
        assert row["lr"] == pytest.approx(0.05 * warmup_poly(row["step"] - 1, 8, warmup=3), rel=1e-6)
    names = ("source", "mnist", "uci")
    for row in tests:
        assert row.keys() == {"step", "epoch"} | {
            f"eval/{name}/{kind}" for name in names for kind in ("accuracy", "mean_class_accuracy")
        }


def test_rows_are_written_every_so_many_steps_and_at_the_end(tmp_path):
    run(tmp_path / "run", regularizers="none", epochs=1, max_steps=3, log_every=2, eval_every=0)
    assert [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == [2, 3]


@pytest.mark.parametrize(("regularizer", "views"), [("csg", 2), ("none", 1)])
def test_the_record_tells_the_protocol(whole, regularizer, views):
    path = whole(regularizers=regularizer)
    record = RunRecord.model_validate_json((path / "result.json").read_text())
    protocol = record.protocol
    assert protocol.views == views
    assert (protocol.task, protocol.source, protocol.source_images) == ("classification", "digits", 24)
    assert (protocol.steps, protocol.epochs, protocol.batch_size, protocol.processes) == (8, 2, 6, 1)
    assert (protocol.seed, protocol.image_size, protocol.chance) == (0, 32, 0.1)
    assert protocol.checkpoint == "last"
    assert protocol.source_fingerprint == tiny.load("digits", "train").fingerprint
    assert record.method == regularizer
    assert record.weights["source"] == "none"  # random weights are never silent
    scores = {"digits": record.source_heldout, **record.targets}
    assert {name: score.images for name, score in scores.items()} == {"digits": 10, "mnist": 11, "uci": 7}
    for name, score in scores.items():
        split = "heldout" if name == "digits" else "test"
        assert (score.data, score.split) == (name, split)
        assert score.fingerprint == tiny.load(name, split).fingerprint
        assert sum(map(sum, score.confusion)) == score.images
    assert record.targets["uci"].per_class["9"] is None  # seven images: no seven, eight or nine
    tests = [row for row in rows(path) if "eval/uci/accuracy" in row]
    assert (
        tests[-1]["eval/uci/accuracy"] == record.targets["uci"].measures["accuracy"]
    )  # the headline is the last, not the best
    for name, best in record.target_selected.items():
        assert best.measures["mean_class_accuracy"] == max(row[f"eval/{name}/mean_class_accuracy"] for row in tests)


def test_plain_timm_loads_the_student_and_gives_the_same_logits(whole, monkeypatch):
    path = whole()
    seen = {}
    original = Collection.update

    def update(self, output, targets):
        seen.setdefault(self.images.name, []).append(output.clone())
        original(self, output, targets)

    monkeypatch.setattr(Collection, "update", update)
    evaluate(path, device="cpu", show_progress=False)

    model = timm.create_model("test_efficientnet", num_classes=10).eval()
    model.load_state_dict(student(path))
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        logits = [model((images / 255 - mean) / std) for images, _ in DataLoader(tiny.load("mnist", "test"), 4)]
    assert torch.allclose(torch.cat(seen["mnist"]), torch.cat(logits), rtol=1e-5, atol=1e-6)
    record = read_record(path)
    right = torch.cat(logits).argmax(1) == torch.arange(11) % 10
    assert record.targets["mnist"].measures["accuracy"] == float(right.sum()) / 11
    assert torch.cat(logits).std() > 1e-3  # or any network would agree


# ---------------------------------------------------------------------------------------------- same seed, same bits


def test_one_seed_gives_one_run(tmp_path, whole):
    run(tmp_path / "again")
    assert outcome(tmp_path / "again") == outcome(whole())


def test_another_seed_gives_another_run(tmp_path, whole):
    run(tmp_path / "other", seed=1)
    first, second = outcome(whole()), outcome(tmp_path / "other")
    assert first["model"] != second["model"]
    assert first["metrics"] != second["metrics"]


def test_workers_change_no_bit(tmp_path, whole):
    run(tmp_path / "run", workers=2)
    assert outcome(tmp_path / "run") == outcome(whole())


@pytest.mark.parametrize("task", ["cls", "seg", "det"])
def test_no_more_images_than_asked_for_are_tested(tmp_path, task):
    settings = {"task": task, "regularizers": "none", "epochs": 0}
    every, some = (run(tmp_path / str(most), max_test_images=most, **settings).record for most in (None, 8))
    tested = {"source": some.source_heldout, **some.targets}
    whole = {"source": every.source_heldout, **every.targets}
    numbers = {name: score.images for name, score in whole.items()}
    assert {name: score.images for name, score in tested.items()} == {name: min(n, 8) for name, n in numbers.items()}
    same = {name for name, score in tested.items() if score.fingerprint == whole[name].fingerprint}
    assert same == {name for name, number in numbers.items() if number <= 8}
    if task == "cls":  # image i of ten is of class i: spread evenly, the fifth and the last are left out
        assert [sum(row) for row in some.source_heldout.confusion] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 0]
    again = evaluate(tmp_path / "8", show_progress=False)
    assert {name: score.measures for name, score in again.items()} == {n: s.measures for n, s in tested.items()}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_every_regularizer_runs_and_reports(whole, name):
    path = whole(regularizers=name)
    record = read_record(path)
    assert [spec["name"] for spec in record.regularizers] == [name]
    training = [row for row in rows(path) if "loss" in row]
    assert all(math.isfinite(row[f"penalty/{name}"]) for row in training)
    assert len(training) == tiny.STEPS


def attached(monkeypatch, output, **changes):
    """Make a run and return what it trained."""
    seen = []

    def attach(*args, **kwargs):
        seen.append((loop_attach(*args, **kwargs), kwargs))
        return seen[-1][0]

    loop_attach = building.attach
    monkeypatch.setattr(building, "attach", attach)
    run(output, **changes)
    return seen[0]


def test_synaptic_intelligence_consolidates_each_epoch_unless_told(tmp_path, monkeypatch):
    model, _ = attached(monkeypatch, tmp_path / "epochs", regularizers=("si",))
    assert model.terms["si"].interval == tiny.STEPS_PER_EPOCH
    model, _ = attached(monkeypatch, tmp_path / "told", regularizers=("si(interval=3)",))
    assert model.terms["si"].interval == 3


def test_kl_compares_through_the_pretrained_classifier(tmp_path, monkeypatch):
    model, kwargs = attached(monkeypatch, tmp_path / "run", regularizers=("kl",))
    assert kwargs["reference"].num_classes == 1000
    assert model.student.num_classes == 10
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["reference"]["source"] == "none"


def test_another_network_can_be_the_teacher(tmp_path, monkeypatch):
    create = building.create_teacher
    names = []

    def untrained(name, *, weights="auto"):
        names.append((name, weights))
        return create(name, weights="none")

    monkeypatch.setattr(building, "create_teacher", untrained)
    monkeypatch.setattr(preflight.weights, "check", lambda *args: None)
    spec = "guidance(adapter=true, stages=[3, 4])"
    model, _ = attached(monkeypatch, tmp_path / "run", regularizers=(spec,), reference="test_resnet")
    assert names == [("test_resnet", "auto")]
    assert type(model.reference.network).__name__ == "ResNet"


def test_fisher_information_comes_from_source_images_and_survives_a_stop(tmp_path, whole, monkeypatch):
    spec = ("weight_l2(importance=fisher, fisher_samples=5, weight=1)",)
    path = whole(regularizers=spec)
    assert rows(path)[-2]["penalty"] > 0
    stop_run(tmp_path / "run", 5, regularizers=spec)
    monkeypatch.setattr("synreal.regularizers.weight_l2._FisherTerm.calibrate", lambda *args: pytest.fail("again"))
    run(tmp_path / "run", resume=True, regularizers=spec)
    assert outcome(tmp_path / "run") == outcome(path)


# ---------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("name", REGULARIZERS)
def test_resumed_mid_epoch_is_bit_equal(tmp_path, whole, name):
    output = tmp_path / "run"
    stop_run(output, 6, regularizers=name)
    assert steps_saved(output)[-1] == "step-00000006"
    run(output, resume=True, regularizers=name)
    assert outcome(output) == outcome(whole(regularizers=name))


@pytest.mark.parametrize("step", [1, 4, 8], ids=["first step", "last of an epoch", "last of all"])
def test_resumed_after_a_stop_is_bit_equal(tmp_path, whole, step):
    output = tmp_path / "run"
    stop_run(output, step)
    assert steps_saved(output)[-1] == f"step-{step:08d}"
    assert not (output / "result.json").exists()
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_resumed_after_a_stop_with_moving_statistics_is_bit_equal(tmp_path, whole):
    changes = {"norm": "train", "clip_norm": 1.0, "regularizers": ("feature_l2",)}
    stop_run(tmp_path / "run", 5, **changes)
    run(tmp_path / "run", resume=True, **changes)
    assert outcome(tmp_path / "run") == outcome(whole(**changes))


def test_resumed_after_a_crash_before_the_first_checkpoint(tmp_path, whole):
    output = tmp_path / "run"
    stop_run(output, 3, act=crash, error=Crash)
    assert [row["step"] for row in rows(output)] == [1, 2]
    assert not (output / "checkpoints").exists()
    (output / "config.yaml").unlink()  # killed even earlier
    run(output, resume=True)
    assert outcome(output) == outcome(whole())
    config = tiny.make_config(output).model_dump(mode="json")
    assert yaml.safe_load((output / "config.yaml").read_text()) == config


def test_rows_past_the_checkpoint_are_dropped(tmp_path, whole):
    output = tmp_path / "run"
    stop_run(output, 7, act=crash, error=Crash)
    assert steps_saved(output) == ["step-00000004"]
    assert [row["step"] for row in rows(output)] == [1, 2, 3, 4, 4, 5, 6]
    with (output / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "epo')  # the row that was being written
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_a_stop_in_a_test_between_epochs_is_bit_equal(tmp_path, whole):
    output = tmp_path / "run"
    stop_in_test(output, 5)
    assert steps_saved(output) == ["step-00000004"]
    assert [row["step"] for row in rows(output)] == [1, 2, 3, 4]
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_a_stop_in_the_last_test_is_bit_equal(tmp_path, whole):
    output = tmp_path / "run"
    stop_in_test(output, tiny.BATCHES_PER_TEST + 4)
    assert steps_saved(output) == ["step-00000004", "step-00000008"]
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_a_stop_in_a_test_does_not_touch_a_checkpoint_of_that_step(tmp_path, monkeypatch):
    saved = []
    original = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, snapshot, keep: saved.append(original(folder, snapshot, keep=keep))
    )
    output = tmp_path / "run"
    stop_in_test(output, tiny.BATCHES_PER_TEST + 1)
    assert [path.name for path in saved] == ["step-00000004", "step-00000008"]
    stop_in_test(output, 2, resume=True)
    assert len(saved) == 2


def test_a_crash_after_the_last_test_gives_no_row_twice(tmp_path, whole, monkeypatch):
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(running, "_finish", lambda *_: crash(None))
        with pytest.raises(Crash):
            run(output)
    assert [row["step"] for row in rows(output)][-2:] == [8, 8]
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_a_resumed_run_can_be_resumed(tmp_path, whole):
    output = tmp_path / "run"
    stop_run(output, 2)
    # None of these moves a number of the result.
    stop_run(output, 3, resume=True, workers=1, keep_checkpoints=1)
    stop_run(output, 7, resume=True, eval_batch_size=3, checkpoint_every=5)
    run(output, resume=True)
    after = outcome(output)
    after["result"]["config"]["output"]["checkpoint_every"] = None
    assert after == outcome(whole())


@pytest.mark.parametrize(
    ("where", "name", "value", "what"),
    [
        (torch, "get_num_threads", 7, "threads"),
        (environment, "device_kind", "some GPU", "device"),
        (environment, "versions", {**environment.versions(), "torch": "1.0"}, "torch"),
    ],
)
def test_what_changed_under_a_run_stands_in_its_result(halfway, whole, monkeypatch, where, name, value, what):
    then = getattr(where, name)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, lambda *_: value)
        stop_run(halfway, 7, resume=True)
    former = then(torch.device("cpu")) if name == "device_kind" else then()
    now, former = (str(each[what] if isinstance(each, dict) else each) for each in (value, former))
    record = run(halfway, resume=True).record
    assert record.changes == [
        Change(what=what, then=former, now=now, step=6),
        Change(what=what, then=now, now=former, step=7),
    ]
    assert read_record(halfway) == record
    assert read_record(whole()).changes == []


def test_a_finished_run_is_left_alone(finished, no_data):
    before = snapshot_of(finished)
    result = run(finished, resume=True)
    assert result.record == read_record(finished)
    assert snapshot_of(finished) == before


@pytest.mark.filterwarnings("ignore:.*Falling back")
def test_a_damaged_checkpoint_costs_steps_but_no_bit(halfway, whole):
    assert steps_saved(halfway) == ["step-00000004", "step-00000006"]
    (halfway / "checkpoints" / "step-00000006" / "model.safetensors").write_bytes(b"")
    run(halfway, resume=True)
    assert outcome(halfway) == outcome(whole())


def test_resume_refuses_another_configuration(halfway, no_data):
    before = snapshot_of(halfway)
    with pytest.raises(ConfigError) as caught:
        run(halfway, resume=True, lr=0.01, image_size=64, regularizers="none")
    assert caught.value.exit_code == 2
    rows = [line.split() for line in str(caught.value).splitlines()[1:-1]]
    assert rows[0] == ["key", "then", "now"]
    assert ["training.lr", "0.05", "0.01"] in rows
    assert ["data.image_size", "32", "64"] in rows
    assert {row[0].partition(".")[0] for row in rows[1:]} == {"data", "regularizers", "training"}
    assert "training.seed" not in str(caught.value)
    assert snapshot_of(halfway) == before


def test_resume_refuses_other_data(halfway, monkeypatch):
    monkeypatch.setattr(
        data, "load", lambda name, split, label, **_: tiny.load(name, split, label, seed=5 if split == "train" else 0)
    )
    with pytest.raises(CheckpointError, match=r"The data changed since the checkpoint was made: train\."):
        run(halfway, resume=True)
    assert not (halfway / "result.json").exists()


def test_resume_refuses_other_classes(tmp_path, monkeypatch, halfway):
    load = tiny.load
    named = ("nought", *data.find("digits").class_names("classes")[1:])

    def renamed(*given, **more):
        images = load(*given, **more)
        images.classes = named
        return images

    monkeypatch.setattr(data, "load", renamed)
    for checkpoints in (True, False):  # also before the first one
        if not checkpoints:
            shutil.rmtree(halfway / "checkpoints")
        with pytest.raises(CheckpointError, match=r"classes of the source changed .*gone: \w+; new: nought\. Then: "):
            run(halfway, resume=True)


def test_resume_refuses_another_teacher(halfway, monkeypatch):
    build = Classification.build_student

    def build_other(self):
        student = build(self)
        student.network.conv_stem.weight.data.mul_(2)
        return student

    monkeypatch.setattr(Classification, "build_student", build_other)
    with pytest.raises(CheckpointError, match="another teacher"):
        run(halfway, resume=True)


def test_resume_needs_a_run_folder(tmp_path, no_data):
    with pytest.raises(ConfigError, match=r"holds no run\.json"):
        run(tmp_path, resume=True)


def test_resume_refuses_data_that_changed_before_the_first_checkpoint(tmp_path, monkeypatch):
    output = tmp_path / "run"
    stop_run(output, 2, act=crash, error=Crash)
    monkeypatch.setattr(
        data, "load", lambda name, split, label, **_: tiny.load(name, split, label, seed=5 if split == "train" else 0)
    )
    with pytest.raises(CheckpointError, match=r"The data changed since the run was started: train\."):
        run(output, resume=True)


def test_resume_refuses_a_checkpoint_of_another_run(halfway, tmp_path):
    stop_run(tmp_path / "other", 7, lr=0.1)
    shutil.rmtree(halfway / "checkpoints")
    (tmp_path / "other" / "checkpoints").rename(halfway / "checkpoints")
    with pytest.raises(CheckpointError, match=r"key +checkpoint +run\n +training\.lr +0\.1 +0\.05\n") as caught:
        run(halfway, resume=True)
    assert str(halfway / "checkpoints") in str(caught.value)


# ---------------------------------------------------------------------------------------------- stops


def stop_at(patch, owner, name, number=signal.SIGTERM):
    """Send this process a signal when something is called for the first time."""
    original, calls = getattr(owner, name), []

    def call(*args, **more):
        calls.append(1)
        if len(calls) == 1:
            signal.raise_signal(number)
        return original(*args, **more)

    patch.setattr(owner, name, call)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129), ("SIGUSR1", 138)])
def test_each_signal_ends_a_run_after_its_step(tmp_path, monkeypatch, whole, name, code):
    output = tmp_path / "a run"
    stop_at(monkeypatch, RunProgress, "step", getattr(signal, name))
    with pytest.raises(Interrupted) as caught:
        run(output)
    assert caught.value.exit_code == code
    assert steps_saved(output) == ["step-00000001"]
    assert str(caught.value).endswith(f"Go on with: synreal run --resume '{output}'")
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_a_stop_while_data_are_read_leaves_nothing(tmp_path, monkeypatch):
    stop_at(monkeypatch, data, "load")
    with pytest.raises(Interrupted, match=r"Stopped before the first step; nothing is written\.") as caught:
        run(tmp_path / "run")
    assert caught.value.exit_code == 143
    assert not (tmp_path / "run").exists()


def test_a_stop_while_a_resumed_run_reads_its_data_keeps_what_it_had(halfway, monkeypatch, whole):
    before = snapshot_of(halfway)
    with monkeypatch.context() as patch:
        stop_at(patch, data, "load", signal.SIGUSR1)
        with pytest.raises(Interrupted, match=r"what it had is kept\. Go on with: synreal run --resume ") as caught:
            run(halfway, resume=True)
    assert caught.value.exit_code == 138
    assert snapshot_of(halfway) == before
    run(halfway, resume=True)
    assert outcome(halfway) == outcome(whole())


def test_a_stop_in_the_estimate_of_the_fisher_information(tmp_path, monkeypatch):
    seen = []
    original = Classification.entry_images
    monkeypatch.setattr(Classification, "entry_images", lambda self, *a: (seen.append(1), original(self, *a))[1])
    stop_at(monkeypatch, Classification, "entry_images")
    with pytest.raises(Interrupted, match="before the first step"):
        run(tmp_path / "run", regularizers=("weight_l2(importance=fisher, fisher_samples=20)",))
    assert len(seen) == 1
    assert not (tmp_path / "run").exists()


def test_a_stop_before_the_first_step_is_saved(tmp_path, monkeypatch, whole):
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, RunProgress, "start")
        with pytest.raises(Interrupted, match="Stopped at step 0; everything is saved"):
            run(output)
    assert steps_saved(output) == ["step-00000000"]
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


def test_the_checkpoint_is_written_before_the_test(tmp_path, monkeypatch, whole):
    output, saved = tmp_path / "run", []
    original = Collection.update

    def update(self, output_of, targets):
        if not saved:
            saved.extend(steps_saved(output))
            raise Crash
        original(self, output_of, targets)

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "update", update)
        with pytest.raises(Crash):
            run(output)
    assert saved == ["step-00000004"]
    run(output, resume=True)
    assert outcome(output) == outcome(whole())


@pytest.mark.parametrize("processes", [2, 3])
def test_every_process_asks_equally_often_whether_to_stop(processes, monkeypatch):
    monkeypatch.setattr(Collection, "gather", lambda self, device: None)
    monkeypatch.setattr(Collection, "compute", lambda self: None)
    config = tiny.make_config(None, eval_batch_size=2)
    task = building.load_task(config)
    student, whole = building.build_student(task, config), task.tests["uci"]
    asked = []

    def count():
        asked[-1] += 1
        return False

    for images in range(1, 8):
        task.tests = {"uci": whole.subset(range(images), {})}
        asked.clear()
        for rank in range(processes):
            asked.append(0)
            accelerator = SimpleNamespace(
                process_index=rank, num_processes=processes, device=torch.device("cpu"), autocast=contextlib.nullcontext
            )
            score_student(student, task, config, accelerator, StopRequest(), asked=count)
        assert asked == [math.ceil(math.ceil(images / processes) / 2)] * processes


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_error_stream_on_a_full_disk_fails_no_run(tmp_path, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        engine.run(tiny.make_config(tmp_path / "run", regularizers="none", epochs=0))
        with contextlib.suppress(OSError):
            full.flush()


# ---------------------------------------------------------------------------------------------- numerics


def tensors_saved(folder):
    return [value for value in load_latest(folder / "checkpoints").model.values() if value.is_floating_point()]


def spoil(patch, at, spoiled):
    """Replace the task's loss of the ``at``-th step, counted from 0, by ``spoiled(loss, output)``."""
    original, calls = Classification.loss, []

    def loss(self, output, targets):
        calls.append(1)
        value = original(self, output, targets)
        return spoiled(value, output) if len(calls) == at + 1 else value

    patch.setattr(Classification, "loss", loss)


def infinite_gradient(loss, output):
    output.register_hook(lambda gradient: gradient * math.inf)
    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch, value):
    spoil(monkeypatch, 5, lambda loss, output: loss * value)
    with pytest.raises(TrainingError, match=rf"Step 5 is not finite: loss = {value}, penalty = \d.*penalty/csg = \d"):
        run(tmp_path / "run")
    assert steps_saved(tmp_path / "run") == ["step-00000004"]
    assert all(tensor.isfinite().all() for tensor in tensors_saved(tmp_path / "run"))
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4, 4, 5]
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_gradient_that_is_not_finite_ends_a_clipped_run(tmp_path, monkeypatch):
    spoil(monkeypatch, 2, infinite_gradient)
    with pytest.raises(TrainingError, match=r"Step 2 is not finite: loss = \d.*grad_norm = (nan|inf)"):
        run(tmp_path / "run", regularizers="none", clip_norm=1.0)


def test_a_loss_that_is_not_finite_names_the_images(tmp_path, monkeypatch):
    spoil(monkeypatch, 5, lambda loss, output: loss * math.nan)
    seen = []
    update = TrainingItems.__getitem__
    monkeypatch.setattr(TrainingItems, "__getitem__", lambda self, at: (seen.append(at), update(self, at))[1])
    with pytest.raises(TrainingError, match=r"Its batch: image \d+ of digits \(train\), ") as error:
        run(tmp_path / "run", regularizers="none", eval_every=0)
    images = [f"image {index} of digits (train)" for _, index in seen[-6:]]
    assert f"Its batch: {', '.join(images)}. The weights" in str(error.value)


@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_step_that_the_scaler_skips_is_made_again(tmp_path, whole, monkeypatch, scaled, at):
    spoil(monkeypatch, at, infinite_gradient)
    made = run(tmp_path / "run", regularizers="gcisg").folder
    assert load_latest(made / "checkpoints").facts.scaler["scale"] == 2.0**9
    # A power of two scales without rounding: the same steps, rates, queues and averages as without a scaler.
    assert outcome(made) == outcome(whole(regularizers="gcisg"))


def test_gradients_that_no_scale_makes_finite_end_the_run(tmp_path, monkeypatch, scaled):
    original = Classification.loss
    monkeypatch.setattr(Classification, "loss", lambda *given: infinite_gradient(None, given[1]) or original(*given))
    with pytest.raises(TrainingError, match=r"Step 0 has gradients that are not finite at any scale .*loss = \d"):
        run(tmp_path / "run", regularizers="csg")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("at", [2, 7], ids=["mid-run", "last step"])
def test_broken_weights_are_never_saved(tmp_path, monkeypatch, at):
    spoil(monkeypatch, at, infinite_gradient)
    with pytest.raises(TrainingError, match=rf"After step {at + 1} \d+ tensors are not finite, e\.g\. student\."):
        run(tmp_path / "run", regularizers="none", checkpoint_every=1)
    assert steps_saved(tmp_path / "run")[-1] == f"step-{at:08d}"
    assert all(tensor.isfinite().all() for tensor in tensors_saved(tmp_path / "run"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_half_precision_on_a_cpu(tmp_path, no_data):
    with pytest.raises(ConfigError, match="precision 'fp16' needs a GPU"):
        run(tmp_path / "fp16", precision="fp16")
    assert not (tmp_path / "fp16").exists()


def test_bfloat16_runs_on_a_cpu_and_differs(tmp_path, whole):
    run(tmp_path / "bf16", precision="bf16")
    half, full = ([row["loss"] for row in rows(path) if "loss" in row] for path in (tmp_path / "bf16", whole()))
    assert half != full
    assert half == pytest.approx(full, rel=0.2)
    assert all(value.dtype != torch.bfloat16 for value in student(tmp_path / "bf16").values())
    # The next run of this process is not in half precision too.
    run(tmp_path / "full")
    assert outcome(tmp_path / "full") == outcome(whole())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there(tmp_path, device, no_data):
    with pytest.raises(ConfigError, match=f"device '{device}' was asked for"):
        run(tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["none", "csg"])
def test_frozen_norm_keeps_the_statistics(whole, name):
    moved = changed(whole(regularizers=name, epochs=0), whole(regularizers=name))
    assert "conv_stem.weight" in moved
    assert "bn1.weight" in moved  # the affine parameters learn
    assert not [key for key in moved if key.endswith(STATISTICS)]


@pytest.mark.parametrize("name", ["none", "csg"])
def test_trained_norm_moves_the_statistics_once_a_step(whole, name):
    start, end = whole(regularizers=name, epochs=0), whole(regularizers=name, norm="train")
    statistics = {key for key in student(start) if key.endswith(STATISTICS)}
    assert statistics
    assert statistics <= changed(start, end)
    # Two views, two passes of the student in CSG: still one update a step.
    assert int(student(end)["bn1.num_batches_tracked"]) == tiny.STEPS


@pytest.mark.parametrize("norm", ["frozen", "train"])
def test_oracle_changes_the_classifier_alone(whole, norm):
    start = whole(regularizers="oracle", epochs=0)
    assert changed(start, whole(regularizers="oracle", norm=norm)) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("name", ["none", "csg"])
def test_rate_zero_leaves_the_weights(tmp_path, whole, name):
    run(tmp_path / "run", regularizers=name, lr=0, max_steps=3)
    assert changed(whole(regularizers=name, epochs=0), tmp_path / "run") == set()


def test_backbone_rate_is_scaled(tmp_path, whole):
    run(tmp_path / "run", regularizers="none", backbone_lr_scale=0, max_steps=3)
    start = whole(regularizers="none", epochs=0)
    assert changed(start, tmp_path / "run") == {"classifier.weight", "classifier.bias"}


def test_clip_norm_bounds_the_step(tmp_path, whole):
    plain = {"momentum": 0, "weight_decay": 0, "backbone_lr_scale": 1, "lr": 1, "schedule": "constant", "max_steps": 1}
    plain |= {"regularizers": "none", "eval_every": 0}
    run(tmp_path / "clipped", clip_norm=0.01, **plain)
    run(tmp_path / "free", **plain)
    (clipped, *_), (free, *_) = rows(tmp_path / "clipped"), rows(tmp_path / "free")
    assert "grad_norm" not in free
    start = student(whole(regularizers="none", epochs=0))

    def length(folder):
        return math.sqrt(sum(float((value - start[key]).square().sum()) for key, value in student(folder).items()))

    assert clipped["grad_norm"] > 0.1  # what is logged is the norm before clipping
    assert length(tmp_path / "free") == pytest.approx(clipped["grad_norm"], rel=1e-3)
    assert length(tmp_path / "clipped") == pytest.approx(0.01, rel=1e-3)


STYLED = {"regularizers": "none", "shifts": ("blur", "noise(std=(0.5, 0.5))"), "wise_ft": (0.25, 0.5)}


def test_styles_and_averages_are_tested_beside_the_last_weights(whole):
    plain, record = read_record(whole(regularizers="none")), read_record(whole(**STYLED))
    assert record.targets == plain.targets
    assert student(whole(**STYLED)).keys() == student(whole(regularizers="none")).keys()
    assert changed(whole(**STYLED), whole(regularizers="none")) == set()  # the averages leave no trace
    assert list(record.shifted) == ["blur", "noise"]
    for score in record.shifted.values():
        assert (score.images, score.fingerprint) == (10, record.source_heldout.fingerprint)
    assert list(record.averaged) == ["wise_ft(0.25)", "wise_ft(0.5)"]
    assert all(list(scores) == ["source", "mnist", "uci"] for scores in record.averaged.values())
    assert plain.shifted == plain.averaged == {}


def test_an_average_is_tested_as_if_it_were_a_student(whole, monkeypatch):
    """Its scores are those of the weights that were averaged by hand, from a run that made no step."""
    path = whole(**STYLED)
    start, end = student(whole(regularizers="none", epochs=0)), student(path)
    between = {name: (start[name].double() + value.double()) / 2 for name, value in end.items()}
    seen = []
    original = Collection.update

    def update(self, output, targets):
        seen.append((self.images.name, output.clone()))
        original(self, output, targets)

    monkeypatch.setattr(Collection, "update", update)
    again = path.parent / "again"
    run(again, **STYLED)
    network = timm.create_model("test_efficientnet", num_classes=10)
    network.load_state_dict({name: value.to(end[name].dtype) for name, value in between.items()})
    images = tiny.load("uci", "test")
    task = building.load_task(tiny.make_config(again, **STYLED))
    batch = torch.stack([task.test_data("uci")[index][0] for index in range(len(images))])
    wanted = network.eval()(
        (batch / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    )
    got = torch.cat([output for name, output in seen if name == "uci"][-2:])
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_a_stop_while_styles_and_averages_are_tested_is_bit_equal(tmp_path, whole, batch):
    stop_in_test(tmp_path / "run", 2 * tiny.BATCHES_PER_TEST + batch, **STYLED)
    assert not (tmp_path / "run" / "result.json").exists()
    run(tmp_path / "run", resume=True, **STYLED)
    assert outcome(tmp_path / "run") == outcome(whole(**STYLED))


@pytest.mark.usefixtures("own_registry", "no_data")
def test_a_style_that_cannot_be_built_is_told_before_data_are_read(tmp_path):
    @VIEWS.register
    class Picky(View):
        name = "picky"
        summary = "wants to know the size"
        draws = "each"
        moves = False

        def build(self, size):
            raise ConfigError(f"picky needs a size, got {size}")

    with pytest.raises(ConfigError, match="picky needs a size, got None"):
        run(tmp_path / "run", shifts="picky")
    assert not (tmp_path / "run").exists()


def test_the_epoch_that_the_source_chooses(whole):
    path = whole()
    record = read_record(path)
    tests = [row for row in rows(path) if "eval/source/accuracy" in row]
    best = max(tests, key=lambda row: row["eval/source/mean_class_accuracy"])
    for name in ("mnist", "uci"):
        assert record.source_selected[name].step == best["step"]
        assert record.source_selected[name].measures["accuracy"] == best[f"eval/{name}/accuracy"]


def test_what_training_cost(whole):
    cost = read_record(whole()).cost
    assert 0 < cost.step_seconds < 60
    assert cost.memory > 2**26  # torch alone takes as much
    assert (cost.device, cost.threads, cost.clock) == ("cpu", torch.get_num_threads(), "processor")
    assert read_record(whole(regularizers="none", epochs=0)).cost.step_seconds is None


def test_no_epochs_only_evaluate(whole):
    path = whole(regularizers="none", epochs=0)
    record = read_record(path)
    assert record.protocol.steps == 0
    assert record.target_selected == {}
    assert [row["step"] for row in rows(path)] == [0]
    assert not (path / "checkpoints").exists()
    assert record.source_heldout.images == 10


def test_most_steps_end_run_and_schedule(tmp_path):
    record = run(tmp_path / "run", regularizers="none", max_steps=6).record
    assert record.protocol.steps == 6
    training = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in training] == [1, 2, 3, 4, 5, 6]
    assert training[-1]["lr"] == pytest.approx(0.05 * warmup_poly(5, 6, warmup=3), rel=1e-6)
    assert steps_saved(tmp_path / "run") == ["step-00000004", "step-00000006"]


# ---------------------------------------------------------------------------------------------- what is refused early


@pytest.mark.parametrize(
    ("backbone", "weights", "error", "message"),
    [
        ("resnet5O", "none", ConfigError, "Unknown backbone 'resnet5O'.*Did you mean 'resnet50'"),
        ("botnet50ts_256", "auto", WeightsError, "No pretrained weights for 'botnet50ts_256'"),
        ("test_resnet", "missing.pth", WeightsError, r"'missing\.pth' does not exist"),
    ],
)
def test_backbones_are_checked_before_data_and_folder(tmp_path, no_data, backbone, weights, error, message):
    with pytest.raises(error, match=message) as caught:
        run(tmp_path / "run", backbone=backbone, weights=weights)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="Use at most batch_size=24"):
        run(tmp_path / "run", batch_size=25)
    assert not (tmp_path / "run").exists()


def test_a_batch_of_one_is_refused_before_training_where_a_layer_needs_more(tmp_path, monkeypatch):
    settings = {"regularizers": "none", "batch_size": 1, "max_steps": 1, "eval_every": 0}
    tried = run(tmp_path / "frozen", **settings).folder
    monkeypatch.setattr(RunProgress, "step", lambda *_: pytest.fail("a step was made"))
    said = r"batch_size is 1\. .*layer blocks\.4\.0\.bn2 .* one value .*training\.batch_size=2"
    with pytest.raises(ConfigError, match=said):
        run(tmp_path / "train", **settings, norm="train")
    assert not (tmp_path / "train").exists()
    monkeypatch.undo()
    monkeypatch.setattr(building, "_try_one_image", lambda job: None)
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr)
        assert outcome(run(tmp_path / "untried", **settings).folder) == outcome(tried)  # the trial changes nothing


def test_a_run_folder_is_not_overwritten_by_accident(finished, no_data):
    before = snapshot_of(finished)
    with pytest.raises(ConfigError, match="exists and is not empty"):
        run(finished)
    assert snapshot_of(finished) == before


def test_overwriting_leaves_nothing_of_the_old_run(finished):
    (finished / "figures").mkdir(exist_ok=True)
    (finished / "figures" / "old.png").write_text("old")
    run(finished, overwrite=True, regularizers="none", max_steps=2)
    assert not (finished / "figures" / "old.png").exists()
    assert read_record(finished).method == "none"
    assert [row["step"] for row in rows(finished)] == [1, 2, 2]
    assert steps_saved(finished) == ["step-00000002"]


def test_a_run_that_cannot_start_overwrites_nothing(finished):
    before = snapshot_of(finished)
    with pytest.raises(ConfigError, match="batch_size"):
        run(finished, overwrite=True, batch_size=25)
    assert snapshot_of(finished) == before


def test_a_folder_that_is_no_run_is_never_removed(tmp_path, no_data):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is not a run, and is not removed"):
        run(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_used(tmp_path):
    assert run(tmp_path, regularizers="none", epochs=0).folder == tmp_path


def test_a_path_below_a_file_is_refused(tmp_path, no_data):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ConfigError, match="Cannot write the run folder"):
        run(tmp_path / "file" / "run")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is a file"):
            run(tmp_path / "file", overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "kept"


# ---------------------------------------------------------------------------------------------- evaluate


def test_evaluate_gives_the_numbers_of_the_record(whole):
    path = whole()
    record = read_record(path)
    before = snapshot_of(path)
    assert evaluate(path, device="cpu", show_progress=False) == {"source": record.source_heldout, **record.targets}
    other = evaluate(path, targets=["uci"], device="cpu", show_progress=False)
    assert other == {"source": record.source_heldout, "uci": record.targets["uci"]}
    assert snapshot_of(path) == before


@pytest.mark.parametrize(
    ("target", "message"), [("mnits", "Did you mean 'mnist'"), ("digits", "'digits' is synthetic: it is not a target")]
)
def test_evaluate_refuses_what_is_no_target(finished, no_data, target, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(finished, targets=[target], device="cpu", show_progress=False)


def test_evaluate_needs_a_finished_run(tmp_path, halfway, no_data):
    with pytest.raises(ConfigError, match=r"holds no run\.json"):
        evaluate(tmp_path, device="cpu", show_progress=False)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: No such file"):
        evaluate(halfway, device="cpu", show_progress=False)


def test_evaluate_refuses_a_student_of_another_network(finished):
    text = (finished / "run.json").read_text()
    (finished / "run.json").write_text(text.replace("test_efficientnet", "test_resnet"))
    with pytest.raises(
        CheckpointError, match=r"does not fit the run's configuration: its backbone is 'test_efficientnet'"
    ):
        evaluate(finished, device="cpu", show_progress=False)


@pytest.mark.parametrize("what", ["gone", "moved", "replaced"])
def test_a_run_folder_that_goes_away_ends_the_run_at_once(tmp_path, what):
    output, steps = tmp_path / "run", []

    def act(request):
        steps.append(1)
        if what == "gone":
            shutil.rmtree(output)
            return
        output.rename(tmp_path / "elsewhere")
        if what == "replaced":
            output.mkdir()

    with pytest.MonkeyPatch.context() as patch:
        after_step(patch, 2, act)
        with pytest.raises(TrainingError, match="is gone") as caught:
            run(output, regularizers="none", log_every=100)
    assert caught.value.exit_code == 1
    assert str(output) in str(caught.value)
    assert not output.exists() or list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "at", "number"),
    [("write", 0, errno.ENOSPC), ("write", -3, errno.EIO), ("rename", 1, errno.EIO), ("fsync", 6, errno.EIO)],
)
def test_after_any_fault_the_run_ends_in_words_and_can_go_on(tmp_path, faults, whole, name, at, number):
    output = tmp_path / "run"
    if at < 0:
        at += sum(1 for one, _ in moments(faults, output, lambda: run(output)) if one == name)
        shutil.rmtree(output)
    faults.plan(output, name, at, number)
    with pytest.raises(SynrealError, match=re.escape(os.strerror(number))) as caught:
        run(output)
    assert caught.value.exit_code in (1, 2)
    assert faults.met
    assert str(output) in str(caught.value)
    faults.heal()
    run(output, resume=(output / "run.json").exists())
    assert outcome(output) == outcome(whole())


def test_evaluate_tells_of_a_process_that_is_gone(finished, monkeypatch):
    def lose(*_, **__):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")

    monkeypatch.setattr(evaluating, "score_student", lose)
    with pytest.raises(RuntimeError, match="gloo"):
        evaluate(finished, device="cpu", show_progress=False)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(TrainingError, match=r"Process 0 of 2 cannot go on, for another one ended .*Connection closed"):
        evaluate(finished, device="cpu", show_progress=False)


def test_evaluate_refuses_a_student_of_another_run(finished):
    stored = json.loads((finished / "run.json").read_text())
    stored["classes"] = stored["classes"][::-1]
    (finished / "run.json").write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match="does not fit the run's configuration: its classes is"):
        evaluate(finished, device="cpu", show_progress=False)


def test_evaluate_normalises_as_the_run_did(finished, monkeypatch):
    # Some encoders know their images' statistics from their weights, which are not read again.
    build, seen = Classification.build_student, []

    def build_student(self):
        seen.append(build(self))
        return dataclasses.replace(seen[-1], statistics=((0.0,) * 3, (9.0,) * 3))

    monkeypatch.setattr(Classification, "build_student", build_student)
    monkeypatch.setattr(evaluating, "score_student", lambda student, *_: (None, student.statistics))
    assert evaluate(finished, device="cpu", show_progress=False) == seen[0].statistics


@pytest.mark.parametrize("strange", [[[0.5] * 3], [[0.5] * 3, [0.0] * 3], [[10**400] * 3, [0.5] * 3], "none"])
def test_evaluate_refuses_statistics_that_are_none(finished, strange):
    path = finished / "model.safetensors"
    facts = {**checkpoint.read_student_facts(path), "statistics": strange}
    checkpoint.export_student(path, read_student(path), facts)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has statistics .*expected the mean"):
        evaluate(finished, device="cpu", show_progress=False)


def test_a_full_disk_ends_the_run_with_a_message(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr(running, "write_json", full)
    with pytest.raises(TrainingError, match=r"cannot go on: .*No space left on device"):
        run(tmp_path / "run", regularizers="none")


def test_a_checkpoint_counts_the_time_of_training_up_to_it(tmp_path):
    result = run(tmp_path / "run", regularizers="none", epochs=1, eval_every=0)
    spent = load_latest(result.folder / "checkpoints").facts.seconds
    assert spent.training > 0
    assert spent.testing == 0
