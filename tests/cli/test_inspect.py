import json
import shutil

import pytest
import timm
import torch
from torch import nn

from tests.engine import tiny
from tests.records.test_history import ROWS, run_folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs of two methods, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for method, seed in (("none", 0), ("none", 1), ("csg", 0)):
        run_folder(tmp_path / "runs" / f"{method}-{seed}", method, seed, finished=method == "none")
    return tmp_path


@pytest.mark.parametrize(("output", "start"), [("new/a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_curves_of_finished_and_of_unfinished_runs_are_drawn(output, start, runs, call):
    code, out, err = call("inspect", "curves", "runs/none-0", "runs", "--output", output)
    assert (code, err) == (0, "")
    assert (runs / output).read_bytes().startswith(start)
    assert out == f"{output}: 3 runs of 2 methods.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs"], "Missing option '--output'"),
        (["runs", "-o", "a.jpg"], "a.jpg: its ending does not say how to draw. End it in .png or .svg."),
        (["nowhere", "-o", "a.svg"], "nowhere holds no run: expected a run folder"),
        (["runs", "untested", "-o", "a.svg"], "untested/metrics.jsonl has no row of a test yet"),
        (["runs", "again", "-o", "a.svg"], "csg, seed 0, is there twice: runs/csg-0 and again. Leave one out."),
    ],
)
def test_what_has_no_curves_is_told(arguments, message, runs, call):
    run_folder(runs / "untested", "kl", rows=ROWS[:1])
    run_folder(runs / "again", "csg")
    code, out, err = call("inspect", "curves", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------ looking into networks


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """Two finished runs of a few random images, and the file of weights that both began with."""
    folder = tmp_path_factory.mktemp("looked")
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=1000)
    nn.init.normal_(network.classifier.bias)
    torch.save(network.state_dict(), folder / "start.pt")
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr)
        for name in ("none", "oracle"):
            settings = {"epochs": 1, "max_steps": 2, "eval_every": 0, "weights": str(folder / "start.pt")}
            tiny.run(folder / name, regularizers=name, targets="mnist", **settings)
    return folder


@pytest.fixture
def here(looked, monkeypatch, tmp_path):
    """A copy of them as the working directory, and data that take no time."""
    tiny.install(monkeypatch.setattr)
    shutil.copytree(looked, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "here"


pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
PLAIN = ("none/model.safetensors", "--data", "mnist", "--backbone", "test_efficientnet", "--image-size", 32)


def test_a_run_is_measured_beside_another(here, call):
    code, out, err = call("inspect", "none", "--measures", "--against", "oracle", "--device", "cpu")
    assert code == 0, err
    for text in ("none, seed 0", "oracle, seed 0", "mnist (11 images)", "CKA (higher is better)", "drift %, stage 4"):
        assert text in out
    assert "none, seed 0: acc_in was left out: it needs a folder of ImageNet's images." in out
    assert json.loads((here / "none" / "insight.json").read_text())["title"] == "none, seed 0"
    code, out, _ = call("inspect", "none", "--measure", "drift", "--measure", "cka", "--device", "cpu", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert list(found["measures"]) == ["drift"]
    assert list(found["sets"]["mnist"]["measures"]) == ["cka"]


def test_a_plain_file_is_measured_and_drawn(here, call):
    code, out, err = call(
        "inspect", *PLAIN, "--weights", "start.pt", "--measure", "cka", "--figure", "circle", "--against", "oracle"
    )
    assert code == 0, err
    assert "mnist (11 images)" in out
    assert out.splitlines()[-1] == "figures/circle-mnist.png"
    assert (here / "figures" / "circle-mnist.png").read_bytes().startswith(b"\x89PNG")


def test_figures_alone_take_no_measure(here, call):
    code, out, err = call("inspect", "none", "--figure", "gradcam", "--figure", "attention", "--device", "cpu")
    assert code == 0, err
    assert out.splitlines() == ["none/figures/gradcam-mnist.png", "none/figures/attention-mnist.png"]
    assert not (here / "none" / "insight.json").exists()


def test_a_page_is_written_into_the_run_or_where_it_is_asked_for(here, call):
    code, out, err = call("inspect", "none", "--html", "--measure", "drift", "--against", "oracle", "--device", "cpu")
    assert code == 0, err
    assert out.splitlines()[-1] == "none/insight.html"
    assert "drift % (lower is better)" in out  # what is asked for besides is done as without a page
    page = (here / "none" / "insight.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "oracle, seed 0" in page
    assert list(json.loads((here / "none" / "insight.json").read_text())["measures"]) == ["drift"]
    code, out, err = call(
        "inspect", *PLAIN, "--weights", "none", "--html", "--figure", "gradcam", "--output", "new", "--json"
    )
    assert code == 0, err
    assert json.loads(out)[0]["title"] == "model"
    assert sorted(path.name for path in (here / "new").iterdir()) == ["gradcam-mnist.png", "insight.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--figure", "circle", "--output", "a.html"], "a.html is one page, which --html writes."),
        (
            ["none", "--figure", "circle", "--html", "-o", "a.html"],
            "--figure writes other files: give a folder for both",
        ),
        (["none", "--html", "--output", "none/run.json"], "Cannot write none/run.json/insight.html"),
        (["none", "--html", "--against", "nowhere"], "Cannot look into nowhere"),
        (["nowhere", "--html"], "Cannot look into nowhere"),
        (["none/model.safetensors", "--html"], "say what to look at with --data"),
        (["nowhere", "--measures"], "Cannot look into nowhere: it holds no run.json, so it is not a run folder"),
        (["none", "--measure", "ckaa"], "Unknown measure 'ckaa'. Did you mean 'cka'?"),
        (["none", "--measure", "mean_iou"], "'mean_iou' compares masks, but this task predicts classes"),
        (["none", "--measure", "acc_in"], "needs images of ImageNet: name their folder with --imagenet"),
        (["none", "--imagenet", "nowhere"], "nowhere does not exist"),
        (["none", "--imagenet", "oracle"], "none says that it is of one of ImageNet's 1,000 classes"),
        (["none", "--measures", "--measure", "cka"], "--measures takes all of them, --measure one"),
        (["none", "--checkpoint", "step-3"], "Unknown checkpoint or average of none 'step-3'"),
        (["none", "--target", "mnits"], "Did you mean 'mnist'?"),
        (["none", "--figure", "circel"], "Unknown figure 'circel'. Did you mean 'circle'?"),
        (["none", "--figure", "confusion"], "The figure 'confusion' draws what a test gave"),
        (["none", "--data", "mnist"], "are for files of weights, and none is none"),
        (["none/model.safetensors"], "say what to look at with --data"),
        (["none/model.safetensors", "--data", "mnist"], "say of which network with --backbone"),
        ([*PLAIN, "--target", "uci"], "--target and --checkpoint are for runs"),
        ([*PLAIN, "--weights", "pakaged"], "auto, timm, packaged, none"),
        ([*PLAIN[:4], "test_resnet", "--weights", "none"], "do not fit the network"),
        ([*PLAIN, "--class", "cat", "--weights", "none"], "share no class"),
        ([*PLAIN, "--task", "clss"], "Did you mean 'cls'?"),
        (["none", "--against", "nowhere", "--measure", "drift"], "Cannot look into nowhere"),
    ],
)
def test_what_cannot_be_looked_into_is_told(arguments, message, here, call):
    code, out, err = call("inspect", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
