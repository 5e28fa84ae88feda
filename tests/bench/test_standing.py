import contextlib
import json
import shutil

import pytest

from synreal.bench import bench, cells_of, plan
from synreal.bench.ledger import Ledger
from synreal.bench.reproducing import deviations
from synreal.bench.state import standing
from synreal.errors import ConfigError
from synreal.locking import Lock
from tests.bench.grids import grid, pair, pretend
from tests.test_locking import elsewhere


def states(found, **more):
    return [row.state for row in plan(found, **more).rows]


@pytest.fixture
def two(folder):
    """A grid of two cells with a file of records, and its cells."""
    found = grid(folder, regularizers=["none", "weight_l2"], records="records.json")
    return found, cells_of(found)


def test_what_is_done_is_known_by_its_folder_or_its_record(two, like):
    found, (none, weight_l2) = two
    assert states(found) == ["open", "open"]
    pretend(none, like)
    assert states(found) == ["done", "open"]
    Ledger(found.records, cells_of(found)).add([pretend(weight_l2, like, write=False)])
    assert states(found) == ["done", "recorded"]
    assert states(found, reproduce=True) == ["open", "open"]


@pytest.mark.parametrize(
    ("section", "key", "value", "serves"),
    [
        ("training", "lr", 0.1, False),
        ("data", "image_size", 64, False),
        ("testing", "eval_every", 0, False),
        ("testing", "eval_batch_size", 4, True),
        ("data", "workers", 1, True),
        ("output", "keep_checkpoints", 1, True),
        ("testing", "shifts", ["blur"], True),  # it has what is asked for, and more
        ("testing", "wise_ft", [0.5], True),
        ("testing", "averages", ["ema"], True),
    ],
)
def test_a_run_serves_that_was_told_the_same(section, key, value, serves, folder, like):
    (made,) = cells_of(grid(folder, pairs={"small": pair(folder, **{section: {key: value}})}))
    record = pretend(made, like)
    wanted = grid(folder, records="records.json")
    if serves:
        assert states(wanted) == ["done"]
    else:
        with pytest.raises(
            ConfigError, match=rf"holds a run with another configuration: {section}.{key} was {value}, now"
        ):
            plan(wanted)
    shutil.rmtree(made.folder)
    Ledger(wanted.records, cells_of(wanted)).add([record])
    assert states(wanted) == ["recorded" if serves else "open"]


def test_a_run_without_the_styles_that_are_asked_for_does_not_serve(folder, like):
    plain = grid(folder, records="records.json")
    (cell,) = cells_of(plain)
    record = pretend(cell, like)
    with pytest.raises(ConfigError, match=r"testing\.shifts was \[\], now \["):
        plan(plain, sweep=True)
    shutil.rmtree(cell.folder)
    ledger = Ledger(plain.records, [cell])
    ledger.add([record])
    assert states(plain, sweep=True) == ["open"]
    (swept,) = (row.cell for row in plan(plain, sweep=True).rows)
    ledger.add([pretend(swept, like)])  # it takes the place of the one that has less
    assert len(json.loads(plain.records.read_text())) == 1


def test_a_folder_that_holds_something_else_is_left_alone(two):
    found, (none, _) = two
    none.folder.mkdir(parents=True)
    (none.folder / "run.json.tmp").write_text("")  # of a run that was killed in its first moment
    assert states(found) == ["open", "open"]
    (none.folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds no run\.json: it is not a run"):
        plan(found)
    (none.folder / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not a result of schema version"):
        plan(found)


def test_what_another_process_is_running_is_left_to_it(two, like, monkeypatch, capfd):
    found, (none, weight_l2) = two
    none.folder.mkdir(parents=True)

    class Worker:  # it ends at once, with a result
        exit_code = 0

        def __init__(self, cell, threads, plugins):
            assert cell.name == weight_l2.name
            pretend(cell, like)

        def close(self):
            pass

    monkeypatch.setattr("synreal.bench.running.Worker", Worker)
    with elsewhere(lambda: Lock(none.folder / "run.lock", "It").acquire()):
        assert states(found) == ["elsewhere", "open"]
        assert plan(found).open[0].cell.name == weight_l2.name
        done = bench(found)
        assert [row.state for row in done.rows] == ["elsewhere", "done"]
        assert len(json.loads(found.records.read_text())) == 1
    # It died: the run is to be made here.
    assert states(found) == ["open", "done"]


def test_what_another_process_has_done_meanwhile_is_taken_up(two, like, monkeypatch, capfd):
    found, (none, weight_l2) = two

    none.folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:

        class Worker:
            exit_code = 2  # the other one was faster

            def __init__(self, cell, threads, plugins):
                assert cell.name == none.name
                pretend(weight_l2, like)
                stack.enter_context(elsewhere(lambda: Lock(none.folder / "run.lock", "It").acquire()))

            def close(self):
                pass

        def look(cell, ledger):
            asked.append(cell.name)
            if asked.count(none.name) == 2:  # at the end
                pretend(none, like)
                stack.close()
            return standing(cell, ledger)

        asked = []
        monkeypatch.setattr("synreal.bench.running.Worker", Worker)
        monkeypatch.setattr("synreal.bench.running.standing", look)
        done = bench(found)
    assert [row.state for row in done.rows] == ["done", "done"]
    assert len(done.records) == 2
    said = capfd.readouterr().err
    assert "none/seed0: is being run by another process" in said
    assert said.count("was done by another process") == 2


# ------------------------------------------------------------------------------------------------------ records


def test_two_commands_write_one_file_of_records(two, like):
    found, cells = two
    ledgers = [Ledger(found.records, cells) for _ in cells]
    for ledger, cell in zip(ledgers, cells, strict=True):
        ledger.add([pretend(cell, like, write=False)])
    assert len(json.loads(found.records.read_text())) == 2
    assert not found.records.with_name("records.json.lock").exists()


def test_records_stand_in_the_order_of_the_grid_and_strange_ones_stay(two, folder, like):
    found, cells = two
    other = cells_of(grid(folder, regularizers=["oracle"]))[0]
    Ledger(found.records, [other]).add([pretend(other, like, write=False)])
    ledger = Ledger(found.records, cells)
    assert ledger.others == 1
    for cell in reversed(cells):
        ledger.add([pretend(cell, like, write=False)])
    rows = json.loads(found.records.read_text())
    assert [row["regularizers"][0]["name"] for row in rows] == ["none", "weight_l2", "oracle"]
    assert ledger.others == 1
    before = found.records.stat().st_mtime_ns
    Ledger(found.records, cells).add([pretend(cells[0], like, write=False)])
    assert found.records.stat().st_mtime_ns == before  # nothing is new


def test_nothing_of_the_machine_is_recorded(two, folder, like, monkeypatch):
    found, (cell, _) = two
    monkeypatch.setenv("SYNREAL_DATA", f"{folder}/")
    Ledger(found.records, [cell]).add([pretend(cell, like, write=False)])
    (row,) = json.loads(found.records.read_text())
    assert row["config"]["output"]["folder"] is None
    assert row["config"]["data"]["source"] == "imagefolder(root='$SYNREAL_DATA/drawn', name='drawn', heldout=2)"
    assert str(folder) not in found.records.read_text()
    # The same data elsewhere.
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for name in ("drawn", "photo"):
        shutil.move(folder / name, elsewhere / name)
    monkeypatch.setenv("SYNREAL_DATA", str(elsewhere))
    moved = grid(folder, pairs={"small": pair(elsewhere)}, records="records.json")
    assert states(moved) == ["recorded"]
    monkeypatch.delenv("SYNREAL_DATA")
    assert states(moved) == ["open"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"schema_version": 1}]', "\x00"])
def test_records_that_cannot_be_read_are_not_overwritten(text, two):
    found, _ = two
    found.records.write_text(text)
    with pytest.raises(ConfigError, match=r"records\.json"):
        plan(found)
    assert found.records.read_text() == text


def test_a_setting_that_is_newer_than_a_record_has_its_default(two, like):
    found, (cell, _) = two
    Ledger(found.records, [cell]).add([pretend(cell, like, write=False)])
    rows = json.loads(found.records.read_text())
    del rows[0]["config"]["reference"], rows[0]["config"]["training"]["clip_norm"]
    found.records.write_text(json.dumps(rows))
    assert states(found) == ["recorded", "open"]


def test_numbers_are_compared_to_the_bit(two, like):
    found, (none, weight_l2) = two
    records = [pretend(cell, like, 0.1, write=False) for cell in (none, weight_l2)]
    Ledger(found.records, [none, weight_l2]).add(records)
    again = plan(found, reproduce=True)
    assert deviations(again.rows, again.ledger) == {}
    first, second = (row.cell for row in again.rows)
    pretend(first, like, 0.1)
    pretend(second, like, 0.1 + 2**-56)
    again = plan(found, reproduce=True)
    found = deviations(again.rows, again.ledger)
    assert found[first.name] == []
    assert found[second.name][0].startswith("source_heldout.measures.mean_class_accuracy was 0.1, now 0.1000000")
