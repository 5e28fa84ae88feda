import json
import sys

from benchmarks import fingerprints as benchmark
from tests.engine import tiny


def test_it_leaves_records_and_a_table(tmp_path, monkeypatch, capsys):
    quick = {"backbone": "test_efficientnet", "weights": "none", "image_size": 32, "max_steps": 2, "batch_size": 4}
    quick |= {"eval_every": 0, "workers": 0, "device": "cpu"}
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "RUN", {**benchmark.RUN, "regularizers": "none", **quick})
    tiny.install(monkeypatch.setattr)
    monkeypatch.setattr(sys, "argv", ["fingerprints.py", "--rounds", "1", "--written", "30"])
    benchmark.main()
    found = json.loads((tmp_path / "fingerprints.json").read_text())
    run, files = found["run"], found["files"]
    assert run["sets"] == 4
    assert run["looks"] >= 2 + run["steps"] == 4
    assert 0 < run["fingerprints"] + run["lock"] < run["seconds"]
    assert files["files"] == 30
    assert all(files[key] > 0 for key in ("names", "sample", "sample_cold", "all", "all_cold", "decoding"))
    table = (tmp_path / "fingerprints.md").read_text()
    assert "30 images in files" in table
    assert table.strip() == capsys.readouterr().out.strip()


def test_the_committed_table_is_that_of_the_record():
    record = json.loads((benchmark.RESULTS / "fingerprints.json").read_text())
    assert benchmark.render(record) == (benchmark.RESULTS / "fingerprints.md").read_text()
