import json
import math
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
    aggregate,
    best_epoch,
    mean_and_spread,
    percent,
    read_record,
    render_markdown,
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


# --- aggregate ---


def test_seeds_of_a_method_are_one_row_in_order_of_the_seed():
    rows = aggregate([record(2, mnist=0.2), record(0, mnist=0.3, overall=0.6), record(0, "none"), record(1, mnist=0.1)])
    assert [row.method for row in rows] == ["csg", "none"]
    assert rows[0].seeds == [0, 1, 2]
    assert rows[0].targets["mnist"] == {"mean_class_accuracy": [0.3, 0.1, 0.2], "accuracy": [0.6, 0.1, 0.2]}
    assert rows[0].targets["uci"] == {"mean_class_accuracy": [0.25] * 3, "accuracy": [0.25] * 3}
    assert rows[0].source_heldout == {"mean_class_accuracy": [0.9] * 3, "accuracy": [0.9] * 3}
    assert rows[1].seeds == [0]


def test_no_runs_give_no_rows():
    assert aggregate([]) == []


def test_regularizers_together_are_a_method_of_their_own():
    both = record()
    both.regularizers.append({"name": "feature_l2", "weight": 1.0})
    assert [row.method for row in aggregate([both, record()])] == ["csg+feature_l2", "csg"]


def test_a_seed_twice_is_refused():
    with pytest.raises(ConfigError, match=r"csg has two runs of one seed: \[0, 1, 1\]"):
        aggregate([record(1), record(0), record(1)])


def test_one_seed_in_two_methods_is_fine():
    assert len(aggregate([record(0, "csg"), record(0, "none")])) == 2


@pytest.mark.parametrize("other_method", ["csg", "none"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": "g"}, "fingerprint of mnist"),
        ({"protocol": {"steps": 7}}, "steps"),
        ({"protocol": {"image_size": 32}}, "image_size"),
        ({"protocol": {"source_fingerprint": "t"}}, "source_fingerprint"),
        ({"protocol": {"processes": 2}}, "processes"),
        ({"protocol": {"versions": {"torch": "3"}}}, "versions"),
        ({"config": {"lr": 0.2}}, "lr"),
        ({"config": {"weights": "x"}, "protocol": {"epochs": 3}}, "epochs"),
    ],
)
def test_runs_of_differing_protocols_are_refused_and_the_difference_named(change, named, other_method):
    with pytest.raises(ConfigError, match=f"Runs do not compare: they differ in {named}") as caught:
        aggregate([record(0), record(1, other_method, **change)])
    assert str(caught.value) == f"Runs do not compare: they differ in {named}."


def test_other_weights_or_backbones_are_refused():
    for name, value in (("backbone", "resnet50"), ("weights", {"source": "none", "detail": None, "sha256": None})):
        other = record(1).model_copy(update={name: value})
        with pytest.raises(ConfigError, match=f"differ in {name}"):
            aggregate([record(0), other])


def test_a_target_that_one_run_lacks_is_a_difference():
    other = record(1)
    del other.targets["uci"]
    with pytest.raises(ConfigError, match="differ in fingerprint of uci"):
        aggregate([record(0), other])


def test_what_moves_no_number_may_differ():
    free = {"device": "cuda", "workers": 9, "output": "elsewhere", "log_every": 1, "keep_checkpoints": 1}
    rows = aggregate([record(0), record(1, config=free), record(0, "none", protocol={"views": 1})])
    assert [row.seeds for row in rows] == [[0, 1], [0]]


def test_other_settings_of_the_regularizer_are_another_method():
    with pytest.raises(ConfigError, match="Runs of csg have different settings"):
        aggregate([record(0), record(1, spec={"weight": 0.2})])


def test_an_epoch_chosen_on_the_target_needs_every_seed():
    assert aggregate([record(0, peek=0.6), record(1, peek=0.8)])[0].target_selected == {"mnist": [0.6, 0.8]}
    assert aggregate([record(0, peek=0.6), record(1)])[0].target_selected == {}


def test_settings_in_sections_are_compared_one_by_one():
    def sections(seed, **training):
        return {
            "training": {"lr": 0.1, "device": "cpu", "seed": seed, **training},
            "data": {"source": {"name": "digits", "size": 32}},
            "output": {"folder": f"runs/{seed}", "keep_checkpoints": seed},
            "regularizers": [{"name": "csg", "weight": seed}],
        }

    assert aggregate([record(0, config=sections(0)), record(1, config=sections(1, device="cuda"))])[0].seeds == [0, 1]
    with pytest.raises(ConfigError, match=r"they differ in training\.lr\.$"):
        aggregate([record(0, config=sections(0)), record(1, config=sections(1, lr=0.2))])
    other = sections(1)
    other["data"]["source"]["size"] = 64
    with pytest.raises(ConfigError, match=r"they differ in data\.source\.size\.$"):
        aggregate([record(0, config=sections(0)), record(1, config=other)])


def test_runs_of_other_phases_or_measures_or_that_saw_the_target_do_not_compare():
    for change, named in (({"phases": ["head_first", "train"]}, "phases"), ({"seen_of_target": "images"}, "seen_of")):
        with pytest.raises(ConfigError, match=f"differ in {named}"):
            aggregate([record(0), record(1, protocol=change)])
    with pytest.raises(ConfigError, match="differ in chance, measures, task"):
        aggregate([record(0), detection(1, 0.5, 0.5)])


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


# --- table ---


def test_a_measure_that_is_not_a_share_is_written_as_a_plain_number():
    def energy(seed, value):
        made = record(seed)
        change = {"measures": {"e": value}, "headings": {"e": "energy"}, "units": {"e": ""}}
        change |= {"higher_is_better": {"e": False}}
        scores = {"source_heldout": made.source_heldout.model_copy(update=change)}
        scores["targets"] = {name: one.model_copy(update=change) for name, one in made.targets.items()}
        return made.model_copy(update=scores)

    header, _, row = render_markdown(aggregate([energy(0, 0.25), energy(1, 0.75)]), chance=None).split("\n")
    assert cells(header)[2] == "source held-out energy"
    assert cells(row)[2] == "0.500 ± 0.354"
    assert written([0.5], "") == "0.500"
    assert written([math.nan], "") == "n/a"
    assert (with_unit("mIoU", "%"), with_unit("energy", "")) == ("mIoU %", "energy")


def cells(line):
    assert line.startswith("|")
    assert line.endswith("|")
    return [cell.strip() for cell in line[1:-1].split("|")]


def test_table_holds_independently_computed_numbers():
    mnist = {"csg": [0.51, 0.54, 0.6], "none": [0.4]}
    runs = [record(seed, "csg", value, overall=value / 2, peek=0.7) for seed, value in enumerate(mnist["csg"])]
    runs.append(record(0, "none", 0.4, peek=0.5))
    header, rule, csg, none, chance = render_markdown(aggregate(runs), chance=0.1).split("\n")
    assert cells(header) == [
        "regularizer",
        "seeds",
        "source held-out mean-class",
        "source held-out overall",
        "mnist mean-class",
        "mnist overall",
        "uci mean-class",
        "uci overall",
        "mnist best epoch (peeks)",
    ]
    assert cells(rule) == ["---"] * 9

    def written(values):
        values = [100 * value for value in values]
        return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"

    assert cells(csg) == [
        "`csg`",
        "3",
        "90.0 ± 0.0",
        "90.0 ± 0.0",
        written(mnist["csg"]),
        written([value / 2 for value in mnist["csg"]]),
        "25.0 ± 0.0",
        "25.0 ± 0.0",
        "70.0 ± 0.0",
    ]
    assert cells(none) == ["`none`", "1", "90.0", "90.0", "40.0", "40.0", "25.0", "25.0", "50.0"]
    assert cells(chance) == ["chance", "", *["10.0"] * 7]


def test_rows_without_a_chosen_epoch_have_no_column_for_it():
    lines = render_markdown(aggregate([record(0)]), chance=0.1).split("\n")
    assert "peeks" not in lines[0]
    assert {len(cells(line)) for line in lines} == {8}


def test_nan_is_shown_and_never_averaged_away():
    rows = aggregate([record(0, mnist=math.nan, overall=0.5), record(1, mnist=0.5)])
    assert cells(render_markdown(rows, chance=0.1).split("\n")[2])[4:6] == ["n/a", "50.0 ± 0.0"]


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


def test_a_table_of_detection_shows_three_measures_and_no_chance():
    lines = render_markdown(aggregate([detection(0, 0.5, None), detection(1, 0.25, 0.1)]), chance=None).split("\n")
    assert len(lines) == 3
    assert cells(lines[0])[2:8] == [
        *("source held-out AP", "source held-out AP50", "source held-out AP75"),
        *("mnist AP", "mnist AP50", "mnist AP75"),
    ]
    assert cells(lines[2])[5:8] == ["37.5 ± 17.7", "75.0 ± 0.0", "18.8 ± 8.8"]


def test_a_measure_that_is_not_defined_is_nan_in_a_row_and_null_in_json():
    row = aggregate([detection(0, 0.5, None), detection(1, 0.25, 0.1)])[0]
    first, second = row.targets["mnist"]["ap_small"]
    assert math.isnan(first)
    assert second == 0.1
    assert '"ap_large":null' in detection(0, 0.5, None).model_dump_json()
    assert math.isnan(detection(0, 0.5, None).targets["mnist"].model_copy(update={"measures": {"ap": None}}).headline)


def test_a_folder_without_a_result(tmp_path):
    with pytest.raises(ConfigError, match="the run has not finished, or this is not a run folder"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "result of schema version 4"),
        (b"[]", "result of schema version 4"),
        (b"{}", "protocol"),
        (None, "surprise"),
        (3, "schema_version"),
        (5, "schema_version"),
        (b'{"schema_version": 4, "protocol": {}}', "targets"),
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
