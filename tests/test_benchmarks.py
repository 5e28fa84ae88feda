import json
import re
import shutil
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from synreal_cli.app import main

from benchmarks import figures, own_loop, queue_loss, tables
from synreal.bench import plan, read_grid
from synreal.figures import FIGURES, Study
from synreal.tasks import TASKS
from synreal.weights import create_backbone
from tests.data.simple_trees import imagefolder_tree
from tests.engine import tiny
from tests.records.test_history import run_folder

HERE = tables.RESULTS.parent
GRIDS = [path for folder in (".", "ablations", "papers") for path in sorted((HERE / folder).glob("*.yaml"))]
GRIDS.remove(HERE / "papers" / "numbers.yaml")


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_grid_can_be_run_and_holds_no_record_of_another(path, monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    planned = plan(read_grid(path))
    assert planned.ledger.path is not None
    assert planned.ledger.others == 0


@pytest.mark.parametrize("name", [grid.stem for grid in GRIDS if grid.stem.startswith(("digits", "stamps"))])
def test_all_runs_on_embedded_data_are_recorded(name):
    planned = plan(read_grid(tables.RESULTS.parent / f"{name}.yaml"))
    assert {row.state for row in planned.rows} == {"recorded"}


def test_the_documentation_names_every_grid_and_no_other():
    pages = [*tables.ROOT.glob("docs/**/*.md"), tables.ROOT / "README.md"]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    named = set(re.findall(r"^synreal bench (benchmarks/\S+)", text, re.MULTILINE))
    assert named == {str(path.relative_to(tables.ROOT)) for path in GRIDS}


def test_the_committed_records_make_a_leaderboard(tmp_path, capsys):
    page = tmp_path / "board.html"
    with pytest.raises(SystemExit) as stop:
        main(["leaderboard", str(tables.RESULTS), "--output", str(page)])
    assert not stop.value.code
    assert capsys.readouterr().err == ""
    text = page.read_text(encoding="utf-8")
    assert "At a glance" in text
    for row in tables.pairs().splitlines()[2:]:
        _, target = row.split("|")[1].strip().split(" → ")
        assert f"{target}</" in text


def test_each_pair_is_trained_for_the_length_that_its_records_choose(monkeypatch, tmp_path):
    monkeypatch.setenv("SYNREAL_DATA", str(tmp_path))
    found, configured = {}, {}
    for row in plan(read_grid(tables.RESULTS.parent / "lengths.yaml")).rows:
        heldout = row.record.source_heldout.headline
        found.setdefault(row.cell.pair, {})[row.cell.config.training.epochs] = heldout
        if not row.cell.changes:
            configured[row.cell.pair] = row.cell.config.training.epochs
    assert {pair: tables.long_enough(heldout) for pair, heldout in found.items()} == configured


@pytest.mark.parametrize(
    ("heldout", "length"), [({1: 0.5, 2: 0.7, 4: 0.71}, 2), ({1: 0.5, 2: 0.515}, 1), ({1: 0.5, 2: 0.6}, None)]
)
def test_a_length_is_enough_where_another_doubling_brings_little(heldout, length):
    assert tables.long_enough(heldout) == length


def test_the_pictures_of_the_docs_are_drawn_from_records_and_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(figures, "PICTURES", tmp_path / "images")
    for method in figures.SHOWN:
        run_folder(tmp_path / "runs" / method / "seed0", method)
    figures.main([str(tmp_path / "runs")])
    drawn = set(capsys.readouterr().out.split())
    shown = {path.name for path in (tables.ROOT / "docs" / "images").iterdir()}
    assert {"images/gain.png", "images/curves.png"} <= drawn <= {f"images/{name}" for name in shown}
    assert {f"images/{path.name}" for path in (tmp_path / "images").iterdir()} == drawn
    page = (tables.ROOT / "docs" / "figures.md").read_text("utf-8")
    assert all(f"](images/{name})" in page for name in shown)


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_the_pictures_of_the_docs_that_show_networks_and_data_are_drawn_from_runs(monkeypatch, tmp_path, capsys):
    tiny.install(monkeypatch.setattr)
    monkeypatch.setattr(figures, "PICTURES", tmp_path / "images")
    monkeypatch.setattr(figures, "shrink", lambda path: None)
    one, other = tmp_path / "one", tmp_path / "other"
    tiny.run(one, regularizers="none", targets="mnist", epochs=1, max_steps=1, eval_every=0)
    shutil.copytree(one, other)
    (one / "figures").mkdir(exist_ok=True)
    for shade, name in enumerate(("predictions-source", "predictions-uci", "predictions-mnist", "confusion-source")):
        Image.new("RGB", (9, 9), (shade, 0, 0)).save(one / "figures" / f"{name}.png")
    figures.main(["--networks", str(one), str(other), "--tested", str(one), "--data"])
    drawn = capsys.readouterr().out.split()
    studies = [name for name, kind in FIGURES.classes().items() if issubclass(kind, Study)]
    sheets = [spec.sheet for spec in TASKS.classes().values()]
    assert set(drawn) == {f"images/{name}.png" for name in (*studies, "class_panels", "confusion", *sheets)}
    for name, shade in (
        ("class_panels", 1),
        ("confusion", 3),
    ):  # of real images that may be shown, else of rendered ones
        with Image.open(tmp_path / "images" / f"{name}.png") as image:
            assert image.getpixel((0, 0)) == (shade, 0, 0)


def test_a_picture_of_the_docs_is_small_and_keeps_its_colours(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 20, (300, 300, 3), np.uint8)
    pixels[:, -9:] = [255, 80, 0]  # few pixels, as of a scale's bar
    Image.fromarray(pixels).save(tmp_path / "a.png")
    figures.shrink(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < figures.SMALL
    with Image.open(tmp_path / "a.png") as image:
        after = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(after - pixels).max() < 12
    before = (tmp_path / "a.png").read_bytes()
    figures.shrink(tmp_path / "a.png")
    assert len((tmp_path / "a.png").read_bytes()) <= len(before) * 1.01


def test_the_sides_of_the_queue_benchmark_compute_the_same():
    for sides in queue_loss.SIDES.values():
        values = queue_loss.tensors(8, 50, 6, torch.float64)
        plain, ours = (queue_loss.step(loss, values).clone() for loss in sides.values())
        torch.testing.assert_close(ours, plain)


@pytest.mark.slow
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


@pytest.fixture
def small_loops(monkeypatch, tmp_path):
    """Loops of one's own that take a fraction of a second, and folders of images for them."""
    real = own_loop.config_of
    small = {"backbone": "test_efficientnet", "weights": "none", "batch_size": 4, "eval_batch_size": 8}
    monkeypatch.setattr(own_loop, "config_of", lambda *cell: real(*cell).updated(**small))
    monkeypatch.setattr(own_loop, "create_backbone", partial(create_backbone, weights="none"))
    monkeypatch.setattr(own_loop, "BACKBONE", "test_efficientnet")
    monkeypatch.setattr(own_loop, "SIDE", 32)
    monkeypatch.setattr(own_loop, "EPOCHS", 1)
    monkeypatch.setattr(own_loop, "SHORT", 1)
    monkeypatch.setattr(own_loop, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(own_loop, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.syspath_prepend(own_loop.EXAMPLES)
    for seed, name in enumerate(("drawn", "photo")):
        imagefolder_tree(tmp_path / name, seed=seed)
    return ["--source", str(tmp_path / "drawn"), "--target", str(tmp_path / "photo")]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::synreal.core.teachers.UntrainedTeacherWarning",
    "ignore::synreal.core.task_heads.WildHeadWarning",
    "ignore:.*in eval mode",
    "ignore:.*pin_m",
)
def test_own_loops_leave_records_and_tables_and_run_nothing_twice(small_loops, monkeypatch, tmp_path, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["own_loop.py", "pacs", *small_loops, "--seeds", "0", *arguments])
        own_loop.main()
        return capsys.readouterr().out

    assert run("--tables", "main", "examples").startswith("18 runs, 0 of them recorded.")
    assert run("--tables", "main", "without", "--loops", own_loop.README, "no momentum").startswith(
        "4 runs, 2 of them recorded."
    )
    records = own_loop.stored()
    assert len(records) == 20
    assert all(sorted(record["scores"]) == ["photo", "source"] for record in records)
    assert all(0 <= value <= 1 for record in records for m in record["scores"].values() for value in m.values())
    assert str(tmp_path) not in json.dumps(records)
    page = (tmp_path / "results" / "own-loop.md").read_text("utf-8")
    assert "| README's loop | 1 |" in page
    usual, changed = (
        next(
            r["scores"]["photo"]["mean_class_accuracy"] for r in records if r["loop"] == loop and r["method"] == "none"
        )
        for loop in (own_loop.README, "no momentum")
    )
    assert f"| no momentum | 1 | {100 * changed:.1f} ({100 * (changed - usual):+.1f}) |" in page
    assert [line for line in page.splitlines() if line.startswith("## ")] == ["## main", "## examples", "## without"]


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_the_loop_that_varies_is_by_default_the_examples(small_loops, monkeypatch, tmp_path):
    source, target = tmp_path / "drawn", tmp_path / "photo"
    monkeypatch.setitem(own_loop.WITHOUT, "nothing changed", own_loop.Loop())
    students = []
    real = own_loop.scores
    monkeypatch.setattr(
        own_loop, "scores", lambda task, student, size: students.append(student) or real(task, student, size)
    )
    for table, loop in (("main", own_loop.README), ("without", "nothing changed"), ("without", "no momentum")):
        own_loop.measured(own_loop.Cell(table, loop, "csg", 0), source, target)
    first, same, other = (student.network.state_dict() for student in students)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def committed(table, loop, method):
    records = json.loads((tables.RESULTS / "own-loop.json").read_text("utf-8"))
    found = [r for r in records if (r["table"], r["loop"], r["method"]) == (table, loop, method)]
    assert [record["seed"] for record in found] == [0, 1, 2]
    return 100 * statistics.mean(record["scores"]["photo"]["mean_class_accuracy"] for record in found)


@pytest.mark.parametrize("method", own_loop.METHODS)
def test_the_committed_loops_come_close_to_the_command(method):
    command = committed("main", own_loop.COMMAND, method)
    assert abs(committed("main", own_loop.README, method) - command) <= 2
    assert committed("main", own_loop.BARE, method) < command - 20
    command = committed("examples", own_loop.COMMAND, method)
    for loop in own_loop.LOOPS:
        assert abs(committed("examples", loop, method) - command) <= 2
