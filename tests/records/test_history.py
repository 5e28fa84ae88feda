"""Histories of runs, read from their folders."""

import json
import math

import pytest

from synreal.errors import ConfigError
from synreal.records import find_histories, read_history, write_json
from tests.records.made import made

ROWS = [
    {"step": 10, "epoch": 1, "loss": 1.5},
    {"step": 65, "epoch": 1, "eval/source/accuracy": 0.8, "eval/source/other": 0.1, "eval/photo/accuracy": 0.7},
    {"step": 130, "epoch": 2, "eval/source/accuracy": 0.9, "eval/source/other": 0.2, "eval/photo/accuracy": None},
]


def run_folder(folder, method="none", seed=0, rows=ROWS, *, finished=True, training=None, data="d"):
    folder.mkdir(parents=True)
    record = made(method, seed, 0.7, measure="accuracy")
    config = {"training": {"lr": 0.1, "seed": seed, **(training or {})}, "regularizers": [{"name": method}]}
    write_json(folder / "run.json", {"config": config, "data": {"train": data}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        write_json(folder / "result.json", record.model_dump(mode="json"))
    return folder


def test_the_headline_of_each_set_over_the_steps(tmp_path):
    history = read_history(run_folder(tmp_path / "run", "csg", 3))
    assert (history.label, history.seed, list(history.sets)) == ("csg", 3, ["source", "photo"])
    source, photo = history.sets.values()
    assert (source.measure, source.heading, source.unit) == ("accuracy", "accuracy", "%")
    assert (source.steps, source.values) == ((65, 130), (0.8, 0.9))
    assert photo.values[0] == 0.7
    assert math.isnan(photo.values[1])


def test_a_run_that_is_still_being_made_is_read_up_to_its_last_whole_row(tmp_path):
    folder = run_folder(tmp_path / "run", "csg", finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 195, "eval/sou')
    history = read_history(folder)
    assert history.label == "csg"
    assert (history.sets["source"].heading, history.sets["source"].unit) == (None, None)
    assert history.sets["source"].steps == (65, 130)


def test_folders_of_runs_are_searched_and_each_is_read_once(tmp_path):
    for seed in range(2):
        run_folder(tmp_path / "csg" / f"seed{seed}", "csg", seed)
    found = find_histories([tmp_path, tmp_path / "csg" / "seed1"])
    assert [(one.label, one.seed) for one in found] == [("csg", 0), ("csg", 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], "has no row of a test yet, and a curve needs one"),
        ([], "has no row of a test yet"),
        ([{"step": "x"}, *ROWS], "damaged: line 1 is not a row of a run"),
        ([*ROWS, {"step": 1, "eval/source/accuracy": "high"}, ROWS[0]], "damaged: line 4"),
    ],
)
def test_a_history_without_tests_is_refused(rows, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        read_history(run_folder(tmp_path / "run", rows=rows))


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no run: expected a run folder, which has a run\.json"):
        find_histories([tmp_path])
    with pytest.raises(ConfigError, match="is not a run folder"):
        read_history(tmp_path)
    folder = run_folder(tmp_path / "run")
    for text, message in (
        ("{", "is not JSON"),
        ('{"config": {}}', "is not that of a run"),
        ("[]", "not that of a run"),
    ):
        (folder / "run.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_history(folder)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    write_json(folder / "run.json", {"config": {"training": {"seed": 0}, "regularizers": []}, "data": {}})
    with pytest.raises(ConfigError, match="Cannot read"):
        read_history(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "csg, seed 0, is there twice: .*a and .*b. Leave one out"),
        ({"training": {"lr": 0.2}}, r"do not compare: they differ in training\.lr\. Draw them apart"),
        ({"data": "other"}, "differ in fingerprint of train"),
    ],
)
def test_runs_that_do_not_compare_are_refused(change, message, tmp_path):
    run_folder(tmp_path / "a", "csg", 0)
    run_folder(tmp_path / "b", "csg", **{"seed": 1, **change})
    with pytest.raises(ConfigError, match=message):
        find_histories([tmp_path])
