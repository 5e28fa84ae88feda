import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import queue_loss, seeds, tables
from synreal.tasks import data
from synreal.tasks.data.base import ArrayImages


@pytest.mark.filterwarnings("ignore::synreal.teachers.UntrainedTeacherWarning")
def test_seeds_leaves_records_and_a_table_and_runs_nothing_twice(monkeypatch, tmp_path, capsys):
    labels = torch.arange(40) % 10
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)

    def load(value, split, *, task="classification", seed=0, cache=None, policy=None):
        return ArrayImages(data.find(value).label, split, images, labels, [str(i) for i in range(10)])

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(seeds, "RESULTS", tmp_path / "results")
    small = ["backbone=test_efficientnet", "weights=none", "image_size=32", "epochs=1", "batch_size=8", "workers=0"]
    arguments = ["seeds.py", "toy", "none", "csg(queue_size=8)", "--seeds", "0", "1", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--set", *small])
    seeds.main()
    records = json.loads((tmp_path / "results" / "toy.json").read_text())
    assert [(r["regularizers"][0]["name"], r["protocol"]["seed"]) for r in records] == [
        ("none", 0), ("csg", 0), ("none", 1), ("csg", 1),
    ]  # fmt: skip
    table = (tmp_path / "results" / "toy.md").read_text()
    assert "| `none` | 2 |" in table
    assert "| `csg` | 2 |" in table
    assert table.splitlines()[2:7] == [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")}
    seeds.main()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.safetensors")} == before

    # A record is enough; one made before a setting existed has that setting's default.
    shutil.rmtree(tmp_path / "runs")
    for record in records:
        del record["config"]["reference"]
    (tmp_path / "results" / "toy.json").write_text(json.dumps(records))
    seeds.main()
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "results" / "toy.md").read_text() == table
    monkeypatch.setattr(sys, "argv", [*arguments[:4], "--seeds", "2", *arguments[-2:], "--set", *small])
    seeds.main()
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2


def test_the_sides_of_the_queue_benchmark_compute_the_same():
    for sides in queue_loss.SIDES.values():
        values = queue_loss.tensors(8, 50, 6, torch.float64)
        plain, ours = (queue_loss.step(loss, values).clone() for loss in sides.values())
        torch.testing.assert_close(ours, plain)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read where Linux tells it")
def test_the_queue_benchmark_leaves_records_and_a_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(queue_loss, "RESULTS", tmp_path)
    sizes = {"rows": 64, "keys": 100_000, "dim": 4, "repeats": 1}
    arguments = [word for key, value in sizes.items() for word in (f"--{key}", str(value))]
    monkeypatch.setattr(sys, "argv", ["queue_loss.py", *arguments])
    queue_loss.main()
    result = json.loads((tmp_path / "queue_loss.json").read_text())
    assert {key: result[key] for key in sizes} == sizes
    assert [row["loss"] for row in result["losses"]] == ["info_nce", "causal_invariance"]
    for row in result["losses"]:
        assert row["plain_mib"] > 64 * 100_000 * 4 / 2**20  # the matrix of scores
        assert row["synreal_mib"] < row["plain_mib"] / 2
        assert 0 < row["speed_least"] <= row["speed_median"] <= row["speed_greatest"]
        assert row["synreal_gradient_error"] < 1e-4
    assert (tmp_path / "queue_loss.md").read_text().strip() == capsys.readouterr().out.strip()


def test_the_table_of_regularizers_lists_the_registry():
    import synreal

    listed = [line.split("|")[1].strip(" `") for line in tables.regularizers().splitlines()[2:]]
    assert listed == synreal.list_regularizers()
