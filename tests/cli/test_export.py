import importlib.util
import json

import pytest
import torch

from synreal.engine import export_formats
from tests.engine import tiny

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of a few random images."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr)
        tiny.run(folder, regularizers="none", epochs=1, max_steps=2, eval_every=0)
    return folder


@pytest.fixture
def here(finished, monkeypatch, tmp_path):
    """A working directory where the run is called ``run``, and data that take no time."""
    tiny.install(monkeypatch.setattr)
    (tmp_path / "run").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_and_its_card_are_written_and_told(here, call):
    code, out, err = call("export", "run", "--output", "a.ts")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("a.ts: torchscript, checked on 11 images of target 'mnist': largest difference ")
    assert lines[1] == "a.ts.md: its model card."
    code, out, _ = call("export", "run", "--output", "a.ts", "--overwrite", "--json", "--count", 2)
    assert code == 0
    told = json.loads(out)
    assert (told["file"], told["agreement"]["total"], told["agreement"]["share"]) == ("a.ts", 2, 1)
    code, out, err = call("export", "run", "--output", "a.ts")
    assert (code, out) == (2, "")
    assert "a.ts exists. Give another --output, or --overwrite it." in err


def test_what_does_not_agree_fails(here, call, monkeypatch):
    monkeypatch.setattr(
        export_formats, "reader", lambda *_: lambda inputs: [torch.full((len(inputs["images"]), 10), torch.nan)]
    )
    code, out, err = call("export", "run", "--output", "a.ts")
    assert (code, out) == (1, "")
    assert "does not agree with the network" in err
    assert not (here / "a.ts").exists()


def test_a_missing_package_is_named_with_the_remedy(here, call, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "onnxruntime" else find(name, *more)
    )
    code, out, err = call("export", "run", "--output", "a.onnx")
    assert (code, out) == (2, "")
    assert "To write ONNX takes onnxruntime: pip install 'synreal[export]'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-o", "a.pb"], "a.pb: its ending does not say what to write. End it in one of .onnx (onnx), .pt2"),
        (["run", "-o", "a.ts", "--format", "onnx"], "a.ts would be torchscript, but --format says onnx"),
        (["run", "-o", "no/a.ts"], "there is no folder no"),
        (["run", "-o", "a.ts", "--tolerance", "-1"], "tolerance is -1.0; expected a number >= 0"),
        (["run", "-o", "a.ts", "--images", "nowhere"], "nowhere is not a folder"),
        (["run", "-o", "a.ts", "--images", "empty"], "empty holds no image to check with"),
        (["run", "-o", "a.ts", "--average", "ema(decay=0.1)"], "ema(decay=0.1)"),
        (["nowhere", "-o", "a.ts"], "Cannot export nowhere: it holds no run.json"),
    ],
)
def test_wrong_wishes_are_told(arguments, message, here, call):
    (here / "empty").mkdir()
    code, out, err = call("export", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
