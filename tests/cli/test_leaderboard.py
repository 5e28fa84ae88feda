import csv
import io
import json
import resource
import subprocess
import sys

import pytest

from synreal.records import write_json
from tests.records.made import made


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Run folders of two seeds of two methods, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for method, value in (("none", 0.5), ("csg", 0.6)):
        for seed in (0, 1):
            folder = tmp_path / "runs" / method / f"seed{seed}"
            folder.mkdir(parents=True)
            write_json(folder / "result.json", made(method, seed, value + seed / 100).model_dump(mode="json"))
    return tmp_path


def test_markdown_is_printed_when_nothing_is_said(runs, call):
    code, out, err = call("leaderboard", "runs")
    assert (code, err) == (0, "")
    assert "| `csg` | 2 | 60.5 ± 0.7 | +10.0 [+10.0, +10.0] | 2 of 2 |" in out


def test_csv_and_json_are_printed_when_asked_for(runs, call):
    assert len(json.loads(call("leaderboard", "runs", "--format", "json")[1])) == 2
    assert len(list(csv.reader(io.StringIO(call("leaderboard", "runs", "--format", "csv")[1])))) == 3


@pytest.mark.parametrize(
    ("name", "start"), [("b.html", "<!DOCTYPE html>"), ("b.JSON", "[\n"), ("b.csv", "pair,"), ("b.md", "## ")]
)
def test_the_ending_of_the_file_says_what_is_written(name, start, runs, call):
    code, out, _ = call("leaderboard", "runs", "--output", f"deep/{name}")
    assert code == 0
    assert (runs / "deep" / name).read_text(encoding="utf-8").startswith(start)
    assert out == f"deep/{name}: 2 rows of 1 pair under 1 protocol.\n"


def test_the_format_overrides_the_ending(runs, call):
    call("leaderboard", "runs/csg", "runs/none", "--format", "json", "-o", "board.txt")
    assert json.loads((runs / "board.txt").read_text())[0]["method"] == "csg"


@pytest.mark.parametrize(("name", "start"), [("gain", b"\x89PNG"), ("weights", b"<?xml")])
def test_a_figure_is_drawn_of_the_board(name, start, runs, call):
    for method, weight in (("oracle", None), ("csg", 1.0)):
        folder = runs / "runs" / f"{method}-more"
        folder.mkdir()
        write_json(folder / "result.json", made(method, 0, 0.7, weight=weight).model_dump(mode="json"))
    output = f"deep/{name}.{'png' if start[0] == 0x89 else 'svg'}"
    code, out, err = call("leaderboard", "runs", "--figure", name, "--output", output)
    assert (code, err) == (0, "")
    assert (runs / output).read_bytes().startswith(start)
    assert out.startswith(f"{output}: {name} of ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "gain"], "--figure gain needs --output FILE.png or FILE.svg"),
        (["--figure", "gain", "-o", "a.pdf"], "a.pdf: its ending does not say how to draw"),
        (["--figure", "gain", "-o", "a.svg", "--format", "md"], "--figure draws, --format md writes: give one"),
        (["--figure", "gian", "-o", "a.svg"], "Did you mean 'gain'?"),
        (["--figure", "curves", "-o", "a.svg"], "'synreal inspect curves' draws it"),
        (["--figure", "gain", "-o", "a.svg"], "No pair on the board has runs of none, of oracle and of a method"),
        (["--figure", "weights", "-o", "a.svg"], "No curve of a weight is on the board"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_told(arguments, message, runs, call):
    code, out, err = call("leaderboard", "runs", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert sorted(path.name for path in runs.iterdir()) == ["runs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "--output", "board.txt"], "its ending does not say what to write. End it in .md, .csv, .json, .html"),
        (["runs", "--output", "runs"], "--output runs: its ending does not say"),
        (["nowhere"], "nowhere does not exist"),
        (["runs", "--baseline", "oracle"], "No run of the baseline 'oracle' is there: found csg, none."),
        (["runs", "--output", "runs/csg/seed0/result.json/x.md"], "Cannot write runs/csg/seed0/result.json/x.md"),
        ([], "Missing argument 'FOLDER_OR_FILE...'"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(arguments, message, runs, call):
    code, out, err = call("leaderboard", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


QUICK = """
import sys
from synreal_cli.app import main
try:
    main(["leaderboard", sys.argv[1], "--format", "html", "--output", sys.argv[2]])
except SystemExit as stop:
    assert not stop.code
assert "torch" not in sys.modules
assert "numpy" not in sys.modules
"""


def test_hundreds_of_records_take_moments_and_no_torch(tmp_path):
    records = [
        made(method, seed, 0.5 + seed / 100, source=f"source {pair}").model_dump(mode="json")
        for pair in range(8)
        for method in ("none", "oracle", "csg", "feature_l2", *(f"method{number}" for number in range(8)))
        for seed in range(4)
    ]
    write_json(tmp_path / "records.json", records)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    arguments = [sys.executable, "-c", QUICK, str(tmp_path / "records.json"), str(tmp_path / "board.html")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(records) == 384
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2  # half a second on an idle machine
