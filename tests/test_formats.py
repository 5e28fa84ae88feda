"""Files of each format that was ever released are kept in ``formats/``: they are read, or refused in words."""

import json
import re
import shutil

import pytest
import torch
import yaml
from synreal_cli.app import main

from synreal.config import make_config
from synreal.engine import checkpoint, hashes, run_folder
from synreal.records import read_look, read_record
from synreal.records.leaderboard.reading import find
from tests.formats import write

RELEASED = {"run": [1], "checkpoint": [4], "record": [4], "look": [1]}
"""Numbers whose fixtures never change again, and the ones of the next release."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", RELEASED)
def test_every_number_has_a_fixture(kind):
    assert write.NUMBERS[kind] == RELEASED[kind][-1], "CONTRIBUTING.md says what a change of a format takes"
    for number in RELEASED[kind]:
        assert any(write.folder(kind, number).iterdir())


def test_the_file_of_a_run_is_read_and_all_that_it_holds_is_known():
    path = write.folder("run")
    facts = run_folder.read(path, "read")
    assert facts.model_dump(mode="json") == json.loads((path / "run.json").read_text())
    make_config(facts.config)
    run_folder.check_copy(path, facts)
    changed = {"train": b"1" * 64 + b"  a.png\n"}
    assert hashes.changes(path, facts.files, changed) == ["train: 1 changed, a.png"]


def test_rows_of_metrics_are_read(tmp_path):
    path = shutil.copy(write.folder("run") / "metrics.jsonl", tmp_path / "metrics.jsonl")
    before = path.read_bytes()
    run_folder.truncate_metrics(path, 2, [2])
    assert path.read_bytes() == before
    run_folder.truncate_metrics(path, 1)
    assert 0 < len(path.read_bytes()) < len(before)


def test_a_checkpoint_is_read_and_all_that_it_holds_is_known(tmp_path):
    (path,) = write.folder("checkpoint").iterdir()
    snapshot = checkpoint.load(path)
    model, optimizer = write.tiny_state()
    assert torch.equal(snapshot.model["student.weight"], model["student.weight"])
    assert torch.equal(snapshot.optimizer["state"][0]["momentum_buffer"], optimizer["state"][0]["momentum_buffer"])
    assert snapshot.optimizer["param_groups"] == optimizer["param_groups"]
    make_config(snapshot.facts.config)
    again = checkpoint.save(tmp_path, snapshot, keep=1)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in path.iterdir()
    }


def test_a_record_is_read_and_all_that_it_holds_is_known():
    path = write.folder("record") / "result.json"
    record = read_record(path)
    assert record.model_dump(mode="json") == json.loads(path.read_text())
    assert [one.record for one in find([path])] == [record]


def test_a_look_is_read_and_all_that_it_holds_is_known():
    path = write.folder("look") / "insight.json"
    found = read_look(path)
    assert found.model_dump(mode="json") == json.loads(path.read_text())
    assert found.find("cka", "mnist").stages


def edited(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def a_run(folder, number):
    shutil.copytree(write.folder("run"), folder / "run")
    edited(folder / "run" / "run.json", format=number)
    return "run.json"


def a_checkpoint(folder, number):
    shutil.copytree(write.folder("run"), folder / "run")
    (path,) = shutil.copytree(write.folder("checkpoint"), folder / "run" / "checkpoints").iterdir()
    edited(path / "manifest.json", format=number)
    return "manifest.json"


def a_result(folder, number):
    shutil.copytree(write.folder("run"), folder / "run")
    shutil.copy(write.folder("record") / "result.json", folder / "run")
    edited(folder / "run" / "result.json", schema_version=number)
    return "result.json"


def a_grid(folder, number):
    record = json.loads((write.folder("record") / "result.json").read_text())
    (folder / "records.json").write_text(json.dumps([record | {"schema_version": number}]))
    pair = {key: record["config"][key] for key in ("task", "data", "student")}
    (folder / "pair.yaml").write_text(yaml.safe_dump(pair))
    grid = {"pairs": ["pair.yaml"], "regularizers": ["none"], "seeds": [0], "output": "runs", "records": "records.json"}
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))
    return "records.json"


COMMANDS = {
    "resume": ("run", a_run, ["run", "--resume", "run"], 2),
    "evaluate": ("run", a_run, ["evaluate", "run"], 2),
    "resume a checkpoint": ("checkpoint", a_checkpoint, ["run", "--resume", "run"], 1),
    "resume a finished run": ("record", a_result, ["run", "--resume", "run"], 2),
    "leaderboard of a run": ("record", a_result, ["leaderboard", "run"], 2),
    "leaderboard of a file": ("record", a_grid, ["leaderboard", "records.json"], 2),
    "bench": ("record", a_grid, ["bench", "grid.yaml", "--dry-run"], 2),
}
ADVICE = (
    "Use the synreal that wrote it|Resume with the synreal that wrote it|Leave it out, or run it|move the file away"
)


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("command", COMMANDS)
def test_another_number_is_refused_in_words(command, step, tmp_path, capsys):
    kind, make, words, code = COMMANDS[command]
    known = write.NUMBERS[kind]
    file = make(tmp_path, known + step)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stop:
        main(words)
    error = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == code, error
    for expected in (file, rf"\b(format|version) {known + step}\b", rf"\b(reads|version) {known}\b", ADVICE):
        assert re.search(expected, error), error
    assert "Traceback" not in error
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
