import warnings

import pytest

from synreal.engine import preflight
from synreal.errors import ConfigError
from synreal.tasks.classification import Classification
from tests.engine.tiny import load, make_config, run

LAUNCHED = {"ACCELERATE_DYNAMO_MODE": "default", "MASTER_ADDR": "127.0.0.1"}


def test_a_launcher_that_starts_one_process_of_several_is_refused():
    # What accelerate launch --cpu --num_processes 2 sets.
    with pytest.raises(ConfigError, match=r"asked for several processes and started one.*torchrun --nproc-per-node N"):
        preflight.check_launch(LAUNCHED)
    for fine in ({}, {"MASTER_ADDR": "node1"}, {"ACCELERATE_DYNAMO_MODE": "default"}, {**LAUNCHED, "WORLD_SIZE": "2"}):
        preflight.check_launch(fine)


def test_processes_that_did_not_find_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"there are 2 processes \(WORLD_SIZE\), but 1 found each other"):
        preflight.check_world({"WORLD_SIZE": "2"}, 1)
    preflight.check_world({"WORLD_SIZE": "2"}, 2)
    preflight.check_world({}, 1)


def test_a_run_under_such_a_launcher_is_refused(tmp_path, monkeypatch):
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="asked for several processes"):
        preflight.accelerator(make_config(tmp_path / "run"))


def test_accelerate_is_given_no_argument_that_it_will_drop(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preflight.accelerator(make_config(tmp_path / "run", precision="bf16"))
        preflight.accelerator(make_config(tmp_path / "run"))


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_nothing_that_a_run_asks_of_accelerate_is_deprecated(tmp_path):
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("error", category)
        run(tmp_path / "run", regularizers="csg", batch_size=3, accumulate=2, clip_norm=1.0, max_steps=1)


def test_a_measure_that_asks_how_sure_the_network_is_needs_a_task_that_says_so(tmp_path, monkeypatch):
    preflight.check(make_config(tmp_path / "run", weights="none", measures=["ece"]))
    monkeypatch.delattr(Classification, "predict_sure")
    config = make_config(tmp_path / "run", weights="none", measures=["ece"])
    with pytest.raises(
        ConfigError, match=r"'ece' asks how sure the network is, which the task 'classification' does not"
    ):
        preflight.check(config)
    with pytest.raises(ConfigError, match="'classification' does not say how sure its student is"):
        Classification(config.task, config.setup, load("digits", "train"), {}).predict_sure(None, None, None)
