"""Averages of weights in a run: beside it, through stops and phases, in a file, and over processes."""

import json
import math
import shutil

import pytest
import torch
from torch.optim.swa_utils import update_bn

from synreal.averages import AVERAGES
from synreal.averages.base import AverageWarning
from synreal.engine import averaging, building, checkpoint, evaluate, preflight
from synreal.engine.checkpoint import load_latest, read_student, read_student_facts
from synreal.engine.signals import StopRequest
from synreal.engine.state import RunState
from synreal.engine.trained import read_trained
from synreal.errors import CheckpointError, ConfigError
from synreal.plugins import load_plugin
from synreal.records import read_record
from tests.averages.test_averages import stretch
from tests.engine import tiny
from tests.engine.phases.test_phases import TOY
from tests.engine.test_run import stop_run
from tests.engine.test_stepping import at_loss, infinite_gradient
from tests.engine.tiny import outcome, run

pytestmark = [
    pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning"),
    pytest.mark.usefixtures("own_registry"),
]

SPECS = {
    "ema": "ema(decay=0.8)",
    "swa": "swa(start=0.2, every=2)",
    "swad": "swad(segment=1, n_start=1, n_end=3)",
    "wise_ft": "wise_ft(alpha=0.3)",
}
NAMES = AVERAGES.available()
ALL = tuple(SPECS.get(name, name) for name in NAMES)
PLAIN = {"regularizers": "none", "eval_every": 0}


def label(name):
    return AVERAGES.spec(SPECS.get(name, name)).label


def files(path):
    return {name: read_student(path / f"average-{name}.safetensors") for name in stems(path)}


def stems(path):
    return sorted(file.stem.removeprefix("average-") for file in path.glob("average-*.safetensors"))


def by_label(path):
    return {read_student_facts(file)["average"]: read_student(file) for file in path.glob("average-*.safetensors")}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], value) for name, value in theirs.items())


@pytest.fixture
def way(monkeypatch):
    """The student's weights before the first step that averages see, and after each."""
    seen, follow, begin = [], RunState.follow, averaging.begin

    def noted(state):
        seen.append({name: value.clone() for name, value in state.job.student.network.state_dict().items()})

    monkeypatch.setattr(RunState, "follow", lambda state: (noted(state), follow(state))[1])
    monkeypatch.setattr(averaging, "begin", lambda state, saved: (noted(state), begin(state, saved))[1])
    return seen


def mean(way, name):
    return torch.stack([state[name].double() for state in way]).mean(0)


# ------------------------------------------------------------------------------------------------ beside the run


def test_averages_change_nothing_of_the_run_and_are_recorded_beside_it(whole):
    plain, path = whole(**PLAIN), whole(**PLAIN, averages=ALL, wise_ft=(0.5,))
    ours, theirs = outcome(path), outcome(plain)
    assert (ours["model"], ours["metrics"]) == (theirs["model"], theirs["metrics"])
    record = read_record(path)
    assert record.targets == read_record(plain).targets
    assert list(record.averaged) == ["wise_ft(0.5)", *map(label, NAMES)]
    assert all(list(scores) == ["source", "mnist", "uci"] for scores in record.averaged.values())
    assert stems(plain) == []
    assert len(stems(path)) == len(ALL) + 1


def test_averages_are_of_the_weights_after_each_step(tmp_path, way):
    found = by_label(run(tmp_path / "run", **PLAIN, averages=ALL).folder)
    assert len(way) == tiny.STEPS + 1
    name = "classifier.weight"
    wanted = way[0][name].double()
    for step, state in enumerate(way[1:], 1):
        keep = min(1 - 1 / (step + 1), 0.8)
        wanted = keep * wanted + (1 - keep) * state[name].double()
    got = {key: found[label(key)][name].double() for key in SPECS}
    close = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(got["ema"], wanted, **close)
    torch.testing.assert_close(got["swa"], mean([way[step] for step in (2, 4, 6, 8)], name), **close)
    torch.testing.assert_close(got["wise_ft"], 0.7 * way[0][name].double() + 0.3 * way[-1][name].double(), **close)


def test_the_flat_stretch_is_that_of_the_held_out_loss(tmp_path, way, monkeypatch):
    losses = [3.0, 1.2, 1.0, 1.1, 5.0, 1.2, 5.0, 5.0]
    given = iter(losses)
    monkeypatch.setattr(averaging, "heldout_loss", lambda state: next(given))
    found = by_label(run(tmp_path / "run", **PLAIN, averages="swad(segment=1, n_start=2, n_end=3)").folder)
    assert stretch(losses, 2, 3, 1.3) == (1, 5)
    (weights,) = found.values()
    wanted = mean(way[2:7], "classifier.weight")
    torch.testing.assert_close(weights["classifier.weight"].double(), wanted, rtol=1e-5, atol=1e-7)


def test_an_average_that_is_not_what_was_asked_for_is_told(tmp_path):
    with pytest.warns(AverageWarning, match=r"swad found no start in 1 segments of 100 steps"):
        record = run(tmp_path / "run", **PLAIN, averages="swad").record
    assert list(record.averaged) == ["swad"]


@pytest.mark.parametrize("number", [1, 6])
def test_a_step_that_the_scaler_skips_is_not_averaged(number, whole, tmp_path, monkeypatch, scaled):
    settings = {**PLAIN, "averages": (SPECS["ema"], SPECS["swa"])}
    at_loss(monkeypatch, infinite_gradient, number)
    made = run(tmp_path / "run", **settings).folder
    assert load_latest(made / "checkpoints").facts.scaler["scale"] == 2.0**9
    ours, theirs = by_label(made), by_label(whole(**settings))
    assert all(same(ours[name], theirs[name]) for name in theirs)


# ------------------------------------------------------------------------------------------------ stops


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stopped_midway_ends_in_the_same_averages(name, whole, tmp_path):
    settings = {**PLAIN, "averages": SPECS.get(name, name), "norm": "train"}
    stop_run(tmp_path / "run", 3, **settings)
    stop_run(tmp_path / "run", 5, resume=True, **settings)
    assert not stems(tmp_path / "run")
    run(tmp_path / "run", resume=True, **settings)
    assert outcome(tmp_path / "run") == outcome(whole(**settings))
    ours, theirs = files(tmp_path / "run"), files(whole(**settings))
    assert ours.keys() == theirs.keys() != set()
    assert all(same(ours[key], theirs[key]) for key in theirs)


def test_the_state_is_in_checkpoints_of_runs_that_need_it_alone(whole):
    def held(**settings):
        path = whole(**PLAIN, **settings) / "checkpoints" / "step-00000008"
        return (path / "averages.safetensors").exists(), checkpoint.load(path).averages

    assert held() == (False, {})
    assert held(wise_ft=(0.5,), averages=())[0] is False  # the start is built again
    there, tensors = held(averages=ALL, wise_ft=(0.5,))
    assert there
    assert {name.partition("/")[0] for name in tensors} == {label(name) for name in NAMES} - {label("wise_ft")}
    assert all(v.dtype in (torch.float32, torch.int64, torch.float64) for v in tensors.values())


def test_a_damaged_state_is_seen_and_a_lost_one_refused(whole, tmp_path):
    settings = {**PLAIN, "averages": SPECS["ema"]}
    stop_run(tmp_path / "run", 5, **settings)
    path = tmp_path / "run" / "checkpoints" / "step-00000005"
    file = path / "averages.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"averages.safetensors is damaged"):
        checkpoint.load(path)
    file.unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]["averages.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"The state of an average does not fit: step is missing"):
        run(tmp_path / "run", resume=True, **settings)


def test_a_run_that_is_resumed_with_other_averages_is_refused(tmp_path):
    stop_run(tmp_path / "run", 3, **PLAIN, averages=SPECS["ema"])
    with pytest.raises(ConfigError, match=r"testing.averages.ema.decay +0.8 +0.9"):
        run(tmp_path / "run", resume=True, **PLAIN, averages="ema(decay=0.9)")


# ------------------------------------------------------------------------------------------------ phases


def test_averages_follow_the_last_phase_from_its_start(tmp_path, monkeypatch, way):
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    load_plugin(path)
    monkeypatch.setattr(tiny, "PHASES", ["toy", "train"])
    settings = {**PLAIN, "averages": ("ema", "wise_ft"), "max_steps": 4}
    made = run(tmp_path / "run", **settings).folder
    after_toy = way[2]  # two steps that no average saw
    found = by_label(made)
    assert not torch.equal(way[0]["classifier.weight"], after_toy["classifier.weight"])
    between = (after_toy["classifier.weight"] + way[-1]["classifier.weight"]) / 2
    torch.testing.assert_close(found["wise_ft(0.5)"]["classifier.weight"], between)
    wanted = mean(way[2:], "classifier.weight")
    torch.testing.assert_close(found["ema"]["classifier.weight"].double(), wanted, rtol=1e-5, atol=1e-7)
    stop_run(tmp_path / "again", 1, **settings)  # in the first phase
    stop_run(tmp_path / "again", 3, resume=True, **settings)  # in the last one
    run(tmp_path / "again", resume=True, **settings)
    assert all(same(value, found[name]) for name, value in by_label(tmp_path / "again").items())


# ------------------------------------------------------------------------------------------------ statistics


def test_statistics_that_learn_are_computed_anew_from_training_views(tmp_path, monkeypatch):
    seen = {}

    def noted(state):
        network = state.job.student.network
        before = {name: value.clone() for name, value in network.state_dict().items()}
        recompute(state)
        seen.update(before=before, after={name: value.clone() for name, value in network.state_dict().items()})
        seen.update(state=state, mode=network.training)

    recompute = averaging._recompute
    monkeypatch.setattr(averaging, "_recompute", noted)
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    monkeypatch.setattr(averaging, "MOST_BATCHES", 3)
    path = run(tmp_path / "run", **PLAIN, averages="ema", norm="train").folder
    job = seen["state"].job
    plan = averaging.BatchPlan(24, 6, 1, averaging.derive_seed(0, "statistics"), most=3)
    images = []
    for batch in plan:
        views, targets = job.task.collate([job.data[position] for position in batch])
        images.append(job.task.inputs(views, targets, job.student, torch.device("cpu"))[0][0])
    assert len(images) == 3
    theirs = building.build_student(job.task, job.config).network
    theirs.load_state_dict(seen["before"])
    update_bn(images, theirs)
    assert same(seen["after"], theirs.state_dict())
    assert same(by_label(path)["ema"], seen["after"])
    changed = {name for name, value in seen["after"].items() if not torch.equal(value, seen["before"][name])}
    assert changed
    assert all("running" in name or "tracked" in name for name in changed)


def test_frozen_statistics_and_those_that_nobody_wants_anew_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "_recompute", lambda state: pytest.fail("statistics were computed anew"))
    run(tmp_path / "frozen", **PLAIN, averages="ema")
    run(tmp_path / "kept", **PLAIN, averages=("ema(recompute=false)", "wise_ft"), norm="train", max_steps=2)


# ------------------------------------------------------------------------------------------------ the held-out loss


def state_of(tmp_path, **settings):
    """A run before its first step."""
    config = tiny.make_config(tmp_path / "run", **settings)
    phases = building.phases_of(config)
    return building.build(config, tmp_path / "run", preflight.accelerator(config), phases, _Silent(), StopRequest())


class _Silent:
    def say(self, text):
        """Keep it."""


@pytest.mark.parametrize("task", ["cls", "seg(architecture=fpn)", "det(architecture=fcos)", "det"])
def test_the_held_out_loss_is_a_function_of_the_weights_and_leaves_no_trace(task, tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "_AT_A_TIME", 4)
    monkeypatch.setattr(averaging, "MOST_IMAGES", 9)
    state = state_of(tmp_path, **PLAIN, task=task, norm="train")
    network = state.job.student.network
    network.train()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    first = averaging.heldout_loss(state)
    assert torch.equal(torch.rand(1), wanted)
    assert averaging.heldout_loss(state) == first
    assert math.isfinite(first)
    assert first > 0
    assert [module.training for module in network.modules()] == modes
    assert same(state.model.state_dict(), before)
    assert state.seconds.testing > 0
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    assert averaging.heldout_loss(state) != first


def test_the_held_out_loss_is_the_mean_over_images_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(averaging, "_AT_A_TIME", 4)
    state = state_of(tmp_path, **PLAIN, views=[])
    task, student = state.job.task, state.job.student
    with torch.no_grad():
        for parameter in student.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = tiny.load("digits", "heldout")
    batch = torch.stack([images[index][0] for index in range(10)])
    logits = student.network.eval()(task.prepared(batch, student, torch.device("cpu")))
    wanted = torch.nn.functional.cross_entropy(logits.double(), torch.arange(10))
    assert averaging.heldout_loss(state) == pytest.approx(float(wanted.detach()), rel=1e-5)
    # Of many images a few, evenly spread: every other one.
    monkeypatch.setattr(averaging, "MOST_IMAGES", 5)
    few = torch.nn.functional.cross_entropy(logits[::2].double(), torch.arange(10)[::2])
    assert averaging.heldout_loss(state) == pytest.approx(float(few.detach()), rel=1e-5)


# ------------------------------------------------------------------------------------------------ in a file


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_average_is_tested_again_with_the_same_scores(name, whole):
    path = whole(**PLAIN, averages=ALL, wise_ft=(0.5,))
    scores = evaluate(path, average=label(name), device="cpu", show_progress=False)
    assert scores == read_record(path).averaged[label(name)]


def test_an_average_is_found_however_its_settings_are_written(whole):
    path = whole(**PLAIN, averages=ALL, wise_ft=(0.5,))
    found = read_trained(path, "read", "ema(decay=0.80, ramp=True)")
    assert found.checkpoint == "ema(decay=0.8)"
    assert found.weights_file == found.file == path / "average-ema-decay=0.8.safetensors"
    assert found.told["averaged"] == "moving average over 8 steps"
    assert read_trained(path, "read", "wise_ft(0.5)").file == path / "average-wise_ft-0.5.safetensors"
    assert read_trained(path, "read", "step-00000004").weights_file.name == "model.safetensors"
    with pytest.raises(ConfigError, match=r"Unknown checkpoint or average of .*'emma'. .*Known: ema\(decay=0.8\)"):
        read_trained(path, "read", "emma")
    facts = read_student_facts(path / "model.safetensors")
    assert {**facts, "average": "ema(decay=0.8)", "averaged": found.told["averaged"]} == dict(found.told)


def test_a_run_without_averages_is_evaluated_as_before(whole, tmp_path):
    path = shutil.copytree(whole(**PLAIN), tmp_path / "old")
    settings = json.loads((path / "run.json").read_text())
    del settings["config"]["testing"]["averages"]  # as earlier versions wrote it
    (path / "run.json").write_text(json.dumps(settings))
    record = read_record(path)
    scores = evaluate(path, device="cpu", show_progress=False)
    assert scores == {"source": record.source_heldout, **record.targets}
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(ConfigError, match="holds no checkpoint and no average"):
        evaluate(path, average="ema", device="cpu", show_progress=False)
