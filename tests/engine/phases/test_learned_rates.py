"""Runs in which a policy sets the rates, and the training of one."""

import itertools
import math

import pytest
import torch

from synreal.engine import learn_rates
from synreal.engine.checkpoint import load_latest
from synreal.errors import CheckpointError, ConfigError
from synreal.rates import GROUPS, SHARES, RatePolicy
from synreal.records import read_record
from tests.engine import tiny
from tests.engine.test_run import stop_run
from tests.engine.tiny import make_config, outcome, rows, run

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

PHASE = "learned_rates(shortest=1)"


def test_a_policy_sets_the_rates_of_a_run(whole):
    path = whole(phases=PHASE, regularizers="kl", schedule="constant")
    assert read_record(path).protocol.phases == ["learned_rates"]
    found = [row for row in rows(path) if "loss" in row]
    shares = [[row[f"rates/{group}"] for group in GROUPS] for row in found]
    assert shares[0] == [1.0] * 6
    assert all(share in SHARES for row in shares for share in row)
    # windows of 1, 1 and 2 steps in each epoch of four
    same = [before == after for before, after in itertools.pairwise(shares)]
    assert same == [False, False, True, False, False, False, True]
    state = load_latest(path / "checkpoints").optimizer["param_groups"]
    assert [group["name"] for group in state] == list(GROUPS)
    assert [group["lr"] for group in state] == pytest.approx([0.05 * share for share in shares[-1]])
    windows = state[0]["rates"]["observations"]
    assert [row[2] for row in windows] == [1 / 8, 2 / 8, 4 / 8, 5 / 8, 6 / 8, 1.0]
    assert windows[0][:2] == pytest.approx([found[0]["loss"], found[0]["penalty"]])
    assert windows[2][0] == pytest.approx((found[2]["loss"] + found[3]["loss"]) / 2)


@pytest.mark.parametrize("step", [3, 5])
def test_resumed_mid_window_is_bit_equal(tmp_path, whole, step):
    changes = {"phases": PHASE, "regularizers": "kl", "schedule": "constant"}
    stop_run(tmp_path / "run", step, **changes)
    run(tmp_path / "run", resume=True, **changes)
    assert outcome(tmp_path / "run") == outcome(whole(**changes))


def test_a_run_keeps_to_its_policy(tmp_path):
    policy = tmp_path / "policy.safetensors"
    changes = {"phases": f"learned_rates(policy='{policy}', shortest=1)", "regularizers": "none", "epochs": 1}
    with pytest.raises(ConfigError, match="Cannot read the policy"):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
    RatePolicy(1).save(policy)
    stop_run(tmp_path / "run", 2, **changes)
    RatePolicy(2).save(policy)
    with pytest.raises(CheckpointError, match=r"cannot go on with the policy .*set by another policy"):
        run(tmp_path / "run", resume=True, **changes)
    RatePolicy(1).save(policy)
    run(tmp_path / "run", resume=True, **changes)


def test_a_policy_is_trained_by_runs_that_see_no_target(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "COUNTS", {key: n for key, n in tiny.COUNTS.items() if key[0] == "digits"})
    path, told = tmp_path / "policy.safetensors", []
    config = make_config(tmp_path / "unused", regularizers="kl", epochs=1)
    found = learn_rates(config, path, episodes=2, shortest=1, tell=lambda *what: told.append(what))
    assert told == list(enumerate(found))
    assert all(math.isfinite(value) for value in found)
    assert not (tmp_path / "unused").exists()
    first = RatePolicy.load(path)
    assert first.fingerprint != RatePolicy(0).fingerprint
    more = learn_rates(config, path, episodes=1, shortest=1)
    assert more == learn_rates(config, copy_of(first, tmp_path), episodes=1, shortest=1)
    assert not torch.equal(first.state_dict()["layers.0.bias"], RatePolicy.load(path).state_dict()["layers.0.bias"])
    with pytest.raises(ConfigError, match="episodes is 0"):
        learn_rates(config, path, episodes=0)


def copy_of(policy, folder):
    policy.save(folder / "copy.safetensors")
    return folder / "copy.safetensors"
