"""Phases: what comes with the library, and one from a plugin file that runs before it."""

import json
from typing import get_args

import pytest
import torch

from synreal.config import RunConfig
from synreal.engine.checkpoint import load, load_latest, read_student
from synreal.engine.phases import PHASES, Phase
from synreal.engine.phases.base import Sees
from synreal.engine.phases.train import Train
from synreal.engine.progress import RunProgress
from synreal.errors import CheckpointError, ConfigError
from synreal.plugins import load_plugin
from synreal.records import read_record
from synreal.tasks.classification import Classification
from tests.distributed.launch import two_processes
from tests.engine import tiny
from tests.engine.phases.stopping import stop_after
from tests.engine.tiny import outcome, rows, run, steps_saved

pytestmark = [
    pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning"),
    pytest.mark.usefixtures("own_registry"),
]

TOY = """\
from typing import ClassVar

import torch

from synreal.engine.phases import register
from synreal.engine.phases.train import Train


@register
class Toy(Train):
    name: ClassVar[str] = "toy"
    summary: ClassVar[str] = "the classifier alone, for a few steps"

    steps: int = 2

    def make_plan(self, job):
        return job.plan(epochs=1, most=self.steps)

    def make_optimizer(self, job):
        return torch.optim.SGD(job.model.student.get_classifier().parameters(), lr=0.1, momentum=0.9)

    def factor(self, state):
        return 1.0
"""
SHORT = {"eval_every": 0, "checkpoint_every": 3}
RUNS = {  # of four steps of train, and as many of the phase
    "train": ["train"],
    "head_first": ["head_first(epochs=1)", "train"],
    "few_shot": ["train", "few_shot(n=1, epochs=4, images=uci)"],
    "self_train": ["train", "self_train(rounds=2, share=0.6, cap=1, source=(0.25, 0, 0.25), with_regularizer=True)"],
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A run consists of the file's phase and of ``train``."""
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    load_plugin(path)
    monkeypatch.setattr(tiny, "PHASES", ["toy", "train"])
    return path


def weights_after(path, step):
    """The student's weights in the checkpoint of a step."""
    folder = path / "checkpoints" / f"step-{step:08d}"
    return {name: value for name, value in load(folder).model.items() if name.startswith("student.")}


@pytest.mark.parametrize("name", PHASES.available())
def test_every_phase_says_what_it_is(name):
    phase = PHASES.spec(name)
    assert isinstance(phase, Phase)
    assert phase.name == name
    assert phase.summary[0].islower()
    assert not phase.summary.endswith(".")
    assert phase.sees in get_args(Sees)
    assert PHASES.spec(phase.model_dump()) == phase


def test_a_run_is_training_unless_told():
    assert RunConfig().phases == (Train(),)
    assert Train.sees == "nothing"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "sees = 'everything'\n    summary = 'x'",
            "sees is 'everything'; expected what the phase may see of the target",
        ),
        ("summary = 'x'", "lacks sees"),
        ("sees = 'images'", "lacks summary"),
    ],
)
def test_a_phase_must_say_what_it_sees(body, message, tmp_path):
    path = tmp_path / "odd.py"
    path.write_text(
        "from synreal.engine.phases import Phase, register\n\n"
        f"@register\nclass Odd(Phase):\n    name = 'odd'\n    {body}\n"
    )
    with pytest.raises(ConfigError, match=message):
        load_plugin(path)
    assert "odd" not in PHASES.available()


def test_the_toy_trains_the_head_alone_and_then_all_learns(toy, tmp_path):
    path = run(tmp_path / "run", **{**SHORT, "checkpoint_every": 1, "keep_checkpoints": 20}).folder
    assert steps_saved(path) == [f"step-{step:08d}" for step in range(1, 11)]
    start = read_student(run(tmp_path / "start", regularizers="csg", epochs=0, **SHORT).folder / "model.safetensors")
    first, second, third = (weights_after(path, step) for step in (1, 2, 3))
    moved = {name for name in first if not torch.equal(first[name], second[name])}
    assert moved == {"student.classifier.weight", "student.classifier.bias"}
    assert start.keys() == {name.removeprefix("student.") for name in first}
    later = {name for name in second if not torch.equal(second[name], third[name])}
    assert "student.conv_stem.weight" in later

    found = rows(path)
    training = [row for row in found if "loss" in row]
    assert [row["step"] for row in training] == list(range(1, 11))
    assert [row["phase"] for row in training] == ["toy"] * 2 + ["train"] * 8
    assert [row["lr"] for row in training[:2]] == [0.1, 0.1]
    record = read_record(path)
    assert record.protocol.steps == 10
    (plugin,) = json.loads((path / "run.json").read_text())["plugins"]
    assert plugin["file"] == "toy.py"


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        pytest.param("csg", 1, id="csg in the toy"),
        pytest.param("si", 1, id="si in the toy"),
        pytest.param("gcisg", 2, id="gcisg between the phases"),
        pytest.param("csg", 7, id="csg in train"),
    ],
)
def test_a_run_of_phases_stopped_and_resumed_gives_the_same_bits(name, calls, toy, tmp_path):
    settings = {**SHORT, "regularizers": name, "eval_every": 1}
    whole = run(tmp_path / "whole", **settings).folder
    path = tmp_path / "run"
    stop_after(calls, path, f"Stopped at step {calls}; .*--plugin .*toy.py", **settings)
    found = load_latest(path / "checkpoints")
    assert found.step == calls
    assert (found.facts.phase, found.facts.step) == ((0, calls) if calls <= 2 else (1, calls - 2))
    assert list(found.facts.plugins) == ["toy.py"]
    run(path, resume=True, **settings)
    assert outcome(path) == outcome(whole)


class Killed(BaseException):
    """The process is gone."""


def kill_after(calls, path, **settings):
    """Make a run that ends after so many steps, before the last of them is saved."""
    original, made = RunProgress.step, []

    def step(self, number, losses):
        made.append(number)
        if len(made) == calls:
            raise Killed
        original(self, number, losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunProgress, "step", step)
        with pytest.raises(Killed):
            run(path, **settings)


@pytest.mark.parametrize("name", PHASES.available())
def test_a_run_that_is_killed_in_any_phase_gives_the_same_bits(name, tmp_path):
    """In the middle of a phase, and of each of its rounds, with several batches a step."""
    phases = RUNS.get(name, [name, "train"])
    settings = {"eval_every": 1, "checkpoint_every": 1, "epochs": 1, "regularizers": "gcisg", "targets": ["mnist"]}
    settings |= {"batch_size": 3, "accumulate": 2, "phases": phases}
    whole = run(tmp_path / "whole", **settings).folder
    found = [row.get("phase", "train") for row in rows(whole) if "loss" in row]
    middles = [index + 2 for index in range(len(found) - 1) if found[index] == found[index + 1]]
    inside = [index for index in middles if found[index - 1].startswith(name)][::2]
    assert inside
    path = tmp_path / "run"
    kill_after(inside[0], path, **settings)
    for calls in inside[1:]:
        kill_after(calls - load_latest(path / "checkpoints").step, path, resume=True, **settings)
    run(path, resume=True, **settings)
    assert outcome(path) == outcome(whole)


def test_every_phase_runs_in_the_precision_that_was_asked_for(toy, tmp_path, monkeypatch):
    seen = []
    build = Classification.build_student

    def build_student(self):
        student = build(self)
        student.network.conv_stem.register_forward_hook(
            lambda module, *_: seen.append(torch.is_autocast_enabled("cpu")) if module.training else None
        )
        return student

    monkeypatch.setattr(Classification, "build_student", build_student)
    run(tmp_path / "run", precision="bf16", regularizers="none", epochs=1, **SHORT)
    assert seen == [True] * (2 + tiny.STEPS_PER_EPOCH)


def test_a_run_goes_on_with_its_own_phases_only(toy, tmp_path):
    path = tmp_path / "run"
    stop_after(4, path, **SHORT)
    with pytest.raises(ConfigError, match=r"Cannot resume .* with another configuration:\n.*\n +phases "):
        run(path, resume=True, phases=["train"], **SHORT)
    facts = json.loads((path / "run.json").read_text())
    facts["config"]["phases"] = [{"name": "train"}]
    (path / "run.json").write_text(json.dumps(facts))
    (path / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint in .* is of another configuration .*\n.*\n +phases "):
        run(path, resume=True, phases=["train"], **SHORT)


@pytest.mark.slow
def test_two_processes_go_through_all_phases(tmp_path, monkeypatch):
    phases = [*RUNS["head_first"], *(RUNS[name][1] for name in ("few_shot", "self_train"))]
    config = {"output": str(tmp_path / "together"), "batch_size": 3, "regularizers": "csg", "epochs": 1, **SHORT}
    config |= {"phases": phases, "targets": ["mnist"]}
    two_processes("-m", "tests.engine.tiny", json.dumps({"config": dict(config), "drop_rate": 0.0}))
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    del config["output"]
    run(tmp_path / "alone", **{**config, "batch_size": 6})
    ours, theirs = (load_latest(tmp_path / name / "checkpoints") for name in ("together", "alone"))
    assert ours.step == theirs.step == 4 + 4 + 4 + 4
    for name, value in ours.model.items():
        torch.testing.assert_close(value, theirs.model[name], rtol=1e-3, atol=1e-4, msg=name)
    told = [
        json.loads((tmp_path / n / "pseudo_labels/round-02/labels.json").read_text()) for n in ("together", "alone")
    ]
    assert told[0]["labels"] == told[1]["labels"]


@pytest.mark.slow
def test_two_processes_go_from_phase_to_phase(toy, tmp_path):
    config = {
        "output": str(tmp_path / "together"),
        "batch_size": 3,
        "regularizers": "csg",
        "phases": ["toy", "train"],
        **SHORT,
    }
    order = {"config": config, "drop_rate": 0.0, "plugin": str(toy)}
    two_processes("-m", "tests.engine.tiny", json.dumps(order))
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr, drop_rate=0.0)
        run(tmp_path / "alone", batch_size=6, regularizers="csg", **SHORT)
    ours, theirs = (load_latest(tmp_path / name / "checkpoints") for name in ("together", "alone"))
    assert ours.step == theirs.step == 10
    for name, value in ours.model.items():
        # Not bit-equal: two halves of a batch add up in another order.
        torch.testing.assert_close(value, theirs.model[name], rtol=1e-4, atol=1e-5, msg=name)
