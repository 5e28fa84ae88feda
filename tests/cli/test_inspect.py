import pytest

from tests.records.test_history import ROWS, run_folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs of two methods, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for method, seed in (("none", 0), ("none", 1), ("csg", 0)):
        run_folder(tmp_path / "runs" / f"{method}-{seed}", method, seed, finished=method == "none")
    return tmp_path


@pytest.mark.parametrize(("output", "start"), [("new/a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_curves_of_finished_and_of_unfinished_runs_are_drawn(output, start, runs, call):
    code, out, err = call("inspect", "curves", "runs/none-0", "runs", "--output", output)
    assert (code, err) == (0, "")
    assert (runs / output).read_bytes().startswith(start)
    assert out == f"{output}: 3 runs of 2 methods.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs"], "Missing option '--output'"),
        (["runs", "-o", "a.jpg"], "a.jpg: its ending does not say how to draw. End it in .png or .svg."),
        (["nowhere", "-o", "a.svg"], "nowhere holds no run: expected a run folder"),
        (["runs", "untested", "-o", "a.svg"], "untested/metrics.jsonl has no row of a test yet"),
        (["runs", "again", "-o", "a.svg"], "csg, seed 0, is there twice: runs/csg-0 and again. Leave one out."),
    ],
)
def test_what_has_no_curves_is_told(arguments, message, runs, call):
    run_folder(runs / "untested", "kl", rows=ROWS[:1])
    run_folder(runs / "again", "csg")
    code, out, err = call("inspect", "curves", *arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
