import json
import math
from types import SimpleNamespace

import pytest

from benchmarks import looks, tables
from synreal.errors import CheckpointError
from synreal.records import Look, Measured, SetLook, read_record
from tests.engine import tiny

SCORES = {("none", 0): 0.70, ("none", 1): 0.75, ("oracle", 0): 0.78, ("oracle", 1): 0.79, ("csg", 0): 0.81}


def measured(value, heading, unit="", **more):
    return Measured(value=value, heading=heading, unit=unit, higher_is_better=True, **more)


def looked_run(method, seed, score):
    """A run whose energy falls as its score rises, but for the frozen network, and whose CKA says nothing."""
    energy = 0.9 if method == "oracle" else 1 - score
    stages = {"3": 0.5, "4": None}
    measures = {
        "energy_1": measured(energy, "HSE s=1"),
        "cka": measured(0.5, "CKA", stages=stages),
        "mean_class_accuracy": measured(score, "mean-class", "%"),
    }
    found = Look(
        title=f"{method}, seed {seed}",
        task="classification",
        backbone="b",
        checkpoint="last",
        weights=None,
        sha256="0",
        sets={"photo": SetLook(data="photo", split="test", fingerprint="f", images=3, measures=measures)},
        measures={"drift": measured(0.002, "drift", "%")},
        versions={},
    )
    return looks.LookedRun(pair="pacs", method=method, seed=seed, target="photo", score=score, look=found)


def rows(text, title):
    part = text.partition(f"## pacs: {title}\n\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]


def test_measures_are_shown_by_method_and_ranks_are_those_of_the_scores():
    text = looks.render([looked_run(*key, score) for key, score in SCORES.items()])
    heads, _, *lines = rows(text, "measures")
    assert heads == ["method", "seeds", "mean-class %", "HSE s=1", "CKA 3", "CKA 4", "drift %"]
    assert lines[0] == ["`none`", "2", "72.5 ± 3.5", "0.275 ± 0.035", "0.500 ± 0.000", "", "0.20 ± 0.00"]
    assert lines[2] == ["`csg`", "1", "81.0", "0.190", "0.500", "", "0.20"]
    heads, _, energy, *_ = rows(text, "ranks")
    assert heads == ["measure", "5 runs", "3 runs without `oracle`", "means of 3 methods"]
    # Ranks of the scores are 1 2 3 4 5, of the energies 3 2 4.5 4.5 1: rho = cov / (sd sd) of these.
    scores, energies = [1, 2, 3, 4, 5], [3, 2, 4.5, 4.5, 1]
    covariance = sum((a - 3) * (b - 3) for a, b in zip(scores, energies, strict=True))
    rho = covariance / math.sqrt(10 * sum((b - 3) ** 2 for b in energies))
    assert energy[1] == f"{rho:+.2f}"
    assert energy[2:] == ["", ""]  # three points say nothing


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_a_network_that_is_not_the_records_is_refused(tmp_path, monkeypatch):
    tiny.install(monkeypatch.setattr)
    folder = tiny.run(tmp_path / "run", regularizers="none", epochs=1).folder
    record = read_record(folder)
    cell = SimpleNamespace(folder=folder, pair="digits", method="none", seed=0, name="digits/none/seed0")
    monkeypatch.setattr(looks, "MEASURES", ("energy_1", "acc_in"))
    found = looks.looked_at(SimpleNamespace(cell=cell, record=record), None)
    target = next(iter(record.targets))
    assert (found.target, found.score) == (target, record.targets[target].headline)
    assert set(found.look.sets[target].measures) == {"energy_1", record.targets[target].headline_name}
    other = record.targets[target].model_copy(
        update={"measures": {name: 0.123 for name in record.targets[target].measures}}
    )
    record = record.model_copy(update={"targets": {target: other}})
    with pytest.raises(CheckpointError, match=r"digits/none/seed0 is recorded with 0\.123"):
        looks.looked_at(SimpleNamespace(cell=cell, record=record), None)


def test_committed_looks_are_of_committed_records():
    for path in looks.RESULTS.glob("looks-*.json"):
        name = path.stem.removeprefix("looks-")
        known = {
            (record.label, record.protocol.seed, target): score.headline
            for record in tables.records(name)
            for target, score in record.targets.items()
        }
        for run in looks.read_looks(name):
            assert known[run.method, run.seed, run.target] == run.score
        assert path.with_suffix(".md").read_text(encoding="utf-8") == looks.render(looks.read_looks(name))
        assert json.loads(path.read_text(encoding="utf-8"))
