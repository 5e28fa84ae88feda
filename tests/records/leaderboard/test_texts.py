import csv
import io
import json
import re

import pytest

from synreal.records import Change
from synreal.records.leaderboard import Found, Row, as_csv, as_html, as_json, as_markdown, build
from tests.records.leaderboard import boards
from tests.records.made import made


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_is_a_compact_table_for_each_pair_and_protocol():
    text = as_markdown(boards.usual())
    assert lines(text, "## ") == ["## cartoon -> photo, classification", "## sketch -> photo, classification"]
    assert cells(lines(text, "| method")[0]) == [
        "method", "seeds", "mean-class %", "difference to `none`", "better in", "held-out %", "shifted %", "time x",
        "memory x",
    ]  # fmt: skip
    csg, swept = (lines(text, start)[0] for start in ("| `csg` ", "| `csg(weight=1.0)`"))
    assert cells(csg) == [
        "`csg` (default weight, selected by held-out source)", "3", "78.5 ± 0.5", "+7.5 [+7.0, +8.0]", "3 of 3", "90.0",
        "70.0", "1.50", "1.00",
    ]  # fmt: skip
    assert cells(swept)[0] == "`csg(weight=1.0)` (weight 10 x default, selected by shifted held-out source)"
    assert cells(lines(text, "| `oracle`")[0])[1:6] == ["2 of 3", "70.5 ± 0.7", "0.0 [-1.0, +1.0]", "1 of 2", "90.0"]
    assert "| `none` (averaged, wise_ft(0.5)) | 3 | 76.0 ± 0.0 |" in text
    assert "Chosen by the target's labels (peeks), not ranked:" in text
    assert "It differs from the first in: steps." in text
    assert "the whole range of the three differences" in text


def test_seeds_of_runs_that_changed_are_marked_and_the_mark_is_explained():
    change = Change(what="threads", then="1", now="2", step=10)
    runs = [made("none", 0, 0.7), made("csg", 0, 0.8).model_copy(update={"changes": [change]})]
    text = as_markdown(build([Found(run, run.method) for run in runs]))
    seeds = {cells(line)[0]: cells(line)[1] for line in lines(text, "| `")}
    assert seeds == {"`csg`": "1†", "`none`": "1"}
    assert text.splitlines()[-1].startswith("† After a stop")
    assert "†" not in as_markdown(boards.usual())
    page = as_html(build([Found(run, run.method) for run in runs]))
    assert 'title="not of one piece: 0. After a stop' in page


def test_the_curve_of_a_weight_is_part_of_the_markdown():
    (head,) = lines(as_markdown(boards.usual()), "| weight of `csg`")
    text = as_markdown(boards.usual())
    body = text[text.index(head) :].splitlines()[2:4]
    assert [cells(line)[0] for line in body] == ["1", "10"]
    assert [cells(line)[-1] for line in body] == [
        "by held-out source",
        "by shifted held-out source; best on the target (peeks)",
    ]


def test_published_numbers_are_written_as_papers_write_them():
    config = {"data": {"source": "visda17:x", "targets": ["visda17:x"]}}
    text = as_markdown(build(boards.found(made("none", source="visda17", target="visda17", config=config))))
    assert "Published numbers, not ranked" in text
    assert "| csg | 64.05 | +14.8 | CSG (Chen et al., ICLR 2021)" in text


def test_json_is_a_list_of_rows():
    board = boards.usual()
    values = json.loads(as_json(board))
    assert [Row.model_validate(value) for value in values] == board.rows
    csg = next(one for one in values if one["method"] == "csg" and one["kind"] == "run")
    wanted = ("pair", "task", "method", "protocol", "peeks", "seeds", "mean", "std", "difference", "interval")
    assert all(csg[key] is not None for key in wanted)
    assert csg["interval"] == pytest.approx([0.07, 0.08])
    assert {one["kind"] for one in values} == {
        "run", "weight", "selected weight", "early stop", "averaged", "best weight (peeks)", "best epoch (peeks)",
    }  # fmt: skip


def test_csv_has_a_line_for_each_row():
    board = boards.usual()
    found = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert len(found) == len(board.rows)
    csg = next(one for one in found if one["method"] == "csg" and one["kind"] == "run")
    assert (csg["pair"], csg["seeds"], csg["peeks"]) == ("cartoon -> photo", "0 1 2", "False")
    assert (float(csg["interval_low"]), float(csg["interval_high"])) == pytest.approx((0.07, 0.08))
    none = next(one for one in found if one["method"] == "none" and one["kind"] == "run")
    assert (none["difference"], none["interval_low"]) == ("", "")


def test_a_name_is_no_markup_in_markdown():
    text = as_markdown(boards.hostile())
    outside_code = re.sub(r"`[^`\n]*`", "", re.sub(r"\\.", "", text))
    assert "<" not in outside_code
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(cells(line)) for line in tables} == {len(cells(tables[0]))}


@pytest.mark.parametrize("start", "=+-@\t")
def test_a_name_is_no_formula_in_csv(start):
    name = f"{start}HYPERLINK(1)"
    text = as_csv(build(boards.found(made("none", source=name))))
    assert next(csv.DictReader(io.StringIO(text)))["pair"] == f"'{name} -> photo"
