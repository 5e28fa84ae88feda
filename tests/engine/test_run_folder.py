"""The run folder's files: whole, typed, and refused by name where they are not."""

import json
import os

import pytest
import yaml

from synreal import data
from synreal.engine import evaluate, run_folder
from synreal.engine.run_folder import RunFacts, truncate_metrics
from synreal.errors import ConfigError
from synreal.locking import Lock
from tests.engine import tiny
from tests.engine.tiny import outcome, run
from tests.test_locking import elsewhere

pytestmark = pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")


def changed(**keys):
    """Change the file's keys; None takes one away."""

    def change(path):
        found = json.loads(path.read_text()) | keys
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


DAMAGE = {
    "empty": (lambda path: path.write_bytes(b""), "is empty, damaged or not JSON"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "is empty, damaged or not JSON"),
    "binary": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is empty, damaged or not JSON"),
    "deep": (lambda path: path.write_text("[" * 100_000), "is empty, damaged or not JSON"),
    "a list": (lambda path: path.write_text("[]"), "does not describe a run of synreal"),
    "of another program": (lambda path: path.write_text('{"run": 7}'), "does not describe a run of synreal"),
    "without a format": (changed(format=None), "does not describe a run of synreal"),
    "of another format": (changed(format=2), "has format 2, this version reads 1"),
    "without a configuration": (changed(config=None), r"config: Field required"),
    "with a key too many": (changed(plugin="evil.py"), r"plugin: Extra inputs are not permitted"),
    "of other types": (changed(classes="0123456789"), r"classes: Input should be a valid list"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_file_that_is_not_whole_is_refused_by_name(damage, finished, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("data were read"))
    (finished / "result.json").unlink()
    path = finished / "run.json"
    act, message = DAMAGE[damage]
    act(path)
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    for purpose, use in {
        "resume": lambda: run(finished, resume=True),
        "evaluate": lambda: evaluate(finished, device="cpu", show_progress=False),
        "overwrite": lambda: run(finished, overwrite=True),
    }.items():
        with pytest.raises(ConfigError, match=rf"Cannot {purpose} .*run\.json.*{message}") as caught:
            use()
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before


def test_what_is_read_is_what_was_written(finished):
    facts = run_folder.read(finished, "read")
    assert facts == RunFacts(**json.loads((finished / "run.json").read_text()))
    config = tiny.make_config(facts.config["output"])
    assert facts.config == config.model_dump(mode="json")
    assert yaml.safe_load((finished / "config.yaml").read_text()) == facts.config


def cut(path):
    path.write_bytes(path.read_bytes()[: -len("...\n")])


COPIES = {
    "empty": (lambda path: path.write_text(""), r"config\.yaml is empty"),
    "cut": (cut, r"config\.yaml was cut short"),
    "no YAML": (lambda path: path.write_text("{"), r"config\.yaml is not YAML"),
    "of another program": (lambda path: path.write_text("compiler: gcc"), "Unknown setting 'compiler'"),
    "edited": (
        lambda path: path.write_text(path.read_text().replace("lr: 0.05", "lr: 7.0")),
        r"not what run\.json holds.*\n.*key +run\.json +config\.yaml\n +training\.lr +0\.05 +7\.0\n",
    ),
}


@pytest.mark.parametrize("damage", COPIES)
@pytest.mark.parametrize("ended", [True, False])
def test_a_copy_of_the_configuration_that_says_something_else_is_refused(damage, ended, finished):
    if not ended:
        (finished / "result.json").unlink()
    act, message = COPIES[damage]
    act(finished / "config.yaml")
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    with pytest.raises(ConfigError, match=message):
        run(finished, resume=True)
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before


def test_a_result_that_is_not_whole_is_refused_by_name(finished):
    for text in ("", "{}", "[", (finished / "result.json").read_text()[:-20]):
        (finished / "result.json").write_text(text)
        with pytest.raises(ConfigError, match=r"result\.json is not a result"):
            run(finished, resume=True)


def test_free_settings_change_and_are_recorded(finished, whole):
    (finished / "result.json").unlink()
    facts = run_folder.read(finished, "read")
    run(finished, resume=True, workers=1, log_every=3, checkpoint_every=5)
    now = run_folder.read(finished, "read")
    assert now.config["data"]["workers"] == 1
    assert now.config["output"] == {**facts.config["output"], "folder": str(finished)} | {
        "log_every": 3,
        "checkpoint_every": 5,
    }
    assert now.model_copy(update={"config": facts.config}) == facts  # versions and machine are those of its start
    assert yaml.safe_load((finished / "config.yaml").read_text()) == now.config
    assert outcome(finished)["model"] == outcome(whole())["model"]


def test_a_finished_run_is_compared_too(finished):
    with pytest.raises(ConfigError, match=r"another configuration:\n.*\n +training\.lr +0\.05 +0\.1\n"):
        run(finished, resume=True, lr=0.1)
    assert run(finished, resume=True, log_every=7).folder == finished


# ---------------------------------------------------------------------------------------------- one writer


def test_one_process_writes_a_folder(finished, whole):
    before = {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()}
    (finished / "result.json").rename(finished / "kept")
    with elsewhere(lambda: Lock(finished / "run.lock", "It").acquire()) as child:
        for how in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(ConfigError, match=f"is in use by process {child} on host ") as caught:
                run(finished, **how)
            assert caught.value.exit_code == 2
    (finished / "kept").rename(finished / "result.json")
    (finished / "run.lock").unlink()
    assert {file: file.read_bytes() for file in finished.rglob("*") if file.is_file()} == before


def test_what_a_run_leaves_that_dies_at_once_hinders_no_other(tmp_path):
    left = tmp_path / "run"
    left.mkdir()
    (left / "run.lock").write_text("")
    (left / "run.json.tmp").write_text('{"format"')  # killed in the middle of its first file
    assert run_folder.is_blank(left)
    run(left, regularizers="none", epochs=0)
    assert not (left / "run.json.tmp").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/result.json.tmp").write_text("")
    with pytest.raises(ConfigError, match="exists and is not empty"):
        run(tmp_path / "other")


def test_a_run_that_begins_in_the_same_moment_is_refused(tmp_path):
    tmp_path.joinpath("run").mkdir()
    with elsewhere(lambda: Lock(tmp_path / "run" / "run.lock", "It").acquire()) as child:
        with pytest.raises(ConfigError, match=f"is in use by process {child}"):
            run(tmp_path / "run")
    assert run(tmp_path / "run", regularizers="none", epochs=0).folder == tmp_path / "run"
    assert not (tmp_path / "run" / "run.lock").exists()


def test_a_run_that_came_and_went_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    acquire = Lock.acquire

    def later(self, patience=1.0):
        (tmp_path / "run" / "run.json").write_text("of another run")
        acquire(self, patience)

    monkeypatch.setattr(Lock, "acquire", later)
    with pytest.raises(ConfigError, match="exists and is not empty"):
        run(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


# ---------------------------------------------------------------------------------------------- rows of metrics


def test_clearing_takes_the_run_file_last(finished, monkeypatch):
    gone = []
    original = type(finished).unlink
    monkeypatch.setattr(type(finished), "unlink", lambda self, **more: (gone.append(self.name), original(self, **more)))
    run_folder.clear(finished)
    assert gone[-1] == "run.json"
    assert list(finished.iterdir()) == []


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"{}", b'{"step": "1"}', b'{"step": true}', b"\xff", b"\0\0", b"", b"[" * 100_000]
)
def test_a_damaged_row_is_named_and_none_is_lost(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    raw = b'{"step": 1, "loss": 1.0}\n' + line + b'\n{"step": 2, "loss": 1.0}\n'
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is damaged: line 2 is no row of a run"):
        truncate_metrics(path, 2)
    assert path.read_bytes() == raw
    truncate_metrics(path, 1)  # what the run writes again may be anything
    assert path.read_bytes() == raw.splitlines(keepends=True)[0]


def test_rows_are_truncated_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 1.0}, {"step": 1, "eval/a/accuracy": 0.5}, {"step": 2, "loss": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    truncate_metrics(tmp_path / "none.jsonl", 1)
    assert not (tmp_path / "none.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda source, target: None)
        truncate_metrics(path, 1, [1])  # as if the process died before the renaming
    assert path.read_text().endswith('{"step": 3, "lo')
    truncate_metrics(path, 1, [1])
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:2]
    truncate_metrics(path, 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:1]


def test_rows_of_tests_must_be_there_and_half_a_row_at_the_end_is_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first, test, last = '{"step": 1}', '{"step": 2, "eval/a/x": 0.5}', '{"step": 3}'
    path.write_text("\x00\x00\nxx\n")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is damaged: line 1 is no row of a run"):
        truncate_metrics(path, 2)
    for text in (f"{first}\n", ""):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"metrics\.jsonl lacks the test of step 2"):
            truncate_metrics(path, 2, [2])
    path.unlink()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl lacks the test of step 2"):
        truncate_metrics(path, 2, [2])
    # What a power cut leaves behind the rows that count.
    path.write_text(f"{first}\n{test}\n{last}\n\x00\x00\n{{")
    truncate_metrics(path, 2, [2])
    assert path.read_text() == f"{first}\n{test}\n"
