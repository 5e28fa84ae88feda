import re
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synreal
from synreal import data
from synreal.config import RunConfig, apply_settings, make_config, read_yaml
from synreal.config.recipes import PRESETS
from synreal.config.sections import SECTIONS
from synreal.errors import ConfigError, WeightsError
from synreal.tasks.base import TASKS
from synreal.views import VIEWS


def through_yaml(config, folder):
    path = folder / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    return make_config(read_yaml(path))


# --- defaults and names ---


def test_defaults_resolve():
    config = make_config({})
    assert config == RunConfig()
    assert config.task == TASKS.get("cls")()
    assert config.regularizers == (synreal.CSG(),)
    assert [target.text() for target in config.data.targets] == ["mnist", "uci"]
    assert config.output.folder is None


@pytest.mark.parametrize("name", ["cls", "classification"])
def test_both_task_names_mean_the_long_one(name):
    assert make_config({"task": name}).task.name == "classification"


def test_one_target_may_be_written_without_a_list():
    assert [target.text() for target in make_config({"targets": "uci"}).data.targets] == ["uci"]


def test_a_configuration_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        RunConfig().training = None
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        RunConfig().training.lr = 1.0


# --- round trip ---


@pytest.mark.parametrize(
    "regularizers",
    [
        "none",
        "oracle",
        ["csg(stages=(1, layer2, 'layer3.0'), queue_size=12, dim=5, pooling=gap, weight=0.25)"],
        [{"name": "feature_l2", "stages": [2, 3], "spatial": True}, "csg"],
        ["csg", "csg(temperature=0.5)", "none"],
        [synreal.CSG(stages=(3,))] * 2,
    ],
)
def test_yaml_round_trip_keeps_every_setting_of_a_regularizer(regularizers, tmp_path):
    config = make_config({"regularizers": regularizers})
    again = through_yaml(config, tmp_path)
    assert again == config
    assert [type(spec) for spec in again.regularizers] == [type(spec) for spec in config.regularizers]


def test_the_dump_holds_the_fields_of_the_subclass():
    spec = synreal.CSG(queue_size=12, stages=(2, "blocks.3"))
    dumped = yaml.safe_load(make_config({"regularizers": [spec, "none"]}).to_yaml())["regularizers"]
    assert dumped[0] == {
        "name": "csg",
        "weight": 0.1,
        "stages": [2, "blocks.3"],
        "stage_weights": None,
        "dim": 128,
        "queue_size": 12,
        "queue_start": "empty",
        "temperature": 0.07,
        "momentum": 0.999,
        "pooling": "attentional",
        "patches": 1,
        "teacher": "reference",
        "average_momentum": 0.996,
        "average_norm": "own",
    }
    assert dumped[1] == {"name": "none", "weight": 1.0}


def test_a_reference_that_nothing_compares_with_is_refused():
    assert make_config({"regularizers": "guidance", "reference": "resnet18"}).reference == "resnet18"
    with pytest.raises(ConfigError, match=r"'resnet18' was given, but no regularizer looks at it \(none, si\)\."):
        make_config({"regularizers": ["none", "si"], "reference": "resnet18"})


@pytest.mark.parametrize("name", ["csg", "info_nce", "causal_invariance", "gcisg"])
def test_patches_of_views_that_are_not_aligned_are_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} compares patches by position, .*Use patches=1"):
        make_config({"regularizers": f"{name}(patches=8)"})


def test_yaml_round_trip_keeps_every_setting_of_a_run(tmp_path):
    config = RunConfig(
        backbone="resnet18.tv_in1k",
        weights="none",
        targets=("uci",),
        image_size=96,
        max_steps=7,
        lr=1e-7,
        clip_norm=2.5,
        schedule="constant",
        norm="train",
        precision="bf16",
        device="cuda:1",
        checkpoint_every=3,
        output=Path("a folder/ß: # '"),
    )
    assert through_yaml(config, tmp_path) == config


@given(
    lr=st.floats(min_value=0, allow_infinity=False, allow_nan=False),
    weight=st.floats(min_value=0, allow_infinity=False, allow_nan=False),
)
@settings(max_examples=30, deadline=None)
def test_round_trip_is_exact_in_every_float(lr, weight):
    config = RunConfig(lr=lr, regularizers=synreal.FeatureL2(weight=weight))
    assert make_config(yaml.safe_load(config.to_yaml())) == config


# --- recipes ---


def holds(config, settings):
    """Check that a configuration has a recipe's settings, each in its section."""
    for section, values in settings.items():
        if section == "views":
            assert list(config.views) == VIEWS.specs(values)
            continue
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value, (section, key)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole_and_survives_yaml(name, tmp_path):
    config = make_config({"preset": name})
    recipe = PRESETS[name]
    assert config.task.name == recipe.task
    holds(config, recipe.settings)
    assert config.regularizers[0].name == recipe.regularizers
    for key, value in recipe.terms.get(recipe.regularizers, {}).items():
        assert getattr(config.regularizers[0], key) == value
    assert through_yaml(config, tmp_path) == config
    steps = config.training.max_steps
    assert steps is None or steps > 10_000, "a preset takes nothing from the embedded recipe"


@pytest.mark.parametrize("task", TASKS.available())
def test_every_task_has_a_recipe_that_the_run_takes(task, tmp_path):
    config = make_config({"task": task})
    holds(config, TASKS.get(task).recipe.settings)
    assert through_yaml(config, tmp_path) == config


def test_what_is_given_overrides_the_preset_and_the_preset_the_defaults():
    config = make_config({"preset": "gcisg-det", "lr": 0.5, "regularizers": ["csg(dim=3)", "none"]})
    training = config.training
    assert (training.lr, training.batch_size, training.schedule, training.momentum) == (0.5, 4, "constant", 0.9)
    assert config.regularizers[0] == synreal.CSG(dim=3, patches=8)
    assert config.regularizers[1].name == "none"


@pytest.mark.parametrize("given_value", ["csg", {"name": "csg"}, synreal.CSG(), ["csg"]])
def test_a_regularizer_takes_the_recipe_s_settings_where_it_sets_none(given_value):
    assert make_config({"task": "seg", "regularizers": given_value}).regularizers == (
        synreal.CSG(patches=8, queue_size=4096),
    )
    assert make_config({"preset": "csg-seg", "regularizers": given_value}).regularizers == (
        synreal.CSG(patches=8, weight=75),
    )
    assert make_config({"regularizers": given_value}).regularizers == (synreal.CSG(),)


def test_a_setting_of_a_regularizer_that_was_given_stays_though_it_is_the_default():
    spec = make_config({"task": "seg", "regularizers": "csg(patches=1, queue_size=65536)"}).regularizers[0]
    assert spec == synreal.CSG()
    config = make_config(apply_settings({"task": "seg"}, ["regularizers.0.weight=0.5"]))
    assert config.regularizers[0] == synreal.CSG(weight=0.5, patches=8, queue_size=4096)
    config = make_config(apply_settings({"preset": "gcisg-seg"}, ["regularizers.0.invariance_weight=0.5"]))
    assert config.regularizers[0] == synreal.GCISG(invariance_weight=0.5, patches=8)


def test_a_smaller_network_stands_in_for_a_preset_s():
    config = make_config({"preset": "csg-seg", "backbone": "tf_efficientnet_lite0", "max_steps": 10})
    assert (config.task.output_stride, config.task.architecture, config.training.max_steps) == (8, "deeplabv3", 10)


def test_the_recipes_of_the_papers_for_classification():
    csg, asg, gcisg = (make_config({"preset": f"{name}-cls"}) for name in ("csg", "asg", "gcisg"))
    for config in (csg, asg, gcisg):
        assert (config.student.backbone, config.task.head_width) == ("resnet101", 512)
        assert (config.data.image_size, config.training.epochs) == (224, 30)
    rates = [(c.training.lr, c.training.backbone_lr_scale, c.training.batch_size) for c in (csg, asg, gcisg)]
    assert rates == [(1e-4, 0.1, 32), (1e-4, 0.1, 32), (1e-3, 1, 64)]
    assert list(csg.views) == VIEWS.specs(["randaugment(ops=1, magnitude=6)", "crop(place=random)"])
    assert list(asg.views) == VIEWS.specs(["crop(place=center)"])
    assert list(gcisg.views) == VIEWS.specs(["randaugment(ops=1, magnitude=6)", "crop(place=center)"])
    assert [config.task.test_flip for config in (csg, asg, gcisg)] == [True, True, False]
    assert [config.training.schedule for config in (csg, asg, gcisg)] == ["warmup_poly", "warmup_poly", "constant"]
    assert [config.student.norm for config in (csg, asg, gcisg)] == ["frozen", "frozen", "train"]
    assert (csg.training.poly_until, asg.training.poly_until) == (1, 0.8)


# --- data ---


def test_data_sets_are_written_out_so_that_a_run_goes_on_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real.yaml").write_text("format: imagefolder\nroot: photos\nclasses: [a, b]\n")
    config = make_config({"source": "imagefolder:renders", "targets": "real.yaml"})
    assert config.data.source.text() == f"imagefolder:{tmp_path / 'renders'}"
    assert config.model_dump(mode="json")["data"]["source"] == config.data.source.text()
    assert config.data.targets[0] == data.find(tmp_path.joinpath("real.yaml").as_posix())
    monkeypatch.chdir("/")
    assert make_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("written", ["none", ["none"], [], ()])
def test_a_run_can_have_no_target(written):
    config = make_config({"source": "imagefolder:/a", "targets": written})
    assert config.data.targets == ()
    assert make_config(config.model_dump(mode="json")) == config.updated(lr=config.training.lr) == config


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"source": "mnist"}, "'mnist' is real data: it is tested on, never trained on"),
        ({"targets": "digits"}, "'digits' is synthetic: it is not a target"),
        ({"source": "imagefolder:/a"}, "No target goes with source 'imagefolder' by default"),
        ({"source": "imagefolder:/a", "targets": "imagefolder:/a"}, "'imagefolder' is source and target at once"),
        (
            {"source": "imagefolder:/a", "targets": ["imagefolder:/b", "imagefolder:/c"]},
            "targets names a data set twice: imagefolder, imagefolder. Two folders of one kind get names",
        ),
        (
            {"source": "imagefolder(root='/a', classes=['x'])", "targets": "mnist"},
            "Source and target share no class. Source: x. Target: 0, 1",
        ),
        ({"task": "det", "source": "gta5:/a", "targets": "mnist"}, "'gta5' has no boxes, only masks"),
        ({"cache_size": 64}, "cache_size is for images in files: 'digits' is held in memory"),
        ({"on_size_mismatch": "skip"}, "on_size_mismatch is a setting of segmentation"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_they_are_read(values, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        make_config(values)


# --- wrong values ---


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"batchsize": 3}, "Unknown setting 'batchsize'. Did you mean 'batch_size'?"),
        ({3: 3}, "Unknown setting '3'"),
        ({"lr": "fast"}, "lr: Input should be a valid number, unable to parse string as a number, got 'fast'"),
        ({"lr": -1}, "lr: Input should be greater than or equal to 0, got -1"),
        ({"lr": float("nan")}, "lr: Input should be a finite number, got nan"),
        ({"lr": float("inf")}, "lr: Input should be a finite number, got inf"),
        ({"epochs": 1.5}, "epochs: Input should be a valid integer, got a number with a fractional part, got 1.5"),
        ({"epochs": True}, "epochs: Input should not be true or false, got True"),
        ({"workers": False}, "workers: Input should not be true or false, got False"),
        ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1, got 0"),
        ({"image_size": 4}, "image_size: Input should be greater than or equal to 8, got 4"),
        ({"momentum": 1}, "momentum: Input should be less than 1, got 1"),
        ({"clip_norm": 0}, "clip_norm: Input should be greater than 0, got 0"),
        ({"seed": 2**31}, "seed: Input should be less than 2147483648, got 2147483648"),
        ({"schedule": "cosine"}, "schedule: Input should be 'warmup_poly' or 'constant', got 'cosine'"),
        ({"precision": "fp8"}, "precision: Input should be 'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ({"backbone": 18}, "backbone: Input should be a valid string, got 18"),
        ({"backbone": None}, "backbone: Input should be a valid string, got None"),
        ({"source": {}}, "A data set must describe a data set with 'format: NAME' and 'root: FOLDER'"),
        ({"source": {"format": "imagefoldr", "root": "x"}}, "Did you mean 'imagefolder'?"),
        ({"source": {"format": "imagefolder", "rot": "x"}}, "imagefolder 'rot'. Did you mean 'root'?"),
        ({"source": {"format": "imagefolder"}}, "Data set 'imagefolder' needs its folder"),
        (
            {"source": "imagefolder:$SYNREAL_NOWHERE/x", "targets": "mnist"},
            "begins with $SYNREAL_NOWHERE, which is not",
        ),
        ({"source": "~nobody-here"}, "'~nobody-here' begins with a home folder that cannot be found"),
        (
            {"source": "imagefolder:~nobody-here/x", "targets": "mnist"},
            "begins with a home folder that cannot be found",
        ),
        ({"source": None}, "A data set is a name, KIND:FOLDER, "),
        ({"targets": ["mnist", {}]}, "A data set must describe a data set with 'format: NAME'"),
        ({"targets": {"mnist": 1}}, "A data set must describe a data set with 'format: NAME'"),
        ({"targets": [7]}, "A data set is a name, KIND:FOLDER, "),
        ({"shifts": "crop"}, "shifts: crop moves pixels, and labels would no longer fit. Known: blur, jitter, noise, "),
        ({"shifts": ["geometry"]}, "shifts: geometry moves pixels"),
        ({"shifts": ["blur", "blur(sigma=(0.1, 0.1))"]}, "shifts names a view twice"),
        ({"shifts": "blurr"}, "Unknown view 'blurr'. Did you mean 'blur'?"),
        ({"wise_ft": 1.0}, "wise_ft.0: Input should be less than 1, got 1.0"),
        ({"averages": "emma"}, "Unknown average 'emma'. Did you mean 'ema'?"),
        ({"averages": ["ema", "ema(decay=0.999)"]}, "averages and wise_ft have ema twice"),
        ({"averages": "wise_ft", "wise_ft": 0.5}, "averages and wise_ft have wise_ft(0.5) twice"),
        ({"averages": "swad(n_end=2)"}, "swad: n_end is 2, expected at least n_start, which is 3"),
        ({"averages": "ema(decay=1)"}, "Average ema: decay: Input should be less than 1, got 1"),
        ({"wise_ft": True}, "wise_ft: Input should not be true or false, got True"),
        ({"task": "classificatoin"}, "Unknown task 'classificatoin'. Did you mean 'classification'?"),
        ({"source": "digit"}, "Unknown data set 'digit'. Did you mean 'digits'?"),
        ({"targets": ["mnits"]}, "Unknown data set 'mnits'. Did you mean 'mnist'?"),
        ({"device": "gpu"}, "Unknown device 'gpu'. Known: auto, cpu, cuda, cuda:N, mps."),
        ({"device": "cuda:x"}, "Unknown device 'cuda:x'"),
        ({"source": "mnist"}, "'mnist' is real data: it is tested on, never trained on. Sources: coco, digits, "),
        ({"targets": ["digits"]}, "'digits' is synthetic: it is not a target. Targets: cityscapes, coco, "),
        ({"targets": ["uci", "mnist", "uci"]}, "targets names a data set twice: uci, mnist, uci."),
        ({"regularizers": []}, "regularizers: Tuple should have at least 1 item"),
        ({"regularizers": "cgs"}, "Unknown regularizer 'cgs'. Did you mean 'csg'?"),
        ({"regularizers": None}, "A regularizer is a name"),
        ({"regularizers": {"name": "csg", "queue": 3}}, "Unknown setting of csg 'queue'. Did you mean 'queue_size'?"),
        ({"regularizers": {"name": "csg", "queue_size": 0}}, "Regularizer csg: queue_size: Input should be greater"),
        ({"regularizers": {"weight": 1}}, "A regularizer is a name"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(values, expected):
    with pytest.raises(ConfigError) as caught:
        make_config(values)
    assert expected in str(caught.value)


def test_a_data_set_may_be_a_mapping_and_its_root_begin_with_a_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_DATA", str(tmp_path))
    described = {"format": "imagefolder", "root": "$SYNREAL_DATA/renders", "name": "mine"}
    config = make_config(
        {"source": described, "targets": [{"format": "imagefolder", "root": "${SYNREAL_DATA}/photos"}]}
    )
    assert config.data.source.root == tmp_path / "renders"
    assert config.data.source.label == "mine"
    assert config.data.targets[0].root == tmp_path / "photos"
    assert make_config(config.model_dump(mode="json")) == config


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(ConfigError, match=r"^training\.epochs: .* got -1; training\.lr: .* got -2$"):
        make_config({"epochs": -1, "lr": -2})


# --- settings of the form key=value ---


def test_settings_override_values_and_the_last_the_first():
    values = {"lr": 0.5, "seed": 1}
    applied = apply_settings(values, ["lr=1e-1", "lr=0.2", "targets=[uci]", "backbone=resnet18"])
    assert applied == {"lr": 0.2, "seed": 1, "targets": ["uci"], "backbone": "resnet18"}
    assert values == {"lr": 0.5, "seed": 1}, "the given values were changed"


@pytest.mark.parametrize(
    ("values", "settings", "folder", "log_every"),
    [
        ({"output": {"log_every": 3}}, ["output=here"], "here", 3),
        ({}, ["output.log_every=3", "output=here"], "here", 3),
        ({}, ["output=here", "output.log_every=3"], "here", 3),
        ({"output": "there"}, ["log_every=3", "output=here"], "here", 3),
        ({"log_every": 5}, ["output={log_every: 3}", "output.folder=here"], "here", 3),
        ({}, ["output={log_every: 5, folder: there}", "log_every=3", "output=here"], "here", 3),
        ({}, ["log_every=5", "output.log_every=4", "log_every=3", "output=here"], "here", 3),
    ],
)
def test_the_later_setting_holds_and_all_others_stay(values, settings, folder, log_every):
    output = make_config(apply_settings(values, settings)).output
    assert (output.folder, output.log_every) == (Path(folder), log_every)


def test_settings_of_a_task_stay_where_the_task_is_named_later():
    for task in ("seg", "seg(window=64)", "{name: seg, window: 64}"):
        config = make_config(apply_settings({}, ["task.ohem=0.5", f"task={task}"]))
        assert config.task.ohem == 0.5
    with pytest.raises(ConfigError, match="ohem is a setting of segmentation: detection does not know it"):
        make_config(apply_settings({}, ["task.ohem=0.5", "task=det"]))


def test_a_value_may_hold_the_equals_sign():
    config = make_config(apply_settings({}, ["regularizers=csg(weight=0.5,queue_size=3)"]))
    assert config.regularizers == (synreal.CSG(weight=0.5, queue_size=3),)


def test_exponents_without_a_point_are_numbers():
    # YAML 1.1 reads 1e-3 as text.
    assert make_config(apply_settings({}, ["lr=1e-3"])).training.lr == 1e-3


@pytest.mark.parametrize("given_value", [None, "csg", ["csg(dim=3)", "none"], [{"name": "csg", "dim": 3}]])
def test_settings_reach_into_a_regularizer(given_value):
    values = {} if given_value is None else {"regularizers": given_value}
    config = make_config(apply_settings(values, ["regularizers.0.weight=0.5", "regularizers.0.stages=[2]"]))
    before = make_config(values).regularizers
    assert config.regularizers[0] == before[0].model_copy(update={"weight": 0.5, "stages": (2,)})
    assert config.regularizers[1:] == before[1:]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("lr", "--set expects key=value"),
        ("=3", "--set expects key=value"),
        ("lrr=3", "Unknown setting 'lrr'. Did you mean 'lr'?"),
        ("lr.x=3", "lr has no settings of its own"),
        ("lr=[1", "the value is not YAML"),
        ("lr=2024-13-45", "the value is not YAML"),
        ("lr=!!bool x", "the value is not YAML"),
        ("lr=!!timestamp x", "the value is not YAML"),
        ("lr=!!int ''", "the value is not YAML"),
        ("lr=" + "[" * 3000, "the value is not YAML"),
        ("lr=!!python/name:os.system", "the value is not YAML"),
        ("regularizers.1.weight=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers.-1.weight=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers.x.weight=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers.0=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers.0.stages.0=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers." + "9" * 5000 + ".weight=3", "regularizers.INDEX.KEY with an index below 1"),
        ("regularizers.0.wieght=3", "Unknown setting of csg 'wieght'. Did you mean 'weight'?"),
        ("regularizers.0.weight=-3", "Regularizer csg: weight: Input should be greater than or equal to 0, got -3"),
    ],
)
def test_bad_settings(setting, expected):
    with pytest.raises(ConfigError) as caught:
        make_config(apply_settings({}, [setting]))
    assert expected in str(caught.value)


# --- files ---


def write(folder, content):
    path = folder / "run.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("content", ["", "\n", "# nothing yet\n", "{}", "---\n...\n", "null"])
def test_an_empty_file_starts_no_run(content, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match="is empty, expected a configuration") as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)


def test_what_synreal_wrote_is_read_whole_or_not_at_all(tmp_path):
    raw = make_config({"lr": 0.005, "seed": 17}).to_yaml().encode()
    assert make_config(read_yaml(write(tmp_path, raw))).training.seed == 17
    for length in range(0, len(raw) - 1, 7):
        path = write(tmp_path, raw[:length])
        with pytest.raises(ConfigError, match=r"is empty|was cut short"):
            read_yaml(path)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("lr: 1\nepochs: 2\nlr: 3\n", "'lr' stands there twice.*line 3"),
        ("training: {lr: 1, lr: 1}\n", "'lr' stands there twice.*line 1"),
        ("views: [{name: crop, name: jitter}]\n", "'name' stands there twice"),
        ("1: a\n0x1: b\n", "1 stands there twice.*line 2"),
    ],
)
def test_a_key_stands_once(content, where, tmp_path):
    with pytest.raises(ConfigError, match=f"(?s)is not YAML: .*{where}"):
        read_yaml(write(tmp_path, content))


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(ConfigError, match=r"is not Unicode|not UTF-8"):
        make_config({"output": "runs/\udcff"})
    with pytest.raises(ConfigError, match="not UTF-8"):
        make_config({"source": "imagefolder:/data/\udcff"})


def test_yaml_that_is_printed_acts_on_no_terminal():
    config = make_config({"output": "runs/\u202e\u00e9\x9b31m"})
    assert all(character.isprintable() or character == "\n" for character in config.to_yaml())
    assert make_config(yaml.safe_load(config.to_yaml())) == config
    assert "é" in make_config({"output": "runs/é"}).to_yaml()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- lr\n- 3\n", "must hold 'key: value' lines, got list"),
        ("just words", "must hold 'key: value' lines, got str"),
        ("lr: [1", "is not YAML"),
        ("lr: 2024-13-45", "is not YAML"),
        ("lr: " + "[" * 5000, "is not YAML"),
        ("? [a]\n: 1\n", "is not YAML"),
        (b"backbone: caf\xe9", "is not YAML"),
        (b"\x00\x01", "is not YAML"),
        ("# " + "x" * (1 << 20), "a configuration has at most 1048576"),
        ("a: &a [1]\nb: *a\n", "aliases"),
        ("a: &a [*a]\n", "aliases"),
    ],
)
def test_unusable_files(content, expected, tmp_path):
    path = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*no\.yaml: No such file"):
        read_yaml(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*: Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "lr: !!python/object/apply:os.mkdir ['{marker}']",
        "lr: !!python/object/new:os.mkdir ['{marker}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]",
        "regularizers: \"csg(stages=__import__('os').mkdir('{marker}'))\"",
        "regularizers: os.mkdir('{marker}')",
        "regularizers: {{name: os.mkdir, path: '{marker}'}}",
        "backbone: !!python/object:synreal.config.RunConfig {{}}",
    ],
)
def test_a_file_cannot_run_code(template, tmp_path):
    marker = tmp_path / "ran"
    path = write(tmp_path, template.format(marker=marker))
    with pytest.raises(ConfigError):
        make_config(read_yaml(path))
    assert not marker.exists()


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    # Ten lines that stand for 9^9 values: any error message that quoted the value would fill the memory.
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    path = write(tmp_path, "\n".join([*lines, "regularizers: *i"]))
    with pytest.raises(ConfigError, match="aliases") as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 1000


# --- anything at all ---

FIELDS = [field for section in SECTIONS.values() for field in section.model_fields]
KEYS = st.sampled_from(
    [
        *RunConfig.model_fields,
        *FIELDS,
        "",
        "lrr",
        "training.lr",
        "views.jitter.strength",
        "ohem",
        "regularizers.0.weight",
        "regularizers.0.stages",
    ]
)
NAMES = st.sampled_from(
    ["csg", "cls", "digits", "mnist", "auto", "csg(", "csg(a=b)", "csg(stages=-1)", "cuda:1", "none", "feature_l2(1)"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NAMES | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.just("name") | st.just("weight") | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def accepted(call):
    """Return what a call gives, or None if it complained the way users may see."""
    try:
        return call()
    except (ConfigError, WeightsError):
        return None


@FUZZ
@given(values=st.dictionaries(KEYS | SCALARS, VALUES, max_size=3))
def test_any_values_give_a_configuration_or_a_typed_error(values):
    config = accepted(lambda: make_config(values))
    if config is not None:
        assert make_config(yaml.safe_load(config.to_yaml())) == config


@FUZZ
@given(given_settings=st.lists(st.tuples(KEYS, VALUES.map(yaml.safe_dump) | st.text(max_size=12)), max_size=3))
def test_any_settings_give_a_configuration_or_a_typed_error(given_settings):
    texts = [f"{key}={value}" for key, value in given_settings]
    config = accepted(lambda: make_config(apply_settings({}, texts)))
    assert config is None or isinstance(config, RunConfig)


@FUZZ
@given(setting=st.text(max_size=20))
def test_any_text_as_a_setting_is_applied_or_refused(setting):
    accepted(lambda: apply_settings({}, [setting]))


@FUZZ
@given(content=st.binary(max_size=40) | st.text("&*!-[]{}:,?|>'\"%@`#\n a1", max_size=30).map(str.encode))
def test_any_file_is_read_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    values = accepted(lambda: read_yaml(path))
    assert values is None or isinstance(values, dict)
