import json
from types import SimpleNamespace

import pytest

from benchmarks import diagnoses
from synreal.errors import TrainingError

SCORES = {"none": (0.60, 0.62), "oracle": (0.70, 0.71), "csg": (0.66, 0.70), "feature_l2": (0.61, 0.60)}


def recorded(**scores):
    """Records of two seeds of each method."""
    return [
        SimpleNamespace(
            label=label, protocol=SimpleNamespace(seed=seed), targets={"photo": SimpleNamespace(headline=s)}
        )
        for label, each in scores.items()
        for seed, s in enumerate(each)
    ]


def diagnosed(advice, guess):
    """A diagnosis as the file holds it."""
    scores = {"frozen": 0.5, "fine-tuned": 0.6, "csg": 0.64, "feature_l2": 0.61}
    ways = {"frozen": "frozen", "fine-tuned": "tuned"}
    return {
        "targets": ["photo"],
        "steps": 150,
        "verdict": {"advice": advice},
        "guess": None if guess is None else {"advice": guess},
        "outcomes": [{"name": n, "way": ways.get(n, "regularizer"), "scores": {"photo": s}} for n, s in scores.items()],
    }


def test_tables_say_what_the_rule_says_of_means():
    assert diagnoses.truth(recorded(**SCORES)).advice == "keep"
    assert diagnoses.truth(recorded(**{**SCORES, "none": (0.80, 0.81)})).advice == "free"
    level = {label: (0.60, 0.61) for label in SCORES}
    assert diagnoses.truth(recorded(**level)).advice == "unclear"
    assert diagnoses.truth(recorded(none=(0.6, 0.6), csg=(0.7, 0.7))) is None
    assert diagnoses.truth([one for one in recorded(**SCORES) if one.protocol.seed == 0]) is None


@pytest.mark.parametrize(
    ("advice", "guess", "told"),
    [
        ("keep", "free", "tables on 1 of 1 pairs, and the one by estimates without labels on 0 of 1."),
        (
            "unclear",
            "keep",
            "tables on 0 of 1 pairs, and the one by estimates without labels on 1 of 1.",
        ),
        ("free", None, "tables on 0 of 1 pairs, and the one by estimates without labels on 0 of 0."),
    ],
)
def test_verdicts_are_scored_on_whether_to_keep(advice, guess, told, monkeypatch):
    monkeypatch.setattr(diagnoses, "of_pair", lambda config: recorded(**SCORES))
    text = diagnoses.table({"digits": diagnosed(advice, guess)})
    assert told in " ".join(text.split())
    words = [cell.strip() for cell in text.splitlines()[4].strip("|").split("|")]
    assert words[:4] == ["digits", "150", "-10.0", "csg +4.0"]
    assert words[6:] == ["+9.5", "csg +7.0", "keep"]


def test_pairs_without_tables_are_shown_and_not_scored(monkeypatch):
    monkeypatch.setattr(diagnoses, "of_pair", lambda config: [])
    assert "on 0 of 0 pairs" in diagnoses.table({"digits": diagnosed("keep", None)})


def test_records_of_a_pair_are_those_of_its_recipe():
    config = diagnoses.pair_config("digits")
    found = diagnoses.of_pair(config)
    assert {record.label for record in found} == set(diagnoses.WAYS)
    assert {record.protocol.source for record in found} == {"digits"}
    assert diagnoses.of_pair(config.updated(epochs=77)) == []


def test_the_committed_table_is_that_of_the_committed_diagnoses(monkeypatch):
    monkeypatch.setenv("SYNREAL_DATA", "/data")
    assert diagnoses.FILE.is_file()
    text = diagnoses.FILE.with_suffix(".md").read_text("utf-8")
    assert text == diagnoses.table(json.loads(diagnoses.FILE.read_text("utf-8")))


def test_a_diagnosis_that_fails_ends_with_its_message(monkeypatch, tmp_path, capsys):
    def fail(*_):
        raise TrainingError("Student output is nan.")

    monkeypatch.setattr(diagnoses, "diagnose", fail)
    monkeypatch.setattr(diagnoses, "FILE", tmp_path / "diagnoses.json")
    with pytest.raises(SystemExit) as stop:
        diagnoses.main([str(tmp_path), "digits"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "digits: Student output is nan.\n"
