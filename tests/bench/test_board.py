import io
import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from synreal.bench import cells_of, plan
from synreal.bench.board import Board, Row
from synreal.bench.watch import Lengths, Watch, duration, number
from tests.bench.grids import grid, pair, pretend


def write(cell, *rows, end="\n"):
    cell.folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(row) for row in rows)
    (cell.folder / "metrics.jsonl").write_text(text + end)


def step(number, epoch=1, **more):
    return {"step": number, "epoch": epoch, "loss": 1.0, **more}


TEST = {"eval/source/mean_class_accuracy": 0.5, "eval/source/accuracy": 0.4, "eval/photo/mean_class_accuracy": None}


@pytest.fixture
def cell(tmp_path):
    return cells_of(grid(tmp_path))[0]


def test_a_run_is_followed_by_its_rows(cell):
    watch = Watch(cell, Lengths())
    assert not watch.look()
    assert watch.step == 0
    write(cell, step(1), step(2), end='\n{"step": 3')
    assert not watch.look()
    assert (watch.step, watch.total, watch.seconds_left) == (2, None, None)
    write(cell, step(1), step(2), step(3), {"step": 4, "epoch": 1, **TEST})
    assert watch.look()
    assert list(watch.headlines) == ["source", "photo"]
    assert watch.headlines["source"] == 0.5
    assert watch.headlines["photo"] != watch.headlines["photo"]
    assert (watch.step, watch.total) == (4, 8)  # two epochs of four
    assert watch.seconds_left > 0
    write(cell, step(1))  # resumed: rows past the checkpoint are gone
    assert not watch.look()
    assert watch.step == 1
    write(cell, step(1), {"step": "?"}, step(2))
    watch.look()
    assert watch.step == 2


@pytest.mark.parametrize(
    ("training", "rows", "total"),
    [
        ({"max_steps": 100}, [step(3)], 100),
        ({"max_steps": 6}, [{"step": 4, "epoch": 1, **TEST}], 6),
        ({"max_steps": 6}, [{"step": 4, "epoch": 1, **TEST}, {"step": 6, "epoch": 2, **TEST}], 6),
        ({"epochs": 5}, [{"step": 4, "epoch": 1, **TEST}], 20),
        ({"epochs": 5}, [{"step": 0, "epoch": 0, **TEST}], None),
    ],
)
def test_the_length_of_a_run_is_learnt(training, rows, total, tmp_path):
    first, second = cells_of(grid(tmp_path, pairs={"small": pair(tmp_path, training=training)}, seeds=[0, 1]))
    lengths = Lengths()
    watch = Watch(first, lengths)
    write(first, *rows)
    watch.look()
    assert watch.total == total
    assert lengths.of(second) == total
    lengths.learn(second, 7)
    assert watch.total == 7


def test_steps_of_as_many_images_make_runs_of_one_length(cell):
    def of(size, parts):
        training = cell.config.training.model_copy(update={"batch_size": size, "accumulate": parts})
        return replace(cell, config=cell.config.model_copy(update={"training": training}))

    lengths = Lengths()
    lengths.learn(of(8, 1), 9)
    assert lengths.of(of(4, 2)) == 9
    assert lengths.of(of(8, 2)) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (4800, "1 h 20 min"), (1e5, "27 h 46 min")],
)
def test_durations_are_written_in_two_units(seconds, text):
    assert duration(seconds) == text


def test_numbers_have_the_unit_of_the_measure(cell):
    assert number(cell, 0.1234) == "12.3 %"
    assert number(cell, float("nan")) == "n/a %"


def drawn(board, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(board.table())
    return console.file.getvalue()


def test_the_table_shows_how_far_each_run_is(folder, like):
    rows = plan(grid(folder, regularizers=["none", "weight_l2", "oracle"])).rows
    pretend(rows[0].cell, like, 0.875)
    rows[0].record, rows[0].state = pretend(rows[0].cell, like, 0.875), "done"
    rows[1].state, rows[1].watch = "running", Watch(rows[1].cell, Lengths())
    write(rows[1].cell, step(1), step(2))
    rows[1].watch.look()
    write(rows[1].cell, step(1), step(2), {"step": 4, "epoch": 1, **TEST})
    time.sleep(0.01)
    rows[1].watch.look()
    board = Board(rows, show=False, title="two at a time")
    board.left = 100
    lines = drawn(board).splitlines()
    (none, weight_l2, oracle) = (next(line for line in lines if f"small/{name}/" in line) for name in
                                 ("none", "weight_l2", "oracle"))  # fmt: skip
    assert none.split("│")[2:6] == [" done    ", "    8 ", "   87.5 % ", "  87.5 % "]
    assert [cell.strip() for cell in weight_l2.split("│")[2:7]] == ["running", "4/8", "50.0 %", "n/a %", "0 s"]
    assert [cell.strip() for cell in oracle.split("│")[2:7]] == ["open", "", "", "", ""]
    assert "1 of 3 done, 1 running; about 1 min 40 s left" in lines[-1]


def test_a_terminal_without_room_shows_what_runs_and_what_failed(folder, monkeypatch):
    rows = [Row(cell, "open") for cell in cells_of(grid(folder, seeds=list(range(40))))]
    for index in range(20):
        rows[index].state = "done"
    rows[3].state, rows[20].state, rows[21].state = "failed", "running", "running"
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "18")
    board = Board(rows, show=True, title="")
    board.console = Console(file=io.StringIO(), force_terminal=True, width=80, height=18)
    board._live = object()
    text = drawn(board)
    assert [seed for seed in range(40) if f"seed{seed} " in text] == [3, 16, 17, 18, 19, 20, 21, 22, 23, 24]
    assert "19 of 40 done, 2 running, 1 failed" in text
    assert len(text.splitlines()) <= 18
