"""The run folder's files: whole, typed, and refused by name where they are not."""

import json

import pytest
import yaml

from synreal import data
from synreal.engine import evaluate, run_folder
from synreal.engine.run_folder import RunFacts, truncate_metrics
from synreal.errors import ConfigError
from tests.engine import tiny
from tests.engine.tiny import outcome, run

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


def test_the_copy_for_people_is_not_what_a_run_goes_on_from(finished, whole):
    (finished / "result.json").unlink()
    (finished / "config.yaml").write_text("lr: 7\n")
    run(finished, resume=True)
    assert outcome(finished) == outcome(whole())


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
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 2 is not a row"):
        truncate_metrics(path, 1)
    assert path.read_bytes() == raw


def test_rows_are_truncated_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    rows = [{"step": 1, "loss": 1.0}, {"step": 1, "eval/a/accuracy": 0.5}, {"step": 2, "loss": 1.0}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "lo')
    truncate_metrics(tmp_path / "none.jsonl", 1)
    assert not (tmp_path / "none.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "replace", lambda self, target: None)
        truncate_metrics(path, 1, [1])  # as if the process died before the renaming
    assert path.read_text().endswith('{"step": 3, "lo')
    truncate_metrics(path, 1, [1])
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:2]
    truncate_metrics(path, 1)
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:1]
