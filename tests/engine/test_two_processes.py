import json

import pytest
import torch

from synreal.engine import evaluate
from synreal.engine.checkpoint import load_latest, read_student
from synreal.records import read_record
from tests.distributed.launch import two_processes
from tests.engine import tiny
from tests.engine.tiny import rows, steps_saved

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

# Dropout draws by process, so two processes equal one without it only.
SETTINGS = {
    "regularizers": "csg",
    "seed": 4,
    "averages": ["ema(decay=0.8)", "swa(start=0, every=2)", "swad(segment=2, n_start=1, n_end=2)", "wise_ft"],
}
LEARNED = {"phases": "learned_rates(shortest=1)", "schedule": "constant", "eval_every": 0, "epochs": 1}
TWICE = {**SETTINGS, "eval_every": 0}  # two steps an epoch, of twelve images


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A run of two processes with three images a step each, and what both say of it."""
    folder = tmp_path_factory.mktemp("together")
    order = {"config": {"output": str(folder / "run"), "batch_size": 3, **SETTINGS}, "drop_rate": 0.0}
    accumulated = {"output": str(folder / "accumulated"), "batch_size": 3, "accumulate": 2, **TWICE}
    learned = {**order["config"], "output": str(folder / "learned"), "regularizers": "kl", **LEARNED}
    orders = [{"config": one, "drop_rate": 0.0} for one in (accumulated, learned)]
    orders.append({**order, "report": str(folder)})
    two_processes("-m", "tests.engine.tiny", json.dumps(orders))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same steps of six images in one process."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr, drop_rate=0.0)
        return tiny.run(tmp_path_factory.mktemp("alone") / "run", batch_size=6, **SETTINGS).folder


def test_there_is_one_run_folder(together):
    assert sorted(path.name for path in together.iterdir()) == [
        "accumulated", "learned", "rank0.json", "rank1.json", "run",
    ]  # fmt: skip
    assert steps_saved(together / "run") == ["step-00000004", "step-00000008"]
    found = rows(together / "run")
    assert [row["step"] for row in found if "loss" in row] == list(range(1, 9))
    assert [row["step"] for row in found if "eval/uci/accuracy" in row] == [4, 8]
    assert json.loads((together / "run" / "run.json").read_text())["environment"]["processes"] == 2


def test_both_processes_have_the_same_result(together):
    first, second = (json.loads((together / f"rank{rank}.json").read_text())["record"] for rank in (0, 1))
    written = read_record(together / "run").model_dump(mode="json")
    assert first == written
    for result in (first, second):
        del result["seconds"], result["cost"]  # each process has its own clock
    assert first == second
    assert first["protocol"]["processes"] == 2
    assert first["protocol"]["steps"] == 8


def test_every_image_is_tested_once(together):
    record = read_record(together / "run")
    scores = {"source": record.source_heldout, **record.targets}
    assert {name: score.images for name, score in scores.items()} == {"source": 10, "mnist": 11, "uci": 7}
    # One process, every image in order: the same counts.
    assert evaluate(together / "run", device="cpu", show_progress=False) == scores


def test_a_set_smaller_than_the_number_of_processes_is_tested_once(together):
    for rank in (0, 1):
        images = json.loads((together / f"rank{rank}.json").read_text())["images"]
        assert images == {"source": 10, "mnist": 11, "uci": 1}


@pytest.mark.slow
def test_a_stop_that_one_process_hears_in_a_test_ends_both_with_a_checkpoint(tmp_path):
    output = tmp_path / "run"
    order = {"config": {"output": str(output), "batch_size": 3, **SETTINGS}, "stop_in_test": str(tmp_path)}
    two_processes("-m", "tests.engine.tiny", json.dumps(order))
    said = [(tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert all("Stopped at step 4; everything is saved" in text for text in said)
    assert said[1].startswith("138 ")
    assert steps_saved(output) == ["step-00000004"]
    assert not [row for row in rows(output) if "eval/uci/accuracy" in row]


def test_a_loss_that_is_not_finite_in_one_process_ends_both(together):
    said = [json.loads((together / f"rank{rank}.json").read_text())["broken"] for rank in (0, 1)]
    assert said[0] == said[1]
    assert "Step 0 is not finite: in process 1 of 2, loss = nan, penalty = 0" in said[0]
    assert said[0].count("of digits (train)") == 3
    assert "process 0" not in said[0]


def test_a_loss_that_is_not_finite_in_the_first_batch_of_a_step_of_one_process_ends_both(together):
    said = [json.loads((together / f"rank{rank}.json").read_text())["broken in a part"] for rank in (0, 1)]
    assert said[0] == said[1]
    assert "Step 0 is not finite: in process 1 of 2, loss = nan, penalty = 0" in said[0]
    assert "Its batch, number 1 of 2 of the step: image" in said[0]
    assert said[0].count("of digits (train)") == 3


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_ends_both_and_is_named(tmp_path):
    config = {"output": str(tmp_path / "run"), "batch_size": 3, "regularizers": "none"}
    with pytest.raises(AssertionError, match=r"Root Cause[^=]* rank *: 1 .*\n *exitcode *: 2 "):
        two_processes("-m", "tests.engine.tiny", json.dumps({"config": config, "unreadable": "broken.png"}), timeout=60)
    assert (tmp_path / "run.rank1").read_text() == "broken.png cannot be read."
    assert "Process 0 of 2 cannot go on, for another one ended" in (tmp_path / "run.rank0").read_text()


def test_two_processes_train_like_one(together, alone):
    ours, theirs = (load_latest(folder / "checkpoints") for folder in (together / "run", alone))
    assert ours.step == theirs.step == 8
    assert ours.model.keys() == theirs.model.keys()
    for name, value in ours.model.items():
        # Not bit-equal: two halves of a batch add up in another order.
        torch.testing.assert_close(value, theirs.model[name], rtol=1e-4, atol=1e-5, msg=name)


def test_averages_of_two_processes_are_those_of_one(together, alone):
    ours, theirs = (sorted(folder.glob("average-*.safetensors")) for folder in (together / "run", alone))
    assert [file.name for file in ours] == [file.name for file in theirs]
    assert len(ours) == len(SETTINGS["averages"])
    for file, other in zip(ours, theirs, strict=True):
        found = read_student(other)
        for name, value in read_student(file).items():
            torch.testing.assert_close(value, found[name], rtol=1e-4, atol=1e-5, msg=f"{file.name} {name}")
    ours, theirs = (load_latest(folder / "checkpoints").averages for folder in (together / "run", alone))
    assert ours.keys() == theirs.keys()
    (losses,) = (name for name in ours if name.endswith("/losses"))
    assert len(ours[losses]) == 4
    torch.testing.assert_close(ours[losses], theirs[losses], rtol=1e-5, atol=1e-6)


def test_two_processes_with_two_batches_a_step_train_like_one_with_one(together, tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    alone = tiny.run(tmp_path / "run", batch_size=12, **TWICE).folder
    ours, theirs = (load_latest(folder / "checkpoints") for folder in (together / "accumulated", alone))
    assert ours.step == theirs.step == 4
    for name, value in ours.model.items():
        torch.testing.assert_close(value, theirs.model[name], rtol=1e-4, atol=1e-5, msg=name)
    rates = [[row["lr"] for row in rows(folder) if "lr" in row] for folder in (together / "accumulated", alone)]
    assert rates[0] == rates[1]


def test_a_policy_of_rates_sees_what_all_processes_see(together, tmp_path, monkeypatch):
    """The mean loss of both: with the same draws, rates and weights are those of one process."""
    tiny.install(monkeypatch.setattr, drop_rate=0.0)
    alone = tiny.run(tmp_path / "run", batch_size=6, **{**SETTINGS, "regularizers": "kl", **LEARNED}).folder
    ours, theirs = (load_latest(folder / "checkpoints") for folder in (together / "learned", alone))
    mine, other = (one.optimizer["param_groups"][0]["rates"] for one in (ours, theirs))
    assert mine["shares"] == other["shares"] != [1.0] * 6
    for one, two in zip(mine["observations"], other["observations"], strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-6)
    for name, value in ours.model.items():
        torch.testing.assert_close(value, theirs.model[name], rtol=1e-4, atol=1e-5, msg=name)
