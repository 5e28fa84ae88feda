"""Segmentation and detection through the engine: every regularizer, resume, two processes, plain zoos afterwards."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader

import synreal
from synreal.engine import building, evaluate, look, saving
from synreal.engine.checkpoint import read_student
from synreal.records import read_look, read_record
from tests.distributed.launch import two_processes
from tests.engine import tiny
from tests.engine.tiny import outcome, rows, run
from tests.regularizers.contract import PENALTY_FREE

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

TASKS = ["seg", "det"]
HEADLINE = {"seg": "mean_iou", "det": "ap"}
SHORT = {"epochs": 1, "batch_size": 6, "max_steps": 2, "eval_every": 0}
LOOKS = ("energy_0", "energy_2", "cka", "drift", "match_rate", "ece")
QUICK = {"seg": {"architecture": "fpn"}, "det": {"architecture": "fcos"}}  # decoders and heads with few weights


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    tiny.install(monkeypatch.setattr)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", synreal.list_regularizers())
def test_every_regularizer_runs_and_reports(name, task, tmp_path):
    path = run(tmp_path / "run", regularizers=name, task=task, **SHORT, **QUICK[task]).folder
    record = read_record(path)
    assert record.protocol.steps == 2
    for score in (record.source_heldout, *record.targets.values()):
        assert next(iter(score.measures)) == HEADLINE[task]
        assert 0 <= score.headline <= 1
    assert list(record.targets) == ["mnist"]
    # Before the first step the student is its own teacher.
    share = next(row for row in rows(path) if row["step"] == 2 and "loss" in row)[f"penalty/{name}"]
    assert (share != 0) == (name not in PENALTY_FREE)


@pytest.mark.parametrize("task", ["cls", "seg"])
def test_how_well_a_run_is_calibrated_changes_nothing_else(task, tmp_path):
    settings = {"regularizers": "none", "task": task, **SHORT, **QUICK.get(task, {})}
    plain = read_record(run(tmp_path / "plain", **settings).folder)
    measured = run(tmp_path / "run", measures=["ece"], **settings).folder
    for name, score in evaluate(measured, show_progress=False).items():
        stored = {"source": read_record(measured).source_heldout, **read_record(measured).targets}[name]
        without = {"source": plain.source_heldout, **plain.targets}[name]
        assert score == stored
        assert (stored.headings["ece"], stored.units["ece"], stored.higher_is_better["ece"]) == ("ECE", "%", False)
        assert 0 < stored.measures["ece"] < 1
        assert {key: value for key, value in stored.measures.items() if key != "ece"} == without.measures
        assert stored.confusion == without.confusion


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_figures_and_files(task, tmp_path, monkeypatch):
    for figure, draw in tiny.drawing.items():
        monkeypatch.setattr(figure, "draw", draw)
    path = run(tmp_path / "run", regularizers="none", task=task, **SHORT, **QUICK[task]).folder
    pictures = sorted(one.name for one in (path / "figures").iterdir())
    kinds = ("confusion", "predictions") if task == "seg" else ("predictions",)
    assert pictures == [f"{kind}-{name}.png" for kind in kinds for name in ("mnist", "source")]
    assert (path / "predictions").exists() == (task == "det")
    if task == "det":
        truth = json.loads((path / "predictions" / "mnist-truth.json").read_text())
        assert len(truth["images"]) == 11
        assert len(truth["annotations"]) == 22


def stopped_and_resumed(path, monkeypatch, settings):
    """A run that dies after its first checkpoint and is resumed."""
    save = saving.save

    def save_and_die(state):
        save(state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(path, **settings)
    run(path, resume=True, **settings)


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_goes_on_in_the_same_bits(task, tmp_path, monkeypatch):
    settings = {"regularizers": "csg", "task": task, "epochs": 1, "checkpoint_every": 2, **QUICK[task]}
    whole = run(tmp_path / "whole", **settings).folder
    stopped_and_resumed(tmp_path / "again", monkeypatch, settings)
    assert outcome(tmp_path / "again") == outcome(whole)


def test_workers_change_no_bit_of_lists_either(tmp_path):
    alone = run(tmp_path / "alone", task="det", regularizers="none", **SHORT, **QUICK["det"]).folder
    workers = run(tmp_path / "workers", task="det", regularizers="none", workers=1, **SHORT, **QUICK["det"]).folder
    assert outcome(alone) == outcome(workers)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Students of both tasks that two processes trained for two steps, and tested."""
    folder = tmp_path_factory.mktemp("together")
    orders = []
    for task in TASKS:
        config = {"output": str(folder / task), "task": task, "regularizers": "csg", **SHORT, **QUICK[task]}
        config["look"] = [name for name in LOOKS if task == "seg" or name not in ("match_rate", "ece")]
        orders.append({"config": config, "drop_rate": 0.0})
    two_processes("-m", "tests.engine.tiny", json.dumps(orders))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_and_score_as_one_does(task, together):
    record = read_record(together / task)
    assert (record.protocol.processes, record.protocol.steps) == (2, 2)
    scores = {"source": record.source_heldout, **record.targets}
    assert {name: score.images for name, score in scores.items()} == {"source": 10, "mnist": 11}
    assert evaluate(together / task, device="cpu", show_progress=False) == scores


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_see_what_one_sees(task, together):
    found = read_look(together / task)
    names = [*found.sets["mnist"].measures, *found.measures]
    assert len(names) == {"seg": 6, "det": 4}[task]
    assert found.sets["mnist"].images == 11
    alone = look(together / task, names, keep=False, device="cpu", show_progress=False)
    assert alone.sha256 == found.sha256
    for name in names:
        one, other = (each.find(name, "mnist") for each in (found, alone))
        assert one.value == pytest.approx(other.value, rel=1e-5), name
        assert one.stages == pytest.approx(other.stages, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_plain_zoos_load_the_student_and_predict_the_same(task, tmp_path):
    """From the header of the file alone, without synreal."""
    path = run(tmp_path / "run", task=task, regularizers="csg", **SHORT).folder
    with safe_open(path / "model.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["synreal"])
    code = f"""
import sys, torch
from safetensors.torch import load_file
{header["build"]}
model.load_state_dict(load_file({str(path / "model.safetensors")!r}))
assert "synreal" not in sys.modules
torch.save(model, {str(tmp_path / "plain.pt")!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = tiny.make_config(path, task=task, regularizers="csg", **SHORT)
    built = building.load_task(config)
    student = built.build_student()
    student.network.load_state_dict(read_student(path / "model.safetensors"))
    student.network.eval()
    images, _ = next(iter(DataLoader(built.test_data("mnist"), 4, collate_fn=built.collate_test)))
    namespace = {}
    exec(header["build"], namespace)
    plain = namespace["model"]
    plain.load_state_dict(read_student(path / "model.safetensors"))
    plain.eval()
    with torch.no_grad():
        ours = built.predict(student, images, torch.device("cpu"))
        theirs = built.predict(replace(student, network=plain), images, torch.device("cpu"))
    for one, other in zip(ours, theirs, strict=True):
        pairs = [(one[key], other[key]) for key in one] if task == "det" else [(one, other)]
        assert all(torch.equal(a, b) for a, b in pairs)
        assert task == "seg" or len(one["boxes"])


def test_the_classifier_of_a_dilated_segmenter_is_dilated_too(tmp_path):
    path = run(tmp_path / "run", task="seg", regularizers="kl", **SHORT).folder
    assert read_record(path).protocol.steps == 2
    with pytest.raises(synreal.SynrealError, match=r"without an ImageNet classifier .* another regularizer than kl"):
        run(tmp_path / "own", task="seg", regularizers="kl", **{**SHORT, "backbone": "smp/resnet18"})
    assert not (tmp_path / "own").exists()


def test_adamw_resumes_in_the_same_bits_too(tmp_path, monkeypatch):
    settings = {"regularizers": "si(interval=3)", "optimizer": "adamw", "epochs": 1, "checkpoint_every": 2}
    whole = run(tmp_path / "whole", **settings).folder
    stopped_and_resumed(tmp_path / "again", monkeypatch, settings)
    assert outcome(tmp_path / "again") == outcome(whole)
    sgd = run(tmp_path / "sgd", **{**settings, "optimizer": "sgd"}).folder
    assert outcome(sgd)["model"] != outcome(whole)["model"]


@pytest.mark.parametrize("task", TASKS)
def test_mixed_precision_trains_and_scores(task, tmp_path):
    # At 64 pixels FCOS convolves a 1 x 1 map, whose gradient in bf16 torch 2.15 leaves uninitialised on a CPU.
    settings = {**SHORT, **QUICK[task], "precision": "bf16", "image_size": 128 if task == "det" else 64}
    path = run(tmp_path / "run", task=task, regularizers="gcisg", **settings).folder
    losses = [row["loss"] for row in rows(path) if "loss" in row]
    assert len(losses) == 2
    assert all(0 < loss < 100 for loss in losses)
