import contextlib
import dataclasses
import functools
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import typer.main
import yaml
from synreal_cli.app import app, main
from synreal_cli.listing import Kind
from synreal_cli.options import settings

import synreal
from synreal import data, engine
from synreal.config import RunConfig, apply_settings, make_config, with_values
from synreal.config.recipes import PRESETS
from synreal.core.stages import find_stages
from synreal.core.teachers import UntrainedTeacherWarning
from synreal.data.sets import ArrayImages
from synreal.errors import Interrupted
from synreal.registry import ROOMS, registry_of
from synreal.tasks import TASKS

SMALL = ["--backbone", "test_efficientnet", "--weights", "none"]


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    """Wide and without colour, so that no text is broken in the middle."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)


@pytest.fixture
def resolved(call):
    """Resolve the options of `run` without running; gives the configuration as printed."""

    def run(*arguments):
        code, out, err = call("run", "--dry-run", *arguments)
        assert code == 0, err
        return yaml.safe_load(out)

    return run


def tiny_images(value, split, label="classes", *, seed=0, cache=None, policy=None):
    """Stands for ``data.load``: a few noisy images of each class, other ones for each set."""
    name = data.find(value).label
    classes = data.find(name).class_names(label)
    each = 2 if split == "train" else 1
    labels = torch.arange(len(classes)).repeat(each)
    if name == "uci":  # unbalanced, so that the two accuracies differ
        labels = torch.cat([torch.zeros(5, dtype=torch.int64), labels])
    generator = torch.Generator().manual_seed(sum(map(ord, name + split)) + seed)
    images = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ArrayImages(name, split, images, labels, classes)


@pytest.fixture
def tiny_data(monkeypatch):
    monkeypatch.setattr(data, "load", tiny_images)


# --- wrong usage: exit code 2, one message, nothing left behind ---


@functools.cache
def without_pretrained_weights():
    known = {name.partition(".")[0] for name in timm.list_pretrained()}
    return next(name for name in timm.list_models() if name not in known)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--regularizer", "cgs"], "Unknown regularizer 'cgs'. Did you mean 'csg'?"),
        (["--regularizer", "csg(stages=(9,))"], "stages.0"),
        (["--regularizer", "csg(stages=(9,))"], "stages.0: a stage is a number from 0 to 4 or a module path, got 9"),
        (["--regularizer", "csg(que_size=3)"], "Unknown setting of csg 'que_size'. Did you mean 'queue_size'?"),
        (["--regularizer", "csg(stages="], "Expected name(key=value, ...)"),
        (["--task", "clss"], "Unknown task 'clss'. Did you mean 'cls'?"),
        (["--preset", "csg-sge"], "Unknown preset 'csg-sge'. Did you mean 'csg-seg'?"),
        (["--preset", "csg-seg", "--task", "det"], "Preset 'csg-seg' is a recipe for segmentation, not for detection"),
        (["--task", "seg", "--architecture", "unte"], "Unknown architecture 'unte'. Did you mean 'unet'?"),
        (["--task", "det", "--architecture", "unet"], "Unknown architecture 'unet'"),
        (["--architecture", "unet"], "architecture is a setting of detection and segmentation: classification"),
        (["--task", "det", "--target", "uci"], "Data set 'uci' has no boxes, only classes"),
        (["--task", "seg", "--set", "head_width=1"], "head_width is a setting of classification: segmentation does"),
        (["--task", "det", "--set", "test_flip=true"], "test_flip is a setting of classification and segmentation"),
        (
            ["--task", "seg", "--set", "scale=[2, 1]"],
            "View geometry: scale: expected 0 < least <= greatest, got [2, 1",
        ),
        (
            ["--task", "seg", "--set", "class_weights=[1, 2]"],
            "class_weights has 2 numbers, but the 11 classes of",
        ),
        (["--task", "seg", "--set", "flip=null"], "View geometry: flip: Input should be a valid number, got None"),
        (["--backbone", "resnet5o"], "Unknown backbone 'resnet5o'. Did you mean 'resnet50'?"),
        (["--weights", "pakaged"], "auto, timm, packaged, none"),
        (["--weights", "missing.pt"], "'missing.pt' does not exist"),
        (["--source", "digit"], "Unknown data set 'digit'. Did you mean 'digits'?"),
        (["--source", "mnist"], "'mnist' is real data"),
        (["--target", "digits"], "'digits' is synthetic"),
        (["--device", "gpu"], "Unknown device 'gpu'"),
        (["--precision", "fp8"], "'fp32', 'bf16' or 'fp16', got 'fp8'"),
        (["--set", "learning_rat=1"], "Unknown setting 'learning_rat'"),
        (["--set", "bachsize=1"], "Did you mean 'batch_size'?"),
        (
            ["--task", "seg", "-r", "none", "--view", "crop"],
            "The view crop moves the pixels of each view",
        ),
        (["--measure", "mean_iou"], "The measure 'mean_iou' compares masks, but this task predicts classes"),
        (["--figure", "class_sheet"], "The figure 'class_sheet' draws data sets"),
        (["--phase", "tran"], "Unknown phase 'tran'. Did you mean 'train'?"),
        (["--transform", "ibnn"], "Unknown transform 'ibnn'"),
        (["--set", "training.lrr=1"], "Unknown setting of training 'lrr'. Did you mean 'lr'?"),
        (["--set", "jitter=0.1"], "jitter is a view: write views.jitter.strength for a setting of it"),
        (["--set", "crop=center"], "crop is a view: write views.crop.place for a setting of it"),
        (["--set", "lr=fast"], "lr: Input should be a valid number"),
        (["--set", "lr"], "--set expects key=value"),
        (["--set", "regularizers.0.wieght=1"], "Did you mean 'weight'?"),
        (["--epochs", "-1"], "epochs: Input should be greater than or equal to 0, got -1"),
        (["--batch-size", "0"], "batch_size: Input should be greater than or equal to 1, got 0"),
        (["--config", "missing.yaml"], "Cannot read the configuration missing.yaml"),
        (["--plugin", "missing.py"], "Cannot read the plugin missing.py"),
        (["--plugin", "method"], "The plugin method is not a Python file, expected a path that ends in .py"),
        (["--set", "plugin=method.py"], "Unknown setting 'plugin'"),
        (["--precision", "fp16", "--device", "cpu"], "precision 'fp16' needs a GPU"),
        (["--lr", "fast"], "training.lr: Input should be a valid number"),
        (["--lr", "[1"], "--lr '[1': the value is not YAML"),
        (["--learning-rate", "1"], "No such option: --learning-rate"),
        (["surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_of_run(arguments, expected, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("synreal.engine.building.load_task", lambda config: pytest.fail("data were read first"))
    small = [] if {"--backbone", "--weights"} & set(arguments) else SMALL
    code, out, err = call("run", *arguments, *small, "--output", "new")
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_one_line_that_a_terminal_wraps_and_a_script_need_not(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, _, err = call("run", "--config", "a/" + "long/" * 30 + "path.yaml")
    assert err.count("\n") == 1
    assert "long/" * 30 in err


def test_a_backbone_without_pretrained_weights_names_the_ways_out(call, tmp_path):
    code, _, err = call("run", "--backbone", without_pretrained_weights(), "--output", tmp_path / "new")
    assert code == 2
    assert "First way, timm" in err
    assert "weights='none'" in err
    assert not (tmp_path / "new").exists()


def test_an_output_below_a_file_cannot_be_written(call, tmp_path):
    (tmp_path / "file").write_text("precious")
    for output in (tmp_path / "file" / "new", tmp_path / "file"):
        code, _, err = call("run", *SMALL, "--output", output)
        assert code == 2
        assert str(output) in err
    assert (tmp_path / "file").read_text() == "precious"


def test_an_output_that_holds_something_is_left_alone(call, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    code, _, err = call("run", *SMALL, "--output", tmp_path)
    assert code == 2
    assert "exists and is not empty" in err
    assert "--overwrite" in err
    assert f"--resume {tmp_path}" in err
    code, _, err = call("run", *SMALL, "--output", tmp_path, "--overwrite")
    assert code == 2
    assert "it is not a run, and is not removed" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_stage_that_the_backbone_lacks(call, tmp_path, tiny_data):
    spec = "csg(stages=(layer9,))"
    code, _, err = call("run", *SMALL, "--regularizer", spec, "--batch-size", 4, "--output", tmp_path / "new")
    assert code == 2
    assert "no module 'layer9'" in err
    assert "A stage is 0 to 4 or a module path" in err
    assert "Traceback" not in err


def test_a_batch_larger_than_the_data(call, tmp_path, tiny_data):
    code, _, err = call("run", *SMALL, "-r", "none", "--batch-size", 21, "--output", tmp_path / "new")
    assert code == 2
    assert "batch_size 21" in err
    assert "Use at most batch_size=20" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "c.yaml"], "leave out the others"),
        (["--output", "elsewhere"], "leave out the others"),
        ([], "it holds no run.json, so it is not a run folder"),
    ],
)
def test_wrong_usage_of_resume(arguments, expected, call, tmp_path):
    code, _, err = call("run", "--resume", tmp_path, *arguments)
    assert code == 2
    assert expected in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "FOLDER"], "holds no run.json, so it is not a run folder"),
        (["evaluate", "FOLDER/none"], "holds no run.json, so it is not a run folder"),
        (["inspect", "stages", "resnet5o"], "Did you mean 'resnet50'?"),
        (
            ["inspect", "stages", "torchvision/resnet81"],
            "Unknown torchvision model 'resnet81'. Did you mean 'resnet18'?",
        ),
        (["inspect", "stages", "torchvision/retinanet"], "retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2"),
        (["inspect", "stages", "torchvision/"], "Unknown torchvision model ''"),
        (["inspect", "stages", "torchvison/resnet18"], "Unknown collection 'torchvison'. Did you mean 'torchvision'?"),
        (["inspect", "stages", "timm/resnet18"], "A timm model is named without one"),
        (["inspect", "stages", "smp/resnt18"], "Unknown smp encoder 'resnt18'. Did you mean 'resnet18'?"),
        (["inspect", "stages", "smp/tu-resnt18"], "Unknown smp encoder 'tu-resnt18'. Did you mean 'tu-resnet18'?"),
        (["inspect", "stages", "smp/tu-test_vit"], "smp cannot make an encoder of 'tu-test_vit': Unsupported"),
        (["inspect", "stages", "efficientvim_m1"], "No 2-D map at stage 3 (stages.0): the module gave tuple"),
        (["list", "regularizer"], "'regularizers', 'transforms', 'views', 'measures'"),
        (["data", "show", "digit"], "Did you mean 'digits'?"),
        (["data", "show", "mnist"], "'mnist' is real data: it is tested on, never trained on"),
        (["data", "show", "digits", "-o", "FOLDER/x.jpg"], "The contact sheet is a PNG"),
        (["ran"], "No such command 'ran'"),
    ],
)
def test_wrong_usage_of_other_commands(arguments, expected, call, tmp_path):
    code, out, err = call(*(argument.replace("FOLDER", str(tmp_path)) for argument in arguments))
    assert code == 2
    assert expected in err
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


# --- interrupts ---


@pytest.mark.parametrize(
    ("raised", "expected_code", "expected_text"),
    [
        (KeyboardInterrupt(), 130, ""),
        (Interrupted("Stopped at step 3; everything is saved.", 130), 130, "Stopped at step 3"),
        (Interrupted("Stopped at step 4; everything is saved.", 143), 143, "Stopped at step 4"),
        (synreal.SynrealError("It failed."), 1, "Error: It failed."),
    ],
)
def test_exit_codes_of_a_run_that_stops(raised, expected_code, expected_text, call, monkeypatch):
    def stop(*args, **kwargs):
        raise raised

    monkeypatch.setattr(engine, "run", stop)
    code, _, err = call("run", *SMALL)
    assert code == expected_code
    assert expected_text in err
    assert "Traceback" not in err


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["run", *SMALL])


# --- configuration ---


def test_dry_run_prints_the_configuration_and_creates_nothing(resolved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = resolved("-r", "csg(queue_size=9)", "-r", "feature_l2", "--output", "new")
    config = make_config(printed)
    assert config.regularizers == (synreal.CSG(queue_size=9), synreal.FeatureL2())
    assert printed == config.model_dump(mode="json")
    assert list(tmp_path.iterdir()) == []


def test_without_options_the_defaults_apply(resolved):
    assert make_config(resolved()) == RunConfig()


def test_set_overrides_options_and_they_the_file_and_that_the_defaults(resolved, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("{lr: 0.1, epochs: 7, seed: 3, batch_size: 8, regularizers: [csg(dim=3), none]}")
    printed = resolved(
        "--config", path, "--epochs", 8, "--seed", 4, "--set", "seed=5", "--set", "regularizers.0.weight=0.7"
    )
    training = printed["training"]
    assert training["momentum"] == 0.9
    assert (training["lr"], training["batch_size"]) == (0.1, 8)
    assert training["epochs"] == 8
    assert training["seed"] == 5
    assert [spec["name"] for spec in printed["regularizers"]] == ["csg", "none"]
    assert (printed["regularizers"][0]["dim"], printed["regularizers"][0]["weight"]) == (3, 0.7)


def test_an_option_given_several_times_replaces_the_list_of_the_file(resolved, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("{targets: [mnist], regularizers: csg}")
    printed = resolved("-c", path, "--target", "uci", "--target", "mnist", "-r", "none")
    assert printed["data"]["targets"] == ["uci", "mnist"]
    assert [spec["name"] for spec in printed["regularizers"]] == ["none"]


# A valid value of each setting that is not its default; a number that is not here is raised by one.
OTHER_VALUES = {
    "data.strict": "true",
    "task": "det",
    "task.architecture": "unet",
    "task.output_stride": "8",
    "task.class_weights": "[1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]",
    "task.ohem": "0.5",
    "task.window": "64",
    "task.on_size_mismatch": "resize",
    "task.head_width": "16",
    "task.test_flip": "true",
    "preset": "csg-seg",
    "reference": "resnet18",
    "regularizers": "guidance",
    "views": "jitter",
    "phases": "head_first",
    "data.source": "masks:/renders",
    "data.targets": "masks:/photos",
    "data.on_bad_image": "skip",
    "data.cache_size": "64",
    "student.backbone": "resnet18",
    "student.weights": "none",
    "student.start": "runs/mine",
    "student.norm": "train",
    "student.memory_format": "contiguous",
    "training.max_steps": "5",
    "training.momentum": "0.5",
    "training.optimizer": "sgd",
    "training.schedule": "constant",
    "training.poly_until": "0.5",
    "training.clip_norm": "2.5",
    "training.device": "cpu",
    "training.precision": "bf16",
    "testing.max_test_images": "5",
    "testing.measures": "ece",
    "testing.look": "drift",
    "testing.figures": "mask_panels",
    "testing.shifts": "blur",
    "testing.wise_ft": "0.5",
    "testing.averages": "ema",
    "output.folder": "here",
    "output.checkpoint_every": "3",
}
# There is no transform or figure of our own that a run does not have already.
NOTHING_ELSE = {"student.transforms", "testing.figures"}
SETTINGS = [one for one in settings() if one.path not in NOTHING_ELSE]


def other_value(setting):
    """A valid value that is not the setting's default, as text."""
    if setting.path in OTHER_VALUES:
        return OTHER_VALUES[setting.path]
    number = float(re.findall(r"[\d.]+", setting.default)[-1]) + 1
    return f"{number:g}"


def found(printed, path):
    for key in path.split("."):
        printed = printed[key]
    return printed


@pytest.fixture
def given(call, monkeypatch):
    """Give ``synreal run`` options; gives what they say, by full key."""
    command, found = importlib.import_module("synreal_cli.run"), {}

    def caught(config, options, settings, resume):
        found.update(options)
        raise Interrupted("seen", 0)

    monkeypatch.setattr(command, "_resolve", caught)

    def run(*arguments):
        code, _, err = call("run", *arguments)
        assert (code, err) == (0, "Error: seen\n")
        return found

    return run


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_every_setting_is_an_option_a_bare_key_and_a_full_key(setting, given):
    values = {"task": "cls" if setting.tasks == ("classification",) else "seg", "regularizers": "feature_l2"}
    if setting.path in ("data.source", "data.targets", "data.cache_size"):  # of images in files
        values |= {"source": "masks:/renders", "targets": "masks:/photos"}
    if setting.path == "reference":  # it is for those who look at it
        values["regularizers"] = "guidance"
    values.pop(setting.key, None)
    value = other_value(setting)

    def made(*settings):
        return make_config(apply_settings(values, settings)).model_dump(mode="json")

    by_option = make_config(with_values(values, given(f"--{setting.option}", value))).model_dump(mode="json")
    assert made(f"{setting.path}={value}") == by_option
    assert made(f"{setting.key}={value}") == by_option
    if setting.path not in ("data.source", "data.targets"):  # which must fit each other
        assert found(by_option, setting.path) != found(made(), setting.path)


def test_real_images_come_behind_all_phases(call):
    data = [
        "--source",
        "imagefolder:/renders",
        "--target",
        "imagefolder(root='/photos', splits={'train': 'a', 'test': 'b'})",
    ]
    code, out, err = call("run", "--phase", "head_first", "--phase", "train", "--then-real", 3, *data, "--dry-run")
    assert code == 0, err
    phases = yaml.safe_load(out)["phases"]
    assert [phase["name"] for phase in phases] == ["head_first", "train", "few_shot"]
    assert phases[-1]["n"] == 3
    code, _, err = call("run", "--then-real", 3, "--target", "mnist", "--dry-run")
    assert (code, "all images of 'mnist' are" in " ".join(err.split())) == (2, True)
    code, _, err = call("run", "--then-real", 3, "--resume", "runs/mine")
    assert (code, "leave out --then-real" in err) == (2, True)


# --- help ---


def parameters(command):
    return {parameter.name: parameter for parameter in typer.main.get_command(app).commands[command].params}


def test_help_lists_the_commands(call):
    code, out, _ = call("--help")
    assert code == 0
    commands = typer.main.get_command(app).commands
    assert set(commands) == {
        *("run", "diagnose", "evaluate", "predict", "export", "bench", "leaderboard", "list", "inspect", "data")
    }
    for name in commands:
        assert re.search(rf"^│ {name}\s+\S", out, re.MULTILINE), name


def test_help_of_run_mentions_every_option(call):
    code, out, _ = call("run", "--help")
    assert code == 0
    for parameter in parameters("run").values():
        for option in parameter.opts:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", out), option


@pytest.mark.parametrize(
    "path", ["", "run", "diagnose", "evaluate", "bench", "list", "inspect", "inspect stages", "data", "data show"]
)
def test_every_command_explains_itself(path, call):
    code, out, _ = call(*path.split(), "-h")
    assert code == 0
    assert "Usage:" in out


def test_defaults_in_the_help_are_those_of_the_configuration(call):
    _, shown, _ = call("run", "--help")
    plain = {spec.short: RunConfig(task=name) for name, spec in TASKS.classes().items()}
    stated = 0
    for setting in settings():
        if not setting.default:
            continue
        stated += 1
        if setting.place and setting.key != "source":
            for short, text in shorts(setting).items():
                value = getattr(getattr(plain[short], setting.place), setting.key)
                assert text == (f"{value:g}" if isinstance(value, float) else str(value).lower()), setting.path
    # Square brackets would be taken for markup and never be printed.
    assert shown.count("(default:") == stated


def shorts(setting):
    """The stated default of each task that has the setting."""
    known = [TASKS.get(name).short for name in setting.tasks or TASKS.available()]
    parts = [
        re.fullmatch(r"((?:cls|det|seg)(?:, (?:cls|det|seg))*) (.+)", part) for part in setting.default.split("; ")
    ]
    if not all(parts):
        return dict.fromkeys(known, setting.default)
    return {short: part[2] for part in parts for short in part[1].split(", ")}


def test_the_version(call):
    assert call("--version") == (0, f"synreal {synreal.__version__}\n", "")


def test_shell_completion_lists_the_commands():
    source = "import sys; sys.argv[0] = 'synreal'; from synreal_cli.app import main; main()"
    environment = {**os.environ, "_SYNREAL_COMPLETE": "complete_bash", "COMP_WORDS": "synreal ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert set(done.stdout.split()) == set(typer.main.get_command(app).commands), done.stderr


# --- listings ---


LISTED = {
    **{plural: registry_of(plural).available() for plural in ROOMS},
    "presets": list(PRESETS),
    "settings": [setting.path for setting in settings()],
}


@pytest.mark.parametrize("kind", LISTED)
def test_lists(kind, call):
    code, out, _ = call("list", kind)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == LISTED[kind]
    assert all(len(line.split()) > 1 for line in out.splitlines()), "a name without a word about it"
    code, out, _ = call("list", kind, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == LISTED[kind]
    assert all(row["summary"] for row in rows)


def test_everything_that_has_a_registry_can_be_listed():
    assert {kind.value for kind in Kind} == {*LISTED, "backbones"}


def test_list_of_backbones_says_where_weights_come_from(call):
    code, out, _ = call("list", "backbones", "--json")
    rows = {row["name"]: row["summary"] for row in json.loads(out)}
    assert code == 0
    assert set(rows) == set(timm.list_models())
    assert rows["tf_efficientnet_lite0"] == "timm's weights, packaged weights"
    assert rows["resnet50"] == "timm's weights"
    assert rows[without_pretrained_weights()] == "no pretrained weights"


def test_a_list_can_be_filtered(call):
    _, out, _ = call("list", "backbones", "--filter", "efficientnet_lite0")
    assert [line.split()[0] for line in out.splitlines()] == ["efficientnet_lite0", "tf_efficientnet_lite0"]
    assert call("list", "tasks", "--filter", "nothing") == (0, "", "")
    assert json.loads(call("list", "tasks", "--filter", "nothing", "--json")[1]) == []


def test_stages_of_a_backbone(call):
    code, out, _ = call("inspect", "stages", "tf_efficientnet_lite0", "--json")
    assert code == 0
    stages = json.loads(out)
    assert [(stage["name"], stage["stride"], stage["channels"]) for stage in stages] == [
        ("0", 2, 16),
        ("1", 4, 24),
        ("2", 8, 40),
        ("3", 16, 112),
        ("4", 32, 320),
    ]
    code, out, _ = call("inspect", "stages", "tf_efficientnet_lite0")
    assert code == 0
    for stage in stages:
        pattern = (
            rf"{stage['name']} *│ {stage['path']} *│ *{stage['channels']} │ *{stage['stride']} │ {stage['layout']}"
        )
        assert re.search(pattern, out), stage


@pytest.mark.parametrize(
    ("name", "paths", "channels", "strides"),
    [
        (
            "torchvision/swin_t",
            ["features.1", "features.3", "features.5", "permute"],
            [96, 192, 384, 768],
            [4, 8, 16, 32],
        ),
        (
            "torchvision/fasterrcnn_mobilenet_v3_large_fpn",
            [f"backbone.body.{index}" for index in (1, 3, 6, 12, 16)],
            [16, 24, 40, 112, 960],
            [2, 4, 8, 16, 32],
        ),
        (
            "torchvision/lraspp_mobilenet_v3_large",
            [f"backbone.{index}" for index in (1, 3, 6, 12, 16)],
            [16, 24, 40, 112, 960],
            [2, 4, 8, 16, 16],
        ),
        ("smp/mit_b0", [f"encoder.norm{index}" for index in (1, 2, 3, 4)], [32, 64, 160, 256], [4, 8, 16, 32]),
        (
            "smp/tu-test_convnext",
            [f"encoder.model.stages_{index}" for index in range(4)],
            [24, 32, 48, 64],
            [4, 8, 16, 32],
        ),
        ("test_vit", [f"blocks.{index}" for index in (1, 2, 4, 5)], [64] * 4, [16] * 4),
    ],
)
def test_stages_of_other_collections(name, paths, channels, strides, call):
    code, out, err = call("inspect", "stages", name, "--json")
    assert code == 0, err
    stages = json.loads(out)
    assert [stage["path"] for stage in stages] == paths
    assert [stage["channels"] for stage in stages] == channels
    assert [stage["stride"] for stage in stages] == strides
    assert [stage["name"] for stage in stages] == ["0", "1", "2", "3", "4"][-len(paths) :]


def test_paths_of_an_smp_encoder_are_those_in_an_smp_model(call):
    stages = json.loads(call("inspect", "stages", "smp/resnet18", "--json")[1])
    model = smp.Unet("resnet18", encoder_weights=None)
    assert stages == [dataclasses.asdict(stage) for stage in find_stages(model).values()]


def test_list_of_data(call):
    code, out, _ = call("data", "list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == data.available()
    rows = json.loads(call("data", "list", "--json")[1])
    assert [row["name"] for row in rows] == data.available()
    for row in rows:
        kind = data.get(row["name"])
        assert (row["domains"], row["labels"]) == (list(kind.domains), list(kind.label_kinds))


def test_a_contact_sheet_is_a_png(call, tmp_path, tiny_data):
    path = tmp_path / "new folder" / "x.png"
    code, out, _ = call("data", "show", "digits", "-o", path)
    assert code == 0
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert str(path) in out


def test_a_contact_sheet_that_cannot_be_written(call, tmp_path, tiny_data):
    (tmp_path / "file").write_text("precious")
    code, _, err = call("data", "show", "digits", "-o", tmp_path / "file" / "x.png")
    assert code == 2
    assert "Cannot write" in err
    assert (tmp_path / "file").read_text() == "precious"


# --- a whole run ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps on tiny data; gives its folder and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "[/b]run:x:"  # rich would take this for markup
    arguments = [*SMALL, "-r", "csg(queue_size=8, dim=4)", "--image-size", 32, "--epochs", 2, "--batch-size", 10]
    arguments += ["--workers", 0, "--device", "cpu", "--output", folder, "--set", "eval_every=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", tiny_images)
        patch.setenv("COLUMNS", "300")
        patch.setenv("NO_COLOR", "1")
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.warns(UntrainedTeacherWarning),
            pytest.raises(SystemExit) as stopped,
        ):
            main(["run", *map(str, arguments)])
    assert stopped.value.code == 0, err.getvalue()
    return folder, out.getvalue()


def percents(out, row):
    """Numbers in the cells of a table's row that starts with a text."""
    line = next(line for line in out.splitlines() if line.strip("│┃ ").startswith(row))
    return [float(cell) for cell in line.strip("│ ").split("│")[1:]]


def test_a_run_prints_every_set_chance_recall_and_its_folder(finished):
    folder, out = finished
    result = json.loads((folder / "result.json").read_text())
    scores = {"digits": result["source_heldout"], **result["targets"]}
    assert list(scores) == ["digits", "mnist", "uci"]
    for name, score in scores.items():
        kind = "synthetic, held out" if name == "digits" else "real"
        expected = [score["images"], *(100 * score["measures"][m] for m in ("mean_class_accuracy", "accuracy")), 10]
        assert percents(out, f"{name} ({kind})") == pytest.approx(expected, abs=0.05)
    assert scores["uci"]["images"] == 15
    assert len(set(scores["uci"]["measures"].values())) == 2
    assert "csg, test_efficientnet (random initialisation)" in out
    assert "4 steps, seed 0" in out
    recall = out[out.index("Recall by class") :]
    for label in data.find("digits").class_names("classes"):
        expected = [100 * score["per_class"][label] for score in scores.values()]
        assert percents(recall, f"{label} ") == pytest.approx(expected, abs=0.05)
    assert "Weights were random (weights: none)" in out
    peeking = {name: best for name, best in result["target_selected"].items() if best["step"] != 4}
    assert re.findall(r"peeks at the target: (\w+) would read", out) == list(peeking)
    assert out.rstrip().endswith(f"Run folder: {folder}")


def test_the_folder_of_a_run_holds_its_configuration(finished):
    folder, _ = finished
    config = make_config(yaml.safe_load((folder / "config.yaml").read_text()))
    assert config.regularizers == (synreal.CSG(queue_size=8, dim=4),)
    assert config.model_dump(mode="json") == json.loads((folder / "result.json").read_text())["config"]


def test_evaluate_gives_the_scores_of_the_run(finished, call, tiny_data):
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    code, out, _ = call("evaluate", folder, "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out) == {"source": result["source_heldout"], **result["targets"]}
    code, out, _ = call("evaluate", folder, "--device", "cpu", "--target", "uci")
    assert code == 0
    assert "uci (real)" in out
    assert "mnist" not in out
    assert percents(out, "uci (real)")[2] == pytest.approx(
        100 * result["targets"]["uci"]["measures"]["accuracy"], abs=0.05
    )


def test_evaluate_refuses_an_unknown_target(finished, call):
    code, _, err = call("evaluate", finished[0], "--target", "mnits")
    assert code == 2
    assert "Did you mean 'mnist'?" in err


def test_resuming_a_finished_run_prints_its_result_again(finished, call):
    folder, out = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, again, _ = call("run", "--resume", folder)
    assert code == 0
    assert again == out
    code, text, _ = call("run", "--resume", folder, "--json")
    assert code == 0
    assert json.loads(text) == json.loads((folder / "result.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--set", "lr=0.1"], "training.lr"),
        (["--lr", "0.1"], "training.lr"),
        (["--set", "regularizers.csg.weight=3"], "regularizers.csg.weight"),
        (["--set", "output.folder=elsewhere"], "leave output.folder out of --set"),
        (["--set", "log_every=3", "--workers", "1", "--device", "auto"], None),
    ],
)
def test_what_a_resumed_run_may_be_told(finished, call, words, expected):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, _, err = call("run", "--resume", folder, *words)
    assert code == (0 if expected is None else 2)
    assert expected is None or expected in err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_result_that_cannot_be_printed_is_no_failed_run(finished, call, monkeypatch, words):
    folder, _ = finished
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        code, _, err = call("run", "--resume", folder, *words)
    assert code == 0
    assert "The result could not be printed ([Errno 28] No space left on device); it is in" in err


def test_an_empty_or_cut_configuration_is_refused(call, tmp_path):
    code, text, _ = call("run", *SMALL, "--dry-run")
    assert code == 0
    path = tmp_path / "config.yaml"
    for part, expected in ((0, "is empty"), (30, "is empty"), (-5, "was cut short"), (-300, "was cut short")):
        path.write_text(text[:part])
        code, _, err = call("run", "--config", path, "--dry-run")
        assert code == 2
        assert str(path) in err
        assert expected in err
    path.write_text(text)
    assert call("run", "--config", path, "--dry-run")[:2] == (0, text)


def test_a_finished_run_is_not_overwritten_by_accident(finished, call):
    folder, _ = finished
    result = (folder / "result.json").read_bytes()
    code, _, err = call("run", *SMALL, "--output", folder)
    assert code == 2
    assert "--overwrite" in err
    assert (folder / "result.json").read_bytes() == result


def test_the_way_out_that_an_existing_folder_names_works(finished, call):
    folder, _ = finished
    _, _, err = call("run", *SMALL, "--output", folder)
    named = re.search(r"--resume (\S+)\.\s*$", err)
    assert named is not None
    assert Path(shlex.split(named[1])[0]) == folder
