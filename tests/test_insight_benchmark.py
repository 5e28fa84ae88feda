import json
import sys

import pytest

from benchmarks import insight as benchmark


def test_it_leaves_records_and_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    monkeypatch.setattr(benchmark, "in_a_process", lambda *call: benchmark.measured(*call[:-1]))
    monkeypatch.setattr(sys, "argv", ["insight.py", "--rows", "300", "--few", "200", "--dim", "9"])
    benchmark.main()
    result = json.loads((tmp_path / "insight.json").read_text())
    ways = [(row["rows"], row["way"]) for row in result["measured"] if row["measure"] == "linear CKA"]
    assert ways == [
        *((300, "synreal"), (300, "synreal, in batches")),
        *((200, "synreal"), (200, "synreal, in batches"), (200, "plain")),
    ]
    assert all(0 < row["seconds"] and 0 <= row["grown_mib"] < row["peak_mib"] for row in result["measured"])
    assert 0 < benchmark.difference(result["measured"]) < 1e-10
    assert (tmp_path / "insight.md").read_text().strip() == capsys.readouterr().out.strip()


def test_a_process_of_its_own_measures_the_same(monkeypatch):
    name = "linear CKA"
    alone = benchmark.in_a_process(name, "plain", 50, 8, 1)
    assert alone["values"] == pytest.approx(benchmark.measured(name, "plain", 50, 8)["values"], rel=1e-12)


def test_the_committed_table_is_that_of_the_record():
    record = json.loads((benchmark.RESULTS / "insight.json").read_text())
    assert benchmark.render(record) == (benchmark.RESULTS / "insight.md").read_text()
    assert all(row["peak_mib"] < benchmark.BAR_MIB for row in record["measured"] if row["rows"] == 50_000)
