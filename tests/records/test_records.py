import json
import math
import re
import statistics
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synreal.errors import ConfigError
from synreal.measures import MEASURES
from synreal.records import (
    Chosen,
    Cost,
    Protocol,
    RunRecord,
    Score,
    as_number,
    best_epoch,
    mean_and_spread,
    percent,
    read_record,
    with_unit,
    write_json,
    written,
)


def score(name, value, *, overall=None, fingerprint="f"):
    return Score(
        data=name,
        split="test",
        fingerprint=fingerprint,
        images=10,
        measures={"mean_class_accuracy": value, "accuracy": value if overall is None else overall},
        headings={"mean_class_accuracy": "mean-class", "accuracy": "overall"},
        units={"mean_class_accuracy": "%", "accuracy": "%"},
        higher_is_better={"mean_class_accuracy": True, "accuracy": True},
        per_class={"a": value, "b": None},
        per_class_heading="Recall",
        confusion=[[10, 0], [0, 0]],
        counted="images",
    )


def record(
    seed=0,
    method="csg",
    mnist=0.5,
    uci=0.25,
    *,
    overall=None,
    peek=None,
    spec=None,
    data="f",
    config=None,
    protocol=None,
):
    """A run's record; ``config`` and ``protocol`` replace single entries."""
    regularizer = {"name": method, "weight": 0.1, **(spec or {})}
    return RunRecord(
        regularizers=[regularizer],
        defaults=[{"name": method, "weight": 0.1}],
        backbone="resnet18",
        architecture=None,
        weights={"source": "timm", "detail": "timm/resnet18", "sha256": "0"},
        config={"lr": 0.1, "seed": seed, "regularizers": [regularizer], "output": f"runs/{seed}", **(config or {})},
        protocol=Protocol(
            **{
                "task": "classification",
                "source": "digits",
                "source_fingerprint": "s",
                "source_images": 100,
                "image_size": 64,
                "views": 2,
                "evaluation": "one centre crop",
                "test_time_flips": False,
                "checkpoint": "last",
                "seed": seed,
                "epochs": 2,
                "steps": 6,
                "batch_size": 32,
                "processes": 1,
                "chance": 0.5,
                "versions": {"torch": "2"},
                **(protocol or {}),
            }
        ),
        source_heldout=score("digits", 0.9),
        targets={"mnist": score("mnist", mnist, overall=overall, fingerprint=data), "uci": score("uci", uci)},
        shifted={},
        source_selected={},
        target_selected={}
        if peek is None
        else {"mnist": Chosen(measures={"mean_class_accuracy": peek, "accuracy": peek}, step=3)},
        averaged={},
        seconds={"training": 1.0},
        cost=Cost(step_seconds=0.5, memory=2**30, device="cpu", threads=1),
    )


# --- mean and spread ---

SHARES = st.floats(min_value=0, max_value=1, allow_nan=False)


@settings(deadline=None)
@given(st.lists(SHARES, min_size=2, max_size=8))
def test_mean_and_spread_are_those_of_the_statistics_module(values):
    mean, spread = mean_and_spread(values)
    assert mean == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-15)
    assert spread == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-9)


def test_one_value_has_no_spread():
    assert mean_and_spread([0.25]) == (0.25, None)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.4312], "43.1"),
        ([0.41, 0.45], "43.0 ± 2.8"),
        ([0.5, 0.5, 0.5], "50.0 ± 0.0"),
        ([math.nan], "n/a"),
        ([0.5, math.nan, 0.7], "n/a"),
    ],
)
def test_percent(values, text):
    assert percent(values) == text


# --- scores ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"headings": {"accuracy": "overall"}}, r"headings describes \['accuracy'\], expected \['accuracy', 'mean"),
        ({"units": {}}, r"units describes \[\]"),
        (
            {"higher_is_better": {"accuracy": True, "mean_class_accuracy": True, "x": True}},
            "higher_is_better describes",
        ),
        ({"parts": {"ap_small": "area < 32²"}}, r"parts describes \['ap_small'\], which were not measured"),
        ({"units": {"accuracy": "m", "mean_class_accuracy": "%"}}, "units.accuracy"),
    ],
)
def test_a_score_that_does_not_describe_its_measures_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Score.model_validate({**score("mnist", 0.5).model_dump(), **change})


def history(*values):
    """Tests on two sets; the other one's headline says which test it was."""
    return [
        {"step": 10 * number, "mnist": {"m": value, "n": 0.0}, "uci": {"m": float(number)}}
        for number, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("values", "higher", "step"),
    [
        ([0.2, 0.5, 0.3], True, 20),
        ([0.2, 0.5, 0.1], False, 30),
        ([0.5, 0.5], True, 10),
        ([None, 0.5, 0.6, None], False, 20),
        ([None, None], True, None),
        ([0.5], True, None),
        ([], True, None),
    ],
)
def test_the_best_epoch_respects_the_direction_of_its_measure(values, higher, step):
    best = best_epoch(history(*values), "mnist", "mnist", higher_is_better=higher)
    assert best == (None if step is None else Chosen(measures={"m": values[step // 10 - 1], "n": 0}, step=step))
    other = best_epoch(history(*values), "mnist", "uci", higher_is_better=higher)
    assert other == (None if step is None else Chosen(measures={"m": step / 10}, step=step))


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        ({}, "csg"),
        ({"weight": 0.3}, "csg(weight=0.3)"),
        ({"pooling": "gap", "weight": 1.0}, "csg(weight=1.0, pooling='gap')"),
    ],
)
def test_a_label_says_what_is_not_at_its_default(spec, label):
    assert record(method="csg", spec=spec).label == label


# --- numbers with units ---


def test_a_measure_that_is_not_a_share_is_written_as_a_plain_number():
    assert written([0.25, 0.75], "") == "0.500 ± 0.354"
    assert written([0.5], "") == "0.500"
    assert written([math.nan], "") == "n/a"
    assert (with_unit("mIoU", "%"), with_unit("energy", "")) == ("mIoU %", "energy")


# --- files ---


def test_a_record_is_read_from_its_file_and_from_its_folder(tmp_path):
    written = record(3, peek=0.5)
    write_json(tmp_path / "result.json", written.model_dump(mode="json"))
    assert read_record(tmp_path) == written
    assert read_record(str(tmp_path / "result.json")) == written


def detection(seed, ap, small):
    """A record whose AP of small objects may not be defined, and that has no chance."""
    measures = {"ap": ap, "ap50": 0.75, "ap75": ap / 2, "ap_small": small, "ap_medium": ap, "ap_large": None}
    made = record(seed, protocol={"task": "detection", "chance": None})
    change = {
        "measures": measures,
        "headings": {name: MEASURES.get(name).heading for name in measures},
        "units": dict.fromkeys(measures, "%"),
        "higher_is_better": dict.fromkeys(measures, True),
        "parts": {name: MEASURES.get(name).part for name in list(measures)[3:]},
        "per_class_heading": "AP",
        "confusion": None,
        "counted": None,
    }
    source, *targets = (
        Score.model_validate({**score.model_dump(), **change})
        for score in (made.source_heldout, *made.targets.values())
    )
    return made.model_copy(update={"source_heldout": source, "targets": {score.data: score for score in targets}})


def test_short_tables_of_detection_show_three_measures():
    assert detection(0, 0.5, None).source_heldout.short == ["ap", "ap50", "ap75"]


def test_a_measure_that_is_not_defined_is_nan_as_a_number_and_null_in_json():
    first, second = (detection(seed, 0.5, small).targets["mnist"] for seed, small in enumerate((None, 0.1)))
    assert math.isnan(as_number(first.measures["ap_small"]))
    assert as_number(second.measures["ap_small"]) == 0.1
    assert '"ap_large":null' in detection(0, 0.5, None).model_dump_json()
    assert math.isnan(detection(0, 0.5, None).targets["mnist"].model_copy(update={"measures": {"ap": None}}).headline)


def test_a_folder_without_a_result(tmp_path):
    with pytest.raises(ConfigError, match="the run has not finished, or this is not a run folder"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"data": None}, "config.data is None, expected a mapping"),
        ({"training": []}, "config.training is [], expected a mapping"),
        ({"views": None}, "config.views is None, expected a list"),
        ({"data": {"targets": 3}}, "config.data.targets is 3, expected a list"),
    ],
)
def test_a_configuration_that_no_table_could_name_is_refused(config, said, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({**record().model_dump(mode="json"), "config": config}))
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_record(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "it is not JSON"),
        (b"\xff\xfe", "result of schema version 4"),
        (b"[]", "result of schema version 4"),
        (b"{}", "regularizers: Field required"),
        (None, "surprise"),
        (3, "it is of version 3. Use the synreal"),
        (5, "it is of version 5. Use the synreal"),
        (b'{"schema_version": 4, "protocol": {}}', "regularizers: Field required; "),
    ],
)
def test_files_that_are_not_a_result(content, expected, tmp_path):
    path = tmp_path / "result.json"
    if content is None:
        content = json.dumps({**record().model_dump(mode="json"), "surprise": 1}).encode()
    if isinstance(content, int):
        content = json.dumps({**record().model_dump(mode="json"), "schema_version": content}).encode()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a result of schema version 4") as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [1.0, -math.inf]}])
def test_json_that_other_readers_refuse_is_never_written(value, tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", value)
    assert not (tmp_path / "x.json").exists()


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, None, "ß"]})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"a": [1, None, "ß"]}


# --- torch stays out of what must be quick ---

QUICK = """
import sys

def check(what):
    assert "torch" not in sys.modules, what

import synreal; check("import synreal")
import synreal.records; check("synreal.records")
import synreal.data; check("synreal.data")
import synreal_cli.app; check("synreal_cli.app")
for arguments in (["--help"], ["run", "--help"], ["--version"], ["data", "list"], ["list", "presets"]):
    try:
        synreal_cli.app.main(arguments)
    except SystemExit as stop:
        assert not stop.code, arguments
    check(f"synreal {' '.join(arguments)}")
print("all quick")
"""


def test_listings_help_and_records_import_no_torch():
    done = subprocess.run([sys.executable, "-c", QUICK], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("all quick")
