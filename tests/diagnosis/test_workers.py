"""A whole diagnosis by the command line, with its runs in processes of their own."""

import json

import pytest
from synreal_cli.app import main

from synreal.records import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning"),
]


def test_a_diagnosis_runs_and_goes_on(asked, images, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNREAL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "asked.yaml").write_text(asked().to_yaml())
    words = ["diagnose", "--config", "asked.yaml", "--photos", str(images / "found"), "--steps", "2"]
    words += ["--regularizer", "feature_l2", "--jobs", "2"]
    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert not stop.value.code, capfd.readouterr().err
    folders = sorted(path.name for path in (tmp_path / "runs" / "diagnosis" / "tries").iterdir())
    assert folders == ["feature_l2", "fine-tuned", "frozen", "head--first"]
    told = json.loads((tmp_path / "runs" / "diagnosis" / "diagnosis.json").read_text())
    for one in told["outcomes"]:
        assert one["scores"]["photo"] == read_record(tmp_path / one["folder"]).targets["photo"].headline
        assert set(one["estimates"]) == {"photo", "photos"}
