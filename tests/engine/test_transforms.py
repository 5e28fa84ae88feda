"""Runs with a transformed student: stopped and gone on with, built again, refused."""

import pytest
import torch
from safetensors.torch import load_file

from synreal import engine
from synreal.engine.checkpoint import read_student_facts
from synreal.engine.look import look
from synreal.engine.plain import Plain
from synreal.engine.trained import read_trained
from synreal.errors import ConfigError
from tests.engine.test_run import stop_run
from tests.engine.tiny import outcome, run

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")

TRANSFORMED = {"transforms": "mixstyle(p=1, stages=(0, 1))", "regularizers": "none"}


def test_resumed_mid_epoch_with_noise_on_features_is_bit_equal(tmp_path, whole):
    output = tmp_path / "run"
    stop_run(output, 6, **TRANSFORMED)
    (at,) = (output / "checkpoints").glob("step-00000006")
    saved = load_file(at / "model.safetensors")["noise._extra_state"]
    assert saved[:, 1:].tolist() == [[6, 0], [6, 0]]
    run(output, resume=True, **TRANSFORMED)
    assert outcome(output) == outcome(whole(**TRANSFORMED))


@pytest.mark.parametrize("text", ["ibn(variant=b)", "instance_whitening", "mixstyle"])
def test_a_transformed_student_is_built_again_to_the_bit(tmp_path, text):
    found = run(tmp_path / "run", transforms=text, max_steps=1, epochs=1).record
    again = engine.evaluate(tmp_path / "run", device="cpu", show_progress=False)
    assert again["source"].measures == found.source_heldout.measures
    assert again["mnist"].measures == found.targets["mnist"].measures
    told = read_student_facts(tmp_path / "run" / "model.safetensors")
    assert ("synreal" in told["build"]) == ("transforms" in told) == (text != "mixstyle")
    space = {}
    exec(told["build"], space)
    state = load_file(tmp_path / "run" / "model.safetensors")
    space["model"].load_state_dict(state, strict=True)
    trained = read_trained(tmp_path / "run", "test")
    student = trained.student(trained.load_tests(source=False)).network.eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(space["model"].eval()(images), student.to(memory_format=torch.contiguous_format)(images))


def test_looking_compares_with_the_converted_network(tmp_path):
    folder = run(tmp_path / "run", transforms="ibn", max_steps=3, epochs=1, schedule="constant").folder
    found = look(folder, ["drift", "cka"], keep=False, device="cpu", show_progress=False)
    assert 0 < found.measures["drift"].value < 0.2
    plain = Plain(task="cls", backbone="test_efficientnet", weights="none", data="mnist", image_size=32, device="cpu")
    again = look(folder / "model.safetensors", ["energy_1"], plain=plain, show_progress=False)
    ours = look(folder, ["energy_1"], keep=False, device="cpu", show_progress=False)
    value = ours.sets["mnist"].measures["energy_1"].value
    assert again.sets["mnist"].measures["energy_1"].value == pytest.approx(value, rel=1e-5)


def test_noise_that_needs_a_batch_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"mixstyle' compares the images of a batch.*Set training\.batch_size=2"):
        run(tmp_path / "run", transforms="mixstyle", batch_size=1)
