import json
import sys

import pytest

from synreal.bench import bench, cells_of, read_grid
from synreal.bench.ledger import Ledger
from tests.bench import grids
from tests.bench.conftest import folder, like  # noqa: F401  # fixtures


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def path(folder):  # noqa: F811
    return grids.write_grid(folder, regularizers=["none", "csg"], records="all.json", weights=[1, 3])


@pytest.fixture
def told(monkeypatch):
    """What the command hands on, in place of running it."""
    calls = []

    def run(grid, **options):
        calls.append((grid, options))
        from synreal.bench import plan

        keys = ("only", "cell", "sweep", "reproduce")
        return plan(grid, **{key: options[key] for key in keys})

    monkeypatch.setattr("synreal.bench.bench", run)
    return calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "Cannot read the grid missing.yaml"),
        (["--jobs", "0"], "Invalid value for '--jobs'"),
        (["--select", "sometimes"], "unexpected extra argument"),
        (["--select=sometimes"], "'sometimes' is not one of 'heldout', 'shifted', 'both'"),
        (["--reproduce", "--select"], "give one of them"),
        (["--emit", "cron"], "Invalid value for '--emit'"),
        (["--plugin", "missing.py"], "Cannot read the plugin missing.py"),
    ],
)
def test_wrong_usage(words, expected, call):
    code, out, err = call("bench", "missing.yaml", *words)
    assert code == 2
    assert expected in " ".join(err.replace("│", " ").split())
    assert out == ""


def test_a_dry_run_lists_the_runs(path, call, like):  # noqa: F811
    cells = cells_of(read_grid(path))
    grids.pretend(cells[0], like, 0.875)
    code, out, err = call("bench", path, "--dry-run")
    assert (code, err) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "seed" in line]
    assert rows == [
        ["small/none/seed0", "done", "87.5 %", "87.5 %"],
        ["small/csg/seed0", "open", "", ""],
        ["small/csg-weight=0.3/seed0", "open", "", ""],
    ]
    code, out, _ = call("bench", path, "--dry-run", "--json", "--only", "/none/")
    (run,) = json.loads(out)["runs"]
    assert run == {
        "name": "small/none/seed0",
        "pair": "small",
        "method": "none",
        "seed": 0,
        "state": "done",
        "folder": str(cells[0].folder),
        "log": str(cells[0].log),
        "headlines": {"source": 0.875, "photo": 0.875},
        "problem": None,
    }
    assert not (path.parent / "all.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"jobs": 1, "threads": None, "only": (), "cell": None, "sweep": False, "reproduce": False}),
        (["-j", 3, "--threads", 2, "--only", "a", "--only", "none"], {"jobs": 3, "threads": 2, "only": ["a", "none"]}),
        (["--cell", "small/csg/seed0", "--select"], {"cell": "small/csg/seed0", "sweep": True}),
        (["--select", "heldout", "--reproduce"], None),
        (["--reproduce"], {"reproduce": True}),
    ],
)
def test_options_are_handed_on(words, expected, path, told, call):
    code, _, _ = call("bench", *words, path)
    assert code == (2 if expected is None else 0)
    for key, value in (expected or {}).items():
        assert told[0][1][key] == value


@pytest.mark.parametrize("words", [["--select"], ["--select", "heldout"], ["--select", "shifted"], ["--select=both"]])
@pytest.mark.parametrize("last", [True, False])
def test_a_sweep_prints_what_each_rule_chooses(words, last, path, told, call, like):  # noqa: F811
    from synreal.bench import plan

    for row in plan(read_grid(path), sweep=True).rows:
        grids.pretend(row.cell, like, 0.25)
    code, out, err = call("bench", *([path, *words] if last else [*words, path]))
    assert code == 0, err
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│ csg" in line]
    rules = {"heldout": ["heldout"], "shifted": ["shifted"]}.get(words[-1], ["heldout", "shifted"])
    assert lines == [
        ["small", "csg", "default", "0.1", "1", "25.0", "25.0"],
        *(["small", "csg", rule, "0.3", "3", "25.0", "25.0"] for rule in rules),
        ["small", "csg", "best on photo (peeks)", "0.1", "1", "25.0", "25.0"],
    ]
    _, out, _ = call("bench", path, *words, "--json")
    assert [(one["rule"], one["factor"], one["peeks"]) for one in json.loads(out)["selected"]] == [
        ("default", 1, False), *((rule, 3, False) for rule in rules), ("best on photo", 1, True),
    ]  # fmt: skip


@pytest.mark.parametrize("equal", [True, False])
def test_what_is_not_reproduced_is_told_and_fails(equal, path, told, call, like):  # noqa: F811
    from synreal.bench import plan

    rows = plan(read_grid(path), reproduce=True).rows
    for row in rows:
        grids.pretend(row.cell, like, 0.25 if equal or row is not rows[1] else 0.5)
    cells = cells_of(read_grid(path))
    Ledger(path.parent / "all.json", cells).add([grids.pretend(cell, like, 0.25, write=False) for cell in cells[:2]])
    code, out, _ = call("bench", path, "--reproduce")
    assert code == (0 if equal else 1)
    assert f"{2 if equal else 1} of 2 runs that are recorded have the recorded numbers, to the bit." in out
    assert "1 runs are not recorded." in out
    assert ("small/csg/seed0 differs: source_heldout.measures.mean_class_accuracy was 0.25, now 0.5" in out) != equal
    _, out, _ = call("bench", path, "--reproduce", "--json")
    assert [run["deviations"] is None for run in json.loads(out)["runs"]] == [False, False, True]


def test_a_failed_run_is_named_with_the_end_of_its_log(path, call, monkeypatch):
    def fail(grid, **options):
        planned = bench.__globals__["plan"](grid)
        planned.rows[1].state, planned.rows[1].problem, planned.rows[1].lines = "failed", "exit code 2", "Error: no"
        return planned

    monkeypatch.setattr("synreal.bench.bench", fail)
    code, out, _ = call("bench", path)
    assert code == 1
    log = cells_of(read_grid(path))[1].log
    assert f"small/csg/seed0 failed (exit code 2). The end of {log}:\nError: no" in out
    code, out, _ = call("bench", path, "--json")
    assert code == 1
    assert json.loads(out)["runs"][1]["problem"] == "exit code 2\nError: no"


def test_a_job_array_is_printed_and_nothing_else(path, call):
    code, out, _ = call("bench", path, "--emit", "slurm", "--threads", 4, "--select", "--output", "else where")
    assert code == 0
    assert f"bench {path} --output 'else where' --select --cell \"$cell\" --threads 4" in out
    assert f"exec {sys.executable} -m synreal_cli" in out
    assert "#SBATCH --array=0-2\n" in out  # the grid's own weights
    assert not (path.parent / "else where").exists()


def test_the_command_is_a_module_too(call, capsys, monkeypatch):
    import runpy

    monkeypatch.setattr(sys, "argv", ["synreal", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("synreal_cli", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("synreal ")
