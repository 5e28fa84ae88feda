"""Grids whose runs are made for real, in processes of their own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from synreal.bench import bench, cells_of, plan, slurm
from synreal.bench.processes import environment, threads_each
from synreal.bench.reproducing import deviations
from synreal.errors import ConfigError, DataError
from synreal.plugins import load_plugin
from tests.bench.grids import STEPS, grid, pair, run_here, write_grid

ROOT = Path(__file__).parents[2]
PATIENCE = 120  # seconds; a worker mostly imports torch

PLUGIN = """
import os
import time

from synreal.core.terms import NoPenalty
from synreal.regularizers import Regularizer, register


class Held(NoPenalty):
    def __init__(self, seconds, dies):
        super().__init__()
        self.seconds, self.dies, self.calls = seconds, dies, 0

    def forward(self, step):
        self.calls += 1
        time.sleep(float(os.environ.get("SECONDS_HELD", 0)) * self.seconds)
        if self.dies == self.calls:
            os.kill(os.getpid(), 9)
        return super().forward(step)


@register
class Slow(Regularizer):
    name = "slow"
    summary = "takes its time, or dies"
    paper = "nobody"
    seconds: float = 1.0
    dies: int = 0

    def build(self, site):
        return Held(self.seconds, self.dies)
"""


@pytest.fixture
def plugin(folder, own_registry):
    path = folder / "slow.py"
    path.write_text(PLUGIN)
    load_plugin(path)
    return path


def outcome(folder):
    """What two runs of one seed share to the bit."""
    result = json.loads((folder / "result.json").read_text())
    return (
        (folder / "model.safetensors").read_bytes(),
        (folder / "metrics.jsonl").read_text(),
        {key: result[key] for key in ("source_heldout", "targets", "source_selected", "target_selected")},
    )


def rows_of(cell):
    path = cell.folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(process, happened):
    give_up = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < give_up
        time.sleep(0.02)


@contextlib.contextmanager
def command(*words, **variables):
    """``synreal bench`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "synreal_cli", "bench", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.communicate()


def test_a_grid_is_run_recorded_and_not_run_again(folder, like, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = grid(folder, regularizers=["none", "oracle"], records="results/all.json")
    done = bench(found, jobs=2, threads=1)
    assert [row.state for row in done.rows] == ["done", "done"]
    written = capfd.readouterr().err
    assert "[0/2] small/none/seed0: started" in written
    assert "[2/2] small/" in written
    # One thread each, as here: the same bits as in this process.
    numbers = ("source_heldout", "targets", "source_selected", "target_selected")
    assert {name: getattr(done.rows[0].record, name) for name in numbers} == {
        name: getattr(like, name) for name in numbers
    }
    assert done.rows[0].record.cost.threads == 1
    assert done.rows[0].cell.order.is_file()
    records = json.loads(found.records.read_text())
    assert [record["regularizers"][0]["name"] for record in records] == ["none", "oracle"]

    def never(*_):
        raise AssertionError("nothing is left to run")

    monkeypatch.setattr("synreal.bench.running.Worker", never)
    assert [row.state for row in bench(found, show=False).rows] == ["done", "done"]
    assert capfd.readouterr().err == ""
    again = plan(found, reproduce=True)
    assert deviations(again.rows, again.ledger) == {}


@pytest.mark.slow
def test_stopped_and_killed_a_grid_ends_equal(folder, plugin):
    # The same grid whole, in this process.
    whole = cells_of(grid(folder, regularizers=["slow"], seeds=[0, 1], output=str(folder / "whole")))
    for cell in whole:
        run_here(cell)
    path = write_grid(folder, regularizers=["slow"], seeds=[0, 1])
    cells = cells_of(grid(folder, regularizers=["slow"], seeds=[0, 1]))
    words = [path, "--plugin", plugin, "--jobs", 2]

    with command(*words, SECONDS_HELD="0.5") as process:
        wait_for(process, lambda: min(map(rows_of, cells)) >= 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "Stopped: 0 of 2 runs are done" in errors
    assert all("everything is saved" in cell.log.read_text() for cell in cells)
    assert [row.state for row in plan(grid(folder, regularizers=["slow"], seeds=[0, 1])).rows] == ["started"] * 2
    before = [rows_of(cell) for cell in cells]
    assert all(1 <= count < STEPS for count in before)

    # Killed outright it cannot tell its workers to stop: they see that it is gone.
    with command(*words, SECONDS_HELD="0.5") as process:
        wait_for(process, lambda: all(now > then for now, then in zip(map(rows_of, cells), before, strict=True)))
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
        assert not alive
    assert not any((cell.folder / "result.json").exists() for cell in cells)

    with command(*words) as process:
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert [outcome(cell.folder) for cell in cells] == [outcome(cell.folder) for cell in whole]


@pytest.mark.slow
def test_a_run_that_dies_costs_itself_alone(folder, plugin, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = grid(folder, regularizers=["slow(dies=2)", "slow(dies=100)"], records="all.json")
    done = bench(found, plugins=[plugin], threads=1)
    assert [row.state for row in done.rows] == ["failed", "done"]
    (failed,) = done.failed
    assert failed.problem == "killed by SIGKILL, perhaps for want of memory"
    assert "failed (killed by SIGKILL" in capfd.readouterr().err
    assert len(json.loads(found.records.read_text())) == 1
    assert [row.state for row in plan(found).rows] == ["started", "done"]


@pytest.mark.slow
def test_the_end_of_a_failed_runs_log_is_kept(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (folder / "drawn" / next((folder / "drawn").iterdir()).name / "000.png").write_bytes(b"not an image")
    done = bench(grid(folder), show=False)
    assert [(row.state, row.problem) for row in done.rows] == [("failed", "exit code 2")]
    assert "Error: " in done.rows[0].lines
    assert "000.png" in done.rows[0].lines
    assert done.rows[0].lines in done.rows[0].cell.log.read_text()


def test_missing_data_are_found_before_anything_runs(folder, monkeypatch):
    pairs = {"small": pair(folder), "other": pair(folder / "nowhere")}
    with pytest.raises(DataError, match=r"In the cell other/none/seed0: Data set 'drawn': .* does not exist"):
        bench(grid(folder, pairs=pairs), show=False)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("jobs", "threads", "variable", "expected"),
    [(1, None, None, 6), (2, None, None, 3), (4, None, None, 1), (9, None, None, 1), (2, 5, "4", 5), (2, None, "4", 4)],
)
def test_threads_are_divided_among_the_jobs(jobs, threads, variable, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads_each(jobs, threads) == expected


def test_a_worker_has_its_share_of_threads_and_all_else_of_its_parent():
    made = environment(3, {"HOME": "x", "OMP_NUM_THREADS": "8"})
    assert made["OMP_NUM_THREADS"] == made["MKL_NUM_THREADS"] == made["OPENBLAS_NUM_THREADS"] == "3"
    assert made["HOME"] == "x"


@pytest.mark.slow
def test_a_job_array_runs_one_cell_a_task(folder, like):
    path = write_grid(folder, regularizers=["none", "oracle"], records="all.json")
    planned = plan(grid(folder, regularizers=["none", "oracle"], records="all.json"))
    text = slurm.script(planned, [str(path)], threads=1, output=folder / "runs")
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert "#SBATCH --array=0-1" in lines
    assert "#SBATCH --cpus-per-task=1" in lines
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "77"}
    ended = subprocess.run(["bash"], input=text, env=variables, text=True, timeout=PATIENCE, check=False)
    log = (folder / "runs" / "slurm" / "77_1.log").read_text()
    assert ended.returncode == 0, log
    assert "small/oracle/seed0: done" in log
    assert [row.state for row in plan(grid(folder, regularizers=["none", "oracle"])).rows] == ["open", "done"]
    assert not (folder / "all.json").exists()  # tasks that end together would write it at once
    done = plan(grid(folder, regularizers=["oracle"]))
    with pytest.raises(ConfigError, match="every run of the grid is done"):
        slurm.script(done, [str(path)], threads=1, output=folder / "runs")
